"""``cell_v2 delete_host``: remove a host's mapping."""

from enum import IntEnum

from sqlalchemy import Connection, column, delete, select, table, update

from jobs.cell_v2.discover_hosts import NODES
from jobs.retry import one_transaction
from novadb.engine import Database
from novadb.mappings import HOST_MAPPINGS, CellMapping, DefaultUrls, find_cell_mapping, now


class Exit(IntEnum):
    """The manual's return codes."""

    DELETED = 0
    UNKNOWN_CELL = 1
    UNKNOWN_HOST = 2
    IN_ANOTHER_CELL = 3
    HAS_INSTANCES = 4


def delete_mapping(api: Database, defaults: DefaultUrls, cell_uuid: str, host: str) -> Exit:
    """Delete a host's mapping, if no instance is there; services, nodes and resource providers stay.

    The cell is written first: an interruption leaves a host that is still mapped, and doing it again goes on.

    :raises DatabaseProblem: a database cannot be used
    """
    found = one_transaction(api, lambda connection: _find(connection, defaults, cell_uuid, host))
    if isinstance(found, Exit):
        return found
    if not one_transaction(found.database(api.timeouts), lambda cell: _unmark(cell, host)):
        return Exit.HAS_INSTANCES
    mine = HOST_MAPPINGS.c.host == host, HOST_MAPPINGS.c.cell_id == found.id
    one_transaction(api, lambda connection: connection.execute(delete(HOST_MAPPINGS).where(*mine)))
    return Exit.DELETED


def _find(api: Connection, defaults: DefaultUrls, cell_uuid: str, host: str) -> CellMapping | Exit:
    cell = find_cell_mapping(api, defaults, cell_uuid)
    if cell is None:
        return Exit.UNKNOWN_CELL
    mapped_to = api.execute(select(HOST_MAPPINGS.c.cell_id).where(HOST_MAPPINGS.c.host == host)).scalar()
    if mapped_to is None:
        return Exit.UNKNOWN_HOST
    return cell if mapped_to == cell.id else Exit.IN_ANOTHER_CELL


def _unmark(cell: Connection, host: str) -> bool:
    """Note that the host's nodes are not mapped; False: it has instances."""
    instances = table("instances", column("id"), column("host"), column("deleted"))
    there = select(instances.c.id).where(instances.c.host == host, instances.c.deleted == 0).limit(1)
    if cell.execute(there).first():
        return False
    cell.execute(update(NODES).where(NODES.c.host == host, NODES.c.deleted == 0).values(mapped=0, updated_at=now()))
    return True
