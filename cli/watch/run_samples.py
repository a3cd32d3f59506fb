"""The metrics of runs: their state, how fast they go, how the last ones ended.

What is read does not grow with the cells of a run.
"""

from typing import TYPE_CHECKING, Final

from cli.run_summary import RunSummary, summarize
from runs.records import Summary
from runs.rules import all_runs_pause
from runs.store import RunGone, RunStore

if TYPE_CHECKING:
    from cli.watch.collector import Sheet

STATES: Final = ("waiting", "running", "pausing", "paused", "cancelling", "window closing")
"""How a run that has not ended may stand, see ``runs.rules.state_in_words``."""
ENDED_RUNS: Final = 500
"""The newest runs of the history that are looked at for the last one of each action."""


def put_runs(sheet: "Sheet", store: RunStore) -> None:
    """Put the metrics of the runs that have not ended, of the hold, and of the last run of each
    action.
    """
    queue = store.queue()
    sheet.put("runs_active", len(queue))
    summaries = []
    for place in queue:
        try:
            summary = summarize(store, store.run(place.run))
        except RunGone:
            continue
        if summary.ending is None:
            summaries.append(summary)
    for state in STATES:
        sheet.put("runs", sum(summary.words == state for summary in summaries), state)
    waiting = [summary for summary in summaries if summary.words == "waiting"]
    if waiting:
        sheet.put(
            "oldest_waiting_run_timestamp_seconds",
            min(summary.record.ordered for summary in waiting),
        )
    for number, summary in enumerate(waiting, start=1):
        sheet.put("run_queue_place", number, *_labels(summary))
    for summary in summaries:
        _put_run(sheet, summary, store.now())
    _put_hold(sheet, store)
    _put_last_runs(sheet, store.history(0, ENDED_RUNS))


def _labels(summary: RunSummary) -> tuple[str, str]:
    order = summary.record.order
    return order.id, order.phases[summary.record.phase].action


def _put_run(sheet: "Sheet", summary: RunSummary, now: float) -> None:
    """Tell of one run that has not ended."""
    labels, record, progress, speed = (
        _labels(summary),
        summary.record,
        summary.current,
        summary.speed,
    )
    for state in STATES:
        sheet.put("run_state", int(summary.words == state), *labels, state)
    sheet.put("run_ordered_timestamp_seconds", record.ordered, *labels)
    if record.started:
        sheet.put("run_started_timestamp_seconds", record.started, *labels)
    by_state = {
        "waiting": progress.open - progress.at_work,
        "working": progress.at_work,
        "failed": progress.failed,
        "done": record.cells - progress.open - progress.failed,
    }
    for state, cells in by_state.items():
        sheet.put("run_cells", max(cells, 0), *labels, state)
    if speed.rate is not None:
        sheet.put("run_rate", speed.rate, *labels)
    if speed.remaining is not None:
        sheet.put("run_remaining", speed.remaining, *labels)
    if speed.seconds_left is not None:
        sheet.put("run_eta_timestamp_seconds", now + speed.seconds_left, *labels)


def _put_hold(sheet: "Sheet", store: RunStore) -> None:
    hold = store.hold()
    if hold is None or not all_runs_pause(hold, store.now()):
        sheet.put("hold", 0)
        return
    sheet.put("hold", 1)
    sheet.put("hold_since_timestamp_seconds", hold.since)
    if hold.until:
        sheet.put("hold_end_timestamp_seconds", hold.until)


def _put_last_runs(sheet: "Sheet", history: list[Summary]) -> None:
    """Tell how the last run of each action ended.

    :param history: the oldest first
    """
    last = {summary.action: summary for summary in history}
    for action, summary in sorted(last.items()):
        sheet.put("last_run_outcome", 1, action, summary.ending)
        sheet.put("last_run_exit_code", summary.exit_code, action)
        sheet.put("last_run_end_timestamp_seconds", summary.finished, action)
