"""``cell_v2 delete_cell``: remove a cell's mapping, with force those of its hosts as well.

After an interruption, running it again does the rest: the cell's own row is deleted last.
"""

from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import Connection, TableClause, delete, select, update

from jobs.cell_v2.mapper import BATCH
from jobs.retry import one_transaction, transactionally
from novadb.clock import utc_now
from novadb.engine import Database
from novadb.mappings import CellMapping, DefaultUrls, find_cell_mapping
from novadb.nova_tables import (
    CELL_MAPPINGS,
    COMPUTE_NODES,
    HOST_MAPPINGS,
    INSTANCE_MAPPINGS,
    INSTANCES,
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

    :ivar force: also delete the mappings of hosts and of deleted instances
    """

    cell_uuid: str
    force: bool = False


@dataclass(frozen=True)
class _CellContents:
    """Whether anything is mapped to a cell.

    :ivar cell: None: there is no such cell
    """

    cell: CellMapping | None
    hosts: bool = False
    instances: bool = False


def delete_cell_mapping(api: Database, defaults: DefaultUrls, params: Params) -> Exit:
    """Delete a cell's mapping, after the checks of the stock tool in their order.

    :raises DatabaseProblem: a database cannot be used. A cell whose database does not answer is
        not taken for empty
    """
    mapped = one_transaction(
        api, lambda connection: _read_contents(connection, defaults, params.cell_uuid)
    )
    cell = mapped.cell
    if cell is None:
        return Exit.UNKNOWN_CELL
    if mapped.hosts and not params.force:
        return Exit.HAS_HOSTS
    if mapped.instances and one_transaction(cell.database(api.timeouts), _has_instances):
        return Exit.HAS_INSTANCES
    if mapped.instances and not params.force:
        return Exit.HAS_MAPPINGS
    if mapped.hosts:
        one_transaction(cell.database(api.timeouts), _unmark_all)
    _delete(api, cell)
    return Exit.DELETED


def _read_contents(api: Connection, defaults: DefaultUrls, uuid: str) -> _CellContents:
    cell = find_cell_mapping(api, defaults, uuid)
    if cell is None:
        return _CellContents(None)

    def is_named_by(mappings: TableClause) -> bool:
        query = select(mappings.c.id).where(mappings.c.cell_id == cell.id).limit(1)
        return api.execute(query).first() is not None

    return _CellContents(cell, is_named_by(HOST_MAPPINGS), is_named_by(INSTANCE_MAPPINGS))


def _has_instances(cell: Connection) -> bool:
    query = select(INSTANCES.c.id).where(INSTANCES.c.deleted == 0).limit(1)
    return cell.execute(query).first() is not None


def _delete(api: Database, cell: CellMapping) -> None:
    """Delete the mappings to a cell, then its own."""
    with api.connect() as connection:

        def delete_chunk() -> int:
            return _delete_instance_mappings(connection, cell.id)

        while transactionally(delete_chunk, connection, name=str(api)):
            pass
    one_transaction(api, lambda connection: _delete_cell(connection, cell))


def _unmark_all(cell: Connection) -> None:
    """Note in a cell that none of its nodes is mapped, so that they can be discovered again."""
    cell.execute(
        update(COMPUTE_NODES)
        .where(COMPUTE_NODES.c.deleted == 0)
        .values(mapped=0, updated_at=utc_now())
    )


def _delete_instance_mappings(api: Connection, cell_id: int) -> int:
    """Delete some mappings; returns how many."""
    query = (
        select(INSTANCE_MAPPINGS.c.id).where(INSTANCE_MAPPINGS.c.cell_id == cell_id).limit(BATCH)
    )
    ids = api.execute(query).scalars().all()
    if ids:
        api.execute(
            delete(INSTANCE_MAPPINGS).where(
                INSTANCE_MAPPINGS.c.id.in_(ids), INSTANCE_MAPPINGS.c.cell_id == cell_id
            )
        )
    api.commit()
    return len(ids)


def _delete_cell(api: Connection, cell: CellMapping) -> None:
    api.execute(delete(HOST_MAPPINGS).where(HOST_MAPPINGS.c.cell_id == cell.id))
    api.execute(delete(CELL_MAPPINGS).where(CELL_MAPPINGS.c.id == cell.id))
