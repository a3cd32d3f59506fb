"""Which allocations are orphaned: what Placement has, compared with what the cells know."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Self

from clients.placement import Provider
from jobs.action import CellResult
from jobs.placement.audit import CellKnowledge, ComputeNode, Stray
from novadb.names import fold_name

# A consumer with any of these is an instance or a migration. Bare metal nodes are held as a
# whole, by a class of their own: they are not audited, as in the stock tool.
COMPUTE_CLASSES: Final = frozenset(
    {
        "VCPU",
        "PCPU",
        "MEMORY_MB",
        "DISK_GB",
        "VGPU",
        "MEM_ENCRYPTION_CONTEXT",
        "NET_BW_EGR_KILOBIT_PER_SEC",
        "NET_BW_IGR_KILOBIT_PER_SEC",
    }
)
VGPU: Final = "VGPU"
NOT_HEALABLE: Final = (
    "it has a vGPU, which heal_allocations does not support; migrating it makes its allocation"
)
UNKNOWN_CONSUMER: Final = "no live instance and no open migration has this uuid"


@dataclass(frozen=True)
class Allocation:
    """What one consumer holds of one provider.

    :ivar generation: the consumer's, as read; None: the service is too old to tell it
    """

    consumer: str
    provider: Provider
    resources: Mapping[str, int]
    generation: int | None


@dataclass(frozen=True)
class Orphan:
    """An allocation that belongs to no instance and to no migration.

    :ivar host: the host of the compute node that the provider is part of; None: it is part of none
    :ivar reason: why it belongs to nobody, in words
    """

    allocation: Allocation
    host: str | None
    reason: str


@dataclass(frozen=True)
class UnallocatedInstance:
    """A live instance that holds nothing but orphans: a move of it went wrong.

    :ivar hindrance: why heal_allocations cannot create allocations for it; empty: it can
    """

    instance: str
    hindrance: str = ""


class Presence(Enum):
    """Where an instance or migration is, seen from a provider."""

    MAY_HOLD = "it may hold allocations there"
    ELSEWHERE = "it should hold nothing there"
    ELSEWHERE_NODE_DELETED = "it should hold nothing there, for the compute node is deleted"


@dataclass(frozen=True)
class CloudKnowledge:
    """What all cells know together.

    :ivar homes: the compute node that each live instance is on; empty: it is on none
    :ivar moving: instances and migrations that may hold allocations anywhere
    :ivar complete: whether there are cells and all were read: only then is an instance that no
        cell knows gone
    :ivar strays: the instances that are on a host, but on no known compute node
    :ivar resting: the instances that need no allocations
    :ivar fates: why consumers that no cell knows are gone, as far as that is known
    """

    nodes: Mapping[str, ComputeNode]
    retired: Mapping[str, ComputeNode]
    homes: Mapping[str, str]
    moving: frozenset[str]
    complete: bool
    strays: Mapping[str, Stray] = field(default_factory=dict)
    resting: frozenset[str] = frozenset()
    fates: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, results: Sequence[CellResult[CellKnowledge]], building: Iterable[str] = ()) -> Self:
        """Put together what the cells know. A cell that was read in part counts as not read.

        :param building: instances that are in no cell yet
        """
        cells = [result.outcome for result in results if result.complete and not result.failure]
        nodes: dict[str, ComputeNode] = {}
        retired: dict[str, ComputeNode] = {}
        homes: dict[str, str] = {}
        moving = set(building)
        strays: dict[str, Stray] = {}
        resting: set[str] = set()
        for cell in cells:
            nodes |= cell.nodes
            retired |= cell.retired
            strays |= cell.strays
            resting.update(cell.resting)
            moving.update(cell.moving)
            cell_homes = _homes_in(cell)
            moving.update(cell_homes.keys() & homes.keys())  # in two cells: it moves between them
            homes |= cell_homes
        complete = 0 < len(cells) == len(results)
        return cls(nodes, retired, homes, frozenset(moving), complete, strays, frozenset(resting))

    def can_judge(self, provider: Provider) -> bool:
        """Whether it is known who may hold allocations of a provider."""
        return self.complete or fold_name(provider.root) in self.nodes

    def host_of(self, provider: Provider) -> str | None:
        """The host that a provider is part of; None: it is no compute node's."""
        root = fold_name(provider.root)
        node = self.nodes.get(root) or self.retired.get(root)
        return node.host if node else None

    def objection(self, consumer: str, provider: Provider) -> str | None:
        """Why a consumer should hold nothing of a provider; None: it may.

        Who is on a compute node may hold allocations there, and so may who is on its host on a
        node that nobody knows. Any other provider, such as shared storage, serves instances
        wherever they are.
        """
        uuid, root = fold_name(consumer), fold_name(provider.root)
        presence = self._presence(uuid, root)
        if presence is Presence.MAY_HOLD:
            return None
        whereabouts = self._whereabouts(uuid)
        if presence is Presence.ELSEWHERE_NODE_DELETED:
            return f"its compute node is deleted; {whereabouts}"
        return whereabouts

    def _presence(self, uuid: str, root: str) -> Presence:
        home = self.homes.get(uuid)
        if uuid in self.moving or home == root or self._may_be_on(uuid, root):
            return Presence.MAY_HOLD
        if root in self.nodes:
            return Presence.ELSEWHERE
        if root in self.retired:
            return Presence.ELSEWHERE_NODE_DELETED
        return Presence.ELSEWHERE if home is None else Presence.MAY_HOLD

    def _whereabouts(self, uuid: str) -> str:
        home = self.homes.get(uuid)
        if home is None:
            return self.fates.get(uuid, UNKNOWN_CONSUMER)
        if not home:
            return "the instance is on no compute node"
        return f"the instance is on {self.nodes[home].host}"

    def _may_be_on(self, uuid: str, root: str) -> bool:
        """Whether an instance is on a compute node's host, as a node that is not there."""
        stray = self.strays.get(uuid)
        return stray is not None and root in stray.nodes

    def unknown_consumers(self, allocations: Iterable[Allocation]) -> set[str]:
        """The consumers that no cell knows."""
        consumers = {allocation.consumer for allocation in allocations}
        return {uuid for uuid in consumers if not self._knows(fold_name(uuid))}

    def _knows(self, uuid: str) -> bool:
        return uuid in self.homes or uuid in self.moving

    def hindrance(self, uuid: str, lost: Iterable[Mapping[str, int]]) -> str:
        """Why heal_allocations cannot create allocations for a live instance; empty: it can.

        :param lost: the resources that the instance held
        """
        if stray := self.strays.get(uuid):
            return (
                f"heal_allocations can make none, its host {stray.host} has no compute node "
                f"{stray.node}"
            )
        return NOT_HEALABLE if any(VGPU in resources for resources in lost) else ""

    def needs_allocations(self, uuid: str) -> bool:
        """Whether an instance is alive and on a host."""
        is_on_host = bool(self.homes.get(uuid)) or uuid in self.strays
        return is_on_host and uuid not in self.resting

    def strays_with(self, allocations: Iterable[Allocation]) -> dict[str, str]:
        """Instances that keep allocations because it is not known whether they are there.

        :returns: what is known, by consumer
        """
        consumers = {
            allocation.consumer
            for allocation in allocations
            if self._may_be_on(fold_name(allocation.consumer), fold_name(allocation.provider.root))
        }
        return {
            consumer: self._describe(self.strays[fold_name(consumer)])
            for consumer in sorted(consumers)
        }

    def _describe(self, stray: Stray) -> str:
        known = [self.nodes[uuid] for uuid in stray.nodes if uuid in self.nodes]
        names = ", ".join(sorted(str(node.node) for node in known))
        return (
            f"it is on host {stray.host} as node {stray.node}, and the host's compute node is "
            f"{names}: where the node was renamed, correct instances.node in its cell"
        )


