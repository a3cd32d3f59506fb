"""What Placement holds of all instances, asked provider by provider, and whose it is, asked project by project.

Placement tells who owns an allocation only consumer by consumer. Asked for a user in a project, it tells what all
consumers of that user hold together. If that is exactly what those hold who should be its consumers, no allocation of
theirs is booked on anybody else: whatever were missing here would have to be made up for by an equal amount of somebody
else's, who would be missing it in turn. So only the instances of users whose sums differ are looked at one by one.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from sqlalchemy import Connection, bindparam, text

from clients.concurrency import Once, map_bounded
from clients.errors import ServiceProblem
from clients.placement import Consumer, Placement, Provider, Resources
from jobs.placement.failures import is_end_of
from jobs.placement.instances import Instance
from novadb.names import fold_name

LOG = logging.getLogger("cellkeeper.heal")
T = TypeVar("T")

Owner = tuple[str, str]
"""Project and user."""

MAPPED: Final = text("SELECT instance_uuid, project_id, user_id FROM instance_mappings WHERE instance_uuid IN :uuids")
AT_ONCE: Final = 500  # uuids in one statement


@dataclass
class Ledger:
    """What Placement holds, at one moment.

    :ivar held: by consumer, folded, and provider
    :ivar roots: the root of each provider's tree
    :ivar has_gaps: whether a provider or a consumer could not be read. Then the sums prove nothing: what is missing may
        be as much as what is booked on somebody else
    :ivar owners: who should own each consumer, folded; of one that is no instance: who does
    """

    held: dict[str, dict[str, Resources]]
    roots: dict[str, str]
    _usages: Once[Owner, Resources | None]
    has_gaps: bool = False
    owners: dict[str, Owner] = field(default_factory=dict)
    _sums: dict[Owner, Counter[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, placement: Placement, providers: Sequence[Provider], api: Connection, at_once: int) -> "Ledger":
        """Ask every provider. What cannot be read leaves a gap."""
        answers = map_bounded(lambda one: _or_none(lambda: placement.held_of(one.uuid)), providers, at_once)
        held: dict[str, dict[str, Resources]] = {}
        for provider, consumers in zip(providers, answers, strict=True):
            for consumer, resources in (consumers or {}).items():
                held.setdefault(fold_name(consumer), {})[provider.uuid] = resources
        usages = Once[Owner, Resources | None](lambda owner: _or_none(lambda: placement.usage(*owner)))
        ledger = cls(held, {one.uuid: one.root for one in providers}, usages)
        ledger.owners = _mapped_owners(api, held)
        strangers = [consumer for consumer in held if consumer not in ledger.owners]
        found = map_bounded(lambda uuid: _or_none(lambda: placement.consumer(uuid)), strangers, at_once)
        ledger.owners |= {uuid: one.owner for uuid, one in zip(strangers, found, strict=True) if one}
        ledger.has_gaps = None in answers or None in found
        for consumer, owner in ledger.owners.items():
            total = ledger._sums.setdefault(owner, Counter())
            for resources in held[consumer].values():
                total.update(resources)
        return ledger

    def doubtful(self, owners: Iterable[Owner], at_once: int) -> set[Owner]:
        """Those owners whose consumers must be looked at one by one."""
        asked = sorted(set(owners))
        usages = self._usages.of(asked, at_once)
        return {
            owner
            for owner, usage in zip(asked, usages, strict=True)
            if usage is None or _positive(usage) != _positive(self._sums.get(owner, Counter()))
        }

    def consumer(self, instance: Instance) -> Consumer:
        """What an instance holds, as its owner's."""
        held = self.held.get(instance.key)
        return Consumer(held, instance.project_id, instance.user_id) if held else Consumer()


def _or_none(ask: Callable[[], T]) -> T | None:
    """What a request tells; None: the service answers, but not this.

    :raises ServiceProblem: the service has come to its end
    """
    try:
        return ask()
    except ServiceProblem as problem:
        if is_end_of(problem):
            raise
        LOG.info("%s; asking for each instance that it concerns", problem)
        return None


def _positive(resources: Mapping[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in resources.items() if amount}


def _mapped_owners(api: Connection, consumers: Iterable[str]) -> dict[str, Owner]:
    """Who owns instances by their mappings; mappings of old times do not know the user."""
    wanted = list(consumers)
    owners: dict[str, Owner] = {}
    for begin in range(0, len(wanted), AT_ONCE):
        some = bindparam("uuids", wanted[begin : begin + AT_ONCE], expanding=True)  # type: ignore[var-annotated]
        for uuid, project, user in api.execute(MAPPED.bindparams(some)):
            if project and user:
                owners[fold_name(uuid)] = (project, user)
    return owners
