"""``cell_v2 verify_instance``: which cell an instance is mapped to, and whether it is there."""

from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import exists, select

from novadb.engine import Database
from novadb.mappings import CellMapping, DefaultUrls, find_cell_mapping
from novadb.nova_tables import CELL_MAPPINGS, INSTANCE_MAPPINGS, INSTANCES, SHADOW_INSTANCES


class Exit(IntEnum):
    """The manual's return codes."""

    IN_ITS_CELL = 0
    NOT_MAPPED = 1
    WITHOUT_CELL = 2
    DELETED = 3
    ARCHIVED = 4


@dataclass(frozen=True)
class Verified:
    """What is known about an instance.

    :ivar cell: the cell that it is mapped to, if any
    :ivar in_shadow: for an archived instance, whether its row is in the shadow table; if not, it
        was purged, or was never in this cell
    """

    exit: Exit
    cell: CellMapping | None = None
    in_shadow: bool = False


def verify_mapping(api: Database, defaults: DefaultUrls, uuid: str) -> Verified:
    """Look for an instance's mapping, then for the instance in its cell.

    :raises DatabaseProblem: the API database or the cell's cannot be used
    """
    with api.connect() as connection:
        query = (
            select(INSTANCE_MAPPINGS.c.cell_id, CELL_MAPPINGS.c.uuid)
            .outerjoin_from(
                INSTANCE_MAPPINGS, CELL_MAPPINGS, INSTANCE_MAPPINGS.c.cell_id == CELL_MAPPINGS.c.id
            )
            .where(INSTANCE_MAPPINGS.c.instance_uuid == uuid)
        )
        row = connection.execute(query).first()
        if row is None:
            return Verified(Exit.NOT_MAPPED)
        cell = find_cell_mapping(connection, defaults, row.uuid) if row.uuid else None
    if cell is None:
        return Verified(Exit.WITHOUT_CELL)
    return _look_in_cell(cell, cell.database(api.timeouts), uuid)


def _look_in_cell(mapping: CellMapping, database: Database, uuid: str) -> Verified:
    with database.connect() as cell:
        query = select(INSTANCES.c.deleted).where(INSTANCES.c.uuid == uuid)
        deleted_values = cell.execute(query).scalars().all()
        if 0 in deleted_values:
            return Verified(Exit.IN_ITS_CELL, mapping)
        if deleted_values:
            return Verified(Exit.DELETED, mapping)
        shadow_query = select(exists().where(SHADOW_INSTANCES.c.uuid == uuid))
        in_shadow = bool(cell.execute(shadow_query).scalar())
    return Verified(Exit.ARCHIVED, mapping, in_shadow)
