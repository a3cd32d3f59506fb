"""The tables of the API database at its first revision, those that Placement took over included."""

from typing import Final

from novadb.migrations.tables import (
    Tables,
    address,
    boolean,
    datetime,
    enum,
    foreign,
    index,
    integer,
    mediumtext,
    real,
    serial,
    string,
    text,
    unique,
    uuid,
)

API: Final = Tables(stamps="created_at updated_at")
entity, table, stamps = API.entity, API.table, API.stamps

entity(
    "aggregate_hosts",
    string("host"),
    integer("aggregate_id", required=True),
    foreign("aggregate_id", "aggregates.id"),
    unique("host aggregate_id"),
)

entity(
    "aggregate_metadata",
    integer("aggregate_id", required=True),
    string("key value", required=True),
    foreign("aggregate_id", "aggregates.id"),
    unique("aggregate_id key"),
    index("key"),
)

entity(
    "aggregates",
    uuid("uuid"),
    string("name"),
    unique("name", "uniq_aggregate0name"),
    index("uuid", "aggregate_uuid_idx"),
)

entity(
    "allocations",
    integer("resource_provider_id", required=True),
    uuid("consumer_id", required=True),
    integer("resource_class_id used", required=True),
    index("consumer_id"),
    index("resource_class_id"),
    index(
        "resource_provider_id resource_class_id used",
        "allocations_resource_provider_class_used_idx",
    ),
    charset="latin1",
)

entity(
    "build_requests",
    integer("request_spec_id"),
    string("project_id", required=True),
    string("user_id display_name"),
    text("instance_metadata"),
    integer("progress"),
    string("vm_state task_state image_ref"),
    address("access_ip_v4 access_ip_v6"),
    text("info_cache security_groups"),
    boolean("config_drive"),
    string("key_name"),
    enum("locked_by", "owner", "admin"),
    uuid("instance_uuid"),
    mediumtext("instance block_device_mappings"),
    text("tags"),
    unique("instance_uuid"),
    index("instance_uuid"),
    index("project_id"),
)

entity(
    "cell_mappings",
    uuid("uuid", required=True),
    string("name"),
    text("transport_url database_connection"),
    boolean("disabled"),
    unique("uuid"),
    index("uuid", "uuid_idx"),
)

entity(
    "consumers",
    uuid("uuid", required=True),
    integer("project_id user_id", required=True),
    integer("generation", required=True, default=0),
    unique("uuid"),
    index("project_id user_id uuid"),
    index("project_id uuid"),
    charset="latin1",
)

entity(
    "flavor_extra_specs",
    integer("flavor_id", required=True),
    string("key", required=True),
    string("value"),
    foreign("flavor_id", "flavors.id"),
    unique("flavor_id key"),
    index("flavor_id key"),
)

entity(
    "flavor_projects",
    integer("flavor_id", required=True),
    string("project_id", required=True),
    foreign("flavor_id", "flavors.id"),
    unique("flavor_id project_id"),
)

table(
    "flavors",
    stamps(),
    string("name", required=True),
    serial(),
    integer("memory_mb vcpus swap", required=True),
    integer("vcpu_weight"),
    string("flavorid", required=True),
    real("rxtx_factor"),
    integer("root_gb ephemeral_gb"),
    boolean("disabled is_public"),
    text("description"),
    unique("flavorid"),
    unique("name"),
)

entity(
    "host_mappings",
    integer("cell_id", required=True),
    string("host", required=True),
    foreign("cell_id", "cell_mappings.id"),
    unique("host"),
    index("host", "host_idx"),
)

entity(
    "instance_group_member",
    string("instance_uuid"),
    integer("group_id", required=True),
    foreign("group_id", "instance_groups.id"),
    index("instance_uuid", "instance_group_member_instance_idx"),
)

entity(
    "instance_group_policy",
    string("policy"),
    integer("group_id", required=True),
    text("rules"),
    foreign("group_id", "instance_groups.id"),
    index("policy"),
)

entity(
    "instance_groups",
    string("user_id project_id"),
    uuid("uuid", required=True),
    string("name"),
    unique("uuid"),
)

