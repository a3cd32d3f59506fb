"""What Placement holds of some resource providers: read, and taken away from orphans."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from clients.errors import Refused, ServiceProblem
from clients.placement import Placement, Provider
from clients.together import together
from jobs.placement.orphans import Allocation, Orphan
from jobs.retry import attempts

CHANGED: Final = "it has changed meanwhile: audit it again"
STOPPED: Final = "the audit was stopped"


@dataclass(frozen=True)
class Unread:
    """A provider whose allocations could not be read."""

    provider: Provider
    reason: str


def read(
    placement: Placement, providers: Sequence[Provider], at_once: int, stopped: Callable[[], bool]
) -> tuple[list[Allocation], list[Unread]]:
    """The allocations of some providers, in their order; with several requests under way.

    :param stopped: asked before each provider
    """

    def one(provider: Provider) -> list[Allocation] | Unread:
        return Unread(provider, STOPPED) if stopped() else _read_one(placement, provider)

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
    """Delete orphaned allocations: one request per consumer, several of them under way.

    :param stopped: asked before each consumer
    :returns: why allocations were left, by consumer
    """
    doomed: dict[str, list[Allocation]] = {}
    for orphan in orphans:
        doomed.setdefault(orphan.allocation.consumer, []).append(orphan.allocation)

    def attempt(allocations: Sequence[Allocation]) -> str | None:
        return STOPPED if stopped() else _remove_from_one(placement, allocations)

    reasons = together(attempt, doomed.values(), at_once)
    return {consumer: reason for consumer, reason in zip(doomed, reasons, strict=True) if reason}


def _remove_from_one(placement: Placement, doomed: Sequence[Allocation]) -> str | None:
    """Take a consumer's orphaned allocations away; returns why that failed.

    A consumer that anybody has written since it was read may have become somebody: it is left. Placement itself sees to
    that, by the generation of the consumer.
    """
    uuid, providers = doomed[0].consumer, {one.provider.uuid for one in doomed}
    problem, unanswered = "", False
    for _ in attempts():
        try:
            now = placement.consumer(uuid)
            if not providers & now.allocations.keys():
                return None
            if now.generation != doomed[0].generation:
                return CHANGED
            rest = {provider: held for provider, held in now.allocations.items() if provider not in providers}
            placement.write(uuid, replace(now, allocations=rest))
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
