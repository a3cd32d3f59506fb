"""Whether a decoded record makes sense: one of the right types may still hold values that this
program never writes.
"""

from collections.abc import Iterable

from jobs.wall_clock import LAST
from runs.records import NEVER, CellRecord, Hold, RunRecord, Summary


def is_sound_run(run: RunRecord) -> bool:
    """Whether a run is in one of its phases, and all its times are valid."""
    order = run.order
    times = [run.ordered, run.started, run.woken, run.finished, run.until, order.until]
    return 0 <= run.phase < len(order.phases) and _are_times(
        [*times, *(step.at for step in run.steering)]
    )


def is_sound_cell(cell: CellRecord) -> bool:
    """Whether the times of a cell are valid, and its outcome may be one."""
    times = [cell.started, cell.touched, cell.finished]
    is_outcome = cell.outcome is None or isinstance(cell.outcome, dict)
    return cell.number >= 0 and is_outcome and _are_times(times) and 0 <= cell.look_at <= NEVER


def is_sound_hold(hold: Hold) -> bool:
    """Whether the begin and the end of a hold are valid times."""
    return _are_times([hold.since, hold.until])


def is_sound_summary(summary: Summary) -> bool:
    """Whether the times of a run that has ended are valid."""
    return _are_times([summary.ordered, summary.started, summary.finished])


def _are_times(times: Iterable[float | None]) -> bool:
    return all(time is None or 0 <= time <= LAST for time in times)
