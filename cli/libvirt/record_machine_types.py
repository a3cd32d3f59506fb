"""``libvirt record_machine_types``: from the options to the exit code."""

from collections.abc import Sequence
from typing import Any

from cli import configuration
from cli.cell_runs import Results, Runner
from cli.libvirt.cells import UnknownCell, choose_cells
from cli.output import cell_as_data, labels, put, put_json, say, say_failures, table
from cli.run_options import RunOptions
from cli.signals import graceful_stop
from clients.hypervisor import HypervisorProblem
from jobs.action import CellResult
from jobs.libvirt.record_machine_types import ACTION, Exit, Params, Recorded
from novadb.cells import Cell, find_cell_of_host
from novadb.engine import Database
from runs.targets import api_database, hypervisors, mapped_cells, targets

HEADER = ("Cell", "Host", "Machine type", "Instances")


def record_types(run: RunOptions, cell_uuid: str | None, host: str | None, *, dry_run: bool) -> int:
    """Choose the cells, see whether hosts can be asked, run, print."""
    conf = configuration.load()
    api = api_database(conf)
    try:
        cells = choose_cells(mapped_cells(conf, api), cell_uuid)
        if host is not None:
            cells = _cells_with_host(api, cells, host)
    except UnknownCell as error:
        say(str(error))
        return Exit.UNKNOWN_CELL
    asked = hypervisors(conf)
    # Workers ask hypervisors by a configuration of their own: it is not for this one to say.
    if isinstance(asked, HypervisorProblem) and not conf.celery.broker_url:
        say(str(asked))
        return Exit.NO_HYPERVISORS
    params = Params(host, dry_run)
    with graceful_stop() as stop:
        runner = Runner(conf, run, stop)
        results = runner.run([(ACTION, params)], targets(conf, cells, None)).phases[0]
    code = ACTION.collapse(results, params)
    if run.json:
        cells_as_data = [_as_data(result) for result in results]
        put_json({"exit_code": int(code), "dry_run": dry_run, "cells": cells_as_data})
    else:
        _put_recorded(results)
    _say_unrecorded(results)
    say_failures(results, "recorded")
    return code


def _cells_with_host(api: Database, cells: Sequence[Cell], host: str) -> list[Cell]:
    """The cell that a host is mapped to.

    :raises UnknownCell: it is mapped to none of these cells
    """
    with api.connect() as connection:
        cell_id = find_cell_of_host(connection, host)
    matching = [cell for cell in cells if cell_id in cell.mapping_ids]
    if not matching:
        where = "this cell" if cell_id else "any cell"
        raise UnknownCell(f"Host {host} is not mapped to {where}: see list_hosts")
    return matching


def _put_recorded(results: Results) -> None:
    rows = []
    for label, result in zip(labels(results), results, strict=True):
        for host, instances_by_type in result.outcome.hosts.items():
            for machine_type, instances in instances_by_type.items():
                rows.append((label, host, machine_type, instances))
    put(table(HEADER, sorted(rows)) if rows else "Nothing was recorded.")


def _say_unrecorded(results: Results) -> None:
    """Name the hosts that were passed over, and count the instances that have no machine type."""
    for label, result in zip(labels(results), results, strict=True):
        outcome: Recorded = result.outcome
        for host, problem in outcome.passed_over.items():
            say(f"{label}: {host} was passed over: {problem}")
        for host, instances in outcome.without_domain.items():
            say(f"{label}: {host} has no domain with a machine type for {instances} instances")
        if outcome.without_host:
            say(
                f"{label}: {outcome.without_host} instances are on no host: "
                "use update_machine_type for them"
            )


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
