"""``runs list`` and ``runs history``."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final
from zoneinfo import ZoneInfo

import click

from cli.output import put, put_json, say, table
from cli.run_summary import (
    RunSummary,
    clock_time,
    duration,
    eta_in_words,
    moment,
    summarize,
    summary_as_data,
)
from cli.runs.store import connect
from jobs.actions import ACTIONS
from runs.outcomes import FAILURES
from runs.records import Hold, Summary
from runs.rules import all_runs_pause
from runs.store import RunGone, RunStore

RUNS: Final = ("Run", "Command", "Outcome", "Code", "Cells", "Rows", "Started", "Duration", "By")
HISTORY: Final = (*RUNS[:5], "Failed", *RUNS[5:])
NO_RUNS: Final = "There are no runs to show."


def list_runs(limit: int | None, failed: bool, since: datetime | None, form: str) -> int:
    """Print the runs that the store keeps."""
    conductor, zone = connect()
    store = conductor.store
    chosen = (
        summary for summary in _summaries(store, since) if not failed or summary.ending in FAILURES
    )
    summaries = list(islice(chosen, None if limit is None else min(limit, sys.maxsize)))
    if form == "json":
        put_json([summary_as_data(summary) for summary in summaries])
    else:
        put(table(RUNS, [_row(summary, zone) for summary in summaries]) if summaries else NO_RUNS)
    say_hold(store, zone)
    return 0


def say_hold(store: RunStore, zone: ZoneInfo) -> None:
    """Say that all runs are held, if they are."""
    hold = store.hold()
    if hold and all_runs_pause(hold, store.now()):
        say(hold_in_words(hold, zone))


def hold_in_words(hold: Hold, zone: ZoneInfo) -> str:
    """Why nothing moves."""
    until = f" until {clock_time(hold.until, zone)}" if hold.until else ""
    return (
        f"All runs are held{until}, by {hold.by} since {clock_time(hold.since, zone)}: "
        f"{hold.reason}"
    )


def list_history(action: str | None, since: datetime, form: str) -> int:
    """Print what is left of the runs that have ended.

    :param since: naive, in UTC
    :raises BadParameter: there is no such action
    """
    if action is not None and action not in ACTIONS:
        raise click.BadParameter(
            f"{action!r} is none of: {', '.join(ACTIONS)}.", param_hint="'--action'"
        )
    conductor, zone = connect()
    kept = conductor.store.history(since.replace(tzinfo=UTC).timestamp())
    summaries = [summary for summary in reversed(kept) if action in (None, summary.action)]
    if form == "json":
        put_json([_as_data(summary) for summary in summaries])
    else:
        put(
            table(HISTORY, [_history_row(summary, zone) for summary in summaries])
            if summaries
            else NO_RUNS
        )
    return 0


def _summaries(store: RunStore, since: datetime | None) -> Iterator[RunSummary]:
    """The runs that are kept, the newest first.

    :param since: naive, in UTC; leave out what was ordered before; None: nothing
    """
    for run in store.recent():
        try:
            record = store.run(run)
            if since and record.ordered < since.replace(tzinfo=UTC).timestamp():
                return
            yield summarize(store, record)
        except RunGone:
            continue


def _row(summary: RunSummary, zone: ZoneInfo) -> tuple[Any, ...]:
    record = summary.record
    cells, rows = str(record.cells), f"{summary.rows:,}"
    if summary.failed_cells:
        cells += f" ({summary.failed_cells} failed)"
    if summary.blocked:
        rows += f" ({summary.blocked:,} left)"
    eta = eta_in_words(summary.speed)
    return (
        record.order.id,
        record.order.phases[0].action,
        f"{summary.words}, ETA {eta}" if eta else summary.words,
        "" if record.exit_code is None else record.exit_code,
        cells,
        rows,
        clock_time(record.started or record.ordered, zone),
        duration(summary.seconds),
        record.order.by,
    )


def _history_row(summary: Summary, zone: ZoneInfo) -> tuple[Any, ...]:
    facts = summary.facts
    return (
        summary.run,
        summary.action,
        summary.ending,
        summary.exit_code,
        facts.cells,
        facts.failed_cells,
        f"{facts.rows:,}",
        clock_time(summary.started or summary.ordered, zone),
        duration(_seconds(summary)),
        summary.by,
    )


def _as_data(summary: Summary) -> dict[str, Any]:
    facts = summary.facts
    return {
        "run": summary.run,
        "action": summary.action,
        "by": summary.by,
        "outcome": summary.ending,
        "exit_code": summary.exit_code,
        "cells": facts.cells,
        "failed_cells": facts.failed_cells,
        "rows": facts.rows,
        "blocked": facts.blocked,
        "ordered": moment(summary.ordered),
        "started": moment(summary.started),
        "finished": moment(summary.finished),
        "seconds": round(_seconds(summary), 3),
    }


def _seconds(summary: Summary) -> float:
    """How long a run took; 0 if it never began."""
    return 0.0 if summary.started is None else summary.finished - summary.started
