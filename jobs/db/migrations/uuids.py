"""Rows from before their table had uuids."""

from functools import partial
from typing import Final
from uuid import uuid4

from sqlalchemy import TableClause

from jobs.db.migrations.migration import (
    Batch,
    Migration,
    Place,
    Tally,
    all_have,
    fill,
    next_after,
    without_value,
)
from novadb.nova_tables import BLOCK_DEVICE_MAPPING, MIGRATIONS, PCI_DEVICES


def give_uuids(rows: TableClause, place: Place, size: int, after: int) -> Batch:
    """Give random uuids; where the table tells live rows from deleted ones, to those alive."""
    live = (rows.c.deleted == 0,) if "deleted" in rows.c else ()
    ids = without_value(place.cell, rows, "uuid", after, size, *live)
    with place.writing(len(ids), all_have(rows, "uuid", ids)) as cell:
        done = fill(cell, rows, "uuid", {number: str(uuid4()) for number in ids})
    return Batch(Tally(len(ids), done), next_after(ids, size))


def _migration(name: str, rows: TableClause) -> Migration:
    return Migration(name, partial(give_uuids, rows), cell_columns=(f"{rows.name}.uuid",))


MIGRATION_MIGRATE_TO_UUID: Final = _migration("migration_migrate_to_uuid", MIGRATIONS)
POPULATE_UUIDS: Final = _migration("populate_uuids", BLOCK_DEVICE_MAPPING)
POPULATE_DEV_UUIDS: Final = _migration("populate_dev_uuids", PCI_DEVICES)
