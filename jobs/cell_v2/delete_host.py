"""``cell_v2 delete_host``: remove a host's mapping."""

from enum import IntEnum

from sqlalchemy import Connection, delete, select, update

from jobs.retry import one_transaction
from novadb.clock import utc_now
from novadb.engine import Database
from novadb.mappings import CellMapping, DefaultUrls, find_cell_mapping
from novadb.nova_tables import COMPUTE_NODES, HOST_MAPPINGS, INSTANCES


class Exit(IntEnum):
    """The manual's return codes."""

    DELETED = 0
    UNKNOWN_CELL = 1
    UNKNOWN_HOST = 2
    IN_ANOTHER_CELL = 3
    HAS_INSTANCES = 4


def delete_host_mapping(api: Database, defaults: DefaultUrls, cell_uuid: str, host: str) -> Exit:
    """Delete a host's mapping unless it has instances. Services, nodes and providers stay.

    The cell is written first: after an interruption the host is still mapped, and running it again
    does the rest.

    :raises DatabaseProblem: a database cannot be used
    """
    mapping = one_transaction(
        api, lambda connection: _find_cell(connection, defaults, cell_uuid, host)
    )
    if isinstance(mapping, Exit):
        return mapping
    is_empty = one_transaction(
        mapping.database(api.timeouts), lambda cell: _unmark_if_empty(cell, host)
    )
    if not is_empty:
        return Exit.HAS_INSTANCES
    statement = delete(HOST_MAPPINGS).where(
        HOST_MAPPINGS.c.host == host, HOST_MAPPINGS.c.cell_id == mapping.id
    )
    one_transaction(api, lambda connection: connection.execute(statement))
    return Exit.DELETED


def _find_cell(
    api: Connection, defaults: DefaultUrls, cell_uuid: str, host: str
) -> CellMapping | Exit:
    """The cell, if the host is mapped to it; otherwise the code that says why not."""
    cell = find_cell_mapping(api, defaults, cell_uuid)
    if cell is None:
        return Exit.UNKNOWN_CELL
    query = select(HOST_MAPPINGS.c.cell_id).where(HOST_MAPPINGS.c.host == host)
    mapped_cell_id = api.execute(query).scalar()
    if mapped_cell_id is None:
        return Exit.UNKNOWN_HOST
    return cell if mapped_cell_id == cell.id else Exit.IN_ANOTHER_CELL


def _unmark_if_empty(cell: Connection, host: str) -> bool:
    """Note that the host's nodes are not mapped.

    :returns: False: it has instances, and nothing was written
    """
    query = select(INSTANCES.c.id).where(INSTANCES.c.host == host, INSTANCES.c.deleted == 0)
    if cell.execute(query.limit(1)).first():
        return False
    nodes = update(COMPUTE_NODES).where(COMPUTE_NODES.c.host == host, COMPUTE_NODES.c.deleted == 0)
    cell.execute(nodes.values(mapped=0, updated_at=utc_now()))
    return True
