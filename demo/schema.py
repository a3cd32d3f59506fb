"""Those tables of Nova that archiving and purging touch, with Nova's names, types and foreign keys."""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

CELL: Final = MetaData()
API: Final = MetaData()
SHADOW: Final = "shadow_"
# What Nova's migrations call this state of a cell's tables: release 2025.2.
REVISION: Final = "2903cd72dc14"

NAME: Final = String(255)
UUID: Final = String(36)
LONG: Final = Text().with_variant(MEDIUMTEXT(), "mysql")


def _of(kind: TypeEngine[Any], names: str, *, nullable: bool = True) -> list[Column[Any]]:
    return [Column(name, kind, nullable=nullable) for name in names.split()]


def _required(kind: TypeEngine[Any], names: str) -> list[Column[Any]]:
    return _of(kind, names, nullable=False)


def _link(name: str, parent: str, *, nullable: bool = True) -> Column[Any]:
    return Column(name, ForeignKey(parent), nullable=nullable, index=True)


def _stamped(metadata: MetaData, name: str, *items: SchemaItem, key: TypeEngine[Any] | None = None) -> Table:
    stamps = _of(DateTime(), "created_at updated_at")
    return Table(name, metadata, *stamps, Column("id", key or Integer(), primary_key=True), *items)


def _shadowed(table: Table) -> Table:
    """Declare a table's shadow: the same columns and primary key, and nothing that could refuse a row."""
    columns = [Column(c.name, c.type, primary_key=c.primary_key, nullable=c.nullable) for c in table.columns]
    Table(SHADOW + table.name, table.metadata, *columns)
    return table


def _archivable(name: str, *items: SchemaItem) -> Table:
    """Declare a table whose rows are marked as deleted first and moved to its shadow later."""
    marks = (Column("deleted_at", DateTime), Column("deleted", Integer))
    return _shadowed(_stamped(CELL, name, *marks, *items))


instances = _archivable(
    "instances",
    Column("uuid", UUID, nullable=False, unique=True),
    *_of(NAME, "user_id project_id image_ref kernel_id ramdisk_id key_name vm_state hostname host reservation_id"),
    *_of(NAME, "display_name display_description availability_zone os_type vm_mode architecture root_device_name"),
    *_of(NAME, "config_drive task_state default_ephemeral_device default_swap_device cell_name node"),
    *_of(LONG, "key_data user_data launched_on"),
    *_of(Integer(), "internal_id launch_index power_state memory_mb vcpus instance_type_id progress root_gb"),
    *_of(Integer(), "ephemeral_gb cleaned"),
    *_of(Boolean(), "locked auto_disk_config shutdown_terminate disable_terminate hidden"),
    *_of(DateTime(), "launched_at terminated_at"),
    *_of(String(39), "access_ip_v4 access_ip_v6"),
    Column("locked_by", Enum("owner", "admin")),
    Column("ephemeral_key_uuid", UUID),
    Column("compute_id", BigInteger),
)

instance_actions = _archivable(
    "instance_actions",
    _link("instance_uuid", "instances.uuid"),
    *_of(NAME, "action request_id user_id project_id message"),
    *_of(DateTime(), "start_time finish_time"),
)

instance_actions_events = _archivable(
    "instance_actions_events",
    _link("action_id", "instance_actions.id"),
    *_of(NAME, "event result host"),
    *_of(DateTime(), "start_time finish_time"),
    *_of(Text(), "traceback details"),
)

block_device_mapping = _archivable(
    "block_device_mapping",
    _link("instance_uuid", "instances.uuid"),
    Column("uuid", UUID, unique=True),
    *_of(UUID, "snapshot_id volume_id image_id attachment_id encryption_secret_uuid"),
    *_of(NAME, "device_name source_type destination_type guest_format device_type disk_bus tag volume_type"),
    *_of(Boolean(), "delete_on_termination no_device encrypted"),
    *_of(Integer(), "volume_size boot_index"),
    Column("connection_info", LONG),
    Column("encryption_format", String(128)),
    Column("encryption_options", String(4096)),
)

instance_extra = _archivable(
    "instance_extra",
    _link("instance_uuid", "instances.uuid", nullable=False),
    *_of(Text(), "numa_topology pci_requests flavor vcpu_model migration_context keypairs device_metadata"),
    *_of(Text(), "trusted_certs vpmems resources"),
)

instance_faults = _archivable(
    "instance_faults",
    _link("instance_uuid", "instances.uuid"),
    Column("code", Integer, nullable=False),
    *_of(NAME, "message host"),
    Column("details", LONG),
)

instance_info_caches = _archivable(
    "instance_info_caches",
    Column("instance_uuid", ForeignKey("instances.uuid"), nullable=False, unique=True),
    Column("network_info", LONG),
)

instance_metadata = _archivable(
    "instance_metadata",
    _link("instance_uuid", "instances.uuid"),
    *_of(NAME, "key value"),
)

instance_system_metadata = _archivable(
    "instance_system_metadata",
    _link("instance_uuid", "instances.uuid", nullable=False),
    Column("key", NAME, nullable=False),
    Column("value", NAME),
)

instance_id_mappings = _archivable(
    "instance_id_mappings",
    Column("uuid", UUID, nullable=False, index=True),
)

