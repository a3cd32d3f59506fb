"""``runs show`` and ``runs wait``."""

import threading
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from cli.cell_runs import say_waiting
from cli.output import failure_line, put, put_json, table
from cli.progress import shown
from cli.run_summary import RunSummary, clock_time, duration, moment, summarize, summary_as_data
from cli.runs.listing import hold_in_words
from cli.runs.store import connect
from jobs.actions import ACTIONS
from jobs.codec import encode
from runs.conductor import Conductor, result_of
from runs.follow import Follower
from runs.records import CellRecord, RunRecord, RunState
from runs.rules import cell_in_words, is_held


def show_run(run: str, form: str) -> int:
    """Print a run with its cells."""
    conductor, zone = connect()
    store = conductor.store
    record = store.run(run)
    begun_phases = record.order.phases[: record.phase + 1]
    phases = [(phase.action, store.cells(run, number)) for number, phase in enumerate(begun_phases)]
    summary = summarize(store, record)
    if form == "json":
        put_json(summary_as_data(summary) | {"phases": [_phase_as_data(*phase) for phase in phases]})
        return 0
    _put_head(conductor, summary, zone)
    for action, cells in phases:
        _put_phase(action, cells, zone)
    return 0


def _put_head(conductor: Conductor, summary: RunSummary, zone: ZoneInfo) -> None:
    """Print what is so of the run as a whole, and what was done to it."""
    record = summary.record
    began = clock_time(record.started or record.ordered, zone)
    window = f", window until {clock_time(record.until, zone)}" if record.until else ""
    code = "" if record.exit_code is None else f", exit code {record.exit_code}, after {duration(summary.seconds)}"
    verb = "started" if record.started else "ordered"
    put(f"Run {record.order.id}, {verb} {began} by {record.order.by}{window}: {summary.words}{code}")
    if record.order.retry_of:
        put(f"It works the failed cells of run {record.order.retry_of} again")
    _put_reason_to_stand(conductor, record, zone)
    for step in record.steering:
        put(f"{clock_time(step.at, zone)}: {step.what}, by {step.by}")


def _put_reason_to_stand(conductor: Conductor, record: RunRecord, zone: ZoneInfo) -> None:
    """Print why a run that has not ended does not move, if it does not."""
    if record.state is RunState.ENDED:
        return
    hold = conductor.store.hold()
    if hold and is_held(hold, conductor.store.now()):
        put(hold_in_words(hold, zone))
    if record.state is RunState.WAITING and (blocker := conductor.waits_for(record.order.id)):
        put(f"It waits for {conductor.describe(blocker)}")


def _put_phase(action: str, cells: Sequence[CellRecord], zone: ZoneInfo) -> None:
    """Print the cells of a phase, why cells failed, their rows by table, and what is blocked or wrong."""
    counted = ACTIONS[action].nothing.counts.capitalize()
    rows, failures, tables, remarks = [], [], [], []
    for cell in cells:
        result = result_of(cell, ACTIONS, action)
        label, outcome = cell.ref.label, result.outcome
        rate = f"{outcome.rows / result.seconds:.0f}" if result.seconds else ""
        times = clock_time(cell.started, zone), clock_time(cell.finished, zone)
        rows.append((label, cell_in_words(cell), outcome.rows, rate, outcome.stayed, cell.worker, *times))
        tables += [(f"{label}.{name}", number) for name, number in sorted(outcome.by_table.items())]
        failures += [failure_line(label, result.failure)] if result.failure else []
        remarks += [f"{label}: {remark}" for remark in outcome.remarks]
    put("")
    put(action)
    put(table(("Cell", "State", counted, f"{counted}/s", "Blocked", "Worker", "Started", "Finished"), rows))
    for failure in failures:
        put(failure)
    if tables:
        put(table(("Table", "Rows"), tables))
    for remark in remarks:
        put(remark)


def _phase_as_data(action: str, records: Sequence[CellRecord]) -> dict[str, Any]:
    cells = [
        {
            "cell": cell.ref.label,
            "uuid": cell.ref.uuid,
            "state": cell_in_words(cell),
            "complete": cell.complete,
            "failure": cell.failure.reason if cell.failure else None,
            "outcome": encode(cell.outcome),
            "worker": cell.worker or None,
            "started": moment(cell.started),
            "finished": moment(cell.finished),
        }
        for cell in records
    ]
    return {"action": action, "counted": ACTIONS[action].nothing.counts, "cells": cells}


def wait_for_run(run: str) -> int:
    """Wait for the end of a run; its exit code."""
    conductor, _ = connect()
    record = conductor.store.run(run)
    never = threading.Event()
    with shown(record.cells, never) as progress:
        listeners = [progress] * len(record.order.phases)
        finished = Follower(conductor, never, listeners, on_wait=say_waiting).follow(run)
    return finished.code
