"""``cell_v2 discover_hosts``: map the hosts that are not mapped yet, in all cells or one."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import click

from cli.cell_runs import Runner
from cli.cell_v2.cloud import Cloud, unknown_cell
from cli.cell_v2.options import DiscoverOptions
from cli.output import cell_as_data, labels, put, put_json, say, say_failures
from cli.run_options import RunOptions
from cli.signals import graceful_stop
from jobs.action import CellResult, Target
from jobs.cell_v2.discover_hosts import ACTION, Discovered, Exit, Params, collisions
from jobs.cell_v2.list_hosts import count
from jobs.retry import one_transaction
from novadb.engine import Database
from novadb.mappings import CellMapping, read_cell_mappings
from novadb.names import is_same_name

Results = list[CellResult[Discovered]]

TIMEOUT: Final = 600.0  # seconds that --wait-for goes on without --timeout
PAUSE: Final = 5.0  # seconds between two of its looks


def discover_hosts(run: RunOptions, options: DiscoverOptions) -> int:
    """Choose the cells, run, print what was looked at in the words and the order of the stock tool."""
    _check_options(run, options)
    cloud = Cloud.configured()
    mapped = one_transaction(cloud.api, lambda api: read_cell_mappings(api, cloud.defaults))
    cells = [cell for cell in mapped if options.cell_uuid is None or is_same_name(cell.uuid, options.cell_uuid)]
    if not cells and options.cell_uuid is not None:
        say(unknown_cell(options.cell_uuid))
        return Exit.NOTHING_OR_ERROR
    params = Params(options.strict, options.by_service, options.verbose and not run.json)
    with graceful_stop() as stop:
        runner = Runner(cloud.conf, run, stop)
        results, missing = _look(runner, params, cloud, cells, options)
    code = ACTION.collapse(results, replace(params, strict=options.strict and options.wait_for is None))
    if missing and code is Exit.MAPPED:
        code = Exit.NOTHING_OR_ERROR
    if run.json:
        put_json({"exit_code": int(code), "cells": [_as_data(result) for result in results]})
    elif options.verbose:
        if options.cell_uuid is None:
            put(f"Found {len(mapped)} cell mappings.")
        _put(cells, results, options.by_service)
    _say(results, missing, options.verbose)
    return code


def _check_options(run: RunOptions, options: DiscoverOptions) -> None:
    """See that the options combine.

    :raises click.UsageError: they do not
    """
    if options.timeout is not None and options.wait_for is None:
        raise click.UsageError("--timeout goes with --wait-for.")
    if run.detach and options.wait_for is not None:
        raise click.UsageError("--wait-for waits here: it does not go with --detach.")
    if run.until and options.wait_for is not None:
        raise click.UsageError("--wait-for ends by --timeout: it does not go with --until.")


def _look(
    runner: Runner, params: Params, cloud: Cloud, cells: Sequence[CellMapping], options: DiscoverOptions
) -> tuple[Results, int]:
    """Look for hosts, again and again until enough of them are mapped: by whomever, as the scheduler does it, too.

    :returns: the results of all looks together, and how many hosts are missing
    """
    wanted = options.wait_for or 0
    timeout = TIMEOUT if options.timeout is None else options.timeout
    targets, numbers = _targets(cloud, cells), [cell.id for cell in cells]
    before = count(cloud.api, numbers) if wanted else 0
    until = time.monotonic() + timeout
    results: Results = []
    while True:
        found = runner.run([(ACTION, params)], targets).phases[0] if targets else []
        results = _together(results, found)
        missing = max(0, wanted - count(cloud.api, numbers) + before) if wanted else 0
        left = until - time.monotonic()
        if not missing or left <= 0 or runner.stop.wait(min(PAUSE, left)):
            return results, missing


def _targets(cloud: Cloud, cells: Sequence[CellMapping]) -> list[Target]:
    """The cells that may have hosts; one whose database was named by another one before has nothing more."""
    chosen: dict[str, Target] = {}
    for mapping in cells:
        cell = mapping.cell(cloud.api.timeouts)
        place = cell.database.fingerprint if isinstance(cell.database, Database) else mapping.uuid
        if not mapping.is_cell0:
            chosen.setdefault(place, Target(cell, cloud.api))
    return list(chosen.values())


def _together(before: Results, later: Results) -> Results:
    """How the cells stand after a further look, with what was mapped before."""
    if not before:
        return later
    return [
        replace(now, outcome=replace(was.outcome, looked_at=()) + now.outcome)
        for was, now in zip(before, later, strict=True)
    ]


def _put(cells: Sequence[CellMapping], results: Results, by_service: bool) -> None:
    """Print what the stock tool prints with ``--verbose``."""
    outcomes = {result.cell.uuid: result.outcome for result in results}
    for cell in cells:
        if cell.is_cell0:
            put("Skipping cell0 since it does not contain hosts.")
            continue
        outcome = outcomes.get(cell.uuid, Discovered())
        named = f" '{cell.name}'" if cell.name else ""
        put(f"Getting computes from cell{named}: {cell.uuid}")
        for line in _lines(outcome, by_service):
            put(line)
        put(f"Found {len(outcome.mapped)} unmapped computes in cell: {cell.uuid}")


def _lines(outcome: Discovered, by_service: bool) -> Iterator[str]:
    """A line for each node that was looked at, and one where its host was mapped."""
    new = set(outcome.mapped)
    for node in outcome.looked_at:
        if not by_service:
            yield f"Checking host mapping for compute host '{node.host}': {node.uuid}"
        if node.host in new:
            new.remove(node.host)
            place = f"service {node.host}" if by_service else f"compute host '{node.host}': {node.uuid}"
            yield f"Creating host mapping for {place}"


def _say(results: Results, missing: int, verbose: bool) -> None:
    """Tell what did not go well."""
    if foreign := collisions(results):
        say(
            f"Duplicate host mapping: {', '.join(sorted(foreign))}: somebody else was first, another discover_hosts or "
            "the scheduler's periodic task. All else was done; it is safe to run this again"
        )
    for label, result in zip(labels(results), results, strict=True):
        twice = sorted({*result.outcome.elsewhere, *result.outcome.collided} - foreign) if verbose else ()
        for host in twice:
            say(f"{label}: {host} is mapped to another cell; if it has moved, use delete_host there")
        for refused in result.outcome.refused:
            say(f"{label}: {refused.host} could not be mapped: {refused.reason}")
    say_failures(results, "added")
    if missing:
        say(f"{missing} of the hosts that were waited for did not come")


def _as_data(result: CellResult[Discovered]) -> dict[str, Any]:
    outcome = result.outcome
    return cell_as_data(result) | {
        "mapped": outcome.mapped,
        "collided": outcome.collided,
        "mapped_elsewhere": outcome.elsewhere,
        "refused": [vars(refused) for refused in outcome.refused],
    }
