"""What Placement holds of some resource providers: read, and taken away from orphans."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from clients.concurrency import map_bounded, map_per_key
from clients.errors import RequestRefused, ServiceProblem
from clients.placement import CONSUMERS_PER_REQUEST, Consumer, Placement, Provider
from jobs.placement.failures import IN_A_ROW, FailuresInARow
from jobs.placement.orphans import Allocation, Orphan
from novadb.attempts import attempts
from novadb.names import fold_name

LOG = logging.getLogger("cellkeeper.audit")

CHANGED: Final = "it has changed meanwhile: audit it again"
STOPPED: Final = "the audit was stopped"
VAIN: Final = f"not tried: {IN_A_ROW} in a row failed before"


@dataclass(frozen=True)
class Unread:
    """A provider whose allocations could not be read."""

    provider: Provider
    reason: str


class _Gate:
    """Tells whether there is a use in going on; shared by all threads of one work."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        self._failures = FailuresInARow()

    @property
    def closed(self) -> str:
        """Why nothing more should be tried; empty: it may be."""
        if self._stopped():
            return STOPPED
        return VAIN if self._failures.too_many else ""

    def note(self, problem: ServiceProblem | None) -> None:
        """Remember how a try ended."""
        self._failures.note(problem)


def read(
    placement: Placement, providers: Sequence[Provider], at_once: int, stopped: Callable[[], bool]
) -> tuple[list[Allocation], list[Unread]]:
    """The allocations of some providers, in their order; with several requests under way.

    :param stopped: asked before each provider
    """
    gate = _Gate(stopped)

    def one(provider: Provider) -> list[Allocation] | Unread:
        if reason := gate.closed:
            return Unread(provider, reason)
        try:
            held = placement.holdings(provider.uuid)
        except ServiceProblem as problem:
            gate.note(problem)
            return Unread(provider, str(problem))
        gate.note(None)
        return [Allocation(consumer, provider, one.resources, one.generation) for consumer, one in held.items()]

    found = map_bounded(one, providers, at_once)
    unread = [result for result in found if isinstance(result, Unread)]
    return [held for result in found if not isinstance(result, Unread) for held in result], unread


def remove(
    placement: Placement,
    orphans: Sequence[Orphan],
    living: Collection[str],
    at_once: int,
    stopped: Callable[[], bool],
) -> dict[str, str]:
    """Delete orphaned allocations: many consumers in a request, or one where something is in the way.

    :param living: consumers, folded, that somebody may write at any time, live instances: each is written on its own.
        Placement looks at generations before it looks at what it deletes, and in a large request much comes between
    :param at_once: requests that may be under way at the same time
    :param stopped: asked before each batch, and before each consumer that is written on its own
    :returns: why allocations were left, by consumer
    """
    gate = _Gate(stopped)
    by_consumer: dict[str, list[Allocation]] = {}
    for orphan in orphans:
        by_consumer.setdefault(orphan.allocation.consumer, []).append(orphan.allocation)
    alone = [doomed for consumer, doomed in by_consumer.items() if fold_name(consumer) in living]
    dead = [doomed for consumer, doomed in by_consumer.items() if fold_name(consumer) not in living]

    def attempt(doomed: Sequence[Allocation]) -> str | None:
        if reason := gate.closed:
            return reason
        problem = _remove_from_one(placement, doomed)
        gate.note(problem if isinstance(problem, ServiceProblem) else None)
        return str(problem) if problem else None

    for begin in range(0, len(dead), CONSUMERS_PER_REQUEST):
        batch = dead[begin : begin + CONSUMERS_PER_REQUEST]
        done = frozenset() if gate.closed else _remove_together(placement, batch, at_once, gate)
        alone += [doomed for doomed in batch if doomed[0].consumer not in done]
    reasons = map_per_key(attempt, alone, lambda doomed: doomed[0].provider.root, at_once)
    return {doomed[0].consumer: reason for doomed, reason in zip(alone, reasons, strict=True) if reason}


def _remove_together(
    placement: Placement, batch: Sequence[Sequence[Allocation]], at_once: int, gate: _Gate
) -> frozenset[str]:
    """Take the orphaned allocations of several consumers away in one request; those that anybody has written stay out.

    :returns: the consumers that it is done for: none if Placement refused
    """
    if len(batch) < 2:
        return frozenset()
    try:
        read = map_bounded(lambda doomed: placement.consumer(doomed[0].consumer), batch, at_once)
        after = {
            doomed[0].consumer: _without(now, doomed)
            for doomed, now in zip(batch, read, strict=True)
            if now.generation == doomed[0].generation
        }
        if not after:
            return frozenset()
        placement.write_all(after)
    except ServiceProblem as problem:
        LOG.info("%s; deleting one by one", problem)
        gate.note(problem)
        return frozenset()
    gate.note(None)
    return frozenset(after)


def _remove_from_one(placement: Placement, doomed: Sequence[Allocation]) -> ServiceProblem | str | None:
    """Take a consumer's orphaned allocations away; returns why that failed.

    A consumer that anybody has written since it was read may have become somebody: it is left. Placement itself sees to
    that, by the generation of the consumer.
    """
    uuid = doomed[0].consumer
    failed: ServiceProblem | None = None
    unanswered = False
    for _ in attempts():
        try:
            now = placement.consumer(uuid)
            after = _without(now, doomed)
            if after == now:
                return None
            if now.generation != doomed[0].generation:
                return CHANGED
            placement.write(uuid, after)
        except RequestRefused as refusal:
            failed = refusal
            if not (refusal.is_concurrent or refusal.is_consumer_conflict):
                break
        except ServiceProblem as trouble:  # it may have been done all the same: a second look tells
            failed = trouble
            if unanswered:
                break
            unanswered = True
        else:
            return None
    return failed


def _without(consumer: Consumer, doomed: Sequence[Allocation]) -> Consumer:
    providers = {one.provider.uuid for one in doomed}
    rest = {uuid: held for uuid, held in consumer.allocations.items() if uuid not in providers}
    return replace(consumer, allocations=rest)
