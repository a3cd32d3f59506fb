"""Runs to play with, of cells that need no database."""

from typing import Final

from jobs.codec import encode
from jobs.db.archive_deleted_rows import Archived, Params
from jobs.db.purge import Params as PurgeParams
from runs.records import CellRef, Order, Phase

ARCHIVE: Final = "db.archive_deleted_rows"
A, B, C = CELLS = tuple(CellRef(f"uuid-{name}", f"cell-{name}", f"print-{name}") for name in "abc")
ALL: Final = Params(until_complete=True)
TOTAL: Final = Params(max_rows=100)


def order(name: str = "r", params: Params = ALL, cells: tuple[CellRef, ...] = (A, B), *, purge: bool = False) -> Order:
    """A run that archives some cells, and purges them afterwards."""
    phases = [Phase(ARCHIVE, encode(params))] + ([Phase("db.purge", encode(PurgeParams()))] if purge else [])
    return Order(name, tuple(phases), cells, "somebody@somewhere")


def moved(rows: int) -> dict[str, object]:
    """An outcome of so many rows, as it lies in the store."""
    encoded: dict[str, object] = encode(Archived(moved={"instances": rows} if rows else {}))
    return encoded