def _homes_in(cell: CellKnowledge) -> dict[str, str]:
    """The compute node that each instance of a cell is on."""
    homes: dict[str, str] = {}
    for node, uuids in cell.instances.items():
        homes |= dict.fromkeys(uuids, node)
    return homes


def compute_allocations(allocations: Sequence[Allocation]) -> list[Allocation]:
    """The allocations to audit: of trees of which the consumer holds something that Nova gives."""

    def tree_and_consumer(allocation: Allocation) -> tuple[str, str]:
        return allocation.provider.root, allocation.consumer

    audited = {
        tree_and_consumer(allocation)
        for allocation in allocations
        if not COMPUTE_CLASSES.isdisjoint(allocation.resources)
    }
    return [allocation for allocation in allocations if tree_and_consumer(allocation) in audited]


def find_orphans(
    allocations: Sequence[Allocation], cloud: CloudKnowledge
) -> tuple[list[Orphan], list[Provider]]:
    """Pick the orphans from the allocations of whole trees of providers.

    What a consumer holds of one tree belongs together: with its processors goes a device of a
    class that only this cloud has.

    :returns: the orphans, and the providers that nothing can be said about
    """
    orphans: list[Orphan] = []
    unjudged: dict[Provider, None] = {}
    for allocation in compute_allocations(allocations):
        provider = allocation.provider
        if not cloud.can_judge(provider):
            unjudged[provider] = None
        elif objection := cloud.objection(allocation.consumer, provider):
            orphans.append(Orphan(allocation, cloud.host_of(provider), objection))
    return orphans, list(unjudged)


def find_unallocated_instances(
    allocations: Sequence[Allocation], orphans: Sequence[Orphan], cloud: CloudKnowledge
) -> list[UnallocatedInstance]:
    """The live instances that hold nothing but orphans, and need allocations.

    :param allocations: all that there are
    """
    orphaned: dict[str, dict[str, Mapping[str, int]]] = {}  # by consumer and provider
    for orphan in orphans:
        allocation = orphan.allocation
        by_provider = orphaned.setdefault(allocation.consumer, {})
        by_provider[allocation.provider.uuid] = allocation.resources
    holding_more = {
        allocation.consumer
        for allocation in allocations
        if allocation.provider.uuid not in orphaned.get(allocation.consumer, ())
    }
    return [
        UnallocatedInstance(consumer, cloud.hindrance(fold_name(consumer), by_provider.values()))
        for consumer, by_provider in sorted(orphaned.items())
        if consumer not in holding_more and cloud.needs_allocations(fold_name(consumer))
    ]
