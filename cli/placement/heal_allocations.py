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
from jobs.placement.heal_allocations import ACTION, DRY_RUN, MAX_LISTED, Healed
from jobs.placement.heal_lines import CANDIDATES_PER_LINE
from jobs.placement.heal_params import Params
from jobs.placement.verdicts import Exit, HealProblem
from novadb.cells import CELL0, Cell, mapped_cell_ids
from novadb.engine import Database
from novadb.names import is_same_name
from runs.targets import api_database, mapped_cells, targets

MAX_PROBLEM_LINES: Final = 50  # per cell, on standard error
MAX_CELLS_NAMED: Final = 5  # that failed for the same reason
SERVICE_FAILURES: Final = (
    FailureKind.PLACEMENT,
    FailureKind.NEUTRON,
    FailureKind.MISCONFIGURED,
)

Results = Sequence[CellResult[Healed]]


class InvalidInput(Exception):
    """The options cannot be used; the text says why."""


def heal(run: RunOptions, options: HealOptions) -> int:
    """Check the options in the order of the stock tool, run, print."""
    conf = configuration.load()
    try:
        max_count = _check(options)
        api = api_database(conf)
        chosen = _choose_cells(api, mapped_cells(conf, api), options)
    except InvalidInput as problem:
        say(str(problem))
        return Exit.INVALID_INPUT
    params = Params(
        max_count=max_count,
        instance=options.instance,
        force=options.force,
        dry_run=options.dry_run,
        ports=not options.skip_port_allocations,
        verbose=options.verbose and not run.json and not run.detach,
        at_once=run.concurrency or conf.cellkeeper.requests,
        run=uuid.uuid4().hex,
        cells=len(chosen),
    )
    action = DRY_RUN if options.dry_run else ACTION
    with graceful_stop() as stop:
        cell_targets = targets(conf, chosen, api, Services(conf))
        results = Runner(conf, run, stop).run([(action, params)], cell_targets).phases[0]
    code = action.collapse(results, params)
    if run.json:
        cells_as_data = [_as_data(result) for result in results]
        put_json({"exit_code": int(code), "dry_run": options.dry_run, "cells": cells_as_data})
    elif params.verbose:
        _put_lines(results, params)
    elif options.dry_run and chosen:
        _put_dry_run(results)
    _say_problems(results)
    _say_failures(results)
    return code


def _check(options: HealOptions) -> int | None:
    """See whether the options go together.

    :returns: how many instances may be healed; None: all
    """
    if options.instance and options.cell:
        raise InvalidInput("The --cell and --instance options are mutually exclusive.")
    if options.force and not options.instance:
        raise InvalidInput("The --instance flag is required when using --force flag.")
    if options.instance or options.max_count is None:
        return None
    try:
        max_count = int(options.max_count)
    except ValueError:
        max_count = 0
    if max_count < 1:
        raise InvalidInput("Must supply a positive integer for --max-count.")
    return max_count


def _choose_cells(api: Database, mapped: Sequence[Cell], options: HealOptions) -> list[Cell]:
    """The cells to work in: the instance's, the one that was asked for, or all but cell0."""
    if options.instance:
        return [_cell_of_instance(api, mapped, options.instance)]
    if options.cell:
        matching = [cell for cell in mapped if is_same_name(cell.uuid, options.cell)]
        if not matching:
            raise InvalidInput(f"Cell with uuid {options.cell} was not found.")
        return matching
    return [cell for cell in mapped if cell.uuid != CELL0]


def _cell_of_instance(api: Database, mapped: Sequence[Cell], instance: str) -> Cell:
    with api.connect() as connection:
        cell_ids = mapped_cell_ids(connection, instance)
    if not cell_ids:
        raise InvalidInput(
            f"Unable to find cell for instance {instance}, is it mapped? Try running "
            '"cellkeeper cell_v2 verify_instance" or "cellkeeper cell_v2 map_instances".'
        )
    for cell in mapped:
        if cell_ids[0] in cell.mapping_ids:
            return cell
    raise InvalidInput(f"Instance {instance} is mapped to no cell: it is not scheduled yet.")


