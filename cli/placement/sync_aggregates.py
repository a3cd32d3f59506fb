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
from jobs.action import CellResult
from jobs.placement.aggregates import Exit, SyncProblem
from jobs.placement.sync_aggregates import (
    ACTION,
    SERVICE_FAILURES,
    AddedAggregates,
    AggregateMember,
    Params,
    Synced,
    collapse,
    read_members,
    unmapped_hosts,
)
from novadb.names import fold_name
from runs.targets import api_database, mapped_cells, targets

SUMMARIES: Final = {
    Exit.ERROR: "The cells of the following hosts could not be read: {}",
    Exit.NO_HOST_MAPPING: (
        "The following hosts were found in nova host aggregates but no host mappings were found "
        'in the nova API DB. Run "cellkeeper cell_v2 discover_hosts" and then retry. Missing: {}'
    ),
    Exit.NO_COMPUTE_NODE: (
        "Unable to find matching compute_nodes record entries in the cell database for the "
        "following hosts; does the nova-compute service on each host need to be restarted? "
        "Missing: {}"
    ),
    Exit.NO_PROVIDER: (
        "Placement has no resource provider for the compute nodes of the following hosts; does "
        "the nova-compute service on each host need to be restarted? Missing: {}"
    ),
}
"""One line for all hosts with the same problem."""
UNREAD: Final = "The cell of host {} was not read"
UNMAPPED: Final = "Host {} is not mapped to a cell"
STOPPED: Final = "{}: stopped before all its hosts were mirrored; the next run does the rest"


def sync(run: RunOptions, *, verbose: bool) -> int:
    """See that Placement answers, have each cell mirror its hosts, print."""
    conf = configuration.load()
    api = api_database(conf)
    members = read_members(api)
    mapped = mapped_cells(conf, api)
    services = Services(conf)
    try:
        services.placement.require(AGGREGATES_VERSION, "sync_aggregates")
        services.placement.check_answers()
    except ServiceProblem as problem:
        say(str(problem))
        return Exit.PLACEMENT_ERROR
    cells_with_members = {member.cell_id for member in members}
    chosen = [cell for cell in mapped if not cell.mapping_ids.isdisjoint(cells_with_members)]
    known_cells = frozenset[int]().union(*(cell.mapping_ids for cell in mapped))
    params = Params(
        unmapped_hosts(members, known_cells), run.concurrency or conf.cellkeeper.requests
    )
    with graceful_stop() as stop:
        cell_targets = targets(conf, chosen, api, services)
        results = Runner(conf, run, stop).run([(ACTION, params)], cell_targets).phases[0]
    code = collapse(results, params)
    added_by_host: dict[str, AddedAggregates] = {}
    for result in results:
        added_by_host |= {fold_name(added.host): added for added in result.outcome.added}
    providers = _providers_of_added(members, added_by_host)
    problems = _all_problems(members, results, params)
    if run.json:
        put_json(_as_data(providers, problems, results, code))
    elif verbose:
        _put_lines(members, providers)
    _say_problems(problems)
    say_failures(results, "added")
    for label, result in zip(labels(results), results, strict=True):
        if not (result.complete or result.failure):
            say(STOPPED.format(label))
    return code


def _all_problems(
    members: Sequence[AggregateMember], results: Results, params: Params
) -> list[SyncProblem]:
    """Why hosts were not mirrored, for every such host."""
    problems = [
        SyncProblem(host, Exit.NO_HOST_MAPPING, UNMAPPED.format(host)) for host in params.unmapped
    ]
    for result in results:
        problems += result.outcome.problems
        if result.failure and result.failure.kind not in SERVICE_FAILURES:
            problems += [
                SyncProblem(host, Exit.ERROR, UNREAD.format(host))
                for host in _unread_hosts(members, result)
            ]
    return problems


def _unread_hosts(members: Sequence[AggregateMember], result: CellResult[Synced]) -> list[str]:
    """The hosts of a cell that failed before it could say anything about them."""
    reported = {fold_name(problem.host) for problem in result.outcome.problems}
    hosts: dict[str, str] = {}
    for member in members:
        if member.host and member.cell_id in result.cell.mapping_ids:
            hosts[fold_name(member.host)] = member.host
    return sorted(host for folded, host in hosts.items() if folded not in reported)


def _providers_of_added(
    members: Sequence[AggregateMember], added_by_host: Mapping[str, AddedAggregates]
) -> dict[AggregateMember, str]:
    """The members whose providers were put into the aggregate, with these providers.

    :param added_by_host: by the folded name of the host
    """
    providers = {}
    for member in members:
        added = added_by_host.get(fold_name(member.host or ""))
        if added and member.aggregate in added.aggregates:
            providers[member] = added.provider
    return providers


def _put_lines(
    members: Sequence[AggregateMember], providers: Mapping[AggregateMember, str]
) -> None:
    """Print what the stock tool prints, but ``Successfully added`` only for what was added."""
    put("Filling in missing placement aggregates")
    aggregate_name = None
    for member in members:
        if member.name != aggregate_name:
            aggregate_name = member.name
            put(f"Processing aggregate: {aggregate_name}")
        if member.host:
            put(f"Processing host: {member.host}")
        if member in providers:
            put(
                f"Successfully added host ({member.host}) and provider ({providers[member]}) to "
                f"aggregate ({member.aggregate})."
            )


def _as_data(
    providers: Mapping[AggregateMember, str],
    problems: Sequence[SyncProblem],
    results: Results,
    code: Exit,
) -> dict[str, Any]:
    return {
        "exit_code": int(code),
        "added": [
            {
                "host": member.host,
                "resource_provider": provider,
                "aggregate": member.aggregate,
                "aggregate_name": member.name,
            }
            for member, provider in providers.items()
        ],
        "problems": [
            {"host": problem.host, "code": problem.code, "problem": problem.text}
            for problem in problems
        ],
        "cells": [cell_as_data(result) for result in results],
    }


def _say_problems(problems: Sequence[SyncProblem]) -> None:
    for code, summary in SUMMARIES.items():
        hosts = sorted(problem.host for problem in problems if problem.code == code)
        if hosts:
            say(summary.format(",".join(hosts)))
    others = [problem for problem in problems if problem.code not in SUMMARIES]
    for problem in others[:NAMED]:
        say(problem.text)
    if len(others) > NAMED:
        say(f"{len(others)} hosts could not be mirrored in all; -f json names them")
