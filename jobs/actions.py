"""The table of all cell actions."""

from typing import Any, Final

from jobs.action import Action
from jobs.cell_v2 import discover_hosts, map_instances
from jobs.db import archive_deleted_rows, backlog, online_data_migrations, purge
from jobs.libvirt import list_unset_machine_type, record_machine_types
from jobs.placement import audit, heal_allocations, sync_aggregates

ACTIONS: Final[dict[str, Action[Any, Any]]] = {
    action.name: action
    for action in (
        archive_deleted_rows.ACTION, purge.ACTION, backlog.ARCHIVE, backlog.PURGE,
        online_data_migrations.ACTION,
        discover_hosts.ACTION, map_instances.ACTION,
        heal_allocations.ACTION, heal_allocations.DRY_RUN, sync_aggregates.ACTION, audit.ACTION,
        list_unset_machine_type.ACTION, record_machine_types.ACTION,
    )
}  # fmt: skip
