"""``placement sync_aggregates``: from the options to the exit code."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cli import configuration
from cli.cell_runs import Results, Runner
from cli.output import NAMED, cell_as_data, labels, put, put_json, say, say_failures
from cli.run_options import RunOptions
from cli.signals import graceful_stop
from clients.errors import ServiceProblem
from clients.placement import AGGREGATES_VERSION
from clients.services import Services
from jobs.placement.aggregates import Problem
from jobs.placement.sync_aggregates import ACTION, FAILURES, Added, Exit, Member, Params, collapse, members, unmapped
from novadb.names import fold_name
from runs.targets import api_database, mapped_cells, targets

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
UNREAD: Final = "The cell of host {} was not read"
UNMAPPED: Final = "Host {} is not mapped to a cell"
STOPPED: Final = "{}: stopped before all its hosts were mirrored; the next run does the rest"


def sync(run: RunOptions, *, verbose: bool) -> int:
    """See that Placement answers, have each cell mirror its hosts, print."""
    conf = configuration.load()
    api = api_database(conf)
    found = members(api)
    mapped = mapped_cells(conf, api)
    services = Services(conf)
    try:
        services.placement.require(AGGREGATES_VERSION, "sync_aggregates")
        services.placement.greet()
    except ServiceProblem as problem:
        say(str(problem))
        return Exit.PLACEMENT_ERROR
    homes = {member.cell_id for member in found}
    chosen = [cell for cell in mapped if cell.mapping_ids & homes]
    known = {number for cell in mapped for number in cell.mapping_ids}
    params = Params(unmapped(found, known), run.concurrency or conf.cellkeeper.requests)
    with graceful_stop() as stop:
        runner = Runner(conf, run, stop)
        results = runner.run([(ACTION, params)], targets(conf, chosen, api, services)).phases[0]
    code = collapse(results, params)
    added = {fold_name(one.host): one for result in results for one in result.outcome.added}
    problems = _problems(found, results, params)
    if run.json:
        put_json(_as_data(found, added, problems, results, code))
    elif verbose:
        _put_lines(found, added)
    _say_problems(problems)
    say_failures(results, "added")
    for label, result in zip(labels(results), results, strict=True):
        if not (result.complete or result.failure):
            say(STOPPED.format(label))
    return code


def _problems(found: Sequence[Member], results: Results, params: Params) -> list[Problem]:
    """Why hosts are not mirrored, all of them."""
    problems = [Problem(host, Exit.NO_HOST_MAPPING, UNMAPPED.format(host)) for host in params.unmapped]
    for result in results:
        problems += result.outcome.problems
        if result.failure and result.failure.kind not in FAILURES:
            named = {fold_name(problem.host) for problem in result.outcome.problems}
            theirs = {
                fold_name(member.host): member.host
                for member in found
                if member.host and member.cell_id in result.cell.mapping_ids
            }
            unread = sorted(host for key, host in theirs.items() if key not in named)
            problems += [Problem(host, Exit.ERROR, UNREAD.format(host)) for host in unread]
    return problems


def _pairs(found: Sequence[Member], added: Mapping[str, Added]) -> dict[Member, str]:
    """The members of aggregates that were added, with their providers.

    :param added: by the folded name of the host
    """
    pairs = {}
    for member in found:
        done = added.get(fold_name(member.host or ""))
        if done and member.aggregate in done.aggregates:
            pairs[member] = done.provider
    return pairs


def _put_lines(found: Sequence[Member], added: Mapping[str, Added]) -> None:
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
    found: Sequence[Member], added: Mapping[str, Added], problems: Sequence[Problem], results: Results, code: Exit
) -> dict[str, Any]:
    return {
        "exit_code": int(code),
        "added": [
            {"host": one.host, "resource_provider": provider, "aggregate": one.aggregate, "aggregate_name": one.name}
            for one, provider in _pairs(found, added).items()
        ],
        "problems": [{"host": one.host, "code": one.code, "problem": one.text} for one in problems],
        "cells": [cell_as_data(result) for result in results],
    }


def _say_problems(problems: Sequence[Problem]) -> None:
    for code, sentence in SUMMED_UP.items():
        if hosts := [problem.host for problem in problems if problem.code == code]:
            say(sentence.format(",".join(sorted(hosts))))
    others = [problem for problem in problems if problem.code not in SUMMED_UP]
    for problem in others[:NAMED]:
        say(problem.text)
    if len(others) > NAMED:
        say(f"{len(others)} hosts could not be mirrored in all; -f json names them")
