"""``cell_v2 map_cell_and_hosts``: map the configured database as a cell, and the hosts in it."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from jobs.action import ApiDatabaseProblem
from jobs.cell_v2.discover_hosts import NODES
from jobs.cell_v2.mapper import concerns_a_row, insert_one_by_one, insert_rows
from jobs.retry import TryAgain, one_transaction, savepoint
from novadb.engine import Database
from novadb.mappings import CELL_MAPPINGS, HOST_MAPPINGS, add_cell_mapping
from novadb.names import fold_name

TAKEN: Final = "others keep mapping the same hosts ({}): try again"


class Exit(IntEnum):
    """The manual's return codes, and that of an error."""

    MAPPED = 0
    INVALID_URL = 1
    REFUSED = 255


@dataclass(frozen=True)
class Params:
    """The cell, if it is not mapped yet.

    :ivar transport_url: as given, be it a template; secret
    :ivar database_connection: the configured one; secret
    """

    name: str | None
    transport_url: str
    database_connection: str


@dataclass(frozen=True)
class MappedHosts:
    """What was done.

    :ivar there: the nodes whose hosts were mapped before: (host, UUID of its cell), in order of the nodes
    :ivar cell: the UUID of the cell that was used; None: there are no nodes, so that nothing was done
    :ivar added: how many hosts were mapped
    :ivar refused: hosts that could not be mapped, and why
    """

    there: Sequence[tuple[str, str]] = ()
    cell: str | None = None
    added: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)


def map_hosts(api: Database, own: Database, params: Params) -> MappedHosts:
    """Map all hosts of the configured database to the cell of those that are mapped, or to a new one.

    All of it is one transaction; a host that is refused costs itself. Safe to do again.

    :raises DatabaseProblem: a database cannot be used
    """
    there = select(NODES.c.host).where(NODES.c.deleted == 0, NODES.c.host.is_not(None)).order_by(NODES.c.id)
    nodes = one_transaction(own, lambda cell: cell.execute(there).scalars().all())
    if not nodes:
        return MappedHosts()

    def are_mapped(connection: Connection, result: MappedHosts) -> bool:
        hosts = {fold_name(host) for host in connection.execute(select(HOST_MAPPINGS.c.host)).scalars()}
        return all(fold_name(host) in hosts for host in nodes if host not in result.refused)

    return one_transaction(api, lambda connection: _map(connection, nodes, params), are_mapped)


def _map(api: Connection, nodes: Sequence[str], params: Params) -> MappedHosts:
    mapped = select(HOST_MAPPINGS.c.host, CELL_MAPPINGS.c.uuid, CELL_MAPPINGS.c.id).join_from(
        HOST_MAPPINGS, CELL_MAPPINGS, HOST_MAPPINGS.c.cell_id == CELL_MAPPINGS.c.id
    )
    cells = {fold_name(row.host): row for row in api.execute(mapped)}
    there = [cells[fold_name(host)] for host in nodes if fold_name(host) in cells]
    missing = {fold_name(host): host for host in nodes if fold_name(host) not in cells}
    cell = there[-1].uuid if there else str(uuid.uuid4())
    refused: Mapping[str, str] = {}
    if missing:
        number = there[-1].id if there else add_cell_mapping(api, uuid=cell, **vars(params))
        refused = _add(api, [{"host": host, "cell_id": number} for host in missing.values()])
    return MappedHosts([(row.host, row.uuid) for row in there], cell, len(missing) - len(refused), refused)


def _add(api: Connection, rows: Sequence[dict[str, Any]]) -> Mapping[str, str]:
    """Map hosts; returns why some could not be.

    :raises TryAgain: somebody else has just mapped one of them
    """
    try:
        with savepoint(api):
            insert_rows(api, HOST_MAPPINGS, rows)
    except DBAPIError as error:
        if not concerns_a_row(error):
            raise
        unadded = insert_one_by_one(api, HOST_MAPPINGS, "host", rows)
        if unadded.taken:
            raise TryAgain(ApiDatabaseProblem(TAKEN.format(", ".join(sorted(unadded.taken))))) from error
        return unadded.refused
    return {}
