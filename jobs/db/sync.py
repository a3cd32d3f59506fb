"""``db sync``: bring the databases of cells to a revision of their schema."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self

from jobs.action import CellResult, Outcome, Unit
from novadb.cells import CELL0, Cell
from novadb.migrations.upgrade import UpgradeResult


class Exit(IntEnum):
    """The manual's return codes."""

    SYNCED = 0
    NO_CELL0 = 1
    ERROR = 255


@dataclass(frozen=True)
class Params:
    """The options of the command.

    :ivar revision: to go to; None: the newest
    """

    revision: str | None = None


@dataclass(frozen=True)
class Synced(Outcome):
    """What was done in a cell; no rows are counted, where tables are changed.

    :ivar database: what became of it; None: nothing yet
    """

    counts: ClassVar[Unit] = Unit.NOTHING

    database: UpgradeResult | None = None

    def __add__(self, other: Self) -> Self:
        return other

    @property
    def by_table(self) -> Mapping[str, int]:
        """None."""
        return {}

    @property
    def rows(self) -> int:
        """None."""
        return 0


def cell0_of(cells: Iterable[Cell]) -> Cell | None:
    """The cell of instances that were never scheduled, where it is mapped."""
    return next((cell for cell in cells if cell.uuid == CELL0), None)


def collapse(results: Sequence[CellResult[Synced]], _params: Params) -> Exit:
    """The exit code of the whole.

    From worst to best: a cell failed (255); none but cell0 did (1); all are at the revision (0).
    """
    failed = [result.cell for result in results if result.failure]
    if any(cell.uuid != CELL0 for cell in failed):
        return Exit.ERROR
    return Exit.NO_CELL0 if failed else Exit.SYNCED
