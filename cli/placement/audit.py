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
from jobs.placement.allocations import OrphanDeleter, UnreadProvider, read_allocations
from jobs.placement.audit import (
    ACTION,
    AuditCounts,
    Exit,
    Params,
    collapse,
    read_building_instances,
    read_fates,
)
from jobs.placement.orphans import (
    CloudKnowledge,
    Orphan,
    UnallocatedInstance,
    compute_allocations,
    find_orphans,
    find_unallocated_instances,
)
from jobs.placement.request_pool import RequestPool
from novadb.errors import DatabaseProblem
from novadb.names import fold_name, is_same_name
from runs.targets import api_database, mapped_cells, targets

LOG: Final = logging.getLogger("cellkeeper.audit")
UNJUDGED: Final = "a cell could not be read, and the provider may belong to it"
HEAL_COMMAND: Final = "cellkeeper placement heal_allocations --instance {}"
HEADER: Final = ("Consumer", "Resource Provider", "Host", "Resources", "Reason")


@dataclass(frozen=True)
class AuditFindings:
    """What an audit found.

    :ivar results: how the reading of each cell ended
    :ivar providers: those that were to be audited
    :ivar nodeless: the uuids of providers of which no compute node is known
    :ivar living: the folded uuids of the live instances of all cells
    :ivar unallocated: live instances that hold nothing but orphans, and need allocations
    :ivar doubtful: instances that keep their allocations because nobody knows their compute node,
        with what is known about them
    :ivar unaudited: providers that could not be audited, with the reason
    :ivar undeleted: why orphans were not deleted, by consumer
    """

    results: Results
    providers: Sequence[Provider]
    nodeless: frozenset[str]
    orphans: Sequence[Orphan]
    living: Collection[str]
    unallocated: Sequence[UnallocatedInstance]
    doubtful: Mapping[str, str]
    unaudited: Sequence[UnreadProvider]
    undeleted: Mapping[str, str] = field(default_factory=dict)

    def is_undeleted(self, orphan: Orphan) -> bool:
        """Whether an orphan could not be deleted."""
        return orphan.allocation.consumer in self.undeleted

    def exit_code(self, params: Params) -> Exit:
        """The exit code of the command."""
        counts = AuditCounts(len(self.orphans), len(self.undeleted), len(self.unaudited))
        return collapse(self.results, params, counts)


def audit(run: RunOptions, resource_provider: str | None, *, delete: bool, verbose: bool) -> int:
    """Check the options, audit, delete what is to be deleted, print."""
    params = Params(None, delete)
    if resource_provider is not None:
        try:
            params = Params(str(UUID(resource_provider)), delete)
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
            auditor = _Auditor(conf, placement, Runner(conf, run, stop), params)
            findings = auditor.find(providers)
            if delete:
                findings = auditor.delete(findings)
    except (DatabaseProblem, ServiceProblem) as problem:
        say(str(problem))
        return Exit.ERROR
    code = findings.exit_code(params)
    LOG.info(
        "placement.audit: %d orphans, %d left, exit code %d",
        len(findings.orphans),
        len(findings.undeleted),
        code,
    )
    if run.json:
        put_json(_as_data(findings, params, code))
    elif verbose:
        _put_lines(findings, params)
    else:
        _put_table(findings, params)
    _say_problems(findings, params)
    return code


class _Auditor:
    """Finds orphans, and deletes them."""

    def __init__(
        self, conf: cfg.ConfigOpts, placement: Placement, runner: Runner, params: Params
    ) -> None:
        self._conf = conf
        self._placement = placement
        self._runner = runner
        self._params = params
        self._is_stopped = runner.stop.is_set
        self._requests = RequestPool(runner.options.concurrency or conf.cellkeeper.requests)

    def find(self, providers: Sequence[Provider]) -> AuditFindings:
        """Read Placement, then the builds that are under way, then the cells, and compare.

        In this order whoever holds an allocation is seen: an instance is in its cell before its
        build is over.
        """
        api = api_database(self._conf)
        cells = [cell for cell in mapped_cells(self._conf, api) if not cell.is_cell0]
        allocations, unread = read_allocations(
            self._placement, providers, self._requests, self._is_stopped
        )
        building = read_building_instances(api)
        results: Results = []
        if cells:
            cell_targets = targets(self._conf, cells, None)
            results = self._runner.run([(ACTION, self._params)], cell_targets).phases[0]
        cloud = CloudKnowledge.of(results, building)
        audited = compute_allocations(allocations)
        cloud = replace(cloud, fates=read_fates(api, cloud.unknown_consumers(audited)))
        orphans, unjudged = find_orphans(allocations, cloud)
        unaudited = [*unread, *(UnreadProvider(provider, UNJUDGED) for provider in unjudged)]
        unallocated = []
        if self._params.provider is None:  # otherwise not all allocations were read
            unallocated = find_unallocated_instances(allocations, orphans, cloud)
        return AuditFindings(
            results,
            [provider for provider in providers if self._is_wanted(provider)],
            frozenset(
                provider.uuid
                for provider in providers
                if fold_name(provider.root) not in cloud.nodes
            ),
            [orphan for orphan in orphans if self._is_wanted(orphan.allocation.provider)],
            cloud.homes.keys(),
            unallocated,
            cloud.strays_with(audited),
            [each for each in unaudited if self._is_wanted(each.provider)],
        )

    def _is_wanted(self, provider: Provider) -> bool:
        """Whether a provider was asked for: those of its tree are read as well."""
        wanted = self._params.provider
        return wanted is None or is_same_name(wanted, provider.uuid)

    def delete(self, findings: AuditFindings) -> AuditFindings:
        """Delete the orphans, and note those that could not be deleted."""
        deleter = OrphanDeleter(self._placement, findings.living, self._requests, self._is_stopped)
        return replace(findings, undeleted=deleter.delete(findings.orphans))


