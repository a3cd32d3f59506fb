"""What each command of workers must be allowed in the databases, and whether it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from jobs.retry import rollback
from novadb.engine import error_number, is_transient, server_message

# What a statement needs is told by its plan: the server checks the same privileges, and does
# nothing.
PLANS: Final = {
    "SELECT": "EXPLAIN SELECT 1 FROM {table} WHERE 1 = 0",
    "INSERT": "EXPLAIN INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0",
    "UPDATE": "EXPLAIN UPDATE {table} SET id = id WHERE 1 = 0",
    "DELETE": "EXPLAIN DELETE FROM {table} WHERE 1 = 0",
}
# A server that is read only tells nothing of grants: MariaDB and MySQL.
READ_ONLY: Final = frozenset({1290, 1836})


@dataclass(frozen=True, order=True)
class Need:
    """A privilege on a table."""

    privilege: str
    table: str

    def __str__(self) -> str:
        return f"{self.privilege} on {self.table}"

    @property
    def plan(self) -> str:
        """A statement that needs it, and does nothing."""
        return PLANS[self.privilege].format(table=self.table)


Needs = Mapping[str, tuple[Need, ...]]
"""What each command needs in a database."""


def _needs(granted: str) -> tuple[Need, ...]:
    """Read ``SELECT, DELETE on instances, services; INSERT on shadow_instances``."""
    return tuple(
        Need(privilege, table)
        for privileges, tables in (part.split(" on ") for part in granted.split("; "))
        for table in tables.split(", ")
        for privilege in privileges.split(", ")
    )


# Of what a command needs in all tables, as docs/security.md says, these stand for all of them.
CELL: Final[Needs] = {
    "db archive_deleted_rows": _needs(
        "SELECT, DELETE on instances; SELECT, INSERT, DELETE on shadow_instances"
    ),
    "db purge": _needs("SELECT, DELETE on shadow_instances"),
    "db online_data_migrations": _needs("SELECT, INSERT, UPDATE, DELETE on instances"),
    "cell_v2 discover_hosts": _needs("SELECT on services; SELECT, UPDATE on compute_nodes"),
    "cell_v2 map_instances": _needs("SELECT on instances"),
    "placement heal_allocations": _needs(
        "SELECT on compute_nodes, instances, instance_extra, instance_system_metadata, "
        "block_device_mapping"
    ),
    "placement sync_aggregates": _needs("SELECT on compute_nodes"),
    "placement audit": _needs(
        "SELECT on compute_nodes, shadow_compute_nodes, instances, migrations"
    ),
    "libvirt list_unset_machine_type": _needs("SELECT on instances, instance_system_metadata"),
    "libvirt record_machine_types": _needs(
        "SELECT, UPDATE on instances; SELECT, INSERT, UPDATE on instance_system_metadata"
    ),
}
API: Final[Needs] = {
    "db archive_deleted_rows": _needs(
        "SELECT, DELETE on instance_mappings, request_specs, instance_group_member"
    ),
    "db purge": (),
    "db online_data_migrations": _needs("SELECT, INSERT, UPDATE on instance_mappings"),
    "cell_v2 discover_hosts": _needs("SELECT, INSERT on host_mappings"),
    "cell_v2 map_instances": _needs("SELECT, INSERT, DELETE on instance_mappings"),
    "placement heal_allocations": _needs("SELECT on instance_mappings"),
    "placement sync_aggregates": _needs("SELECT on host_mappings, aggregates, aggregate_hosts"),
    "placement audit": _needs("SELECT on instance_mappings, build_requests"),
    "libvirt list_unset_machine_type": (),
    "libvirt record_machine_types": _needs("SELECT on instance_mappings, host_mappings"),
}


def missing(connection: Connection, needs: Needs) -> dict[str, dict[Need, str]]:
    """Ask the server, by plans that it makes and does not follow.

    :returns: what each command lacks, and what the server says of it
    :raises DBAPIError: the database cannot be asked now: the connection is lost, another process
        has locked the file
    """
    asked = sorted({need for some in needs.values() for need in some})
    refusals = {need: said for need in asked if (said := _refusal(connection, need.plan))}
    return {
        command: {need: refusals[need] for need in some if need in refusals}
        for command, some in needs.items()
    }


def _refusal(connection: Connection, statement: str) -> str:
    """Why the server would refuse a statement; empty: it would not."""
    try:
        connection.execute(text(statement))
    except DBAPIError as error:
        if is_transient(error):
            raise
        return "" if error_number(error) in READ_ONLY else server_message(error)
    finally:
        rollback(connection)
    return ""
