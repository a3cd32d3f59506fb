"""``cell_v2 discover_hosts``: map the hosts that are not mapped yet, in all cells or one."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import click

from cli.cell_runs import Runner
from cli.cell_v2.configured import ConfiguredCloud, unknown_cell_line
from cli.cell_v2.options import DiscoverOptions
from cli.output import cell_as_data, labels, put, put_json, say, say_failures
from cli.run_options import RunOptions
from cli.signals import graceful_stop
from jobs.action import CellResult, Target
from jobs.cell_v2.discover_hosts import ACTION, Discovered, Exit, Params, collisions
from jobs.cell_v2.list_hosts import count_mapped_hosts
from jobs.retry import one_transaction
from novadb.engine import Database
from novadb.mappings import CellMapping, read_cell_mappings
from novadb.names import is_same_name

Results = list[CellResult[Discovered]]

DEFAULT_TIMEOUT: Final = 600.0  # seconds that --wait-for waits
SECONDS_BETWEEN_SEARCHES: Final = 5.0


def discover_hosts(run: RunOptions, options: DiscoverOptions) -> int:
    """Choose the cells, search them, print in the words and the order of the stock tool."""
    _check_options(run, options)
    cloud = ConfiguredCloud.load()
    mapped = one_transaction(cloud.api, lambda api: read_cell_mappings(api, cloud.defaults))
    cells = mapped
    if options.cell_uuid is not None:
        cells = [cell for cell in mapped if is_same_name(cell.uuid, options.cell_uuid)]
        if not cells:
            say(unknown_cell_line(options.cell_uuid))
            return Exit.NOTHING_OR_ERROR
    params = Params(options.strict, options.by_service, options.verbose and not run.json)
    with graceful_stop() as stop:
        runner = Runner(cloud.conf, run, stop)
        results, missing = _search(runner, params, cloud, cells, options)
    # With --wait-for, the scheduler may have been the one that mapped the hosts.
    strict = options.strict and options.wait_for is None
    code = ACTION.collapse(results, replace(params, strict=strict))
    if missing and code is Exit.MAPPED:
        code = Exit.NOTHING_OR_ERROR
    if run.json:
        put_json({"exit_code": int(code), "cells": [_as_data(result) for result in results]})
    elif options.verbose:
        if options.cell_uuid is None:
            put(f"Found {len(mapped)} cell mappings.")
        _put_lines(cells, results, options.by_service)
    _say_problems(results, missing, options.verbose)
    return code


def _check_options(run: RunOptions, options: DiscoverOptions) -> None:
    """See that the options can be combined.

    :raises click.UsageError: they cannot
    """
    if options.timeout is not None and options.wait_for is None:
        raise click.UsageError("--timeout goes with --wait-for.")
    if run.detach and options.wait_for is not None:
        raise click.UsageError("--wait-for waits here: it does not go with --detach.")
    if run.until and options.wait_for is not None:
        raise click.UsageError("--wait-for ends by --timeout: it does not go with --until.")


def _search(
    runner: Runner,
    params: Params,
    cloud: ConfiguredCloud,
    cells: Sequence[CellMapping],
    options: DiscoverOptions,
) -> tuple[Results, int]:
    """Search once, or with ``--wait-for`` until enough hosts are mapped, by whomever.

    :returns: the results of all searches together, and how many hosts are missing
    """
    targets = _targets(cloud, cells)
    if options.wait_for is None:
        return _search_once(runner, params, targets), 0
    cell_ids = [cell.id for cell in cells]
    wanted = count_mapped_hosts(cloud.api, cell_ids) + options.wait_for
    timeout = DEFAULT_TIMEOUT if options.timeout is None else options.timeout
    deadline = time.monotonic() + timeout
    results: Results = []
    while True:
        results = _add_up(results, _search_once(runner, params, targets))
        missing = max(0, wanted - count_mapped_hosts(cloud.api, cell_ids))
        seconds = min(SECONDS_BETWEEN_SEARCHES, deadline - time.monotonic())
        if not missing or seconds <= 0 or runner.stop.wait(seconds):
            return results, missing


def _search_once(runner: Runner, params: Params, targets: Sequence[Target]) -> Results:
    return runner.run([(ACTION, params)], targets).phases[0] if targets else []


def _targets(cloud: ConfiguredCloud, cells: Sequence[CellMapping]) -> list[Target]:
    """The cells that may have hosts. Of several with one database, the first is searched."""
    by_database: dict[str, Target] = {}
    for mapping in cells:
        if mapping.is_cell0:
            continue
        cell = mapping.cell(cloud.api.timeouts)
        database = mapping.uuid  # if its URL cannot be used
        if isinstance(cell.database, Database):
            database = cell.database.fingerprint
        by_database.setdefault(database, Target(cell, cloud.api))
    return list(by_database.values())


def _add_up(before: Results, later: Results) -> Results:
    """The results of a later search, with what was mapped before."""
    if not before:
        return later
    return [
        replace(new, outcome=replace(old.outcome, looked_at=()) + new.outcome)
        for old, new in zip(before, later, strict=True)
    ]


def _put_lines(cells: Sequence[CellMapping], results: Results, by_service: bool) -> None:
    """Print what the stock tool prints with ``--verbose``."""
    outcomes = {result.cell.uuid: result.outcome for result in results}
    for cell in cells:
        if cell.is_cell0:
            put("Skipping cell0 since it does not contain hosts.")
            continue
        outcome = outcomes.get(cell.uuid, Discovered())
        name = f" '{cell.name}'" if cell.name else ""
        put(f"Getting computes from cell{name}: {cell.uuid}")
        for line in _lines_of_cell(outcome, by_service):
            put(line)
        put(f"Found {len(outcome.mapped)} unmapped computes in cell: {cell.uuid}")


def _lines_of_cell(outcome: Discovered, by_service: bool) -> Iterator[str]:
    """A line for each node that was looked at, and one where its host was mapped."""
    newly_mapped = set(outcome.mapped)
    for node in outcome.looked_at:
        if not by_service:
            yield f"Checking host mapping for compute host '{node.host}': {node.uuid}"
        if node.host not in newly_mapped:
            continue
        newly_mapped.remove(node.host)  # a host may have several nodes
        if by_service:
            yield f"Creating host mapping for service {node.host}"
        else:
            yield f"Creating host mapping for compute host '{node.host}': {node.uuid}"


def _say_problems(results: Results, missing: int, verbose: bool) -> None:
    """Print what did not go well."""
    mapped_by_others = collisions(results)
    if mapped_by_others:
        say(
            f"Duplicate host mapping: {', '.join(sorted(mapped_by_others))}: somebody else was "
            "first, another discover_hosts or the scheduler's periodic task. All else was done; "
            "it is safe to run this again"
        )
    for label, result in zip(labels(results), results, strict=True):
        outcome = result.outcome
        if verbose:
            mapped_elsewhere = {*outcome.elsewhere, *outcome.collided} - mapped_by_others
            for host in sorted(mapped_elsewhere):
                say(
                    f"{label}: {host} is mapped to another cell; "
                    "if it has moved, use delete_host there"
                )
        for refused in outcome.refused:
            say(f"{label}: {refused.host} could not be mapped: {refused.reason}")
    say_failures(results, "added")
    if missing:
        say(f"{missing} of the expected hosts were not mapped")


def _as_data(result: CellResult[Discovered]) -> dict[str, Any]:
    outcome = result.outcome
    return cell_as_data(result) | {
        "mapped": outcome.mapped,
        "collided": outcome.collided,
        "mapped_elsewhere": outcome.elsewhere,
        "refused": [vars(refused) for refused in outcome.refused],
    }
