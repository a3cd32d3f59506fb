"""What Placement holds of some resource providers: read, and taken away from orphans."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from clients.errors import Refused, ServiceProblem
from clients.placement import CONSUMERS, Consumer, Placement, Provider
from clients.together import together
from jobs.placement.orphans import Allocation, Orphan
from jobs.retry import attempts

LOG = logging.getLogger("cellkeeper.audit")

CHANGED: Final = "it has changed meanwhile: audit it again"
STOPPED: Final = "the audit was stopped"
IN_A_ROW: Final = 20  # failures after which nothing more is tried
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
        self._failures = 0

    @property
    def closed(self) -> str:
        """Why nothing more should be tried; empty: it may be."""
        return STOPPED if self._stopped() else VAIN if self._failures >= IN_A_ROW else ""

    def note(self, *, failed: bool) -> None:
        """Remember how a try ended."""
        self._failures = self._failures + 1 if failed else 0


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
        found = _read_one(placement, provider)
        gate.note(failed=isinstance(found, Unread))
        return found

    found = together(one, providers, at_once)
    unread = [result for result in found if isinstance(result, Unread)]
    return [held for result in found if not isinstance(result, Unread) for held in result], unread


def _read_one(placement: Placement, provider: Provider) -> list[Allocation] | Unread:
    try:
        held = placement.holdings(provider.uuid)
    except ServiceProblem as problem:
        return Unread(provider, str(problem))
    return [Allocation(consumer, provider, one.resources, one.generation) for consumer, one in held.items()]


def remove(
    placement: Placement, orphans: Sequence[Orphan], at_once: int, stopped: Callable[[], bool]
) -> dict[str, str]:
    """Delete orphaned allocations: many consumers in a request, or one where something is in the way.

    :param at_once: requests that may be under way at the same time
    :param stopped: asked before each request that writes
    :returns: why allocations were left, by consumer
    """
    by_consumer: dict[str, list[Allocation]] = {}
    for orphan in orphans:
        by_consumer.setdefault(orphan.allocation.consumer, []).append(orphan.allocation)

    gate = _Gate(stopped)

    def attempt(doomed: Sequence[Allocation]) -> str | None:
        if reason := gate.closed:
            return reason
        problem = _remove_from_one(placement, doomed)
        gate.note(failed=problem not in (None, CHANGED))
        return problem

    left: dict[str, str] = {}
    everybody = list(by_consumer.values())
    for begin in range(0, len(everybody), CONSUMERS):
        batch = everybody[begin : begin + CONSUMERS]
        done = frozenset() if gate.closed else _remove_together(placement, batch, at_once)
        alone = [doomed for doomed in batch if doomed[0].consumer not in done]
        reasons = together(attempt, alone, at_once)
        left |= {doomed[0].consumer: reason for doomed, reason in zip(alone, reasons, strict=True) if reason}
    return left


def _remove_together(placement: Placement, batch: Sequence[Sequence[Allocation]], at_once: int) -> frozenset[str]:
    """Take the orphaned allocations of several consumers away: of all that nobody has written meanwhile, or of none.

    :returns: the consumers that it is done for
    """
    if len(batch) < 2:
        return frozenset()
    try:
        read = together(lambda doomed: placement.consumer(doomed[0].consumer), batch, at_once)
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
        return frozenset()
    return frozenset(after)


def _remove_from_one(placement: Placement, doomed: Sequence[Allocation]) -> str | None:
    """Take a consumer's orphaned allocations away; returns why that failed.

    A consumer that anybody has written since it was read may have become somebody: it is left. Placement itself sees to
    that, by the generation of the consumer.
    """
    uuid = doomed[0].consumer
    problem, unanswered = "", False
    for _ in attempts():
        try:
            now = placement.consumer(uuid)
            after = _without(now, doomed)
            if after == now:
                return None
            if now.generation != doomed[0].generation:
                return CHANGED
            placement.write(uuid, after)
        except Refused as refusal:
            problem = str(refusal)
            if not (refusal.is_concurrent or refusal.is_consumer_conflict):
                break
        except ServiceProblem as trouble:  # it may have been done all the same: a second look tells
            problem = str(trouble)
            if unanswered:
                break
            unanswered = True
        else:
            return None
    return problem


def _without(consumer: Consumer, doomed: Sequence[Allocation]) -> Consumer:
    providers = {one.provider.uuid for one in doomed}
    rest = {uuid: held for uuid, held in consumer.allocations.items() if uuid not in providers}
    return replace(consumer, allocations=rest)
