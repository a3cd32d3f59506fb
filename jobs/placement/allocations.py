"""The allocations that Placement has for resource providers: reading them, deleting orphans."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from clients.errors import RequestRefused, ServiceProblem
from clients.placement import CONSUMERS_PER_REQUEST, Consumer, Placement, Provider
from jobs.placement.failures import MAX_FAILURES_IN_A_ROW, FailuresInARow
from jobs.placement.orphans import Allocation, Orphan
from jobs.placement.request_pool import RequestPool
from novadb.attempts import attempts
from novadb.names import fold_name

LOG = logging.getLogger("cellkeeper.audit")

CHANGED: Final = "it has changed meanwhile: audit it again"
STOPPED: Final = "the audit was stopped"
GIVEN_UP: Final = f"not tried: {MAX_FAILURES_IN_A_ROW} in a row failed before"

IsStopped = Callable[[], bool]
"""Whether somebody has stopped the audit."""

ConsumerOrphans = Sequence[Allocation]
"""The orphaned allocations of one consumer: at least one."""


@dataclass(frozen=True)
class UnreadProvider:
    """A provider whose allocations could not be read."""

    provider: Provider
    reason: str


class _Gate:
    """Tells whether to go on; shared by all threads of an audit."""

    def __init__(self, is_stopped: IsStopped) -> None:
        self._is_stopped = is_stopped
        self._failures = FailuresInARow()

    @property
    def closed(self) -> str:
        """Why nothing more should be tried; empty: go on."""
        if self._is_stopped():
            return STOPPED
        return GIVEN_UP if self._failures.too_many else ""

    def record_success(self) -> None:
        """Note that a request was answered."""
        self._failures.record_success()

    def record_failure(self, problem: ServiceProblem) -> None:
        """Note that a request failed."""
        self._failures.record_failure(problem)


def read_allocations(
    placement: Placement,
    providers: Sequence[Provider],
    requests: RequestPool,
    is_stopped: IsStopped,
) -> tuple[list[Allocation], list[UnreadProvider]]:
    """The allocations of providers, in the order of the providers.

    :param is_stopped: asked before each provider
    """
    gate = _Gate(is_stopped)

    def read_one(provider: Provider) -> list[Allocation] | UnreadProvider:
        if reason := gate.closed:
            return UnreadProvider(provider, reason)
        try:
            by_consumer = placement.allocations_of(provider.uuid)
        except ServiceProblem as problem:
            gate.record_failure(problem)
            return UnreadProvider(provider, str(problem))
        gate.record_success()
        return [
            Allocation(consumer, provider, held.resources, held.generation)
            for consumer, held in by_consumer.items()
        ]

    allocations: list[Allocation] = []
    unread: list[UnreadProvider] = []
    for answer in requests.map(read_one, providers):
        if isinstance(answer, UnreadProvider):
            unread.append(answer)
        else:
            allocations += answer
    return allocations, unread


class OrphanDeleter:
    """Deletes orphaned allocations."""

    def __init__(
        self,
        placement: Placement,
        living: Collection[str],
        requests: RequestPool,
        is_stopped: IsStopped,
    ) -> None:
        """:param living: the folded uuids of consumers that somebody may write at any time, live
            instances. Each is written in a request of its own: Placement checks the generations
            of all consumers of a request before it deletes anything, and in a large request much
            may happen in between
        :param is_stopped: asked before each request
        """
        self._placement = placement
        self._living = living
        self._requests = requests
        self._gate = _Gate(is_stopped)

    def delete(self, orphans: Sequence[Orphan]) -> dict[str, str]:
        """Delete orphans: many consumers in a request, or one by one if that is refused.

        :returns: why allocations were not deleted, by consumer
        """
        by_consumer: dict[str, list[Allocation]] = {}
        for orphan in orphans:
            by_consumer.setdefault(orphan.allocation.consumer, []).append(orphan.allocation)
        dead: list[ConsumerOrphans] = []
        one_by_one: list[ConsumerOrphans] = []
        for consumer, allocations in by_consumer.items():
            is_living = fold_name(consumer) in self._living
            (one_by_one if is_living else dead).append(allocations)
        for begin in range(0, len(dead), CONSUMERS_PER_REQUEST):
            batch = dead[begin : begin + CONSUMERS_PER_REQUEST]
            deleted = self._delete_in_one_request(batch)
            one_by_one += [each for each in batch if _consumer_of(each) not in deleted]
        reasons = self._requests.map_per_key(
            self._delete_of_one, one_by_one, lambda allocations: allocations[0].provider.root
        )
        return {
            _consumer_of(allocations): reason
            for allocations, reason in zip(one_by_one, reasons, strict=True)
            if reason
        }

    def _delete_in_one_request(self, batch: Sequence[ConsumerOrphans]) -> Collection[str]:
        """Delete what several consumers hold, except for those that anybody has written.

        :returns: the consumers whose orphans are deleted: none if Placement refuses
        """
        if len(batch) < 2 or self._gate.closed:
            return ()
        try:
            consumers = self._requests.map(
                lambda allocations: self._placement.consumer(_consumer_of(allocations)), batch
            )
            after = {
                _consumer_of(allocations): _without(consumer, allocations)
                for allocations, consumer in zip(batch, consumers, strict=True)
                if consumer.generation == allocations[0].generation
            }
            if not after:
                return ()
            self._placement.write_consumers(after)
        except ServiceProblem as problem:
            LOG.info("%s; deleting one by one", problem)
            self._gate.record_failure(problem)
            return ()
        self._gate.record_success()
        return after.keys()

    def _delete_of_one(self, allocations: ConsumerOrphans) -> str | None:
        """Delete what one consumer holds; returns why that failed."""
        if reason := self._gate.closed:
            return reason
        try:
            is_unchanged = self._try_to_delete(allocations)
        except ServiceProblem as problem:
            self._gate.record_failure(problem)
            return str(problem)
        self._gate.record_success()
        return None if is_unchanged else CHANGED

    def _try_to_delete(self, allocations: ConsumerOrphans) -> bool:
        """Delete what one consumer holds, unless anybody has written it since it was read.

        A consumer that was written may have become somebody: it is left alone. Placement itself
        checks that once more, by the generation of the consumer.

        :returns: False: it was written
        :raises ServiceProblem: Placement failed
        """
        uuid = _consumer_of(allocations)
        failure: ServiceProblem | None = None
        is_unanswered = False
        for _ in attempts():
            try:
                consumer = self._placement.consumer(uuid)
                after = _without(consumer, allocations)
                if after == consumer:
                    return True
                if consumer.generation != allocations[0].generation:
                    return False
                self._placement.write_consumer(uuid, after)
            except RequestRefused as refusal:
                failure = refusal
                if not (refusal.is_concurrent or refusal.is_consumer_conflict):
                    break
            except ServiceProblem as problem:
                failure = problem
                if is_unanswered:
                    break
                is_unanswered = True  # it may have been done: one more look tells
            else:
                return True
        assert failure
        raise failure


def _consumer_of(allocations: ConsumerOrphans) -> str:
    return allocations[0].consumer


def _without(consumer: Consumer, allocations: ConsumerOrphans) -> Consumer:
    orphaned = {allocation.provider.uuid for allocation in allocations}
    kept = {uuid: held for uuid, held in consumer.allocations.items() if uuid not in orphaned}
    return replace(consumer, allocations=kept)
