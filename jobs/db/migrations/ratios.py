"""Compute nodes without allocation ratios."""

from typing import Final

from sqlalchemy import ColumnElement, func, or_, select, update

from jobs.db.migrations.migration import Batch, Migration, Place, Tally, next_after, none_is_left
from novadb.clock import utc_now
from novadb.migrations.upgrade import is_before
from novadb.nova_tables import COMPUTE_NODES

COLUMNS: Final = ("cpu_allocation_ratio", "ram_allocation_ratio", "disk_allocation_ratio")
# Nova's own initial ratio of CPUs has been lower since release 27 (2023.1).
CPU_RATIO: Final = 4.0
OLDER_CPU_RATIO: Final = 16.0
EMPTY: Final[ColumnElement[bool]] = or_(
    *(or_(COMPUTE_NODES.c[name].is_(None), COMPUTE_NODES.c[name] == 0.0) for name in COLUMNS)
)


def set_ratios(place: Place, size: int, after: int) -> Batch:
    """Give live nodes the configured ratio where theirs is missing or 0."""
    due = select(COMPUTE_NODES.c.id).where(
        COMPUTE_NODES.c.id > after, COMPUTE_NODES.c.deleted == 0, EMPTY
    )
    ids = list(place.cell.execute(due.order_by(COMPUTE_NODES.c.id).limit(size)).scalars())
    configured = (_cpu_ratio(place), place.defaults.ram, place.defaults.disk)
    ratios = dict(zip(COLUMNS, configured, strict=True))
    values = {
        name: func.coalesce(func.nullif(COMPUTE_NODES.c[name], 0.0), ratio)
        for name, ratio in ratios.items()
    }
    done = 0
    is_done = none_is_left(
        select(COMPUTE_NODES.c.id).where(
            COMPUTE_NODES.c.id.in_(ids), COMPUTE_NODES.c.deleted == 0, EMPTY
        )
    )
    with place.writing(len(ids), is_done) as cell:
        if ids:
            changed = (
                update(COMPUTE_NODES)
                .where(COMPUTE_NODES.c.id.in_(ids), EMPTY)
                .values(values | {"updated_at": utc_now()})
            )
            done = cell.execute(changed).rowcount
    return Batch(Tally(len(ids), done), next_after(ids, size))


def _cpu_ratio(place: Place) -> float:
    if place.defaults.cpu is not None:
        return place.defaults.cpu
    return OLDER_CPU_RATIO if is_before(27, place.cell, place.database) else CPU_RATIO


MIGRATE_EMPTY_RATIO: Final = Migration(
    "migrate_empty_ratio",
    set_ratios,
    cell_columns=tuple(f"{COMPUTE_NODES.name}.{name}" for name in COLUMNS),
)
