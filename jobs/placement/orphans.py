"""Which allocations are orphaned: what Placement holds, compared with what the cells know."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from clients.placement import Provider
from jobs.action import CellResult
from jobs.placement.audit import Known, Node, Stray
from novadb.names import fold_name

# Who holds any of these is an instance or a migration. Bare metal nodes are held whole, by a class of their own: they
# are not audited, as in the stock tool.
COMPUTE: Final = frozenset({
    "VCPU", "PCPU", "MEMORY_MB", "DISK_GB", "VGPU", "MEM_ENCRYPTION_CONTEXT", "NET_BW_EGR_KILOBIT_PER_SEC",
    "NET_BW_IGR_KILOBIT_PER_SEC",
})  # fmt: skip
UNSUPPORTED: Final = "it has a vGPU, which heal_allocations does not support; migrating it makes its allocation"
NOBODY: Final = "no live instance and no open migration has this uuid"


@dataclass(frozen=True)
class Allocation:
    """What one consumer holds of one provider.

    :ivar generation: of the consumer, as read; None where the service is too old to tell
    """

    consumer: str
    provider: Provider
    resources: Mapping[str, int]
    generation: int | None


@dataclass(frozen=True)
class Orphan:
    """An allocation that belongs to nobody.

    :ivar host: of the compute node that the provider is part of; None where it is no compute node's
    :ivar reason: why, in words
    """

    allocation: Allocation
    host: str | None
    reason: str


@dataclass(frozen=True)
class Bare:
    """A live instance that holds nothing but orphans: something went wrong when it was moved.

    :ivar hindrance: why heal_allocations can make no allocation for it; empty: it can
    """

    instance: str
    hindrance: str = ""


@dataclass(frozen=True)
class Cloud:
    """What all cells know together.

    :ivar homes: the compute node that each live instance is on; "" for none
    :ivar strays: those that are on a host, on no known compute node
    :ivar resting: those that need no allocations
    :ivar fates: why consumers that no cell knows are gone, where that is known
    :ivar complete: whether there are cells and all were read: only then whoever is not here is nowhere
    """

    nodes: Mapping[str, Node]
    retired: Mapping[str, Node]
    homes: Mapping[str, str]
    moving: frozenset[str]
    complete: bool
    strays: Mapping[str, Stray] = field(default_factory=dict)
    resting: frozenset[str] = frozenset()
    fates: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, results: Sequence[CellResult[Known]], building: Iterable[str] = ()) -> Self:
        """Put together what the cells know; one that was not read to its end might as well not be there.

        :param building: instances that are in no cell yet
        """
        known = [result.outcome for result in results if result.complete and not result.failure]
        nodes: dict[str, Node] = {}
        retired: dict[str, Node] = {}
        homes: dict[str, str] = {}
        moving = set(building)
        strays: dict[str, Stray] = {}
        resting: set[str] = set()
        for cell in known:
            strays |= cell.strays
            resting.update(cell.resting)
            nodes |= cell.nodes
            retired |= cell.retired
            moving.update(cell.moving)
            here = {uuid: node for node, uuids in cell.instances.items() for uuid in uuids}
            moving.update(here.keys() & homes.keys())  # in two cells at once: on its way between them
            homes |= here
        complete = 0 < len(known) == len(results)
        return cls(nodes, retired, homes, frozenset(moving), complete, strays, frozenset(resting))

    def knows(self, provider: Provider) -> bool:
        """Whether it can be told who may hold allocations of a provider."""
        return self.complete or fold_name(provider.root) in self.nodes

    def host(self, provider: Provider) -> str | None:
        """The host that a provider is part of, if it is a compute node's."""
        root = fold_name(provider.root)
        place = self.nodes.get(root) or self.retired.get(root)
        return place.host if place else None

    def objection(self, consumer: str, provider: Provider) -> str | None:
        """Why a consumer should hold nothing of a provider; None if it may well.

        On a compute node may hold who is there, and who is on its host while nobody knows the node. Any other provider,
        such as shared storage, serves instances wherever they are.
        """
        uuid, root = fold_name(consumer), fold_name(provider.root)
        home = self.homes.get(uuid)
        if uuid in self.moving or home == root or self.may_be_on(uuid, root):
            return None
        if root in self.nodes:
            return self._whereabouts(uuid)
        if root in self.retired:
            return f"its compute node is deleted; {self._whereabouts(uuid)}"
        return self._whereabouts(uuid) if home is None else None

    def may_be_on(self, uuid: str, root: str) -> bool:
        """Whether an instance is on the host of a compute node, as a node that the host does not have."""
        stray = self.strays.get(uuid)
        return stray is not None and root in stray.nodes

    def strangers(self, held: Iterable[Allocation]) -> set[str]:
        """The consumers that no cell knows."""
        consumers = {one.consumer for one in held}
        return {uuid for uuid in consumers if fold_name(uuid) not in self.homes and fold_name(uuid) not in self.moving}

    def _whereabouts(self, uuid: str) -> str:
        home = self.homes.get(uuid)
        if home is None:
            return self.fates.get(uuid, NOBODY)
        return f"the instance is on {self.nodes[home].host}" if home else "the instance is on no compute node"

    def nodes_of(self, stray: Stray) -> str:
        """The names of the compute nodes that the host of an instance has."""
        return ", ".join(sorted(str(self.nodes[uuid].node) for uuid in stray.nodes if uuid in self.nodes))

    def hindrance(self, uuid: str, lost: Iterable[Mapping[str, int]]) -> str:
        """Why heal_allocations cannot make allocations for a live instance; empty: it can.

        :param lost: what the instance held
        """
        if stray := self.strays.get(uuid):
            return f"heal_allocations can make none, its host {stray.host} has no compute node {stray.node}"
        return UNSUPPORTED if any("VGPU" in resources for resources in lost) else ""