def _put_lines(findings: AuditFindings, params: Params) -> None:
    """Print what the stock tool prints; the reasons go to standard error."""
    by_provider: dict[str, list[Orphan]] = {}
    for orphan in findings.orphans:
        by_provider.setdefault(orphan.allocation.provider.uuid, []).append(orphan)
    for provider in findings.providers:
        if provider.uuid in findings.nodeless:
            put(f"The compute node for UUID {provider.root} can not be found")
        for orphan in by_provider.get(provider.uuid, ()):
            _put_orphan(orphan, findings, params)
    processed = len(findings.orphans)
    if params.delete:
        processed -= sum(map(findings.is_undeleted, findings.orphans))
    if processed:
        put(f"Processed {processed} allocation{'s' if processed > 1 else ''}.")


def _put_orphan(orphan: Orphan, findings: AuditFindings, params: Params) -> None:
    allocation = orphan.allocation
    put(
        f"Allocations were set against consumer UUID {allocation.consumer} but no existing "
        "instances or active migrations are related."
    )
    place = orphan.host or allocation.provider.name
    say(f"{allocation.consumer} on {place}: {orphan.reason}")
    resources = dict(allocation.resources)
    holder = f"consumer UUID {allocation.consumer} on Resource Provider {allocation.provider.uuid}"
    if not params.delete:
        put(f"Allocations for {holder} can be deleted: {resources}")
    elif not findings.is_undeleted(orphan):
        put(f"Deleted allocations for {holder}: {resources}")


def _put_table(findings: AuditFindings, params: Params) -> None:
    if not findings.orphans:
        return
    header = (*HEADER, "Result") if params.delete else HEADER
    rows = []
    for orphan in findings.orphans:
        allocation = orphan.allocation
        resources = ", ".join(f"{name}={amount}" for name, amount in allocation.resources.items())
        row = [
            allocation.consumer,
            allocation.provider.uuid,
            orphan.host or "",
            resources,
            orphan.reason,
        ]
        if params.delete:
            row.append("left" if findings.is_undeleted(orphan) else "deleted")
        rows.append(row)
    put(table(header, rows))


def _as_data(findings: AuditFindings, params: Params, code: Exit) -> dict[str, Any]:
    return {
        "exit_code": int(code),
        "orphans": [_orphan_as_data(orphan, findings, params) for orphan in findings.orphans],
        "not_audited": [
            {
                "resource_provider": unaudited.provider.uuid,
                "resource_provider_name": unaudited.provider.name,
                "reason": unaudited.reason,
            }
            for unaudited in findings.unaudited
        ],
        "instances_to_heal": [each.instance for each in findings.unallocated if not each.hindrance],
        "instances_without_remedy": [
            {"instance": each.instance, "reason": each.hindrance}
            for each in findings.unallocated
            if each.hindrance
        ],
        "instances_in_doubt": [
            {"instance": uuid, "reason": reason} for uuid, reason in findings.doubtful.items()
        ],
        "cells": [cell_as_data(result) for result in findings.results],
    }


def _orphan_as_data(orphan: Orphan, findings: AuditFindings, params: Params) -> dict[str, Any]:
    allocation = orphan.allocation
    failure = findings.undeleted.get(allocation.consumer)
    return {
        "consumer": allocation.consumer,
        "resource_provider": allocation.provider.uuid,
        "resource_provider_name": allocation.provider.name,
        "host": orphan.host,
        "resources": allocation.resources,
        "reason": orphan.reason,
        "deleted": params.delete and failure is None,
        "failure": failure,
    }


def _say_problems(findings: AuditFindings, params: Params) -> None:
    _say_first(
        [
            f"Not able to delete allocations for consumer UUID {uuid}: {reason}"
            for uuid, reason in findings.undeleted.items()
        ],
        "consumers keep their allocations",
    )
    _say_first(
        [
            f"Not audited: resource provider {unaudited.provider.uuid} "
            f"({unaudited.provider.name}): {unaudited.reason}"
            for unaudited in findings.unaudited
        ],
        "resource providers were not audited",
    )
    has_none = "has no allocation" if params.delete else "would have no allocation"
    _say_first(
        [
            f"Instance {each.instance} {has_none}: "
            f"{each.hindrance or HEAL_COMMAND.format(each.instance)}"
            for each in findings.unallocated
        ],
        "instances need allocations",
    )
    _say_first(
        [
            f"Instance {uuid} keeps its allocation: {reason}"
            for uuid, reason in findings.doubtful.items()
        ],
        "instances are on unknown compute nodes",
    )
    say_failures(findings.results, "read")


def _say_first(lines: Sequence[str], total: str) -> None:
    """Print no more lines than somebody reads; the JSON document has all."""
    for line in lines[:NAMED]:
        say(line)
    if len(lines) > NAMED:
        say(f"{len(lines)} {total} in all; -f json names them")
