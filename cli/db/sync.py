"""``db sync``: from the options to the exit code."""

from collections.abc import Sequence
from typing import Any, Final

import click
from oslo_config import cfg

from cli import configuration
from cli.db.sync_processes import sync_in_processes
from cli.output import cell_as_data, put_json, say
from cli.run_options import RunOptions
from cli.schema import Upgrader
from cli.signals import graceful_stop
from jobs.action import CellResult, Target, failure_of
from jobs.db.sync import Params, Synced, cell0_of, collapse
from novadb.cells import CELL0, Cell
from novadb.errors import DatabaseProblem
from novadb.names import is_same_name
from runs.targets import api_database, mapped_cells, own_database

NO_CELL0: Final = (
    "cell0 cannot be upgraded, and the configured database was left as it is: {}. See that the API "
    "database exists, "
    "that api_db sync and cell_v2 map_cell0 have been run, and that connection in section "
    "[api_database] and the URL "
    "of cell0 are right; --local_cell does without cell0"
)


def sync(
    run: RunOptions, revision: str | None, *, local_cell: bool, all_cells: bool, cell: str | None
) -> int:
    """Choose the databases, upgrade them, print."""
    if sum(map(bool, (local_cell, all_cells, cell))) > 1:
        raise click.UsageError("--local_cell, --all-cells and --cell exclude each other.")
    conf = configuration.load()
    with graceful_stop() as stop:
        upgrader = Upgrader(conf, revision, not run.no_wait, stop)
        if all_cells:
            results = sync_in_processes(upgrader, mapped_cells(conf, api_database(conf)), run)
        elif cell:
            results = [_in(_chosen(conf, cell), upgrader)]
        else:
            results = [] if local_cell else _in_cell0(upgrader)
            if not any(result.failure for result in results):
                results.append(_in(Cell.unmapped(own_database(conf)), upgrader))
    code = collapse(results, Params(revision))
    if run.json:
        put_json({"exit_code": int(code), "cells": [_as_data(result) for result in results]})
    else:
        _say_failures(results, single=not (all_cells or cell))
    return code


def _in_cell0(upgrader: Upgrader) -> list[CellResult[Synced]]:
    """What became of cell0, if it is mapped."""
    try:
        cell0 = cell0_of(mapped_cells(upgrader.conf, api_database(upgrader.conf)))
    except DatabaseProblem as problem:
        cell0 = Cell(CELL0, "cell0", frozenset(), problem)
    if cell0 is None:
        say("cell0 is not mapped, and is not upgraded: cell_v2 map_cell0 maps it")
        return []
    return [_in(cell0, upgrader)]


def _chosen(conf: cfg.ConfigOpts, name: str) -> Cell:
    """The mapped cell of this uuid or name.

    :raises DatabaseProblem: there is none, or several have the name
    """
    found = [
        cell
        for cell in mapped_cells(conf, api_database(conf))
        if is_same_name(cell.uuid, name) or cell.name == name
    ]
    if len(found) == 1:
        return found[0]
    raise DatabaseProblem(
        f"{name} is the name of {len(found)} cells: name one by its uuid"
        if found
        else f"No cell is mapped as {name}"
    )


def _in(cell: Cell, upgrader: Upgrader) -> CellResult[Synced]:
    target = Target(cell, None)
    try:
        return CellResult(cell, Synced(upgrader.upgrade(target.database)))
    except DatabaseProblem as problem:
        return CellResult(cell, Synced(), failure_of(problem, target), complete=False)


def _say_failures(results: Sequence[CellResult[Synced]], single: bool) -> None:
    """
    :param single: whether one database was meant, which cell0 stands in the way of
    """
    for result in results:
        if result.failure:
            in_the_way = single and result.cell.uuid == CELL0
            say(NO_CELL0.format(result.failure.reason) if in_the_way else result.failure.reason)


def _as_data(result: CellResult[Synced]) -> dict[str, Any]:
    revisions = result.outcome.database
    return cell_as_data(result) | {
        "before": revisions.before if revisions else None,
        "after": revisions.after if revisions else None,
    }
