"""``db archive_deleted_rows``: from the options to the exit code."""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from cli import configuration
from cli.cell_runs import Runner
from cli.db.backlog import put_backlog
from cli.db.options import ArchiveOptions
from cli.db.purge import purged_as_data, put_purged
from cli.output import (
    NAMED,
    by_name,
    cell_as_data,
    labels,
    put,
    put_json,
    say,
    say_failures,
    stock_table,
)
from cli.progress import Dots
from cli.run_options import RunOptions
from cli.signals import graceful_stop
from jobs import dates
from jobs.action import ApiDatabaseProblem, CellResult, Target
from jobs.db import backlog
from jobs.db import purge as purge_job
from jobs.db.archive_deleted_rows import ACTION, MAX_ROWS_LIMIT, Archived, Exit, Params
from jobs.db.archive_deleted_rows import NAMED as NAMED_IN_JSON
from jobs.db.purge import Purged
from runs.follow import FinishedRun
from runs.orders import PhaseOf
from runs.targets import api_database, mapped_cells, own_cell, targets


def archive(run: RunOptions, options: ArchiveOptions) -> int:
    """Check the options in the order of the stock tool, run, print."""
    conf = configuration.load()
    if not 0 <= options.max_rows <= MAX_ROWS_LIMIT:
        say(
            f"Invalid value for --max_rows: {options.max_rows}; it must lie between 0 and "
            f"{MAX_ROWS_LIMIT}"
        )
        return Exit.INVALID_MAX_ROWS
    try:
        api = api_database(conf)
        mapped = mapped_cells(conf, api)
    except ApiDatabaseProblem as problem:
        say(str(problem))
        return Exit.NO_API_DATABASE
    try:
        limit = dates.parse(options.before) if options.before is not None else None
    except ValueError as error:
        say(f"Invalid value for --before: {error}")
        return Exit.INVALID_BEFORE
    chosen = targets(conf, mapped if options.all_cells else [own_cell(conf, api, mapped)], api)
    params = Params(
        options.max_rows,
        limit,
        options.until_complete,
        options.task_log,
        options.sleep,
        options.repair,
    )
    with graceful_stop() as stop:
        runner = Runner(conf, run, stop)
        if options.dry_run:
            waiting = runner.run([(backlog.ARCHIVE, params)], chosen).phases[0]
            put_backlog(waiting, options.all_cells, run)
            return backlog.ARCHIVE.collapse(waiting, params)
        then = [(purge_job.ACTION, purge_job.Params(limit))] if options.purge else []
        printing = options.verbose and not run.json and not run.detach
        finished = _run(
            runner, [(ACTION, params), *then], chosen, dots=printing and options.until_complete
        )
    results, *later = finished.phases
    purged = later[0] if later else None
    code = finished.code
    if printing:
        _put_archived(results, options.all_cells)
    if printing and purged is not None:
        put("Rows were archived, running purge...")
        put_purged(purged)
    if run.json:
        put_json(_as_data(results, purged, code))
    _say_blocked(results)
    say_failures(results, "archived")
    say_failures(purged or [], "purged")
    return code


def _run(
    runner: Runner, phases: Sequence[PhaseOf], chosen: Sequence[Target], dots: bool
) -> FinishedRun:
    """Run; ``dots``: print the stock tool's line of progress meanwhile."""
    counting = backlog.ARCHIVE, phases[0][1]
    if not dots:
        return runner.run(phases, chosen, counting=counting)
    listener = Dots("Archiving..", phases[0][1].max_rows, at_once=not sys.stderr.isatty())
    finished = runner.run(phases, chosen, [listener], counting)
    listener.flush()
    put(".stopped" if runner.stop.is_set() else ".complete")
    return finished


def _put_archived(results: Sequence[CellResult[Archived]], all_cells: bool) -> None:
    rows: Counter[tuple[str, str]] = Counter()
    for label, result in zip(labels(results), results, strict=True):
        for name, number in result.outcome.moved.items():
            rows[label if all_cells else "", name] += number
        for name, number in result.outcome.api.items():
            rows["API_DB", name] += number
    if rows:
        named = (
            (f"{cell}.{name}" if cell else name, number) for (cell, name), number in rows.items()
        )
        put(stock_table(("Table", "Number of Rows Archived"), sorted(named)))
    else:
        put("Nothing was archived.")


def _as_data(
    results: Sequence[CellResult[Archived]], purged: Sequence[CellResult[Purged]] | None, code: int
) -> dict[str, Any]:
    cells = [
        cell_as_data(result)
        | {
            "archived": by_name(result.outcome.moved),
            "api_rows_deleted": by_name(result.outcome.api),
            "repaired": by_name(result.outcome.repaired),
            "blocked": [vars(blocked) for blocked in result.outcome.blocked],
            "blocked_count": result.outcome.blocked_count,
        }
        for result in results
    ]
    document: dict[str, Any] = {"exit_code": int(code), "cells": cells}
    if purged is not None:
        document["purged"] = purged_as_data(purged)
    return document


def _say_blocked(results: Sequence[CellResult[Archived]]) -> None:
    """Name what was left, and what was repaired."""
    for label, result in zip(labels(results), results, strict=True):
        outcome = result.outcome
        for remark in outcome.remarks[:NAMED]:
            say(f"{label}: {remark}")
        if outcome.blocked_count > NAMED:
            say(
                f"{label}: {outcome.blocked_count} were left in all; -f json names up to "
                f"{NAMED_IN_JSON}"
            )
        if any(outcome.repaired.values()):
            removed = ", ".join(
                f"{number} of {name}" for name, number in by_name(outcome.repaired).items()
            )
            say(f"{label}: repaired by removing rows that were double or left over: {removed}")