def compute_allocations(held: Sequence[Allocation]) -> list[Allocation]:
    """What is held of trees of which the same consumer holds something that Nova gives: that is audited."""
    compute = {(one.provider.root, one.consumer) for one in held if not COMPUTE.isdisjoint(one.resources)}
    return [one for one in held if (one.provider.root, one.consumer) in compute]


def judge(held: Sequence[Allocation], cloud: Cloud) -> tuple[list[Orphan], list[Provider]]:
    """Tell the orphans among the allocations of whole trees of providers.

    What a consumer holds of one tree belongs together: with its processors goes the device of a class that only this
    cloud knows.

    :returns: the orphans, and the providers of which nothing can be told
    """
    audited = compute_allocations(held)
    unknown = {one.provider: None for one in audited if not cloud.knows(one.provider)}
    orphans = [
        Orphan(one, cloud.host(one.provider), objection)
        for one in audited
        if one.provider not in unknown and (objection := cloud.objection(one.consumer, one.provider))
    ]
    return orphans, list(unknown)


def bare(held: Sequence[Allocation], orphans: Sequence[Orphan], cloud: Cloud) -> list[Bare]:
    """The live instances that hold nothing but orphans, and need allocations.

    :param held: all that there is
    """
    doomed: dict[str, dict[str, Mapping[str, int]]] = {}
    for orphan in orphans:
        allocation = orphan.allocation
        doomed.setdefault(allocation.consumer, {})[allocation.provider.uuid] = allocation.resources
    holding = {one.consumer for one in held if one.provider.uuid not in doomed.get(one.consumer, ())}
    return [
        Bare(consumer, cloud.hindrance(fold_name(consumer), lost.values()))
        for consumer, lost in sorted(doomed.items())
        if consumer not in holding and _needs_allocations(fold_name(consumer), cloud)
    ]


def _needs_allocations(uuid: str, cloud: Cloud) -> bool:
    """Whether an instance is alive and on a host."""
    return bool(cloud.homes.get(uuid) or uuid in cloud.strays) and uuid not in cloud.resting


def in_doubt(consumer: str, cloud: Cloud) -> str:
    """What is known of an instance that is on a host as a node that the host does not have."""
    stray = cloud.strays[fold_name(consumer)]
    return (
        f"it is on host {stray.host} as node {stray.node}, and the host's compute node is {cloud.nodes_of(stray)}: "
        "where the node was renamed, correct instances.node in its cell"
    )


def left_in_doubt(held: Iterable[Allocation], cloud: Cloud) -> list[str]:
    """The instances that hold something of a host on which they are as a node that the host does not have."""
    return sorted(
        {one.consumer for one in held if cloud.may_be_on(fold_name(one.consumer), fold_name(one.provider.root))}
    )
