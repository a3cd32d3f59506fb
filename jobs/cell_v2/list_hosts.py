"""``cell_v2 list_hosts``: the hosts of one cell, or of all."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import Connection, func, select

from jobs.retry import one_transaction
from novadb.engine import Database
from novadb.mappings import CELL_MAPPINGS, HOST_MAPPINGS


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


def hosts(api: Database, cell_uuid: str | None) -> list[MappedHost] | None:
    """The mapped hosts, sorted by name.

    :param cell_uuid: of one cell; None: all cells
    :returns: None: there is no such cell
    """
    return one_transaction(api, lambda connection: _read(connection, cell_uuid))


def _read(api: Connection, cell_uuid: str | None) -> list[MappedHost] | None:
    mapped = select(CELL_MAPPINGS.c.name, CELL_MAPPINGS.c.uuid, HOST_MAPPINGS.c.host).join_from(
        HOST_MAPPINGS, CELL_MAPPINGS, HOST_MAPPINGS.c.cell_id == CELL_MAPPINGS.c.id
    )
    if cell_uuid:
        number = api.execute(select(CELL_MAPPINGS.c.id).where(CELL_MAPPINGS.c.uuid == cell_uuid)).scalar()
        if number is None:
            return None
        mapped = mapped.where(HOST_MAPPINGS.c.cell_id == number)
    return sorted((MappedHost(*row) for row in api.execute(mapped)), key=lambda mapped_host: mapped_host.host)


def count(api: Database, cells: Sequence[int]) -> int:
    """How many hosts are mapped to some cells.

    :param cells: ``cell_mappings.id``
    """
    mapped = select(func.count()).select_from(HOST_MAPPINGS).where(HOST_MAPPINGS.c.cell_id.in_(cells))
    return int(one_transaction(api, lambda connection: connection.execute(mapped).scalar_one()))
