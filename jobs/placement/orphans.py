"""Which allocations are orphaned: what Placement holds, compared with what the cells know."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from clients.placement import Provider
from jobs.action import CellResult
from jobs.placement.audit import Known, Node
from novadb.names import fold

# Who holds any of these is an instance or a migration. Bare metal nodes are held whole, by a class of their own: they
# are not audited, as in the stock tool.
COMPUTE: Final = frozenset({
    "VCPU", "PCPU", "MEMORY_MB", "DISK_GB", "VGPU", "MEM_ENCRYPTION_CONTEXT", "NET_BW_EGR_KILOBIT_PER_SEC",
    "NET_BW_IGR_KILOBIT_PER_SEC",
})  # fmt: skip
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
class Cloud:
    """What all cells know together.

    :ivar homes: the compute node that each live instance is on; "" for none
    :ivar complete: whether there are cells and all were read: only then whoever is not here is nowhere
    """

    nodes: Mapping[str, Node]
    retired: Mapping[str, Node]
    homes: Mapping[str, str]
    moving: frozenset[str]
    complete: bool

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
        for cell in known:
            nodes |= cell.nodes
            retired |= cell.retired
            moving.update(cell.moving)
            here = {uuid: node for node, uuids in cell.instances.items() for uuid in uuids}
            moving.update(here.keys() & homes.keys())  # in two cells at once: on its way between them
            homes |= here
        return cls(nodes, retired, homes, frozenset(moving), 0 < len(known) == len(results))

    def knows(self, provider: Provider) -> bool:
        """Whether it can be told who may hold allocations of a provider."""
        return self.complete or fold(provider.root) in self.nodes

    def host(self, provider: Provider) -> str | None:
        """The host that a provider is part of, if it is a compute node's."""
        root = fold(provider.root)
        place = self.nodes.get(root) or self.retired.get(root)
        return place.host if place else None

    def objection(self, consumer: str, provider: Provider) -> str | None:
        """Why a consumer should hold nothing of a provider; None if it may well.

        On a compute node may hold who is there. Any other provider, such as shared storage, serves instances wherever
        they are.
        """
        uuid, root = fold(consumer), fold(provider.root)
        home = self.homes.get(uuid)
        if uuid in self.moving or home == root:
            return None
        if root in self.nodes:
            return self._whereabouts(home)
        if root in self.retired:
            return f"its compute node is deleted; {self._whereabouts(home)}"
        return NOBODY if home is None else None

    def _whereabouts(self, home: str | None) -> str:
        if home is None:
            return NOBODY
        return f"the instance is on {self.nodes[home].host}" if home else "the instance is on no compute node"


def judge(held: Sequence[Allocation], cloud: Cloud) -> tuple[list[Orphan], list[Provider]]:
    """Tell the orphans among the allocations of whole trees of providers.

    What a consumer holds of one tree belongs together: with its processors goes the device of a class that only this
    cloud knows.

    :returns: the orphans, and the providers of which nothing can be told
    """
    compute = {(one.provider.root, one.consumer) for one in held if not COMPUTE.isdisjoint(one.resources)}
    audited = [one for one in held if (one.provider.root, one.consumer) in compute]
    unknown = {one.provider: None for one in audited if not cloud.knows(one.provider)}
    orphans = [
        Orphan(one, cloud.host(one.provider), objection)
        for one in audited
        if one.provider not in unknown and (objection := cloud.objection(one.consumer, one.provider))
    ]
    return orphans, list(unknown)


def bare(held: Sequence[Allocation], orphans: Sequence[Orphan], cloud: Cloud) -> list[str]:
    """The live instances that hold nothing but orphans: something went wrong when they were moved.

    :param held: all that there is
    """
    doomed = {(orphan.allocation.consumer, orphan.allocation.provider.uuid) for orphan in orphans}
    holding = {one.consumer for one in held if (one.consumer, one.provider.uuid) not in doomed}
    return sorted({uuid for uuid, _ in doomed if fold(uuid) in cloud.homes} - holding)
