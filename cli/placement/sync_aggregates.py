"""``placement sync_aggregates``: from the options to the exit code."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cli import configuration
from cli.cell_runs import Results, Runner
from cli.output import NAMED, cell_as_data, put, put_json, say, say_failures
from cli.signals import graceful_stop
from clients.errors import ServiceProblem
from clients.placement import AGGREGATES
from clients.services import Services
from clients.together import together
from jobs.placement import aggregates
from jobs.placement.sync_aggregates import ACTION, Exit, Member, Params, Problem, Wish, collapse, members, plan
from runs.targets import api_database, mapped_cells, targets
from workers import options

LOG: Final = logging.getLogger("cellkeeper.audit")

SUMMED_UP: Final = {
    Exit.ERROR: "The cells of the following hosts could not be read: {}",
    Exit.NO_HOST_MAPPING: "The following hosts were found in nova host aggregates but no host mappings were found in "
    'the nova API DB. Run "cellkeeper cell_v2 discover_hosts" and then retry. Missing: {}',
    Exit.NO_COMPUTE_NODE: "Unable to find matching compute_nodes record entries in the cell database for the "
    "following hosts; does the nova-compute service on each host need to be restarted? Missing: {}",
    Exit.NO_PROVIDER: "Placement has no resource provider for the compute nodes of the following hosts; does the "
    "nova-compute service on each host need to be restarted? Missing: {}",
}
"""What is said of all hosts with the same problem."""
STOPPED: Final = "the command was stopped before"

Added = Mapping[str, tuple[Wish, frozenset[str]]]
"""By host, its wish, and the aggregates that its provider was put into."""


def sync(
    verbose: bool,
    concurrency: int | None,
    format: str,  # noqa: A002 - the option's name
) -> int:
    """Read the API database and the cells, add what is lacking in Placement, print."""
    conf = configuration.load(options.register)
    api = api_database(conf)
    found = members(api)
    mapped = mapped_cells(conf, api)
    try:
        placement = Services(conf).placement
        placement.require(AGGREGATES, "sync_aggregates")
        placement.greet()
    except ServiceProblem as problem:
        say(str(problem))
        return Exit.PLACEMENT_ERROR
    homes = {member.cell_id for member in found}
    chosen = targets(conf, [cell for cell in mapped if cell.mapping_ids & homes], None)
    with graceful_stop() as stop:
        runner = Runner(conf, concurrency, True, False, stop, configuration.debugger_wanted())
        results = runner.run([(ACTION, Params())], chosen)[0] if chosen else []
        wishes, problems = plan(found, {number: one for one in results for number in one.cell.mapping_ids})

        def mirror(wish: Wish) -> frozenset[str] | Problem:
            if stop.is_set():
                return Problem(wish.host, Exit.ERROR, STOPPED)
            return aggregates.add(placement, wish)

        ends = together(mirror, wishes, conf.cellkeeper.connections)
    problems += [end for end in ends if isinstance(end, Problem)]
    added = {
        wish.host: (wish, end) for wish, end in zip(wishes, ends, strict=True) if not isinstance(end, Problem) and end
    }
    code = collapse(results, Params(), problems)
    LOG.info("placement.sync_aggregates: %d hosts, %d problems, exit code %d", len(wishes), len(problems), code)
    if format == "json":
        put_json(_as_data(found, added, problems, results, code))
    elif verbose:
        _put_lines(found, added)
    _say_problems(problems)
    say_failures(results, "read")
    return code


def _pairs(found: Sequence[Member], added: Added) -> dict[Member, str]:
    """The members of aggregates that were added, with their providers."""
    nothing = Wish("", "", frozenset()), frozenset[str]()
    pairs = {}
    for member in found:
        wish, lacked = added.get(member.host or "", nothing)
        if member.aggregate in lacked:
            pairs[member] = wish.provider
    return pairs


def _put_lines(found: Sequence[Member], added: Added) -> None:
    """Print what the stock tool prints; that something was added, only where it was."""
    providers = _pairs(found, added)
    put("Filling in missing placement aggregates")
    name = None
    for member in found:
        if member.name != name:
            name = member.name
            put(f"Processing aggregate: {name}")
        if member.host:
            put(f"Processing host: {member.host}")
        if member in providers:
            put(
                f"Successfully added host ({member.host}) and provider ({providers[member]}) to aggregate "
                f"({member.aggregate})."
            )


def _as_data(
    found: Sequence[Member], added: Added, problems: Sequence[Problem], results: Results, code: Exit
) -> dict[str, Any]:
    return {
        "exit_code": int(code),
        "added": [
            {"host": one.host, "resource_provider": provider, "aggregate": one.aggregate, "aggregate_name": one.name}
            for one, provider in _pairs(found, added).items()
        ],
        "problems": [{"host": one.host, "code": int(one.exit), "problem": one.text} for one in problems],
        "cells": [cell_as_data(result) for result in results],
    }


def _say_problems(problems: Sequence[Problem]) -> None:
    for code, sentence in SUMMED_UP.items():
        if hosts := [problem.host for problem in problems if problem.exit is code]:
            say(sentence.format(",".join(sorted(hosts))))
    others = [problem for problem in problems if problem.exit not in SUMMED_UP]
    for problem in others[:NAMED]:
        say(problem.text)
    if len(others) > NAMED:
        say(f"{len(others)} hosts could not be mirrored in all; -f json names them")
