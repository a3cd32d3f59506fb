"""Collecting what healing must know about the instances of a cell, with few requests."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from clients.errors import ServiceProblem
from clients.neutron import Port
from clients.placement import ALLOCATIONS_VERSION, Consumer, Provider
from jobs.action import ApiDatabaseProblem, Target
from jobs.placement.failures import FailuresInARow, is_service_down
from jobs.placement.heal_params import Params
from jobs.placement.instances import Instance, NeedReader, count_placed, read_compute_nodes
from jobs.placement.request_pool import RequestPool
from jobs.placement.service_watch import ServiceWatch
from jobs.placement.snapshot import AllocationSnapshot, Owner
from jobs.placement.verdicts import (
    Decision,
    Exit,
    HealProblem,
    Subject,
    Verdict,
    allocation_problem,
)
from jobs.retry import transactionally
from novadb.engine import server_message
from novadb.names import fold_name, is_same_name

LOG = logging.getLogger("cellkeeper.heal")
T = TypeVar("T")

# Pages in a row whose ports cannot be read, after which the cell is given up.
MAX_FAILED_PAGES: Final = 2
NO_PORTS: Final = "{}; {} instances were not looked at"

Held = Consumer | HealProblem | Verdict
"""What an instance holds, or why that is not known."""


@dataclass(frozen=True)
class Collected:
    """What is known about some instances.

    :ivar subjects: the instances that can be decided on
    :ivar decisions: what is decided already about the others, by uuid
    :ivar problems: those of the whole page
    """

    subjects: Sequence[Subject] = ()
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    problems: Sequence[HealProblem] = ()


class SubjectReader:
    """Reads the instances of one cell together with what they hold, need and are attached to."""

    def __init__(
        self, target: Target, params: Params, cell: Connection, watch: ServiceWatch
    ) -> None:
        """:raises ServiceProblem: Placement or Neutron cannot be used
        :raises DatabaseProblem: a database cannot be used
        """
        self._target = target
        self._params = params
        self._cell = cell
        self._watch = watch
        self._services = target.need_services()
        self._placement = self._services.placement
        self._placement.require(ALLOCATIONS_VERSION, "heal_allocations")
        self._neutron = self._services.neutron if params.ports else None
        self._requests = RequestPool(params.at_once)
        self._needs = NeedReader()
        self._compute_nodes = self._read(read_compute_nodes)
        self._snapshot = None if params.instance else self._open_snapshot()
        self._doubtful_owners: dict[Owner, bool] = {}
        self._failed_pages = FailuresInARow(MAX_FAILED_PAGES)

    def collect(self, instances: Sequence[Instance]) -> Collected:
        """Look up all that the decisions about some instances rest on."""
        not_looked_at: dict[str, Decision] = {
            instance.uuid: Verdict.NOT_LOOKED_AT for instance in instances
        }
        try:
            ports = self._ports_by_instance(instances)
        except ServiceProblem as problem:
            return Collected((), not_looked_at, self._ports_problem(problem, len(instances)))
        try:
            held = self._held_by(instances)
        except ServiceProblem as problem:
            self._watch.stop(problem)
            return Collected((), not_looked_at)
        consumers: dict[str, Consumer] = {}
        decisions: dict[str, Decision] = {}
        for uuid, answer in held.items():
            if isinstance(answer, Consumer):
                consumers[uuid] = answer
            else:
                decisions[uuid] = answer
        return Collected(self._subjects(instances, consumers, ports), decisions)

    def _subjects(
        self,
        instances: Sequence[Instance],
        consumers: Mapping[str, Consumer],
        ports: Mapping[str, Sequence[Port]],
    ) -> list[Subject]:
        known = [instance for instance in instances if instance.uuid in consumers]

        def is_need_wanted(instance: Instance) -> bool:
            if self._params.force or not consumers[instance.uuid].allocations:
                return True
            return any(port.request for port in ports.get(instance.key, ()))

        wanted = [instance for instance in known if is_need_wanted(instance)]
        needs = self._read(lambda cell: self._needs.read(cell, wanted))
        return [
            Subject(
                instance,
                self._compute_nodes.uuid_for(instance),
                needs.get(instance.uuid),
                consumers[instance.uuid],
                tuple(ports.get(instance.key, ())),
                self._compute_nodes.names_on(instance.host),
            )
            for instance in known
        ]

    def _ports_by_instance(self, instances: Sequence[Instance]) -> dict[str, list[Port]]:
        """The ports of instances, by folded uuid."""
        ports: dict[str, list[Port]] = {}
        if self._neutron is None or not instances:
            return ports
        for port in self._neutron.ports_of([instance.uuid for instance in instances]):
            ports.setdefault(fold_name(port.device), []).append(port)
        self._failed_pages.record_success()
        return ports

    def _ports_problem(self, problem: ServiceProblem, instance_count: int) -> list[HealProblem]:
        """Ports that cannot be read cost their page; the second time in a row, the cell."""
        self._failed_pages.record_failure(problem)
        if is_service_down(problem) or self._failed_pages.too_many:
            self._watch.stop(problem)
            return []
        return [HealProblem("", Exit.NO_PORTS, NO_PORTS.format(problem, instance_count))]

    def _held_by(self, instances: Sequence[Instance]) -> dict[str, Held]:
        """What instances hold: from the snapshot where that is reliable, otherwise one by one.

        :raises ServiceProblem: Placement is unusable
        """
        snapshot = self._snapshot
        to_ask: Sequence[Instance] = instances
        held: dict[str, Held] = {}
        if snapshot is not None:
            to_ask = self._doubtful_instances(snapshot, instances)
            held = {instance.uuid: snapshot.consumer_for(instance) for instance in instances}
        answers = self._requests.map(self._read_consumer, to_ask)
        for instance, answer in zip(to_ask, answers, strict=True):
            held[instance.uuid] = answer
        return held

    def _read_consumer(self, instance: Instance) -> Held:
        if self._watch.stopped:
            return Verdict.NOT_LOOKED_AT
        try:
            consumer = self._placement.consumer(instance.uuid)
        except ServiceProblem as problem:
            self._watch.probe_placement(problem, instance.uuid)
            return self._watch.judge(allocation_problem(instance.uuid, problem), problem)
        self._watch.record_success()
        return consumer

    def _doubtful_instances(
        self, snapshot: AllocationSnapshot, instances: Sequence[Instance]
    ) -> Sequence[Instance]:
        """Instances that may hold more than the snapshot has, or be booked on the wrong owner."""
        if snapshot.has_gaps:
            return instances
        holding = [instance for instance in instances if instance.key in snapshot.held]
        new_owners = {instance.owner for instance in holding} - self._doubtful_owners.keys()
        doubtful_owners = snapshot.doubtful_owners(new_owners, self._requests)
        for owner in new_owners:
            self._doubtful_owners[owner] = owner in doubtful_owners

        def is_doubtful(instance: Instance) -> bool:
            owner = instance.owner
            return self._doubtful_owners[owner] or snapshot.owners.get(instance.key) != owner

        return [instance for instance in holding if is_doubtful(instance)]

    def _open_snapshot(self) -> AllocationSnapshot | None:
        """The snapshot that the cells of this run share.

        :returns: None: fewer requests are needed to ask for each instance
        """
        run = self._params.run
        try:
            providers = self._services.share(f"{run} providers", self._placement.providers)
        except ServiceProblem as problem:
            if is_service_down(problem):
                raise
            LOG.info("%s; asking for each instance instead", problem)
            return None
        # The other cells are taken to be as large as this one.
        if len(providers) > self._read(count_placed) * self._params.cells:
            return None
        return self._services.share(f"{run} snapshot", lambda: self._read_snapshot(providers))

    def _read_snapshot(self, providers: Sequence[Provider]) -> AllocationSnapshot:
        try:
            with self._target.need_api().connect() as api:
                return AllocationSnapshot.read(self._placement, providers, api, self._requests)
        except DBAPIError as error:
            text = f"{self._target.api}: {server_message(error)}"
            raise ApiDatabaseProblem(text) from error

    def providers_in_tree(self, node: str) -> frozenset[str]:
        """The providers in the tree of a compute node."""
        if self._snapshot is None:
            return frozenset(provider.uuid for provider in self._placement.providers(in_tree=node))
        roots = self._snapshot.roots
        return frozenset(uuid for uuid, root in roots.items() if is_same_name(root, node))

    def _read(self, read: Callable[[Connection], T]) -> T:
        name = str(self._target.database)
        return transactionally(lambda: read(self._cell), self._cell, name=name)
