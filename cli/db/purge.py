"""``db purge``: from the options to the exit code."""

from collections.abc import Sequence
from typing import Any

from oslo_config import cfg

from cli import configuration
from cli.cell_runs import Runner
from cli.db.backlog import put_backlog
from cli.db.options import PurgeOptions
from cli.output import by_name, cell_as_data, put, put_json, say, say_failures
from cli.run_options import RunOptions
from cli.signals import graceful_stop
from jobs import dates
from jobs.action import ApiDatabaseProblem, CellResult
from jobs.db import backlog
from jobs.db.purge import ACTION, Exit, Params, Purged
from novadb.cells import Cell
from runs.targets import api_database, mapped_cells, own_database, targets


def purge(run: RunOptions, options: PurgeOptions) -> int:
    """Check the options in the order of the stock tool, run, print."""
    if options.before is None and not options.everything:
        say("Either --all or --before is needed: without a date, --all says that everything goes")
        return Exit.MISSING_ARGUMENTS
    try:
        limit = dates.parse(options.before) if options.before is not None else None
    except ValueError as error:
        say(f"Invalid value for --before: {error}")
        return Exit.INVALID_BEFORE
    conf = configuration.load()
    try:
        cells = _cells(conf, options.all_cells)
    except ApiDatabaseProblem as problem:
        say(str(problem))
        return Exit.NO_API_DATABASE
    chosen = targets(conf, cells, None)
    params = Params(limit)
    with graceful_stop() as stop:
        runner = Runner(conf, run, stop)
        if options.dry_run:
            waiting = runner.run([(backlog.PURGE, params)], chosen).phases[0]
            put_backlog(waiting, options.all_cells, run)
            return backlog.PURGE.collapse(waiting, params)
        results = runner.run([(ACTION, params)], chosen, counting=(backlog.PURGE, params)).phases[0]
    code = ACTION.collapse(results, params)
    if run.json:
        put_json({"exit_code": int(code), "cells": purged_as_data(results)})
    elif options.verbose:
        put_purged(results)
    say_failures(results, "purged")
    return code


def _cells(conf: cfg.ConfigOpts, all_cells: bool) -> list[Cell]:
    """The mapped cells, or the configured database.

    :raises ApiDatabaseProblem: the API database does not tell
    """
    if all_cells:
        return mapped_cells(conf, api_database(conf))
    return [Cell.unmapped(own_database(conf))]


def put_purged(results: Sequence[CellResult[Purged]]) -> None:
    """Print a line per table, as the stock tool does."""
    for result in results:
        outcome = result.outcome
        prefix = f"Cell {result.cell.identity}" if result.cell.uuid else "DB"
        for name in sorted({*outcome.deleted, *outcome.ageless}):
            if name in outcome.ageless:
                put(f"{prefix}: Unable to purge table {name} because it has no timestamp column")
            else:
                by = outcome.aged_by.get(name, "(n/a)")
                put(
                    f"{prefix}: Deleted {outcome.deleted[name]} rows from {name} based on "
                    f"timestamp column {by}"
                )


def purged_as_data(results: Sequence[CellResult[Purged]]) -> list[dict[str, Any]]:
    """The same as data."""
    return [
        cell_as_data(result)
        | {
            "purged": by_name(result.outcome.deleted),
            "without_timestamp": sorted(result.outcome.ageless),
        }
        for result in results
    ]
