"""How a run ended, in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jobs.action import Action, CellResult
from runs.records import RunRecord


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
    """How a run ended: the first that applies of a failed cell, a stop, a code that reports a failure, nothing to do.

    A stop that came when all was done changes nothing; one that left work undone explains the code. Rows that had to
    be left are something to do.
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


def facts_of(record: RunRecord, action: Action[Any, Any], phases: Sequence[Sequence[CellResult[Any]]]) -> RunFacts:
    """The facts of a run.

    :param action: of the first phase
    :param phases: the results of each phase that was begun, in order
    """
    first = phases[0] if phases else ()
    rows = sum(result.outcome.rows for result in first)
    lacks_phase = bool(rows) and len(phases) < len(record.order.phases)
    return RunFacts(
        cells=len(record.order.cells),
        failed_cells=sum(result.failure is not None for result in first),
        failed_later=any(result.failure for results in phases[1:] for result in results),
        has_bad_code=record.exit_code is not None and record.exit_code not in action.good_codes,
        unfinished=lacks_phase or not all(result.complete for results in phases for result in results),
        rows=rows,
        blocked=sum(getattr(result.outcome, "blocked_count", 0) for result in first),
        writes=action.writes,
        cancelled=record.cancelled,
        window_closed=record.closed,
    )
