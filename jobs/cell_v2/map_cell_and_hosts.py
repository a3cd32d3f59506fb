"""``cell_v2 map_cell_and_hosts``: map the configured database as a cell, and the hosts in it."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from jobs.action import ApiDatabaseProblem
from jobs.cell_v2.mapper import concerns_a_row, insert_one_by_one, insert_rows
from jobs.retry import TryAgain, one_transaction, savepoint
from novadb.engine import Database
from novadb.mappings import add_cell_mapping
from novadb.names import fold_name
from novadb.nova_tables import CELL_MAPPINGS, COMPUTE_NODES, HOST_MAPPINGS

CONTENDED: Final = "others keep mapping the same hosts ({}): try again"


class Exit(IntEnum):
    """The manual's return codes, and the one of an error."""

    MAPPED = 0
    INVALID_URL = 1
    REFUSED = 255


@dataclass(frozen=True)
class Params:
    """The cell, if it is not mapped yet.

    :ivar transport_url: as given, possibly a template; secret
    :ivar database_connection: the configured one; secret
    """

    name: str | None
    transport_url: str
    database_connection: str


@dataclass(frozen=True)
class MappedHosts:
    """What was done.

    :ivar there: hosts that were mapped before, with the UUIDs of their cells, in order of the nodes
    :ivar cell: the UUID of the cell that was used; None: there are no nodes, and nothing was done
    :ivar added: how many hosts were mapped
    :ivar refused: hosts that could not be mapped, with the reason
    """

    there: Sequence[tuple[str, str]] = ()
    cell: str | None = None
    added: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)


def map_hosts(api: Database, own: Database, params: Params) -> MappedHosts:
    """Map all hosts of the configured database to the cell of its mapped hosts, or to a new one.

    This is one transaction, and safe to repeat. A host that the database refuses does not keep the
    others from being mapped.

    :raises DatabaseProblem: a database cannot be used
    """
    query = select(COMPUTE_NODES.c.host).where(
        COMPUTE_NODES.c.deleted == 0, COMPUTE_NODES.c.host.is_not(None)
    )
    query = query.order_by(COMPUTE_NODES.c.id)
    hosts = one_transaction(own, lambda cell: cell.execute(query).scalars().all())
    if not hosts:
        return MappedHosts()

    def are_mapped(connection: Connection, result: MappedHosts) -> bool:
        mapped_hosts = connection.execute(select(HOST_MAPPINGS.c.host)).scalars()
        mapped_names = {fold_name(host) for host in mapped_hosts}
        return all(fold_name(host) in mapped_names for host in hosts if host not in result.refused)

    return one_transaction(
        api, lambda connection: _map_hosts(connection, hosts, params), are_mapped
    )


def _map_hosts(api: Connection, hosts: Sequence[str], params: Params) -> MappedHosts:
    query = select(HOST_MAPPINGS.c.host, CELL_MAPPINGS.c.uuid, CELL_MAPPINGS.c.id).join_from(
        HOST_MAPPINGS, CELL_MAPPINGS, HOST_MAPPINGS.c.cell_id == CELL_MAPPINGS.c.id
    )
    mappings = {fold_name(row.host): row for row in api.execute(query)}
    there = [mappings[fold_name(host)] for host in hosts if fold_name(host) in mappings]
    missing = {fold_name(host): host for host in hosts if fold_name(host) not in mappings}
    cell_uuid = there[-1].uuid if there else str(uuid.uuid4())
    refused: Mapping[str, str] = {}
    if missing:
        cell_id = there[-1].id if there else _add_cell(api, cell_uuid, params)
        refused = _add_hosts(api, [{"host": host, "cell_id": cell_id} for host in missing.values()])
    return MappedHosts(
        [(row.host, row.uuid) for row in there], cell_uuid, len(missing) - len(refused), refused
    )


def _add_cell(api: Connection, cell_uuid: str, params: Params) -> int:
    return add_cell_mapping(api, uuid=cell_uuid, **vars(params))


def _add_hosts(api: Connection, rows: Sequence[dict[str, Any]]) -> Mapping[str, str]:
    """Map hosts; returns why some could not be mapped.

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
            text = CONTENDED.format(", ".join(sorted(unadded.taken)))
            raise TryAgain(ApiDatabaseProblem(text)) from error
        return unadded.refused
    return {}
