"""``runs show`` and ``runs wait``."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
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
from jobs.action import CellResult
from jobs.actions import ACTIONS
from jobs.codec import encode
from runs import rules
from runs.conductor import Conductor, result_of
from runs.follow import Follower
from runs.outcomes import FAILURES
from runs.pace import Speed
from runs.records import CellRecord, RunRecord, RunState
from runs.rules import all_runs_pause, cell_in_words, reason_of_pause


@dataclass(frozen=True)
class _Cell:
    """A cell of a phase.

    :ivar speed: of the work right now
    """

    record: CellRecord
    speed: Speed
    action: str

    @property
    def result(self) -> CellResult[Any]:
        """Decoded when it is asked for: those of many cells would be large."""
        return result_of(self.record, ACTIONS, self.action)

    @property
    def label(self) -> str:
        return self.record.ref.label


@dataclass(frozen=True)
class _Phase:
    """A phase that was begun."""

    action: str
    cells: Sequence[_Cell]


def show_run(run: str, form: str) -> int:
    """Print a run with its cells."""
    conductor, zone = connect()
    store = conductor.store
    record = store.run(run)
    hold, now = store.hold(), store.now()
    phases: list[_Phase] = []
    for number, phase in enumerate(record.order.phases[: record.phase + 1]):
        if phase.action not in ACTIONS:
            continue  # of a newer program
        cells = []
        for cell in store.cells(run, number):
            speed = (
                rules.speed_of_cell(cell, record, hold, now) if number == record.phase else Speed()
            )
            cells.append(_Cell(cell, speed, phase.action))
        phases.append(_Phase(phase.action, cells))
    summary = summarize(store, record)
    if form == "json":
        put_json(summary_as_data(summary) | {"phases": [_phase_as_data(phase) for phase in phases]})
        return 0
    _put_head(conductor, summary, zone)
    for shown_phase in phases:
        _put_phase(shown_phase, zone)
    return 0


def _put_head(conductor: Conductor, summary: RunSummary, zone: ZoneInfo) -> None:
    """Print what is so of the run as a whole, and what was done to it."""
    record = summary.record
    began = clock_time(record.started or record.ordered, zone)
    window = f", window until {clock_time(record.until, zone)}" if record.until else ""
    code = (
        ""
        if record.exit_code is None
        else f", exit code {record.exit_code}, after {duration(summary.seconds)}"
    )
    verb = "started" if record.started else "ordered"
    put(
        f"Run {record.order.id}, {verb} {began} by {record.order.by}{window}: {summary.words}{code}"
    )
    if record.order.retry_of:
        put(f"It retries the failed cells of run {record.order.retry_of}")
    _put_reason_to_stand(conductor, record, zone)
    _put_speed(summary)
    if record.started or not record.order.throttle:
        put(f"Throttle: {rules.throttle_in_words(record)}")
    for step in record.steering:
        put(f"{clock_time(step.at, zone)}: {step.what}, by {step.by}")


def _put_speed(summary: RunSummary) -> None:
    """Print how fast the current phase goes, and how long it still takes, as far as that is
    known.
    """
    speed, record = summary.speed, summary.record
    if speed.rate is None:
        return
    unit = ACTIONS[record.order.phases[record.phase].action].nothing.unit_of_pace
    remaining = f", about {speed.remaining:,} left" if speed.remaining else ""
    eta = f", ETA {eta_in_words(speed)}" if speed.seconds_left else ""
    put(f"Rate over the last minute: {rate_in_words(speed)} ({unit}){remaining}{eta}")


def _put_reason_to_stand(conductor: Conductor, record: RunRecord, zone: ZoneInfo) -> None:
    """Print why a run that has not ended does not move, if it does not."""
    if record.state is RunState.ENDED:
        return
    hold = conductor.store.hold()
    if hold and all_runs_pause(hold, conductor.store.now()):
        put(hold_in_words(hold, zone))
    if record.state is RunState.WAITING and (blocker := conductor.waits_for(record.order.id)):
        put(f"It waits for {conductor.describe(blocker)}")


def _put_phase(phase: _Phase, zone: ZoneInfo) -> None:
    """Print the cells of a phase, why cells failed, their rows by table, and what is blocked or
    wrong.
    """
    nothing = ACTIONS[phase.action].nothing
    counted, paced = nothing.counts.capitalize(), nothing.unit_of_pace.capitalize()
    header = (
        "Cell",
        "State",
        counted,
        f"{paced}/s",
        "ETA",
        "Blocked",
        "Worker",
        "Started",
        "Finished",
    )
    put("")
    put(phase.action)
    put(table(header, [_cell_row(cell, zone) for cell in phase.cells]))
    for cell in phase.cells:
        if cell.record.failure:
            put(failure_line(cell.label, cell.record.failure))
    rows_by_table = [
        (f"{cell.label}.{name}", f"{number:,}")
        for cell in phase.cells
        for name, number in sorted(cell.result.outcome.by_table.items())
    ]
    if rows_by_table:
        put(table(("Table", "Rows"), rows_by_table))
    for cell in phase.cells:
        if reason := reason_of_pause(cell.record):
            put(f"{cell.label}: the work pauses: {reason}")
        for remark in cell.result.outcome.remarks:
            put(f"{cell.label}: {remark}")


def _cell_row(cell: _Cell, zone: ZoneInfo) -> tuple[str, ...]:
    record, result = cell.record, cell.result
    speed = mean_speed(result) if record.finished else cell.speed
    return (
        cell.label,
        cell_in_words(record),
        f"{result.outcome.rows:,}",
        rate_in_words(speed),
        eta_in_words(cell.speed),
        f"{result.outcome.stayed:,}",
        record.worker,
        clock_time(record.started, zone),
        clock_time(record.finished, zone),
    )


def _phase_as_data(phase: _Phase) -> dict[str, Any]:
    nothing = ACTIONS[phase.action].nothing
    return {
        "action": phase.action,
        "counted": nothing.counts,
        "rate_counts": nothing.unit_of_pace,
        "cells": [_cell_as_data(cell) for cell in phase.cells],
    }


def _cell_as_data(cell: _Cell) -> dict[str, Any]:
    record = cell.record
    return {
        "cell": record.ref.label,
        "uuid": record.ref.uuid,
        "state": cell_in_words(record),
        "complete": record.complete,
        "failure": record.failure.reason if record.failure else None,
        "throttled": record.throttled or None,
        "contended": record.contended or None,
        "transaction_rows": record.transaction_rows,
        "outcome": encode(record.outcome),
        **speed_as_data(cell.speed),
        "worker": record.worker or None,
        "started": moment(record.started),
        "finished": moment(record.finished),
    }


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
        say(
            f"Run {run}: {summary.words}, exit code {finished.code}; its cells: cellkeeper runs "
            f"show {run}"
        )
    return finished.code
