"""The category ``runs``: what workers do and did."""

from typing import TYPE_CHECKING, Any

import click

from cli.grammar import Category, Command
from cli.options import FORMAT

if TYPE_CHECKING:
    from runs.conductor import Conductor
    from runs.records import RunRecord

runs = Category("runs", help="Commands for the runs of workers.")


@runs.command("list", cls=Command)
@FORMAT
def list_runs(format: str) -> int:  # noqa: A002 - the option's name
    """List runs, the newest first, as long as the store keeps them."""
    from cli.output import put, put_json, table
    from runs.redis_store import RunGone

    store = _conductor().store
    records = []
    for run in store.recent():
        try:
            records.append(store.load(run))
        except RunGone:
            continue
    if format == "json":
        put_json([_run_as_data(record) for record in records])
    else:
        rows = [
            (
                record.order.id,
                record.order.phases[0].action,
                record.state,
                "" if record.exit_code is None else record.exit_code,
                len(record.order.cells),
                _moment(record.started),
                _moment(record.finished),
                record.order.by,
            )
            for record in records
        ]
        put(table(("Run", "Command", "State", "Exit code", "Cells", "Started", "Finished", "By"), rows))
    return 0


@runs.command("show", cls=Command)
@click.argument("run")
@FORMAT
def show_run(run: str, format: str) -> int:  # noqa: A002 - the option's name
    """Show a run, cell by cell.

    For each cell: its state, rows, rows/s, what is blocked, its worker and times.
    """
    from cli.output import put, put_json

    conductor = _conductor()
    record = conductor.store.load(run)
    phases = [conductor.store.load(run, number) for number in range(record.phase + 1)]
    if format == "json":
        put_json(_run_as_data(record) | {"phases": [_phase_as_data(one, n) for n, one in enumerate(phases)]})
        return 0
    code = "" if record.exit_code is None else f", exit code {record.exit_code}"
    window = f", window until {_moment(record.order.until)}" if record.order.until else ""
    put(f"Run {run}, started {_moment(record.started)} by {record.order.by}{window}: {record.state}{code}")
    for number, phase in enumerate(phases):
        _put_phase(phase, number)
    return 0


def _put_phase(record: "RunRecord", number: int) -> None:
    """Print the cells of a phase, their rows by table, and what is blocked, is wrong, or failed."""
    from cli.output import put, table
    from runs.conductor import results_of

    cells, tables, remarks = [], [], []
    for cell, result in zip(record.cells, results_of(record, number), strict=True):
        label, outcome = cell.ref.label, result.outcome
        state = "failed" if result.failure else cell.state if cell.state != "done" or cell.complete else "stopped"
        rate = f"{outcome.rows / result.seconds:.0f}" if result.seconds else ""
        times = _moment(cell.started), _moment(cell.finished)
        blocked = getattr(outcome, "blocked_count", 0)
        cells.append((label, state, outcome.rows, rate, blocked, cell.worker or "", *times))
        tables += [(f"{label}.{name}", rows) for name, rows in sorted(outcome.by_table.items())]
        remarks += [f"{label}: {result.failure.reason}"] if result.failure else []
        remarks += [
            f"{label}: left in {one.table}: id {one.id}: {one.reason}" for one in getattr(outcome, "blocked", ())
        ]
        remarks += [f"{label}: {one.text}" for one in getattr(outcome, "problems", ())]
    put(f"\n{record.order.phases[number].action}")
    put(table(("Cell", "State", "Rows", "Rows/s", "Blocked", "Worker", "Started", "Finished"), cells))
    if tables:
        put(table(("Table", "Rows"), tables))
    for remark in remarks:
        put(remark)


@runs.command("wait", cls=Command)
@click.argument("run")
def wait_for_run(run: str) -> int:
    """Wait until a run has ended, and end with its exit code. Ctrl-C leaves; the run goes on."""
    import threading

    from cli.progress import shown
    from workers.engine import CeleryEngine

    conductor = _conductor()
    order = conductor.store.load(run).order
    never = threading.Event()
    with shown(len(order.cells), never) as progress:
        engine = CeleryEngine(conductor, never)
        record, _ = engine.follow(run, [progress] * len(order.phases))
    return record.exit_code or 0


@runs.command("cancel", cls=Command)
@click.argument("run")
def cancel_run(run: str) -> int:
    """Ask a run to end after the current batches."""
    _conductor().cancel(run)
    return 0


def _conductor() -> "Conductor":
    from cli import configuration
    from novadb.errors import NotConfigured
    from workers import app, options

    conf = configuration.load(options.register)
    if not conf.celery.broker_url:
        raise NotConfigured("There are no runs without workers: set broker_url in section [celery]")
    options.check(conf)
    app.configure(conf)
    return app.conductor()


def _run_as_data(record: "RunRecord") -> dict[str, Any]:
    return {
        "run": record.order.id,
        "commands": [{"action": phase.action, "params": phase.params} for phase in record.order.phases],
        "by": record.order.by,
        "state": record.state,
        "exit_code": record.exit_code,
        "started": _moment(record.started),
        "finished": _moment(record.finished) or None,
        "until": _moment(record.order.until) or None,
        "cells": [cell.label for cell in record.order.cells],
    }


def _phase_as_data(record: "RunRecord", number: int) -> dict[str, Any]:
    cells = [
        {
            "cell": cell.ref.label,
            "uuid": cell.ref.uuid,
            "state": cell.state,
            "complete": cell.complete,
            "failure": cell.failure[1] if cell.failure else None,
            "outcome": cell.outcome,
            "worker": cell.worker,
            "started": _moment(cell.started) or None,
            "finished": _moment(cell.finished) or None,
        }
        for cell in record.cells
    ]
    return {"action": record.order.phases[number].action, "cells": cells}


def _moment(seconds: float | None) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S") if seconds else ""