entity(
    "instance_mappings",
    uuid("instance_uuid", required=True),
    integer("cell_id"),
    string("project_id", required=True),
    boolean("queued_for_delete"),
    string("user_id"),
    foreign("cell_id", "cell_mappings.id"),
    unique("instance_uuid"),
    index("user_id project_id"),
    index("instance_uuid", "instance_uuid_idx"),
    index("project_id", "project_id_idx"),
)

entity(
    "inventories",
    integer(
        "resource_provider_id resource_class_id total reserved min_unit max_unit step_size",
        required=True,
    ),
    real("allocation_ratio", required=True),
    unique(
        "resource_provider_id resource_class_id",
        "uniq_inventories0resource_provider_resource_class",
    ),
    index("resource_class_id"),
    index("resource_provider_id"),
    index(
        "resource_provider_id resource_class_id", "inventories_resource_provider_resource_class_idx"
    ),
    charset="latin1",
)

entity(
    "key_pairs",
    string("name user_id", required=True),
    string("fingerprint"),
    text("public_key"),
    enum("type", "ssh", "x509", required=True, default="ssh"),
    unique("user_id name"),
)

entity(
    "placement_aggregates",
    uuid("uuid"),
    unique("uuid"),
    index("uuid", "ix_placement_aggregates_uuid"),
    charset="latin1",
)

table(
    "project_user_quotas",
    serial(),
    stamps(),
    string("user_id project_id resource", required=True),
    integer("hard_limit"),
    unique("user_id project_id resource"),
    index("project_id"),
    index("user_id"),
)

table(
    "projects",
    serial(),
    string("external_id", required=True),
    stamps(),
    unique("external_id"),
    charset="latin1",
)

entity("quota_classes", string("class_name resource"), integer("hard_limit"), index("class_name"))

entity(
    "quota_usages",
    string("project_id"),
    string("resource", required=True),
    integer("in_use reserved", required=True),
    integer("until_refresh"),
    string("user_id"),
    index("project_id"),
    index("user_id"),
)

table(
    "quotas",
    serial(),
    stamps(),
    string("project_id"),
    string("resource", required=True),
    integer("hard_limit"),
    unique("project_id resource"),
)

entity(
    "request_specs",
    uuid("instance_uuid", required=True),
    mediumtext("spec", required=True),
    unique("instance_uuid"),
    index("instance_uuid", "request_spec_instance_uuid_idx"),
)

entity(
    "reservations",
    uuid("uuid", required=True),
    integer("usage_id", required=True),
    string("project_id resource"),
    integer("delta", required=True),
    datetime("expire"),
    string("user_id"),
    foreign("usage_id", "quota_usages.id"),
    index("expire"),
    index("project_id"),
    index("user_id"),
    index("uuid"),
)

table(
    "resource_classes",
    serial(),
    string("name", required=True),
    stamps(),
    unique("name"),
    charset="latin1",
)

table(
    "resource_provider_aggregates",
    stamps(),
    integer("resource_provider_id aggregate_id", key=True),
    index("aggregate_id"),
    charset="latin1",
)

table(
    "resource_provider_traits",
    stamps(),
    integer("trait_id resource_provider_id", key=True),
    foreign("resource_provider_id", "resource_providers.id"),
    foreign("trait_id", "traits.id"),
    index("resource_provider_id trait_id", "resource_provider_traits_resource_provider_trait_idx"),
    charset="latin1",
)

entity(
    "resource_providers",
    uuid("uuid", required=True),
    string("name", 200, charset="utf8", collation="utf8_bin"),
    integer("generation can_host root_provider_id parent_provider_id"),
    foreign("root_provider_id", "resource_providers.id"),
    foreign("parent_provider_id", "resource_providers.id"),
    unique("name"),
    unique("uuid"),
    index("name"),
    index("parent_provider_id"),
    index("root_provider_id"),
    index("uuid"),
    charset="latin1",
)

entity(
    "traits",
    string("name", required=True, charset="utf8", collation="utf8_bin"),
    unique("name"),
    charset="latin1",
)

table(
    "users",
    serial(),
    string("external_id", required=True),
    stamps(),
    unique("external_id"),
    charset="latin1",
)
