"""The category ``runs``: what workers do and did."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from cli.grammar import Category, Command
from cli.options import FORMAT, new_option

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

    from cli.run_summary import RunSummary
    from runs.conductor import Conductor
    from runs.records import CellRecord
    from runs.store import RunStore

runs = Category("runs", help="Commands for the runs of workers.")


class _PastTime(click.ParamType):  # type: ignore[type-arg]
    """A date or an age, as ``--before`` takes them."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from jobs import dates

        try:
            return dates.parse(value)
        except ValueError as error:
            self.fail(str(error))


@runs.command("list", cls=Command)
@new_option("--limit", type=click.IntRange(min=1), metavar="N", help="Show the N newest runs only.")
@new_option("--failed", is_flag=True, help="Show only runs in which something failed.")
@new_option("--since", type=_PastTime(), metavar="TIME", help="Show only runs that began after a date (UTC), or 2d.")
@FORMAT
def list_runs(limit: int | None, failed: bool, since: datetime | None, format: str) -> int:  # noqa: A002 - the option's name
    """List runs, the newest first, as long as the store keeps them.

    A run that has ended is ok, nothing to do, partly failed, failed, cancelled, or window closed.
    """
    from itertools import islice

    from cli.output import put, put_json, table
    from cli.run_summary import summary_as_data
    from runs.outcomes import FAILURES

    conductor, zone = _conductor()
    chosen = (summary for summary in _summaries(conductor.store, since) if not failed or summary.ending in FAILURES)
    summaries = list(islice(chosen, limit))
    if format == "json":
        put_json([summary_as_data(summary) for summary in summaries])
    else:
        put(table(_COLUMNS, [_row(summary, zone) for summary in summaries]))
    return 0


_COLUMNS = ("Run", "Command", "Outcome", "Code", "Cells", "Rows", "Started", "Duration", "By")


def _summaries(store: "RunStore", since: datetime | None) -> "Iterator[RunSummary]":
    """The runs that are kept, the newest first.

    :param since: naive, in UTC; leave out what began before; None: nothing
    """
    from datetime import UTC

    from cli.run_summary import summarize
    from runs.store import RunGone

    for run in store.recent():
        try:
            record = store.run(run)
            if since and record.ordered < since.replace(tzinfo=UTC).timestamp():
                return
            yield summarize(store, record)
        except RunGone:
            continue


def _row(summary: "RunSummary", zone: "ZoneInfo") -> tuple[Any, ...]:
    from cli.run_summary import clock_time, duration

    record = summary.record
    cells, rows = str(record.cells), f"{summary.rows:,}"
    if summary.failed_cells:
        cells += f" ({summary.failed_cells} failed)"
    if summary.blocked:
        rows += f" ({summary.blocked:,} left)"
    return (
        record.order.id,
        record.order.phases[0].action,
        summary.words,
        "" if record.exit_code is None else record.exit_code,
        cells,
        rows,
        clock_time(record.started or record.ordered, zone),
        duration(summary.seconds),
        record.order.by,
    )


@runs.command("show", cls=Command)
@click.argument("run")
@FORMAT
def show_run(run: str, format: str) -> int:  # noqa: A002 - the option's name
    """Show a run, cell by cell.

    For each cell: its state, rows, rows/s, what is blocked, its worker and times.
    """
    from cli.output import put, put_json
    from cli.run_summary import clock_time, duration, summarize, summary_as_data

    conductor, zone = _conductor()
    store = conductor.store
    record = store.run(run)
    phases = [(phase.action, store.cells(run, number)) for number, phase in enumerate(record.order.phases)][
        : record.phase + 1
    ]
    summary = summarize(store, record)
    if format == "json":
        put_json(summary_as_data(summary) | {"phases": [_phase_as_data(*phase) for phase in phases]})
        return 0
    code = "" if record.exit_code is None else f", exit code {record.exit_code}, after {duration(summary.seconds)}"
    window = f", window until {clock_time(record.until, zone)}" if record.until else ""
    begun = (
        f"started {clock_time(record.started, zone)}"
        if record.started
        else f"ordered {clock_time(record.ordered, zone)}"
    )
    put(f"Run {run}, {begun} by {record.order.by}{window}: {summary.words}{code}")
    for action, cells in phases:
        _put_phase(action, cells, zone)
    return 0


def _put_phase(action: str, cells: "list[CellRecord]", zone: "ZoneInfo") -> None:
    """Print the cells of a phase, why cells failed, their rows by table, and what is blocked or wrong."""
    from cli.output import failure_line, put, table
    from cli.run_summary import clock_time
    from jobs.actions import ACTIONS
    from runs.conductor import result_of
    from runs.rules import cell_in_words

    rows, failures, tables, remarks = [], [], [], []
    for cell in cells:
        result = result_of(cell, ACTIONS, action)
        label, outcome = cell.ref.label, result.outcome
        rate = f"{outcome.rows / result.seconds:.0f}" if result.seconds else ""
        times = clock_time(cell.started, zone), clock_time(cell.finished, zone)
        blocked = getattr(outcome, "blocked_count", 0)
        rows.append((label, cell_in_words(cell), outcome.rows, rate, blocked, cell.worker, *times))
        tables += [(f"{label}.{name}", number) for name, number in sorted(outcome.by_table.items())]
        failures += [failure_line(label, result.failure)] if result.failure else []
        remarks += [
            f"{label}: left in {one.table}: id {one.id}: {one.reason}" for one in getattr(outcome, "blocked", ())
        ]
        remarks += [f"{label}: {one.text}" for one in getattr(outcome, "problems", ())]
    put(f"\n{action}")
    put(table(("Cell", "State", "Rows", "Rows/s", "Blocked", "Worker", "Started", "Finished"), rows))
    for failure in failures:
        put(failure)
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
    from runs.follow import Follower

    conductor, _ = _conductor()
    record = conductor.store.run(run)
    never = threading.Event()
    with shown(record.cells, never) as progress:
        finished = Follower(conductor, never, [progress] * len(record.order.phases)).follow(run)
    return finished.code


@runs.command("cancel", cls=Command)
@click.argument("run")
def cancel_run(run: str) -> int:
    """Ask a run to end after the current batches."""
    conductor, _ = _conductor()
    conductor.cancel(run)
    return 0


def _conductor() -> "tuple[Conductor, ZoneInfo]":
    """The conductor of the configured store, and the time zone of what is printed."""
    from cli import configuration
    from settings.cellkeeper import time_zone
    from settings.errors import NotConfigured
    from settings.read_files import where_read
    from workers import app, redis_client

    conf = configuration.load()
    if not conf.celery.broker_url:
        raise NotConfigured(
            f"There are no runs without workers: set broker_url in section [celery] ({where_read(conf)})"
        )
    redis_client.check_store(conf)
    app.configure(conf)
    return app.conductor(), time_zone(conf)


def _phase_as_data(action: str, records: "list[CellRecord]") -> dict[str, Any]:
    from cli.run_summary import moment
    from runs.rules import cell_in_words

    cells = [
        {
            "cell": cell.ref.label,
            "uuid": cell.ref.uuid,
            "state": cell_in_words(cell),
            "complete": cell.complete,
            "failure": cell.failure.reason if cell.failure else None,
            "outcome": cell.outcome,
            "worker": cell.worker or None,
            "started": moment(cell.started),
            "finished": moment(cell.finished),
        }
        for cell in records
    ]
    return {"action": action, "cells": cells}