def _put_lines(results: Results, params: Params) -> None:
    """Print what the stock tool prints with ``--verbose``, cell by cell."""
    if params.max_count is None and not params.instance:
        put(f"Running batches of {CANDIDATES_PER_LINE} until complete")
    if not results:
        put("No cells to process.")
        return
    for result in results:
        was_reached = result.complete or result.failure or result.outcome.looked_at
        if result.cell.is_cell0 or not was_reached:
            continue
        put(f"Looking for instances in cell: {result.cell.identity}")
        for line in result.outcome.lines:
            put(line)
    healed = sum(result.outcome.rows for result in results)
    is_max_count_reached = any(result.outcome.left for result in results)
    put(f"{'Max count reached. ' if is_max_count_reached else ''}Processed {healed} instances.")


def _put_dry_run(results: Results) -> None:
    created = sum(result.outcome.created for result in results)
    updated = sum(result.outcome.updated for result in results)
    put(f"Would create allocations of {created} instances and update those of {updated}.")


def _say_problems(results: Results) -> None:
    """Print what could not be healed: first what ended the cell, then the worst codes."""
    for label, result in zip(labels(results), results, strict=True):
        outcome = result.outcome
        ending = [problem for problem in outcome.problems if _has_ended(problem, outcome)]
        others = [problem for problem in outcome.problems if not _has_ended(problem, outcome)]
        for problem in ending:
            say(f"{label}: {problem.text}{_unseen_note(outcome.unseen)}")
        for problem in sorted(others, key=_badness)[: MAX_PROBLEM_LINES - len(ending)]:
            say(f"{label}: {problem.text}")
        total = sum(outcome.codes.values())
        if total > MAX_PROBLEM_LINES:
            say(f"{label}: {total} instances could not be healed; -f json names up to {MAX_LISTED}")


def _badness(problem: HealProblem) -> int:
    """The order of lines: ports that somebody has to clean up by hand come first."""
    return -problem.code if problem.code == Exit.PORTS_NOT_ROLLED_BACK else problem.code


def _say_failures(results: Results) -> None:
    """Name the cells that failed; a service's reason once for all cells that share it.

    A reason that a problem of an instance has already given is not repeated.
    """
    failed_by_reason: dict[str, list[tuple[str, Healed]]] = {}
    for label, result in zip(labels(results), results, strict=True):
        failure, outcome = result.failure, result.outcome
        if not failure:
            continue
        if failure.kind not in SERVICE_FAILURES:
            say(failure_line(label, failure) + _healed_note(outcome.rows))
        elif not any(_has_ended(problem, outcome) for problem in outcome.problems):
            failed_by_reason.setdefault(failure.reason, []).append((label, outcome))
    for reason, failed in failed_by_reason.items():
        cell_names = _first_cells([label for label, _ in failed])
        unseen_note = _unseen_note(sum(outcome.unseen for _, outcome in failed))
        healed_note = _healed_note(sum(outcome.rows for _, outcome in failed))
        say(f"{cell_names}: {reason}{unseen_note}{healed_note}")


def _has_ended(problem: HealProblem, outcome: Healed) -> bool:
    """Whether a problem is the one after which nothing more was done in its cell."""
    return bool(outcome.ended_at) and problem.instance == outcome.ended_at


def _unseen_note(unseen: int) -> str:
    if not unseen:
        return ""
    instances = "1 instance was" if unseen == 1 else f"{unseen} instances were"
    return f" (nothing more is tried: {instances} not looked at)"


def _healed_note(healed: int) -> str:
    return f" ({healed} instances were healed before)" if healed else ""


def _first_cells(cell_labels: Sequence[str]) -> str:
    """The first few cells, and how many more there are."""
    names = ", ".join(cell_labels[:MAX_CELLS_NAMED])
    more = len(cell_labels) - MAX_CELLS_NAMED
    return f"{names} and {more} more cells" if more > 0 else names


def _as_data(result: CellResult[Healed]) -> dict[str, Any]:
    outcome = result.outcome
    return cell_as_data(result) | {
        "looked_at": outcome.looked_at,
        "created": outcome.created,
        "updated": outcome.updated,
        "instances": [vars(healed) for healed in outcome.done],
        "problems": [vars(problem) for problem in outcome.problems],
        "problem_count": sum(outcome.codes.values()),
        "left": outcome.left,
        "not_looked_at": outcome.unseen,
    }
