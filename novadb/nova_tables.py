"""Nova's tables as jobs query them: each once, with the columns that any job uses.

What a table has in each release is in ``novadb/migrations/``; statements on all of its columns, as
archiving makes them, go by the catalogue of the database.
"""

from typing import Any, Final

from sqlalchemy import Boolean, ColumnClause, DateTime, TableClause, column, table

_BOOLEANS: Final = frozenset({"disabled", "hidden", "queued_for_delete"})


def nova_table(name: str, *columns: str) -> TableClause:
    """A table of Nova's: its id, the time of its last change, and these columns."""
    return table(name, *map(_typed_column, ("id", "updated_at", *columns)))


def _typed_column(name: str) -> ColumnClause[Any]:
    if name.endswith("_at"):
        return column(name, DateTime)
    return column(name, Boolean) if name in _BOOLEANS else column(name)


# The API database.
CELL_MAPPINGS: Final = nova_table(
    "cell_mappings",
    "created_at",
    "uuid",
    "name",
    "transport_url",
    "database_connection",
    "disabled",
)
HOST_MAPPINGS: Final = nova_table("host_mappings", "created_at", "cell_id", "host")
INSTANCE_MAPPINGS: Final = nova_table(
    "instance_mappings",
    "created_at",
    "instance_uuid",
    "cell_id",
    "project_id",
    "user_id",
    "queued_for_delete",
)
REQUEST_SPECS: Final = nova_table("request_specs", "instance_uuid")
INSTANCE_GROUP_MEMBERS: Final = nova_table("instance_group_member", "instance_uuid")
AGGREGATE_HOSTS: Final = nova_table("aggregate_hosts", "host", "aggregate_id")
AGGREGATE_METADATA: Final = nova_table("aggregate_metadata", "key", "value", "aggregate_id")

# The database of a cell.
INSTANCES: Final = nova_table(
    "instances",
    "created_at",
    "deleted_at",
    "deleted",
    "uuid",
    "project_id",
    "user_id",
    "host",
    "node",
    "compute_id",
    "availability_zone",
    "vm_state",
    "hidden",
    "cleaned",
    "shutdown_terminate",
    "disable_terminate",
)
SHADOW_INSTANCES: Final = nova_table("shadow_instances", "uuid")
INSTANCE_INFO_CACHES: Final = nova_table(
    "instance_info_caches", "instance_uuid", "network_info", "deleted"
)
INSTANCE_SYSTEM_METADATA: Final = nova_table(
    "instance_system_metadata", "created_at", "deleted", "instance_uuid", "key", "value"
)
VIRTUAL_INTERFACES: Final = nova_table(
    "virtual_interfaces",
    "created_at",
    "deleted_at",
    "deleted",
    "uuid",
    "address",
    "instance_uuid",
    "tag",
)
BLOCK_DEVICE_MAPPING: Final = nova_table("block_device_mapping", "uuid")
MIGRATIONS: Final = nova_table("migrations", "uuid", "deleted")
PCI_DEVICES: Final = nova_table("pci_devices", "uuid")
SERVICES: Final = nova_table("services", "host", "binary", "forced_down", "deleted")
COMPUTE_NODES: Final = nova_table(
    "compute_nodes",
    "uuid",
    "host",
    "hypervisor_hostname",
    "service_id",
    "mapped",
    "deleted",
    "cpu_allocation_ratio",
    "ram_allocation_ratio",
    "disk_allocation_ratio",
)
