"""``cell_v2 delete_cell``: remove a cell's mapping, and with force those of its hosts and deleted instances.

An interruption leaves a part of it done, and doing it again goes on: the cell's own row is deleted last.
"""

from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import Connection, column, delete, select, table, update

from jobs.cell_v2.discover_hosts import NODES
from jobs.cell_v2.mapper import BATCH
from jobs.retry import one_transaction, transactionally
from novadb.engine import Database
from novadb.mappings import (
    CELL_MAPPINGS,
    HOST_MAPPINGS,
    INSTANCE_MAPPINGS,
    CellMapping,
    DefaultUrls,
    find_cell_mapping,
    now,
)


class Exit(IntEnum):
    """The manual's return codes."""

    DELETED = 0
    UNKNOWN_CELL = 1
    HAS_HOSTS = 2
    HAS_INSTANCES = 3
    HAS_MAPPINGS = 4


@dataclass(frozen=True)
class Params:
    """The options of the command.

    :ivar force: delete mappings of hosts and deleted instances, too
    """

    cell_uuid: str
    force: bool = False


@dataclass(frozen=True)
class _Mapped:
    """What is mapped to a cell."""

    cell: CellMapping | None
    hosts: bool = False
    instances: bool = False


def delete_mapping(api: Database, defaults: DefaultUrls, params: Params) -> Exit:
    """Delete a cell's mapping, if nothing speaks against it, in the order of the stock tool.

    :raises DatabaseProblem: a database cannot be used; where the cell's has to be asked, it is not taken for empty
    """
    mapped = one_transaction(api, lambda connection: _read(connection, defaults, params.cell_uuid))
    cell = mapped.cell
    if cell is None:
        return Exit.UNKNOWN_CELL
    if mapped.hosts and not params.force:
        return Exit.HAS_HOSTS
    if mapped.instances and one_transaction(cell.database(api.timeouts), _has_instances):
        return Exit.HAS_INSTANCES
    if mapped.instances and not params.force:
        return Exit.HAS_MAPPINGS
    _delete(api, cell, unmark=mapped.hosts)
    return Exit.DELETED


def _read(api: Connection, defaults: DefaultUrls, uuid: str) -> _Mapped:
    cell = find_cell_mapping(api, defaults, uuid)
    if cell is None:
        return _Mapped(None)
    hosts, instances = (
        api.execute(select(rows.c.id).where(rows.c.cell_id == cell.id).limit(1)).first()
        for rows in (HOST_MAPPINGS, INSTANCE_MAPPINGS)
    )
    return _Mapped(cell, hosts is not None, instances is not None)


def _has_instances(cell: Connection) -> bool:
    instances = table("instances", column("id"), column("deleted"))
    return cell.execute(select(instances.c.id).where(instances.c.deleted == 0).limit(1)).first() is not None


def _delete(api: Database, cell: CellMapping, *, unmark: bool) -> None:
    """Delete all that is mapped to the cell, and it.

    :param unmark: its nodes, so that they can be discovered again
    """
    if unmark:
        one_transaction(cell.database(api.timeouts), _unmark_all)
    with api.connect() as connection:
        while transactionally(lambda: _delete_instances(connection, cell.id), connection, name=str(api)):
            pass
    one_transaction(api, lambda connection: _delete_cell(connection, cell))


def _unmark_all(cell: Connection) -> None:
    """Note in a cell that none of its nodes is mapped."""
    cell.execute(update(NODES).where(NODES.c.deleted == 0).values(mapped=0, updated_at=now()))


def _delete_instances(api: Connection, cell_id: int) -> int:
    found = select(INSTANCE_MAPPINGS.c.id).where(INSTANCE_MAPPINGS.c.cell_id == cell_id).limit(BATCH)
    chunk = api.execute(found).scalars().all()
    if chunk:
        api.execute(
            delete(INSTANCE_MAPPINGS).where(INSTANCE_MAPPINGS.c.id.in_(chunk), INSTANCE_MAPPINGS.c.cell_id == cell_id)
        )
    api.commit()
    return len(chunk)


def _delete_cell(api: Connection, cell: CellMapping) -> None:
    api.execute(delete(HOST_MAPPINGS).where(HOST_MAPPINGS.c.cell_id == cell.id))
    api.execute(delete(CELL_MAPPINGS).where(CELL_MAPPINGS.c.id == cell.id))
