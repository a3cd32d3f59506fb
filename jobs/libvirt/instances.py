"""Where Nova keeps an instance's machine type: ``image_hw_machine_type`` in its metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    exists,
    insert,
    or_,
    select,
    update,
)

from novadb.cells import Cell, mapped_cell_ids
from novadb.clock import utc_now
from novadb.engine import Database
from novadb.errors import DatabaseProblem
from novadb.names import fold_name
from novadb.nova_tables import INSTANCE_SYSTEM_METADATA, INSTANCES

METADATA_KEY: Final = "image_hw_machine_type"
BUILDING: Final = "building"

RECORDED: Final = (INSTANCE_SYSTEM_METADATA.c.key == METADATA_KEY) & (
    INSTANCE_SYSTEM_METADATA.c.deleted == 0
)


class UnknownInstance(Exception):
    """There is no such instance, or nothing says in which cell it is."""


@dataclass(frozen=True)
class Instance:
    """What the commands need to know about an instance.

    :ivar host: None: it is on no host, as when it is shelved and offloaded
    :ivar machine_type: the recorded one; None: none is recorded
    """

    uuid: str
    vm_state: str | None
    host: str | None
    machine_type: str | None


def find_database(api: Database, cells: Sequence[Cell], uuid: str) -> Database:
    """The database of the cell that an instance is mapped to.

    :raises UnknownInstance: it is not mapped, or to no cell
    :raises DatabaseProblem: the API database cannot be used, or the URL of the cell cannot
    """
    with api.connect() as connection:
        cell_ids = mapped_cell_ids(connection, uuid)
    for cell in cells:
        if cell.mapping_ids.isdisjoint(cell_ids):
            continue
        if isinstance(cell.database, DatabaseProblem):
            raise cell.database
        return cell.database
    raise UnknownInstance(f"Instance {uuid} has no mapping to a cell")


def find_instance(cell: Connection, uuid: str, *, claim: bool = False) -> Instance:
    """Read an instance that is not deleted.

    :param claim: whether to lock its row until the end of the transaction
    :raises UnknownInstance: there is no such instance
    """
    query = select(INSTANCES.c.uuid, INSTANCES.c.vm_state, INSTANCES.c.host).where(
        INSTANCES.c.uuid == uuid, INSTANCES.c.deleted == 0
    )
    row = cell.execute(query.with_for_update() if claim else query).first()
    if row is None:
        raise UnknownInstance(f"Instance {uuid} could not be found")
    recorded = (
        select(INSTANCE_SYSTEM_METADATA.c.value)
        .where(INSTANCE_SYSTEM_METADATA.c.instance_uuid == row.uuid, RECORDED)
        .order_by(INSTANCE_SYSTEM_METADATA.c.id.desc())
        .limit(1)
    )
    return Instance(row.uuid, row.vm_state, row.host, cell.execute(recorded).scalar() or None)


def lacks_machine_type() -> ColumnElement[bool]:
    """The condition that an instance ought to have a machine type recorded and has none.

    :source: the stock tool leaves out instances that are deleted or being built, and no others
    """
    recorded = exists().where(
        INSTANCE_SYSTEM_METADATA.c.instance_uuid == INSTANCES.c.uuid,
        RECORDED,
        INSTANCE_SYSTEM_METADATA.c.value != "",
    )
    is_built = or_(INSTANCES.c.vm_state.is_(None), INSTANCES.c.vm_state != BUILDING)
    return (INSTANCES.c.deleted == 0) & is_built & ~recorded


def write_machine_types(cell: Connection, machine_types: Mapping[str, str]) -> None:
    """Record machine types, by the UUIDs of instances that the caller has claimed; it commits."""
    now = utc_now()
    has_record = select(INSTANCE_SYSTEM_METADATA.c.instance_uuid).where(
        INSTANCE_SYSTEM_METADATA.c.instance_uuid.in_(machine_types), RECORDED
    )
    recorded_uuids = {fold_name(uuid) for uuid in cell.execute(has_record).scalars()}
    new_rows = []
    for uuid, machine_type in sorted(machine_types.items()):
        if fold_name(uuid) in recorded_uuids:
            record = update(INSTANCE_SYSTEM_METADATA).where(
                INSTANCE_SYSTEM_METADATA.c.instance_uuid == uuid, RECORDED
            )
            cell.execute(record.values(value=machine_type, updated_at=now))
        else:
            new_rows.append(
                {
                    "instance_uuid": uuid,
                    "key": METADATA_KEY,
                    "value": machine_type,
                    "deleted": 0,
                    "created_at": now,
                }
            )
    if new_rows:
        cell.execute(insert(INSTANCE_SYSTEM_METADATA), new_rows)
    cell.execute(
        update(INSTANCES).where(INSTANCES.c.uuid.in_(machine_types)).values(updated_at=now)
    )
