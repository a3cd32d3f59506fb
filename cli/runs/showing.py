"""``runs show`` and ``runs wait``."""

import threading
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from cli.cell_runs import say_waiting
from cli.output import failure_line, put, put_json, say, table
from cli.progress import shown
from cli.run_summary import (
    RunSummary,
    clock_time,
    duration,
    eta_in_words,
    mean_speed,
    moment,
    rate_in_words,
    speed_as_data,
    summarize,
    summary_as_data,
)
from cli.runs.listing import hold_in_words
from cli.runs.store import connect
from jobs.actions import ACTIONS
from jobs.codec import encode
from runs import rules
from runs.conductor import Conductor, result_of
from runs.follow import Follower
from runs.outcomes import FAILURES
from runs.pace import Speed
from runs.records import CellRecord, RunRecord, RunState
from runs.rules import all_runs_pause, cell_in_words, reason_of_pause


def show_run(run: str, form: str) -> int:
    """Print a run with its cells."""
    conductor, zone = connect()
    store = conductor.store
    record = store.run(run)
    hold, now = store.hold(), store.now()
    begun_phases = record.order.phases[: record.phase + 1]
    phases: list[tuple[str, list[tuple[CellRecord, Speed]]]] = []
    for number, phase in enumerate(begun_phases):
        if phase.action not in ACTIONS:
            continue  # of a newer program
        cells = store.cells(run, number)
        is_current = number == record.phase
        speeds = [rules.speed_of_cell(cell, record, hold, now) if is_current else Speed() for cell in cells]
        phases.append((phase.action, list(zip(cells, speeds, strict=True))))
    summary = summarize(store, record)
    if form == "json":
        put_json(summary_as_data(summary) | {"phases": [_phase_as_data(*phase) for phase in phases]})
        return 0
    _put_head(conductor, summary, zone)
    for action, paced_cells in phases:
        _put_phase(action, paced_cells, zone)
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
        put(f"It retries the failed cells of run {record.order.retry_of}")
    _put_reason_to_stand(conductor, record, zone)
    _put_speed(summary)
    if record.started or not record.order.throttle:
        put(f"Throttle: {rules.throttle_in_words(record)}")
    for step in record.steering:
        put(f"{clock_time(step.at, zone)}: {step.what}, by {step.by}")


def _put_speed(summary: RunSummary) -> None:
    """Print how fast the current phase goes, and how long it still takes, as far as that is known."""
    speed, record = summary.speed, summary.record
    if speed.rate is None:
        return
    unit = ACTIONS[record.order.phases[record.phase].action].nothing.unit_of_pace
    left = f", about {speed.remaining:,} left" if speed.remaining else ""
    eta = f", ETA {eta_in_words(speed)}" if speed.seconds_left else ""
    put(f"Rate over the last minute: {rate_in_words(speed)} ({unit}){left}{eta}")


def _put_reason_to_stand(conductor: Conductor, record: RunRecord, zone: ZoneInfo) -> None:
    """Print why a run that has not ended does not move, if it does not."""
    if record.state is RunState.ENDED:
        return
    hold = conductor.store.hold()
    if hold and all_runs_pause(hold, conductor.store.now()):
        put(hold_in_words(hold, zone))
    if record.state is RunState.WAITING and (blocker := conductor.waits_for(record.order.id)):
        put(f"It waits for {conductor.describe(blocker)}")


def _put_phase(action: str, cells: Sequence[tuple[CellRecord, Speed]], zone: ZoneInfo) -> None:
    """Print the cells of a phase, why cells failed, their rows by table, and what is blocked or wrong."""
    nothing = ACTIONS[action].nothing
    counted, paced = nothing.counts.capitalize(), nothing.unit_of_pace.capitalize()
    rows, failures, tables, remarks = [], [], [], []
    for cell, speed in cells:
        result = result_of(cell, ACTIONS, action)
        label, outcome = cell.ref.label, result.outcome
        rate, eta = rate_in_words(mean_speed(result) if cell.finished else speed), eta_in_words(speed)
        times = clock_time(cell.started, zone), clock_time(cell.finished, zone)
        handled, stayed = f"{outcome.rows:,}", f"{outcome.stayed:,}"
        rows.append((label, cell_in_words(cell), handled, rate, eta, stayed, cell.worker, *times))
        tables += [(f"{label}.{name}", f"{number:,}") for name, number in sorted(outcome.by_table.items())]
        failures += [failure_line(label, result.failure)] if result.failure else []
        reason = reason_of_pause(cell)
        remarks += [f"{label}: the work pauses: {reason}"] if reason else []
        remarks += [f"{label}: {remark}" for remark in outcome.remarks]
    put("")
    put(action)
    put(table(("Cell", "State", counted, f"{paced}/s", "ETA", "Blocked", "Worker", "Started", "Finished"), rows))
    for failure in failures:
        put(failure)
    if tables:
        put(table(("Table", "Rows"), tables))
    for remark in remarks:
        put(remark)


def _phase_as_data(action: str, cells: Sequence[tuple[CellRecord, Speed]]) -> dict[str, Any]:
    told = [
        {
            "cell": cell.ref.label,
            "uuid": cell.ref.uuid,
            "state": cell_in_words(cell),
            "complete": cell.complete,
            "failure": cell.failure.reason if cell.failure else None,
            "throttled": cell.throttled or None,
            "contended": cell.contended or None,
            "transaction_rows": cell.transaction_rows,
            "outcome": encode(cell.outcome),
            **speed_as_data(speed),
            "worker": cell.worker or None,
            "started": moment(cell.started),
            "finished": moment(cell.finished),
        }
        for cell, speed in cells
    ]
    nothing = ACTIONS[action].nothing
    return {"action": action, "counted": nothing.counts, "rate_counts": nothing.unit_of_pace, "cells": told}


def wait_for_run(run: str) -> int:
    """Wait for the end of a run; its exit code."""
    conductor, _ = connect()
    record = conductor.store.run(run)
    never = threading.Event()
    with shown(record.cells, never) as progress:
        listeners = [progress] * len(record.order.phases)
        finished = Follower(conductor, never, listeners, on_wait=say_waiting).follow(run)
    summary = summarize(conductor.store, conductor.store.run(run))
    if summary.ending in FAILURES:
        say(f"Run {run}: {summary.words}, exit code {finished.code}; its cells: cellkeeper runs show {run}")
    return finished.code
