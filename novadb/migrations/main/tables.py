"""The tables of a cell at its first revision, those that Nova no longer uses included."""

from typing import Final

from sqlalchemy.schema import SchemaItem

from novadb.migrations.tables import (
    Tables,
    address,
    bigint,
    boolean,
    datetime,
    declare_shadow_tables,
    deleted,
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

CELL: Final = Tables(stamps="created_at updated_at deleted_at")
entity, table, stamps = CELL.entity, CELL.table, CELL.stamps

entity(
    "agent_builds",
    string("hypervisor os architecture version url md5hash"),
    deleted(),
    unique("hypervisor os architecture deleted"),
    index("hypervisor os architecture", "agent_builds_hypervisor_os_arch_idx"),
)

entity(
    "aggregate_hosts",
    string("host"),
    integer("aggregate_id", required=True),
    deleted(),
    foreign("aggregate_id", "aggregates.id"),
    unique("host aggregate_id deleted"),
)

entity(
    "aggregate_metadata",
    integer("aggregate_id", required=True),
    string("key value", required=True),
    deleted(),
    foreign("aggregate_id", "aggregates.id"),
    unique("aggregate_id key deleted"),
    index("key"),
    index("value"),
)

entity("aggregates", string("name"), deleted(), uuid("uuid"), index("uuid", "aggregate_uuid_idx"))

table(
    "allocations",
    serial(),
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
    "block_device_mapping",
    string("device_name"),
    boolean("delete_on_termination"),
    uuid("snapshot_id volume_id"),
    integer("volume_size"),
    boolean("no_device"),
    mediumtext("connection_info"),
    uuid("instance_uuid"),
    deleted(),
    string("source_type destination_type guest_format device_type disk_bus"),
    integer("boot_index"),
    uuid("image_id"),
    string("tag"),
    uuid("attachment_id uuid"),
    string("volume_type"),
    foreign("instance_uuid", "instances.uuid", "block_device_mapping_instance_uuid_fkey"),
    unique("uuid"),
    index("instance_uuid device_name"),
    index("instance_uuid"),
    index("instance_uuid volume_id"),
    index("snapshot_id", "snapshot_id"),
    index("volume_id", "volume_id"),
)

entity(
    "bw_usage_cache",
    datetime("start_period", required=True),
    datetime("last_refreshed"),
    bigint("bw_in bw_out"),
    string("mac"),
    uuid("uuid"),
    bigint("last_ctr_in last_ctr_out"),
    deleted(),
    index("uuid start_period"),
)

entity(
    "cells",
    string("api_url"),
    real("weight_offset weight_scale"),
    string("name"),
    boolean("is_parent"),
    deleted(),
    string("transport_url", required=True),
    unique("name deleted"),
)

entity(
    "certificates",
    string("user_id project_id file_name"),
    deleted(),
    index("project_id deleted"),
    index("user_id deleted"),
)

entity(
    "compute_nodes",
    integer("service_id"),
    integer("vcpus memory_mb local_gb vcpus_used memory_mb_used local_gb_used", required=True),
    mediumtext("hypervisor_type", required=True),
    integer("hypervisor_version", required=True),
    mediumtext("cpu_info", required=True),
    integer("disk_available_least free_ram_mb free_disk_gb current_workload running_vms"),
    string("hypervisor_hostname"),
    deleted(),
    address("host_ip"),
    text("supported_instances pci_stats metrics extra_resources stats numa_topology"),
    string("host"),
    real("ram_allocation_ratio cpu_allocation_ratio"),
    uuid("uuid"),
    real("disk_allocation_ratio"),
    integer("mapped"),
    unique("host hypervisor_hostname deleted"),
    index("uuid", only_one=True),
)

table(
    "console_auth_tokens",
    datetime("created_at updated_at"),
    serial(),
    string("token_hash console_type host", required=True),
    integer("port", required=True),
    string("internal_access_path"),
    uuid("instance_uuid", required=True),
    integer("expires", required=True),
    string("access_url_base"),
    unique("token_hash"),
    index("host expires"),
    index("instance_uuid"),
    index("token_hash"),
    index("token_hash instance_uuid"),
)

entity(
    "console_pools",
    address("address"),
    string("username password console_type public_hostname host compute_host"),
    deleted(),
    unique("host console_type compute_host deleted"),
)

entity(
    "consoles",
    string("instance_name password"),
    integer("port pool_id"),
    uuid("instance_uuid"),
    deleted(),
    foreign("pool_id", "console_pools.id"),
    foreign("instance_uuid", "instances.uuid", "consoles_instance_uuid_fkey"),
    index("instance_uuid"),
)

table(
    "dns_domains",
    stamps(),
    boolean("deleted"),
    string("domain", key=True),
    string("scope availability_zone project_id"),
    index("domain deleted"),
    index("project_id"),
)

entity(
    "fixed_ips",
    address("address"),
    integer("network_id"),
    boolean("allocated leased reserved"),
    integer("virtual_interface_id"),
    string("host"),
    uuid("instance_uuid"),
    deleted(),
    foreign("instance_uuid", "instances.uuid", "fixed_ips_instance_uuid_fkey"),
    unique("address deleted"),
    index("address", "address"),
    index("address reserved network_id deleted"),
    index("address deleted allocated", "fixed_ips_deleted_allocated_idx"),
    index("deleted allocated updated_at"),
    index("host"),
    index("instance_uuid", "fixed_ips_instance_uuid_fkey"),
    index("network_id host deleted"),
    index("virtual_interface_id", "fixed_ips_virtual_interface_id_fkey"),
    index("network_id", "network_id"),
)

entity(
    "floating_ips",
    address("address"),
    integer("fixed_ip_id"),
    string("project_id host"),
    boolean("auto_assigned"),
    string("pool interface"),
    deleted(),
    unique("address deleted"),
    index("fixed_ip_id", "fixed_ip_id"),
    index("host"),
    index("pool deleted fixed_ip_id project_id"),
    index("project_id"),
)

entity(
    "instance_actions",
    string("action"),
    uuid("instance_uuid"),
    string("request_id user_id project_id"),
    datetime("start_time finish_time"),
    string("message"),
    deleted(),
    foreign("instance_uuid", "instances.uuid", "fk_instance_actions_instance_uuid"),
    index("instance_uuid updated_at"),
    index("instance_uuid", "instance_uuid_idx"),
    index("request_id", "request_id_idx"),
)

entity(
    "instance_actions_events",
    string("event"),
    integer("action_id"),
    datetime("start_time finish_time"),
    string("result"),
    text("traceback"),
    deleted(),
    string("host"),
    text("details"),
    foreign("action_id", "instance_actions.id"),
)

table(
    "instance_extra",
    stamps(),
    deleted(),
    serial(),
    uuid("instance_uuid", required=True),
    text("numa_topology pci_requests flavor vcpu_model migration_context keypairs device_metadata"),
    text("trusted_certs vpmems resources"),
    foreign("instance_uuid", "instances.uuid", "instance_extra_instance_uuid_fkey"),
    index("instance_uuid", "instance_extra_idx"),
)

entity(
    "instance_faults",
    uuid("instance_uuid"),
    integer("code", required=True),
    string("message"),
    mediumtext("details"),
    string("host"),
    deleted(),
    foreign("instance_uuid", "instances.uuid", "fk_instance_faults_instance_uuid"),
    index("host"),
    index("instance_uuid deleted created_at"),
)

table(
    "instance_group_member",
    stamps(),
    deleted(),
    serial(),
    string("instance_id"),
    integer("group_id", required=True),
    foreign("group_id", "instance_groups.id"),
    index("instance_id", "instance_group_member_instance_idx"),
)

table(
    "instance_group_policy",
    stamps(),
    deleted(),
    serial(),
    string("policy"),
    integer("group_id", required=True),
    foreign("group_id", "instance_groups.id"),
    index("policy"),
)

table(
    "instance_groups",
    stamps(),
    deleted(),
    serial(),
    string("user_id project_id"),
    uuid("uuid", required=True),
    string("name"),
    unique("uuid deleted"),
)

entity(
    "instance_id_mappings",
    uuid("uuid", required=True),
    deleted(),
    index("uuid", "ix_instance_id_mappings_uuid"),
)

entity(
    "instance_info_caches",
    mediumtext("network_info"),
    uuid("instance_uuid", required=True),
    deleted(),
    foreign("instance_uuid", "instances.uuid", "instance_info_caches_instance_uuid_fkey"),
    unique("instance_uuid"),
)

entity(
    "instance_metadata",
    string("key value"),
    uuid("instance_uuid"),
    deleted(),
    foreign("instance_uuid", "instances.uuid", "instance_metadata_instance_uuid_fkey"),
    index("instance_uuid"),
)

entity(
    "instance_system_metadata",
    uuid("instance_uuid", required=True),
    string("key", required=True),
    string("value"),
    deleted(),
    foreign("instance_uuid", "instances.uuid", "instance_system_metadata_ibfk_1"),
    index("instance_uuid", "instance_uuid"),
)

entity(
    "instance_type_extra_specs",
    integer("instance_type_id", required=True),
    string("key value"),
    deleted(),
    foreign("instance_type_id", "instance_types.id"),
    unique("instance_type_id key deleted"),
    index("instance_type_id key"),
    collation="utf8_bin",
)

entity(
    "instance_type_projects",
    integer("instance_type_id", required=True),
    string("project_id"),
    deleted(),
    foreign("instance_type_id", "instance_types.id", "instance_type_projects_ibfk_1"),
    unique("instance_type_id project_id deleted"),
    index("instance_type_id", "instance_type_id", only_mysql=True),
)

table(
    "instance_types",
    stamps(),
    string("name"),
    serial(),
    integer("memory_mb vcpus swap", required=True),
    integer("vcpu_weight"),
    string("flavorid"),
    real("rxtx_factor"),
    integer("root_gb ephemeral_gb"),
    boolean("disabled is_public"),
    deleted(),
    unique("flavorid deleted"),
    unique("name deleted"),
)

entity(
    "instances",
    integer("internal_id"),
    string("user_id project_id image_ref kernel_id ramdisk_id"),
    integer("launch_index"),
    string("key_name"),
    mediumtext("key_data"),
    integer("power_state"),
    string("vm_state"),
    integer("memory_mb vcpus"),
    string("hostname host"),
    mediumtext("user_data"),
    string("reservation_id"),
    datetime("launched_at terminated_at"),
    string("display_name display_description availability_zone"),
    boolean("locked"),
    string("os_type"),
    mediumtext("launched_on"),
    integer("instance_type_id"),
    string("vm_mode"),
    uuid("uuid", required=True),
    string("architecture root_device_name"),
    address("access_ip_v4 access_ip_v6"),
    string("config_drive task_state default_ephemeral_device default_swap_device"),
    integer("progress"),
    boolean("auto_disk_config shutdown_terminate disable_terminate"),
    integer("root_gb ephemeral_gb"),
    string("cell_name node"),
    deleted(),
    enum("locked_by", "owner", "admin"),
    integer("cleaned"),
    uuid("ephemeral_key_uuid"),
    boolean("hidden"),
    unique("uuid"),
    index("deleted created_at"),
    index("host deleted cleaned"),
    index("host node deleted"),
    index("project_id deleted"),
    index("project_id"),
    index("reservation_id"),
    index("task_state updated_at"),
    index("terminated_at launched_at"),
    index("updated_at project_id"),
    index("uuid deleted"),
    index("uuid", "uuid", only_one=True),
)

table(
    "inventories",
    serial(),
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
    string("name", required=True),
    string("user_id fingerprint"),
    mediumtext("public_key"),
    deleted(),
    enum("type", "ssh", "x509", required=True, default="ssh"),
    unique("user_id name deleted"),
)

entity(
    "migrations",
    string("source_compute dest_compute dest_host status"),
    uuid("instance_uuid"),
    integer("old_instance_type_id new_instance_type_id"),
    string("source_node dest_node"),
    deleted(),
    enum("migration_type", "migration", "resize", "live-migration", "evacuation"),
    boolean("hidden"),
    bigint(
        "memory_total memory_processed memory_remaining disk_total disk_processed disk_remaining"
    ),
    uuid("uuid"),
    boolean("cross_cell_move"),
    string("user_id project_id"),
    foreign("instance_uuid", "instances.uuid", "fk_migrations_instance_uuid"),
    index(
        "deleted source_compute(100) dest_compute(100) source_node(100) dest_node(100) status",
        "migrations_by_host_nodes_and_status_idx",
    ),
    index("deleted instance_uuid status", "migrations_instance_uuid_and_status_idx"),
    index("updated_at"),
    index("uuid", "migrations_uuid", only_one=True),
)

entity(
    "networks",
    boolean("injected"),
    string("cidr", 43),
    address("netmask"),
    string("bridge"),
    address("gateway broadcast dns1"),
    integer("vlan"),
    address("vpn_public_address"),
    integer("vpn_public_port"),
    address("vpn_private_address dhcp_start"),
    string("project_id host"),
    string("cidr_v6", 43),
    address("gateway_v6"),
    string("label"),
    address("netmask_v6"),
    string("bridge_interface"),
    boolean("multi_host"),
    address("dns2"),
    uuid("uuid"),
    integer("priority rxtx_base"),
    deleted(),
    integer("mtu"),
    address("dhcp_server"),
    boolean("enable_dhcp share_address"),
    unique("vlan deleted"),
    index("bridge deleted"),
    index("cidr_v6"),
    index("host"),
    index("project_id deleted"),
    index("uuid project_id deleted"),
    index("vlan deleted"),
)

table(
    "pci_devices",
    stamps(),
    deleted(),
    serial(),
    integer("compute_node_id", required=True),
    string("address", 12, required=True),
    string("product_id vendor_id", 4, required=True),
    string("dev_type", 8, required=True),
    string("dev_id"),
    string("label", required=True),
    uuid("status", required=True),
    text("extra_info"),
    uuid("instance_uuid request_id"),
    integer("numa_node"),
    string("parent_addr", 12),
    uuid("uuid"),
    foreign("compute_node_id", "compute_nodes.id", "pci_devices_compute_node_id_fkey"),
    unique("compute_node_id address deleted"),
    index("compute_node_id deleted", "ix_pci_devices_compute_node_id_deleted"),
    index(
        "compute_node_id parent_addr deleted", "ix_pci_devices_compute_node_id_parent_addr_deleted"
    ),
    index("instance_uuid deleted", "ix_pci_devices_instance_uuid_deleted"),
)

table(
    "project_user_quotas",
    serial(),
    stamps(),
    deleted(),
    string("user_id project_id resource", required=True),
    integer("hard_limit"),
    unique("user_id project_id resource deleted"),
    index("project_id deleted"),
    index("user_id deleted"),
)

entity(
    "provider_fw_rules",
    string("protocol", 5),
    integer("from_port to_port"),
    string("cidr", 43),
    deleted(),
)

entity(
    "quota_classes",
    string("class_name resource"),
    integer("hard_limit"),
    deleted(),
    index("class_name", "ix_quota_classes_class_name"),
)

entity(
    "quota_usages",
    string("project_id"),
    string("resource", required=True),
    integer("in_use reserved", required=True),
    integer("until_refresh"),
    deleted(),
    string("user_id"),
    index("project_id", "ix_quota_usages_project_id"),
    index("user_id deleted", "ix_quota_usages_user_id_deleted"),
)

table(
    "quotas",
    serial(),
    stamps(),
    string("project_id"),
    string("resource", required=True),
    integer("hard_limit"),
    deleted(),
    unique("project_id resource deleted"),
)

entity(
    "reservations",
    uuid("uuid", required=True),
    integer("usage_id", required=True),
    string("project_id resource"),
    integer("delta", required=True),
    datetime("expire"),
    deleted(),
    string("user_id"),
    foreign("usage_id", "quota_usages.id", "reservations_ibfk_1"),
    index("project_id", "ix_reservations_project_id"),
    index("user_id deleted", "ix_reservations_user_id_deleted"),
    index("deleted expire"),
    index("uuid"),
    index("usage_id", "usage_id", only_mysql=True),
)

table(
    "resource_provider_aggregates",
    integer("resource_provider_id aggregate_id", key=True),
    index("aggregate_id"),
    charset="latin1",
)

table(
    "resource_providers",
    serial(),
    uuid("uuid", required=True),
    string("name", 200, charset="utf8"),
    integer("generation can_host"),
    unique("name"),
    unique("uuid"),
    index("name"),
    index("uuid"),
    charset="latin1",
)

entity("s3_images", uuid("uuid", required=True), deleted())

table(
    "security_group_default_rules",
    stamps(),
    deleted(),
    serial(),
    string("protocol", 5),
    integer("from_port to_port"),
    string("cidr", 43),
)

entity(
    "security_group_instance_association",
    integer("security_group_id"),
    uuid("instance_uuid"),
    deleted(),
    foreign(
        "security_group_id", "security_groups.id", "security_group_instance_association_ibfk_1"
    ),
    foreign(
        "instance_uuid", "instances.uuid", "security_group_instance_association_instance_uuid_fkey"
    ),
    index("instance_uuid"),
    index("security_group_id", "security_group_id", only_mysql=True),
)

entity(
    "security_group_rules",
    integer("parent_group_id"),
    string("protocol"),
    integer("from_port to_port"),
    string("cidr", 43),
    integer("group_id"),
    deleted(),
    foreign("parent_group_id", "security_groups.id"),
    foreign("group_id", "security_groups.id"),
)

entity(
    "security_groups",
    string("name description user_id project_id"),
    deleted(),
    unique("project_id name deleted"),
)

entity(
    "services",
    string("host binary topic"),
    integer("report_count", required=True),
    boolean("disabled"),
    deleted(),
    string("disabled_reason"),
    datetime("last_seen_up"),
    boolean("forced_down"),
    integer("version"),
    uuid("uuid"),
    unique("host binary deleted"),
    unique("host topic deleted"),
    index("uuid", only_one=True),
)

entity("snapshot_id_mappings", uuid("uuid", required=True), deleted())

table(
    "snapshots",
    stamps(),
    uuid("id", key=True),
    uuid("volume_id", required=True),
    string("user_id project_id status progress"),
    integer("volume_size"),
    datetime("scheduled_at"),
    string("display_name display_description"),
    uuid("deleted"),
)

table("tags", uuid("resource_id", key=True), string("tag", 80, key=True), index("tag"))

entity(
    "task_log",
    string("task_name state host", required=True),
    datetime("period_beginning period_ending", required=True),
    string("message", required=True),
    integer("task_items errors"),
    deleted(),
    unique("task_name host period_beginning period_ending"),
    index("host", "ix_task_log_host"),
    index("period_beginning", "ix_task_log_period_beginning"),
    index("period_ending", "ix_task_log_period_ending"),
)

entity(
    "virtual_interfaces",
    string("address"),
    integer("network_id"),
    uuid("uuid instance_uuid"),
    deleted(),
    string("tag"),
    foreign("instance_uuid", "instances.uuid", "virtual_interfaces_instance_uuid_fkey"),
    unique("address deleted"),
    index("instance_uuid", "virtual_interfaces_instance_uuid_fkey"),
    index("network_id"),
    index("uuid"),
)

entity("volume_id_mappings", uuid("uuid", required=True), deleted())

entity(
    "volume_usage_cache",
    uuid("volume_id", required=True),
    datetime("tot_last_refreshed"),
    bigint("tot_reads tot_read_bytes tot_writes tot_write_bytes"),
    datetime("curr_last_refreshed"),
    bigint("curr_reads curr_read_bytes curr_writes curr_write_bytes"),
    deleted(),
    uuid("instance_uuid project_id"),
    string("user_id", 64),
    string("availability_zone"),
)


# Shadow tables that had fallen out of step with their tables.
OUT_OF_STEP: Final[dict[str, list[SchemaItem]]] = {
    "instance_extra": [index("instance_uuid", "shadow_instance_extra_idx")],
    "key_pairs": string("name"),
    "migrations": [index("uuid", "shadow_migrations_uuid", only_one=True)],
    "pci_devices": [
        *integer("deleted", required=True),
        *string("product_id vendor_id", 4),
        *string("dev_type", 8),
    ],
    "volume_usage_cache": uuid("user_id"),
}
declare_shadow_tables(CELL, OUT_OF_STEP)

# The first revision made a shadow of all that was there, Alembic's own table included.
table("shadow_alembic_version", string("version_num", 32, key=True))
