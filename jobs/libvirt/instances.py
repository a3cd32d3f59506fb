"""Where Nova keeps the machine type of an instance: ``image_hw_machine_type`` in its system metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, DateTime, column, exists, insert, or_, select, table, update

from novadb.cells import Cell, mapped_cell_ids
from novadb.engine import Database
from novadb.errors import DatabaseProblem
from novadb.names import fold_name

KEY: Final = "image_hw_machine_type"
BUILDING: Final = "building"

INSTANCES: Final = table(
    "instances",
    column("id"),
    column("uuid"),
    column("vm_state"),
    column("host"),
    column("deleted"),
    column("updated_at", DateTime),
)
METADATA: Final = table(
    "instance_system_metadata",
    column("id"),
    column("instance_uuid"),
    column("key"),
    column("value"),
    column("deleted"),
    column("created_at", DateTime),
    column("updated_at", DateTime),
)
RECORDED: Final = (METADATA.c.key == KEY) & (METADATA.c.deleted == 0)


class UnknownInstance(Exception):
    """There is no such instance, or nothing says in which cell it is."""


@dataclass(frozen=True)
class Instance:
    """What the commands need of an instance.

    :ivar host: None: it is on none, as when it is shelved and offloaded
    :ivar machine_type: as recorded; None: none is
    """

    uuid: str
    vm_state: str | None
    host: str | None
    machine_type: str | None


def database_of(api: Database, cells: Sequence[Cell], uuid: str) -> Database:
    """The database of the cell that an instance is mapped to.

    :raises UnknownInstance: it is not mapped, or to no cell
    :raises DatabaseProblem: the API database cannot be used, or the URL of the cell cannot
    """
    with api.connect() as connection:
        mapped = mapped_cell_ids(connection, uuid)
    cell = next((cell for cell in cells if cell.mapping_ids.intersection(mapped)), None)
    if cell is None:
        raise UnknownInstance(f"Instance {uuid} has no mapping to a cell")
    if isinstance(cell.database, DatabaseProblem):
        raise cell.database
    return cell.database


def find(cell: Connection, uuid: str, *, claim: bool = False) -> Instance:
    """Read an instance that is not deleted.

    :param claim: keep others from changing it until the end of the transaction
    :raises UnknownInstance: there is none
    """
    wanted = select(INSTANCES).where(INSTANCES.c.uuid == uuid, INSTANCES.c.deleted == 0)
    row = cell.execute(wanted.with_for_update() if claim else wanted).first()
    if row is None:
        raise UnknownInstance(f"Instance {uuid} could not be found")
    recorded = (
        select(METADATA.c.value)
        .where(METADATA.c.instance_uuid == row.uuid, RECORDED)
        .order_by(METADATA.c.id.desc())
        .limit(1)
    )
    return Instance(row.uuid, row.vm_state, row.host, cell.execute(recorded).scalar() or None)


def unset() -> ColumnElement[bool]:
    """The condition that an instance ought to have a machine type recorded and has none.

    :source: the stock tool leaves out instances that are deleted or being built, and no others
    """
    recorded = exists().where(METADATA.c.instance_uuid == INSTANCES.c.uuid, RECORDED, METADATA.c.value != "")
    built = or_(INSTANCES.c.vm_state.is_(None), INSTANCES.c.vm_state != BUILDING)
    return (INSTANCES.c.deleted == 0) & built & ~recorded


def write(cell: Connection, machine_types: Mapping[str, str]) -> None:
    """Record machine types, by UUID of the instance; the caller has claimed these and commits."""
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    known = select(METADATA.c.instance_uuid).where(METADATA.c.instance_uuid.in_(machine_types), RECORDED)
    known_uuids = {fold_name(uuid) for uuid in cell.execute(known).scalars()}
    added = []
    for uuid, machine_type in sorted(machine_types.items()):
        if fold_name(uuid) in known_uuids:
            changed = update(METADATA).where(METADATA.c.instance_uuid == uuid, RECORDED)
            cell.execute(changed.values(value=machine_type, updated_at=now))
        else:
            added.append({"instance_uuid": uuid, "key": KEY, "value": machine_type, "deleted": 0, "created_at": now})
    if added:
        cell.execute(insert(METADATA), added)
    cell.execute(update(INSTANCES).where(INSTANCES.c.uuid.in_(machine_types)).values(updated_at=now))