migrations = _archivable(
    "migrations",
    _link("instance_uuid", "instances.uuid"),
    Column("uuid", UUID, unique=True),
    *_of(NAME, "source_compute dest_compute dest_host status source_node dest_node user_id project_id"),
    *_of(Integer(), "old_instance_type_id new_instance_type_id"),
    *_of(BigInteger(), "memory_total memory_processed memory_remaining disk_total disk_processed disk_remaining"),
    *_of(Boolean(), "hidden cross_cell_move"),
    Column("dest_compute_id", BigInteger),
    Column("migration_type", Enum("migration", "resize", "live-migration", "evacuation")),
)

virtual_interfaces = _archivable(
    "virtual_interfaces",
    _link("instance_uuid", "instances.uuid"),
    *_of(NAME, "address tag"),
    Column("network_id", Integer),
    Column("uuid", UUID),
    UniqueConstraint("address", "deleted"),
)

security_groups = _archivable(
    "security_groups",
    *_of(NAME, "name description user_id project_id"),
    UniqueConstraint("project_id", "name", "deleted"),
)

security_group_instance_association = _archivable(
    "security_group_instance_association",
    _link("security_group_id", "security_groups.id"),
    _link("instance_uuid", "instances.uuid"),
)

security_group_rules = _archivable(
    "security_group_rules",
    _link("parent_group_id", "security_groups.id"),
    _link("group_id", "security_groups.id"),
    Column("protocol", NAME),
    *_of(Integer(), "from_port to_port"),
    Column("cidr", String(43)),
)

services = _archivable(
    "services",
    Column("uuid", UUID, unique=True),
    *_of(NAME, "host binary topic disabled_reason"),
    Column("report_count", Integer, nullable=False),
    Column("version", Integer),
    *_of(Boolean(), "disabled forced_down"),
    Column("last_seen_up", DateTime),
    UniqueConstraint("host", "topic", "deleted"),
    UniqueConstraint("host", "binary", "deleted"),
)

compute_nodes = _archivable(
    "compute_nodes",
    Column("uuid", UUID, unique=True),
    *_of(NAME, "host hypervisor_hostname"),
    *_of(Integer(), "service_id disk_available_least free_ram_mb free_disk_gb current_workload running_vms mapped"),
    *_required(Integer(), "vcpus memory_mb local_gb vcpus_used memory_mb_used local_gb_used hypervisor_version"),
    *_required(LONG, "hypervisor_type cpu_info"),
    *_of(Text(), "supported_instances pci_stats metrics extra_resources stats numa_topology"),
    *_of(Float(), "ram_allocation_ratio cpu_allocation_ratio disk_allocation_ratio"),
    Column("host_ip", String(39)),
    UniqueConstraint("host", "hypervisor_hostname", "deleted"),
)

pci_devices = _archivable(
    "pci_devices",
    _link("compute_node_id", "compute_nodes.id", nullable=False),
    *_of(UUID, "uuid instance_uuid request_id"),
    Column("address", String(12), nullable=False),
    *_required(String(4), "product_id vendor_id"),
    Column("dev_type", String(8), nullable=False),
    Column("dev_id", NAME),
    Column("label", NAME, nullable=False),
    Column("status", UUID, nullable=False),
    Column("extra_info", Text),
    Column("numa_node", Integer),
    Column("parent_addr", String(12)),
    UniqueConstraint("compute_node_id", "address", "deleted"),
)

task_log = _archivable(
    "task_log",
    *_required(NAME, "task_name state host message"),
    *_required(DateTime(), "period_beginning period_ending"),
    *_of(Integer(), "task_items errors"),
    UniqueConstraint("task_name", "host", "period_beginning", "period_ending"),
)

share_mapping = _stamped(
    CELL,
    "share_mapping",
    _link("instance_uuid", "instances.uuid"),
    *_of(UUID, "uuid share_id"),
    *_of(String(32), "status share_proto"),
    Column("tag", String(48)),
    Column("export_location", Text),
    UniqueConstraint("instance_uuid", "share_id"),
    UniqueConstraint("instance_uuid", "tag"),
    key=BigInteger(),
)

tags = Table(
    "tags",
    CELL,
    Column("resource_id", UUID, primary_key=True),
    Column("tag", String(80), primary_key=True),
)

# Nova's first migration gave a shadow to Alembic's own table, too.
alembic_version = _shadowed(Table("alembic_version", CELL, Column("version_num", String(32), primary_key=True)))

cell_mappings = _stamped(
    API,
    "cell_mappings",
    Column("uuid", UUID, nullable=False, unique=True),
    Column("name", NAME),
    *_of(Text(), "transport_url database_connection"),
    Column("disabled", Boolean),
)

host_mappings = _stamped(
    API,
    "host_mappings",
    _link("cell_id", "cell_mappings.id", nullable=False),
    Column("host", NAME, nullable=False, unique=True),
)

instance_mappings = _stamped(
    API,
    "instance_mappings",
    Column("instance_uuid", UUID, nullable=False, unique=True),
    _link("cell_id", "cell_mappings.id"),
    Column("project_id", NAME, nullable=False),
    Column("user_id", NAME),
    Column("queued_for_delete", Boolean),
)

request_specs = _stamped(
    API,
    "request_specs",
    Column("instance_uuid", UUID, nullable=False, unique=True),
    Column("spec", LONG, nullable=False),
)

instance_groups = _stamped(
    API,
    "instance_groups",
    Column("uuid", UUID, nullable=False, unique=True),
    *_of(NAME, "user_id project_id name"),
)

instance_group_member = _stamped(
    API,
    "instance_group_member",
    _link("group_id", "instance_groups.id", nullable=False),
    Column("instance_uuid", NAME, index=True),
)
