"""``placement heal_allocations``: from the options to the exit code."""

import uuid
from collections.abc import Sequence
from typing import Any, Final

from cli import configuration
from cli.cell_runs import Runner
from cli.output import cell_as_data, failure_line, labels, put, put_json, say
from cli.placement.options import HealOptions
from cli.run_options import RunOptions
from cli.signals import graceful_stop
from clients.services import Services
from jobs.action import CellResult, FailureKind
from jobs.placement.heal_allocations import ACTION, BATCH, DRY_RUN, NAMED, Exit, Healed, Params
from jobs.placement.healing import Problem
from novadb import cells
from novadb.cells import CELL0, Cell
from novadb.engine import Database
from novadb.names import is_same_name
from runs.targets import api_database, mapped_cells, targets

PRINTED: Final = 50  # problems of a cell on standard error
CELLS_NAMED: Final = 5  # cells that failed for the same reason
SERVICES: Final = (FailureKind.PLACEMENT, FailureKind.NEUTRON, FailureKind.MISCONFIGURED)
ENDED: Final = " (nothing more is tried: {} not looked at)"


class InvalidInput(Exception):
    """The options make no sense; the text says why."""


def heal(run: RunOptions, options: HealOptions) -> int:
    """Check the options in the order of the stock tool, run, print."""
    conf = configuration.load()
    try:
        if options.instance and options.cell:
            raise InvalidInput("The --cell and --instance options are mutually exclusive.")
        if options.force and not options.instance:
            raise InvalidInput("The --instance flag is required when using --force flag.")
        limit = None if options.instance else _positive(options.max_count)
        api = api_database(conf)
        chosen = _chosen(api, mapped_cells(conf, api), options.instance, options.cell)
    except InvalidInput as problem:
        say(str(problem))
        return Exit.INVALID_INPUT
    printing = options.verbose and not run.json and not run.detach
    params = Params(
        max_count=limit,
        instance=options.instance,
        force=options.force,
        dry_run=options.dry_run,
        ports=not options.skip_port_allocations,
        verbose=printing,
        at_once=run.concurrency or conf.cellkeeper.requests,
        run=uuid.uuid4().hex,
        cells=len(chosen),
    )
    action = DRY_RUN if options.dry_run else ACTION
    with graceful_stop() as stop:
        runner = Runner(conf, run, stop)
        results = runner.run([(action, params)], targets(conf, chosen, api, Services(conf))).phases[0]
    code = action.collapse(results, params)
    if run.json:
        cells_as_data = [_as_data(result) for result in results]
        put_json({"exit_code": int(code), "dry_run": options.dry_run, "cells": cells_as_data})
    elif printing:
        _put_lines(results, params)
    elif options.dry_run and chosen:
        created, updated = (sum(getattr(result.outcome, what) for result in results) for what in ("created", "updated"))
        put(f"Would create allocations of {created} instances and update those of {updated}.")
    _say_problems(results)
    _say_failures(results)
    return code


def _positive(max_count: str | None) -> int | None:
    if max_count is None:
        return None
    try:
        number = int(max_count)
    except ValueError:
        number = 0
    if number < 1:
        raise InvalidInput("Must supply a positive integer for --max-count.")
    return number


def _chosen(api: Database, mapped: Sequence[Cell], instance: str | None, cell: str | None) -> list[Cell]:
    """The cells to work in: the instance's, the named one, or all but cell0."""
    if instance:
        return [_cell_of(api, mapped, instance)]
    if cell:
        named = [one for one in mapped if is_same_name(one.uuid, cell)]
        if not named:
            raise InvalidInput(f"Cell with uuid {cell} was not found.")
        return named
    return [one for one in mapped if one.uuid != CELL0]


def _cell_of(api: Database, mapped: Sequence[Cell], instance: str) -> Cell:
    with api.connect() as connection:
        rows = cells.mapped_cell_ids(connection, instance)
    if not rows:
        raise InvalidInput(
            f"Unable to find cell for instance {instance}, is it mapped? Try running "
            '"cellkeeper cell_v2 verify_instance" or "cellkeeper cell_v2 map_instances".'
        )
    found = [one for one in mapped if rows[0] in one.mapping_ids]
    if not found:
        raise InvalidInput(f"Instance {instance} is mapped to no cell: it is not scheduled yet.")
    return found[0]


