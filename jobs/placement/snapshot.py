"""What Placement holds for all instances, read provider by provider; owners project by project.

Placement tells the owner of an allocation only when it is asked for that one consumer. Asked for
a user in a project, it tells what all consumers of that user hold together. If that is exactly
what the consumers hold that should be the user's, none of their allocations is booked on anybody
else: whatever were missing here would have to be made up for by an equal amount that belongs to
somebody else, who would be missing it in turn. So only the instances of users whose sums differ
are looked at one by one.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import Connection, bindparam, text

from clients.concurrency import SingleFlight
from clients.errors import ServiceProblem
from clients.placement import Consumer, Placement, Provider, Resources
from jobs.placement.failures import is_service_down
from jobs.placement.instances import Instance
from jobs.placement.request_pool import RequestPool
from novadb.names import fold_name

LOG = logging.getLogger("cellkeeper.heal")
T = TypeVar("T")

Owner = tuple[str, str]
"""Project and user."""

_OWNERS: Final = text(
    "SELECT instance_uuid, project_id, user_id FROM instance_mappings WHERE instance_uuid IN :uuids"
)
OWNERS_PER_STATEMENT: Final = 500


@dataclass
class AllocationSnapshot:
    """What Placement holds, at one moment.

    :ivar held: resources by consumer (folded) and provider
    :ivar roots: the root of each provider's tree
    :ivar has_gaps: whether a provider or a consumer could not be read. The sums prove nothing
        then: what is missing may be as much as what is booked on somebody else
    :ivar owners: the rightful owner of each consumer (folded); for a consumer that is no mapped
        instance, the one that Placement has
    """

    held: dict[str, dict[str, Resources]]
    roots: dict[str, str]
    _read_usage: Callable[[Owner], Resources | None]
    has_gaps: bool = False
    owners: dict[str, Owner] = field(default_factory=dict)
    _expected_usages: dict[Owner, Counter[str]] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        placement: Placement,
        providers: Sequence[Provider],
        api: Connection,
        requests: RequestPool,
    ) -> "AllocationSnapshot":
        """Ask every provider. One that cannot be read leaves a gap."""
        allocations = requests.map(
            lambda provider: _ask_or_none(lambda: placement.resources_by_consumer(provider.uuid)),
            providers,
        )
        held: dict[str, dict[str, Resources]] = {}
        for provider, consumers in zip(providers, allocations, strict=True):
            for consumer, resources in (consumers or {}).items():
                held.setdefault(fold_name(consumer), {})[provider.uuid] = resources
        snapshot = cls(
            held,
            {provider.uuid: provider.root for provider in providers},
            partial(_read_usage_once, placement, SingleFlight()),
            has_gaps=None in allocations,
        )
        snapshot._read_owners(placement, api, requests)
        snapshot._sum_up_expected_usages()
        return snapshot

    def _read_owners(self, placement: Placement, api: Connection, requests: RequestPool) -> None:
        """Instances by their mappings; Placement is asked for all other consumers."""
        self.owners = _read_mapped_owners(api, self.held)
        unmapped = [consumer for consumer in self.held if consumer not in self.owners]
        consumers = requests.map(
            lambda uuid: _ask_or_none(lambda: placement.consumer(uuid)), unmapped
        )
        for uuid, consumer in zip(unmapped, consumers, strict=True):
            if consumer is None:
                self.has_gaps = True
            else:
                self.owners[uuid] = consumer.owner

    def _sum_up_expected_usages(self) -> None:
        for consumer, owner in self.owners.items():
            usage = self._expected_usages.setdefault(owner, Counter())
            for resources in self.held[consumer].values():
                usage.update(resources)

    def doubtful_owners(self, owners: Iterable[Owner], requests: RequestPool) -> set[Owner]:
        """The owners whose consumers must be looked at one by one."""
        asked_owners = sorted(set(owners))
        usages = requests.map(self._read_usage, asked_owners)
        return {
            owner
            for owner, usage in zip(asked_owners, usages, strict=True)
            if usage is None or not self._is_expected(owner, usage)
        }

    def _is_expected(self, owner: Owner, usage: Resources) -> bool:
        expected_usage = self._expected_usages.get(owner, Counter())
        return _without_zeros(usage) == _without_zeros(expected_usage)

    def consumer_for(self, instance: Instance) -> Consumer:
        """What an instance holds, assuming that it is booked on its owner."""
        held = self.held.get(instance.key)
        if not held:
            return Consumer()
        return Consumer(held, instance.project_id, instance.user_id)


def _read_usage_once(
    placement: Placement, usages: SingleFlight[Owner, Resources | None], owner: Owner
) -> Resources | None:
    return usages.get(owner, lambda: _ask_or_none(lambda: placement.usage(*owner)))


def _ask_or_none(ask: Callable[[], T]) -> T | None:
    """The answer to a request; None: the service answers others, but not this one.

    :raises ServiceProblem: the service is unusable
    """
    try:
        return ask()
    except ServiceProblem as problem:
        if is_service_down(problem):
            raise
        LOG.info("%s; asking for each instance concerned", problem)
        return None


def _without_zeros(resources: Mapping[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in resources.items() if amount}


def _read_mapped_owners(api: Connection, consumers: Iterable[str]) -> dict[str, Owner]:
    """The owners of instances by their mappings. Old mappings do not have the user: left out."""
    uuids = list(consumers)
    owners: dict[str, Owner] = {}
    for begin in range(0, len(uuids), OWNERS_PER_STATEMENT):
        batch = uuids[begin : begin + OWNERS_PER_STATEMENT]
        statement = _OWNERS.bindparams(bindparam("uuids", batch, expanding=True))
        for uuid, project_id, user_id in api.execute(statement):
            if project_id and user_id:
                owners[fold_name(uuid)] = (project_id, user_id)
    return owners
