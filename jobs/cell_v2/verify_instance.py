"""``cell_v2 verify_instance``: where an instance is mapped to, and what is there of it."""

from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import column, exists, select, table

from novadb.engine import Database
from novadb.mappings import CELL_MAPPINGS, INSTANCE_MAPPINGS, CellMapping, DefaultUrls, find_cell_mapping


class Exit(IntEnum):
    """The manual's return codes."""

    IN_ITS_CELL = 0
    NOT_MAPPED = 1
    WITHOUT_CELL = 2
    DELETED = 3
    ARCHIVED = 4


@dataclass(frozen=True)
class Verified:
    """What is known of an instance.

    :ivar cell: that it is mapped to, if any
    :ivar in_shadow: of an archived one: whether its row lies in the shadow table; otherwise it was purged, or never was
        in this cell
    """

    exit: Exit
    cell: CellMapping | None = None
    in_shadow: bool = False


def verify(api: Database, defaults: DefaultUrls, uuid: str) -> Verified:
    """Look for an instance's mapping, and in its cell.

    :raises DatabaseProblem: the API database or the cell's cannot be used
    """
    with api.connect() as connection:
        mapped_to = select(INSTANCE_MAPPINGS.c.cell_id, CELL_MAPPINGS.c.uuid).where(
            INSTANCE_MAPPINGS.c.instance_uuid == uuid
        )
        row = connection.execute(
            mapped_to.outerjoin_from(
                INSTANCE_MAPPINGS, CELL_MAPPINGS, INSTANCE_MAPPINGS.c.cell_id == CELL_MAPPINGS.c.id
            )
        ).first()
        if row is None:
            return Verified(Exit.NOT_MAPPED)
        cell = find_cell_mapping(connection, defaults, row.uuid) if row.uuid else None
    if cell is None:
        return Verified(Exit.WITHOUT_CELL)
    return _in_cell(cell, cell.database(api.timeouts), uuid)


def _in_cell(mapping: CellMapping, database: Database, uuid: str) -> Verified:
    live, shadow = (table(name, column("uuid"), column("deleted")) for name in ("instances", "shadow_instances"))
    with database.connect() as cell:
        rows = cell.execute(select(live.c.deleted).where(live.c.uuid == uuid)).scalars().all()
        if 0 in rows:
            return Verified(Exit.IN_ITS_CELL, mapping)
        if rows:
            return Verified(Exit.DELETED, mapping)
        archived = bool(cell.execute(select(exists().where(shadow.c.uuid == uuid))).scalar())
    return Verified(Exit.ARCHIVED, mapping, archived)
