"""Runs to play with, of cells that need no database."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from jobs.action import CellResult, Failure, FailureKind, Outcome
from jobs.codec import encode
from jobs.db.archive_deleted_rows import Archived, Params
from jobs.db.purge import Params as PurgeParams
from novadb.cells import Cell
from novadb.errors import DatabaseProblem
from runs.records import CellRef, Order, Phase

ARCHIVE: Final = "db.archive_deleted_rows"
PURGE: Final = "db.purge"
A, B, C = CELLS = tuple(CellRef(f"uuid-{name}", f"cell-{name}", f"print-{name}") for name in "abc")
ALL: Final = Params(until_complete=True)
TOTAL: Final = Params(max_rows=100)


@dataclass(frozen=True)
class Rows(Outcome):
    """The outcome of an action that needs no database."""

    rows: int = 0

    def __add__(self, other: "Rows") -> "Rows":
        return Rows(self.rows + other.rows)

    @property
    def by_table(self) -> dict[str, int]:
        return {"rows": self.rows}


def order(
    run: str = "r", params: Params = ALL, *, purge: bool = False, until: float | None = None
) -> Order:
    """A run that archives its cells, and purges them afterwards if asked."""
    phases = [Phase(ARCHIVE, encode(params))]
    if purge:
        phases.append(Phase(PURGE, encode(PurgeParams())))
    return Order(run, tuple(phases), "somebody@somewhere", until)


def moved(rows: int) -> Archived:
    """An outcome of so many rows."""
    return Archived(moved={"instances": rows} if rows else {})


def away(label: str) -> Failure:
    """A cell's database that does not answer."""
    return Failure(FailureKind.CELL, f"{label}: away")


def result(rows: int = 0, *, failed: bool = False, complete: bool | None = None) -> CellResult[Any]:
    """What became of a cell."""
    cell = Cell("uuid", "cell", frozenset(), DatabaseProblem("known by name only"))
    failure = away("cell") if failed else None
    return CellResult(cell, moved(rows), failure, not failed if complete is None else complete)


def results(*rows: int) -> Sequence[CellResult[Any]]:
    """Cells that moved so many rows each, and were worked to their end."""
    return [result(number) for number in rows]
