"""Compute nodes without allocation ratios."""

from typing import Final

from sqlalchemy import ColumnElement, func, or_, select, update

from jobs.db.migrations.migration import Batch, Migration, Place, Tally, next_after, nova_table, now

COLUMNS: Final = ("cpu_allocation_ratio", "ram_allocation_ratio", "disk_allocation_ratio")
NODES: Final = nova_table("compute_nodes", "deleted", *COLUMNS)
EMPTY: Final[ColumnElement[bool]] = or_(*(or_(NODES.c[name].is_(None), NODES.c[name] == 0.0) for name in COLUMNS))


def set_ratios(place: Place, size: int, after: int) -> Batch:
    """Give live nodes the configured ratio where theirs is missing or 0."""
    due = select(NODES.c.id).where(NODES.c.id > after, NODES.c.deleted == 0, EMPTY)
    ids = list(place.cell.execute(due.order_by(NODES.c.id).limit(size)).scalars())
    ratios = dict(zip(COLUMNS, (place.defaults.cpu, place.defaults.ram, place.defaults.disk), strict=True))
    values = {name: func.coalesce(func.nullif(NODES.c[name], 0.0), ratio) for name, ratio in ratios.items()}
    done = (
        place.cell.execute(
            update(NODES).where(NODES.c.id.in_(ids), EMPTY).values(values | {"updated_at": now()})
        ).rowcount
        if ids
        else 0
    )
    place.cell.commit()
    return Batch(Tally(len(ids), done), next_after(ids, size))


MIGRATE_EMPTY_RATIO: Final = Migration(
    "migrate_empty_ratio", set_ratios, cell_columns=tuple(f"{NODES.name}.{name}" for name in COLUMNS)
)
