"""``db online_data_migrations``: from the options to the exit code."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from oslo_config import cfg

from cli import configuration
from cli.cell_runs import Runner
from cli.output import cell_as_data, put, put_json, say, say_failures, stock_table
from cli.run_options import RunOptions
from cli.signals import graceful_stop
from jobs.action import ApiDatabaseProblem, CellResult, Target
from jobs.codec import encode
from jobs.db.migrations.migration import Defaults, Left, Tally
from jobs.db.migrations.order import MIGRATIONS
from jobs.db.online_data_migrations import ACTION, Exit, Migrated, Params
from novadb.cells import Cell
from novadb.errors import DatabaseProblem
from runs.targets import api_database, mapped_cells, own_database, targets

# The stock tool works in batches of 50. Ours are larger; its line stays.
BATCHES: Final = "Running batches of 50 until complete"
HEADER: Final = ("Migration", "Total Needed", "Completed")


def online_data_migrations(
    run: RunOptions, max_count: str | None, *, all_cells: bool, verbose: bool
) -> int:
    """Check the options, run, print."""
    budget = _positive(max_count) if max_count is not None else None
    if budget == 0:
        say(f"Must supply a positive value for --max-count, not {max_count}")
        return Exit.INVALID_MAX_COUNT
    conf = configuration.load()
    try:
        chosen = _all_targets(conf) if all_cells else [_own_target(conf)]
    except DatabaseProblem as problem:
        say(str(problem))
        return Exit.FAILED
    params = Params(budget, _defaults(conf))
    if budget is None and not run.json and not run.detach:
        put(BATCHES)
    with graceful_stop() as stop:
        runner = Runner(conf, run, stop)
        results = runner.run([(ACTION, params)], chosen).phases[0]
    code = ACTION.collapse(results, params)
    if run.json:
        put_json({"exit_code": int(code), "cells": [_as_data(result) for result in results]})
    else:
        _put_results(results, all_cells, verbose)
    _say_errors(results, all_cells)
    say_failures(results, "migrated")
    if code == Exit.FAILED:
        say("Some migrations failed unexpectedly. Check log for details.")
    return code


def _positive(count: str) -> int:
    """The number that an option gives; 0 if it is none, or not positive."""
    try:
        return max(int(count), 0)
    except ValueError:
        return 0


def _all_targets(conf: cfg.ConfigOpts) -> list[Target]:
    api = api_database(conf)
    return targets(conf, mapped_cells(conf, api), api)


def _own_target(conf: cfg.ConfigOpts) -> Target:
    """The configured database, from which three of the migrations walk all cells.

    Without an API database the migrations that need none are run all the same: the others fail.
    """
    (own,) = targets(conf, [Cell.unmapped(own_database(conf))], None)
    try:
        api = api_database(conf)
        return replace(own, api=api, walked=tuple(mapped_cells(conf, api)))
    except ApiDatabaseProblem as problem:
        return replace(own, api=problem)


def _defaults(conf: cfg.ConfigOpts) -> Defaults:
    ratios = {
        what: conf[f"{what}_allocation_ratio"] or conf[f"initial_{what}_allocation_ratio"]
        for what in ("cpu", "ram", "disk")
    }
    return Defaults(conf.default_availability_zone, **ratios)


def _put_results(results: Sequence[CellResult[Migrated]], all_cells: bool, verbose: bool) -> None:
    for result in results:
        if all_cells:
            put(f"Cell {result.cell.identity}:")
        _put_tallies(result.outcome.tallies, verbose)
    if all_cells and len(results) > 1:
        put("All cells:")
        whole = sum((result.outcome for result in results), Migrated())
        _put_tallies(whole.tallies, verbose=False)


def _put_tallies(tallies: Mapping[str, Tally], verbose: bool) -> None:
    """Print the lines and the table of the stock tool, and what is left where that is wanted."""
    for name in MIGRATIONS:
        tally = tallies.get(name, Tally())
        if tally.found:
            put(f"{tally.found} rows matched query {name}, {tally.done} migrated")
    drawn = stock_table(
        HEADER,
        sorted((name, tally.found, tally.done) for name, tally in tallies.items()),
        centred=True,
    )
    put(drawn)
    if verbose:
        for name, tally in sorted(tallies.items()):
            for reason, left in tally.left.items():
                put(f"{name}: {left.count} left: {reason}: {_names(left)}")


def _names(left: Left) -> str:
    more = left.count - len(left.named)
    return ", ".join(left.named) + (f" and {more} more" if more else "")


def _say_errors(results: Sequence[CellResult[Migrated]], all_cells: bool) -> None:
    """Name the migrations that failed, and those that the databases have nothing for."""
    for result in results:
        prefix = f"{result.cell.identity}: " if all_cells else ""
        for name, tally in result.outcome.tallies.items():
            for place, reason in tally.failures.items():
                where = "" if place == result.cell.identity else f" in {place}"
                say(f"{prefix}Error attempting to run {name}{where}: {reason}")
        for name, lacking in result.outcome.not_there.items():
            say(
                f"{prefix}{name} was passed over: there is no {lacking}. If this release of Nova "
                "has it, run db sync "
                "and api_db sync first"
            )


def _as_data(result: CellResult[Migrated]) -> dict[str, Any]:
    migrations = {
        name: {
            "found": tally.found,
            "done": tally.done,
            "left": encode(tally.left),
            "errors": tally.failures,
        }
        for name, tally in sorted(result.outcome.tallies.items())
    }
    return cell_as_data(result) | {
        "migrations": migrations,
        "not_applicable": result.outcome.not_there,
    }