def _put_lines(results: Sequence[CellResult[Healed]], params: Params) -> None:
    """What the stock tool prints with ``--verbose``, cell by cell."""
    if params.max_count is None and not params.instance:
        put(f"Running batches of {BATCH} until complete")
    if not results:
        put("No cells to process.")
        return
    for result in results:
        if result.cell.is_cell0 or not (result.complete or result.failure or result.outcome.looked_at):
            continue  # nobody is on a host there, or its turn did not come
        put(f"Looking for instances in cell: {result.cell.identity}")
        for line in result.outcome.lines:
            put(line)
    healed = sum(result.outcome.rows for result in results)
    reached = any(result.outcome.left for result in results)
    put(f"{'Max count reached. ' if reached else ''}Processed {healed} instances.")


def _say_problems(results: Sequence[CellResult[Healed]]) -> None:
    """Name what could not be healed: first what ended a cell, and what that left undone, then the worst."""
    for label, result in zip(labels(results), results, strict=True):
        outcome = result.outcome
        ending = [problem for problem in outcome.problems if _ends(problem, outcome)]
        others = [problem for problem in outcome.problems if not _ends(problem, outcome)]
        for problem in ending:
            say(f"{label}: {problem.text}{_end_note(outcome.unseen)}")
        for problem in sorted(others, key=_badness)[: PRINTED - len(ending)]:
            say(f"{label}: {problem.text}")
        number = sum(outcome.codes.values())
        if number > PRINTED:
            say(f"{label}: {number} instances could not be healed; -f json names up to {NAMED}")


def _say_failures(results: Sequence[CellResult[Healed]]) -> None:
    """Name each cell that failed; the reason of a service once for all its cells, unless an instance has told it."""
    ended: dict[str, list[tuple[str, Healed]]] = {}
    for label, result in zip(labels(results), results, strict=True):
        if result.failure and result.failure.kind not in SERVICES:
            say(failure_line(label, result.failure) + _before(result.outcome.rows))
        elif result.failure and not _is_told(result.outcome):
            ended.setdefault(result.failure.reason, []).append((label, result.outcome))
    for reason, cells_ended in ended.items():
        unseen = sum(outcome.unseen for _, outcome in cells_ended)
        healed = sum(outcome.rows for _, outcome in cells_ended)
        say(f"{names([label for label, _ in cells_ended])}: {reason}{_end_note(unseen)}{_before(healed)}")


def _is_told(outcome: Healed) -> bool:
    """Whether the problem of an instance says why its cell ended."""
    return any(_ends(problem, outcome) for problem in outcome.problems)


def _ends(problem: Problem, outcome: Healed) -> bool:
    """Whether a problem is the one that ended its cell."""
    return bool(outcome.ended_at) and problem.instance == outcome.ended_at


def _end_note(unseen: int) -> str:
    return ENDED.format(instances(unseen)) if unseen else ""


def _before(healed: int) -> str:
    return f" ({healed} rows were healed before)" if healed else ""


def names(cell_labels: Sequence[str]) -> str:
    """The first few cells, and how many more there are."""
    shown = ", ".join(cell_labels[:CELLS_NAMED])
    more = len(cell_labels) - CELLS_NAMED
    return f"{shown} and {more} more cells" if more > 0 else shown


def instances(number: int) -> str:
    """A number of instances in words."""
    return f"{number} instance was" if number == 1 else f"{number} instances were"


def _badness(problem: Problem) -> int:
    return -problem.code if problem.code == Exit.PORTS_NOT_ROLLED_BACK else problem.code


def _as_data(result: CellResult[Healed]) -> dict[str, Any]:
    outcome = result.outcome
    return cell_as_data(result) | {
        "looked_at": outcome.looked_at,
        "created": outcome.created,
        "updated": outcome.updated,
        "instances": [vars(done) for done in outcome.done],
        "problems": [vars(problem) for problem in outcome.problems],
        "problem_count": sum(outcome.codes.values()),
        "left": outcome.left,
        "not_looked_at": outcome.unseen,
    }
