"""How a run ended, in words."""

from dataclasses import dataclass
from enum import StrEnum


class Ending(StrEnum):
    """The words for a run that has ended."""

    OK = "ok"
    NOTHING_TO_DO = "nothing to do"
    PARTLY_FAILED = "partly failed"
    """Something failed, and other cells were worked to their end."""
    FAILED = "failed"
    """Every cell failed, or there was none to work on."""
    CANCELLED = "cancelled"
    WINDOW_CLOSED = "window closed"


FAILURES = frozenset({Ending.PARTLY_FAILED, Ending.FAILED})


@dataclass(frozen=True)
class RunFacts:
    """What decides how a run ended.

    :ivar cells: how many cells the run is for
    :ivar failed_cells: those whose work failed in the first phase
    :ivar failed_later: a cell failed in a later phase
    :ivar has_bad_code: the exit code reports that something went wrong
    :ivar unfinished: a cell was not worked to its end, or a phase that was due was not begun
    :ivar rows: written by the first phase; of one that only reads, counted
    :ivar blocked: rows that the first phase had to leave with all that hangs on them
    :ivar writes: whether the first phase is there to write
    """

    cells: int
    failed_cells: int = 0
    failed_later: bool = False
    has_bad_code: bool = False
    unfinished: bool = False
    rows: int = 0
    blocked: int = 0
    writes: bool = True
    cancelled: bool = False
    window_closed: bool = False


def ending_of(facts: RunFacts) -> Ending:
    """How a run ended: the first that applies of a failed cell, a stop, a code that reports a
    failure, nothing to do.

    A stop that came when all was done changes nothing; one that left work undone explains the code.
    Rows that had to be left are something to do.
    """
    if facts.failed_cells or facts.failed_later:
        return Ending.FAILED if facts.failed_cells == facts.cells else Ending.PARTLY_FAILED
    if facts.unfinished and facts.cancelled:
        return Ending.CANCELLED
    if facts.unfinished and facts.window_closed:
        return Ending.WINDOW_CLOSED
    if facts.has_bad_code:
        return Ending.PARTLY_FAILED if facts.cells else Ending.FAILED
    if facts.writes and not facts.rows and not facts.blocked:
        return Ending.NOTHING_TO_DO
    return Ending.OK
