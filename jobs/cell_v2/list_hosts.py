"""``cell_v2 list_hosts``: the hosts of one cell, or of all."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import Connection, func, select

from jobs.retry import one_transaction
from novadb.engine import Database
from novadb.nova_tables import CELL_MAPPINGS, HOST_MAPPINGS


class Exit(IntEnum):
    """The manual's return codes."""

    LISTED = 0
    UNKNOWN_CELL = 1


@dataclass(frozen=True)
class MappedHost:
    """A host and its cell."""

    cell_name: str | None
    cell_uuid: str
    host: str


def read_mapped_hosts(api: Database, cell_uuid: str | None) -> list[MappedHost] | None:
    """The mapped hosts, sorted by name.

    :param cell_uuid: only hosts of this cell; None: of all cells
    :returns: None: there is no such cell
    """
    return one_transaction(api, lambda connection: _read(connection, cell_uuid))


def _read(api: Connection, cell_uuid: str | None) -> list[MappedHost] | None:
    query = select(CELL_MAPPINGS.c.name, CELL_MAPPINGS.c.uuid, HOST_MAPPINGS.c.host).join_from(
        HOST_MAPPINGS, CELL_MAPPINGS, HOST_MAPPINGS.c.cell_id == CELL_MAPPINGS.c.id
    )
    if cell_uuid:
        cell_query = select(CELL_MAPPINGS.c.id).where(CELL_MAPPINGS.c.uuid == cell_uuid)
        cell_id = api.execute(cell_query).scalar()
        if cell_id is None:
            return None
        query = query.where(HOST_MAPPINGS.c.cell_id == cell_id)
    hosts = [MappedHost(*row) for row in api.execute(query)]
    return sorted(hosts, key=lambda mapped: mapped.host)


def count_mapped_hosts(api: Database, cell_ids: Sequence[int]) -> int:
    """How many hosts are mapped to some cells.

    :param cell_ids: ``cell_mappings.id``
    """
    in_cells = HOST_MAPPINGS.c.cell_id.in_(cell_ids)
    query = select(func.count()).select_from(HOST_MAPPINGS).where(in_cells)
    return int(one_transaction(api, lambda connection: connection.execute(query).scalar_one()))
