"""Whether a record can be one that this program wrote: of the right types, it may still hold what makes no sense."""

from collections.abc import Iterable
from typing import Final

from runs.records import NEVER, CellRecord, Hold, RunRecord, Summary

LAST: Final = 253_370_764_800.0
"""The last moment that every time zone can show, in seconds since the epoch: the begin of the year 9999."""


def is_sound_run(run: RunRecord) -> bool:
    """Whether a run has come to one of its phases, at times that there are."""
    order = run.order
    times = [run.ordered, run.started, run.woken, run.finished, run.until, order.until]
    return 0 <= run.phase < len(order.phases) and _are_times([*times, *(step.at for step in run.steering)])


def is_sound_cell(cell: CellRecord) -> bool:
    """Whether a cell was worked at times that there are, with an outcome that may be one."""
    times = [cell.started, cell.touched, cell.finished]
    is_outcome = cell.outcome is None or isinstance(cell.outcome, dict)
    return cell.number >= 0 and is_outcome and _are_times(times) and 0 <= cell.look_at <= NEVER


def is_sound_hold(hold: Hold) -> bool:
    """Whether a hold begins and ends at times that there are."""
    return _are_times([hold.since, hold.until])


def is_sound_summary(summary: Summary) -> bool:
    """Whether a run began and ended at times that there are."""
    return _are_times([summary.ordered, summary.started, summary.finished])


def _are_times(times: Iterable[float | None]) -> bool:
    return all(time is None or 0 <= time <= LAST for time in times)
