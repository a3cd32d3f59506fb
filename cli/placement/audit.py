"""``placement audit``: from the options to the exit code."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID

from oslo_config import cfg

from cli import configuration
from cli.cell_runs import Results, Runner
from cli.output import NAMED, cell_as_data, put, put_json, say, say_failures, table
from cli.run_options import RunOptions
from cli.signals import graceful_stop
from clients.errors import ServiceProblem
from clients.placement import ALLOCATIONS_VERSION, PROVIDERS_VERSION, Placement, Provider
from clients.services import Services
from jobs.placement import holdings
from jobs.placement.audit import ACTION, Exit, Params, Tally, being_built, collapse, fates
from jobs.placement.holdings import Unread
from jobs.placement.orphans import Bare, Cloud, Orphan, bare, compute_allocations, in_doubt, judge, left_in_doubt
from novadb.errors import DatabaseProblem
from novadb.names import fold_name, is_same_name
from runs.targets import api_database, mapped_cells, targets

LOG: Final = logging.getLogger("cellkeeper.audit")
UNKNOWN: Final = "a cell was not read, it may be that one's"
HEAL: Final = "cellkeeper placement heal_allocations --instance {}"
HEADER: Final = ("Consumer", "Resource Provider", "Host", "Resources", "Reason")


@dataclass(frozen=True)
class Findings:
    """What an audit found.

    :ivar nodeless: providers of which no compute node is known, by uuid
    :ivar living: the live instances of all cells
    :ivar bare: those that hold nothing but orphans, and need allocations
    :ivar doubtful: those whose allocations are left because nobody knows their node; and what is known
    :ivar unaudited: providers that could not be audited, and why
    :ivar left: why orphans were not deleted, by consumer
    """

    results: Results
    providers: Sequence[Provider]
    nodeless: frozenset[str]
    orphans: Sequence[Orphan]
    living: Collection[str]
    bare: Sequence[Bare]
    doubtful: Mapping[str, str]
    unaudited: Sequence[Unread]
    left: Mapping[str, str] = field(default_factory=dict)

    def code(self, params: Params) -> Exit:
        """The exit code."""
        tally = Tally(len(self.orphans), len(self.left), len(self.unaudited))
        return collapse(self.results, params, tally)


def audit(run: RunOptions, resource_provider: str | None, *, delete: bool, verbose: bool) -> int:
    """Check the options, run, print."""
    try:
        params = Params(str(UUID(resource_provider)) if resource_provider is not None else None, delete)
    except ValueError:
        say(f"Resource provider with UUID {resource_provider} does not exist: that is no UUID.")
        return Exit.INVALID_INPUT
    conf = configuration.load()
    try:
        placement = Services(conf).placement
        placement.require(ALLOCATIONS_VERSION if delete else PROVIDERS_VERSION, "an audit")
        providers = placement.providers(in_tree=params.provider)
        if params.provider and not providers:
            say(f"Resource provider with UUID {params.provider} does not exist.")
            return Exit.INVALID_INPUT
        with graceful_stop() as stop:
            runner = Runner(conf, run, stop)
            at_once = run.concurrency or conf.cellkeeper.requests
            found = _find(conf, placement, providers, params, runner, at_once)
            if delete:
                left = holdings.remove(placement, found.orphans, found.living, at_once, stop.is_set)
                found = replace(found, left=left)
    except (DatabaseProblem, ServiceProblem) as problem:
        say(str(problem))
        return Exit.ERROR
    code = found.code(params)
    LOG.info("placement.audit: %d orphans, %d left, exit code %d", len(found.orphans), len(found.left), code)
    if run.json:
        put_json(_as_data(found, params, code))
    elif verbose:
        _put_lines(found, params)
    else:
        _put_table(found, params)
    _say_troubles(found, params)
    return code


def _find(
    conf: cfg.ConfigOpts,
    placement: Placement,
    providers: Sequence[Provider],
    params: Params,
    runner: Runner,
    at_once: int,
) -> Findings:
    """Read Placement, then the builds that are under way, then the cells, and compare.

    In this order whoever holds an allocation is seen: an instance is in its cell before its build is over.
    """
    api = api_database(conf)
    cells = [cell for cell in mapped_cells(conf, api) if not cell.is_cell0]
    held, unread = holdings.read(placement, providers, at_once, runner.stop.is_set)
    building = being_built(api)
    results = runner.run([(ACTION, params)], targets(conf, cells, None)).phases[0] if cells else []
    cloud = Cloud.of(results, building)
    audited = compute_allocations(held)
    cloud = replace(cloud, fates=fates(api, cloud.strangers(audited)))
    orphans, unknown = judge(held, cloud)
    wanted = {one.uuid for one in providers if params.provider is None or is_same_name(params.provider, one.uuid)}
    return Findings(
        results,
        [one for one in providers if one.uuid in wanted],
        frozenset(one.uuid for one in providers if fold_name(one.root) not in cloud.nodes),
        [one for one in orphans if one.allocation.provider.uuid in wanted],
        cloud.homes.keys(),
        [] if params.provider else bare(held, orphans, cloud),
        {uuid: in_doubt(uuid, cloud) for uuid in left_in_doubt(audited, cloud)},
        [one for one in (*unread, *(Unread(one, UNKNOWN) for one in unknown)) if one.provider.uuid in wanted],
    )


def _put_lines(found: Findings, params: Params) -> None:
    """Print what the stock tool prints; the reasons go to standard error."""
    by_provider: dict[str, list[Orphan]] = {}
    for orphan in found.orphans:
        by_provider.setdefault(orphan.allocation.provider.uuid, []).append(orphan)
    for provider in found.providers:
        if provider.uuid in found.nodeless:
            put(f"The compute node for UUID {provider.root} can not be found")
        for orphan in by_provider.get(provider.uuid, ()):
            _put_orphan(orphan, params.delete, left=orphan.allocation.consumer in found.left)
    if number := sum(not params.delete or one.allocation.consumer not in found.left for one in found.orphans):
        put(f"Processed {number} allocation{'s' if number > 1 else ''}.")


def _put_orphan(orphan: Orphan, deleting: bool, left: bool) -> None:
    one = orphan.allocation
    named = f"llocations for consumer UUID {one.consumer} on Resource Provider {one.provider.uuid}"
    put(
        f"Allocations were set against consumer UUID {one.consumer} but no existing instances or active migrations are "
        "related."
    )
    say(f"{one.consumer} on {orphan.host or one.provider.name}: {orphan.reason}")
    if not deleting:
        put(f"A{named} can be deleted: {dict(one.resources)}")
    elif not left:
        put(f"Deleted a{named}: {dict(one.resources)}")


def _put_table(found: Findings, params: Params) -> None:
    if not found.orphans:
        return
    header = (*HEADER, "Result") if params.delete else HEADER
    rows = []
    for orphan in found.orphans:
        one = orphan.allocation
        resources = ", ".join(f"{name}={amount}" for name, amount in one.resources.items())
        row = (one.consumer, one.provider.uuid, orphan.host or "", resources, orphan.reason)
        rows.append((*row, "left" if one.consumer in found.left else "deleted") if params.delete else row)
    put(table(header, rows))


def _as_data(found: Findings, params: Params, code: Exit) -> dict[str, Any]:
    def data(orphan: Orphan) -> dict[str, Any]:
        one = orphan.allocation
        failure = found.left.get(one.consumer)
        return {
            "consumer": one.consumer,
            "resource_provider": one.provider.uuid,
            "resource_provider_name": one.provider.name,
            "host": orphan.host,
            "resources": one.resources,
            "reason": orphan.reason,
            "deleted": params.delete and failure is None,
            "failure": failure,
        }

    return {
        "exit_code": int(code),
        "orphans": [data(orphan) for orphan in found.orphans],
        "not_audited": [
            {"resource_provider": one.provider.uuid, "resource_provider_name": one.provider.name, "reason": one.reason}
            for one in found.unaudited
        ],
        "instances_to_heal": [one.instance for one in found.bare if not one.hindrance],
        "instances_without_remedy": [
            {"instance": one.instance, "reason": one.hindrance} for one in found.bare if one.hindrance
        ],
        "instances_in_doubt": [{"instance": uuid, "reason": reason} for uuid, reason in found.doubtful.items()],
        "cells": [cell_as_data(result) for result in found.results],
    }


def _say_troubles(found: Findings, params: Params) -> None:
    lack = "has no allocation" if params.delete else "then has no allocation"
    _say_some(
        [f"Not able to delete allocations for consumer UUID {uuid}: {why}" for uuid, why in found.left.items()],
        "consumers keep their allocations",
    )
    _say_some(
        [f"Not audited: resource provider {one.provider.uuid} ({one.provider.name}): {one.reason}"
         for one in found.unaudited],
        "resource providers were not audited",
    )  # fmt: skip
    _say_some(
        [f"Instance {one.instance} {lack}: {one.hindrance or HEAL.format(one.instance)}" for one in found.bare],
        "instances need allocations",
    )
    _say_some(
        [f"Instance {uuid} keeps its allocation: {reason}" for uuid, reason in found.doubtful.items()],
        "instances are on nodes that nobody knows",
    )
    say_failures(found.results, "read")


def _say_some(lines: Sequence[str], total: str) -> None:
    """Say no more than can be read; all are in the document."""
    for line in lines[:NAMED]:
        say(line)
    if len(lines) > NAMED:
        say(f"{len(lines)} {total} in all; -f json names them")
