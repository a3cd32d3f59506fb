"""``libvirt record_machine_types``: from the options to the exit code."""

from collections.abc import Sequence
from typing import Any

from cli import configuration
from cli.cell_runs import Results, Runner
from cli.libvirt.cells import UnknownCell, chosen
from cli.output import cell_as_data, labels, put, put_json, say, say_failures, table
from cli.run_options import RunOptions
from cli.signals import graceful_stop
from clients.hypervisor import HypervisorProblem
from jobs.action import CellResult
from jobs.libvirt.record_machine_types import ACTION, Exit, Params, Recorded
from novadb.cells import Cell, find_cell_of_host
from novadb.engine import Database
from runs.targets import api_database, hypervisors, mapped_cells, targets


def record(run: RunOptions, cell_uuid: str | None, host: str | None, *, dry_run: bool) -> int:
    """Choose the cells, see whether hosts can be asked, run, print."""
    conf = configuration.load()
    api = api_database(conf)
    try:
        cells = _on_host(api, chosen(mapped_cells(conf, api), cell_uuid), host)
    except UnknownCell as error:
        say(str(error))
        return Exit.UNKNOWN_CELL
    reach = hypervisors(conf)
    if isinstance(reach, HypervisorProblem) and not conf.celery.broker_url:  # workers ask by their own configuration
        say(str(reach))
        return Exit.NO_HYPERVISORS
    params = Params(host, dry_run)
    with graceful_stop() as stop:
        runner = Runner(conf, run, stop)
        results = runner.run([(ACTION, params)], targets(conf, cells, None)).phases[0]
    code = ACTION.collapse(results, params)
    if run.json:
        put_json({"exit_code": int(code), "dry_run": dry_run, "cells": [_as_data(result) for result in results]})
    else:
        _put_recorded(results)
    _say_left(results)
    say_failures(results, "recorded")
    return code


def _on_host(api: Database, cells: Sequence[Cell], host: str | None) -> list[Cell]:
    """The one of these cells that a host is mapped to; all, where none is named.

    :raises UnknownCell: it is mapped to none of them
    """
    if host is None:
        return list(cells)
    with api.connect() as connection:
        number = find_cell_of_host(connection, host)
    mapped = [cell for cell in cells if number in cell.mapping_ids]
    if not mapped:
        raise UnknownCell(f"Host {host} is not mapped to {'this cell' if number else 'any cell'}: see list_hosts")
    return mapped


def _put_recorded(results: Results) -> None:
    rows = [
        (label, host, machine_type, number)
        for label, result in zip(labels(results), results, strict=True)
        for host, kinds in result.outcome.hosts.items()
        for machine_type, number in kinds.items()
    ]
    put(table(("Cell", "Host", "Machine type", "Instances"), sorted(rows)) if rows else "Nothing was recorded.")


def _say_left(results: Results) -> None:
    """Name the hosts that were passed over, and count the instances that are left."""
    for label, result in zip(labels(results), results, strict=True):
        outcome: Recorded = result.outcome
        for host, problem in outcome.passed_over.items():
            say(f"{label}: {host} was passed over: {problem}")
        for host, number in outcome.without_domain.items():
            say(f"{label}: {host} has no domain with a machine type for {number} instances")
        if outcome.without_host:
            say(f"{label}: {outcome.without_host} instances are on no host: use update_machine_type for them")


def _as_data(result: CellResult[Recorded]) -> dict[str, Any]:
    outcome = result.outcome
    return cell_as_data(result) | {
        "recorded": outcome.hosts,
        "passed_over": outcome.passed_over,
        "unknown": outcome.unknown,
        "without_domain": outcome.without_domain,
        "without_host": outcome.without_host,
        "left": outcome.left,
    }
