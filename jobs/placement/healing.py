"""Healing one instance: what it should hold in Placement, and writing that, its ports first."""

import json
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from clients.concurrency import map_per_key
from clients.errors import RequestRefused, ServiceProblem, ServiceUnavailable
from clients.neutron import Neutron, Port
from clients.placement import CANDIDATES_VERSION, Consumer, Placement, Resources
from jobs.placement import ports
from jobs.placement.failures import FailuresInARow, is_end_of, is_of_one
from jobs.placement.instances import Instance, Need
from novadb.attempts import FIRST_PAUSE

LOG = logging.getLogger("cellkeeper.heal")

NO_COMPUTE_NODE, NOT_WRITTEN, PORTS_NOT_WRITTEN, PORTS_NOT_ROLLED_BACK, NOT_SUPPORTED = 2, 3, 6, 7, 8
FAILED: Final = "Failed to update allocations for consumer"
TRIES: Final = 5  # of one write that others get in the way of
UNUSED: Final = 0  # generation of a consumer that Placement has made and that has never held anything
DECISIONS: Final = 4  # about one instance whose consumer others change meanwhile


@dataclass(frozen=True)
class Problem:
    """An instance that could not be healed.

    :ivar code: the return code that stands for it
    """

    instance: str
    code: int
    text: str


@dataclass(frozen=True)
class Done:
    """An instance that was healed, or would be.

    :ivar what: ``created`` or ``updated``
    :ivar allocations: what it holds now, by provider and resource class
    :ivar ports: whose binding profile was written
    """

    instance: str
    what: str
    project_id: str
    user_id: str
    allocations: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    ports: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """An instance with all that is known of it.

    :ivar node: the uuid of its compute node, which is that of the provider; None: there is no such node
    :ivar need: None: its flavor cannot be read, or was not asked for
    :ivar consumer: what it holds. Without a generation: as the ledger knows it
    :ivar nodes_of_host: the names of the compute nodes that its host has
    """

    instance: Instance
    node: str | None
    need: Need | None
    consumer: Consumer
    ports: tuple[Port, ...] = ()
    nodes_of_host: tuple[str, ...] = ()

    @property
    def uuid(self) -> str:
        """Of the instance."""
        return self.instance.uuid


@dataclass(frozen=True)
class Plan:
    """What is to be written for an instance.

    :ivar what: ``created`` or ``updated``
    :ivar profiles: the ports to write before, with their new binding profiles
    """

    subject: Subject
    what: str
    after: Consumer
    profiles: tuple[tuple[Port, Mapping[str, Any]], ...] = ()

    @property
    def uuid(self) -> str:
        """Of the instance."""
        return self.subject.uuid

    @property
    def done(self) -> Done:
        """What it is when it is written."""
        written = tuple(port.id for port, _ in self.profiles)
        return Done(self.uuid, self.what, self.after.project_id, self.after.user_id, self.after.allocations, written)

    @property
    def lines(self) -> list[str]:
        """What the stock tool says of it before it is written."""
        return [
            f"Found a request group : resource provider mapping {profile[ports.ALLOCATION]} for the port {port.id} "
            f"with resource request {dict(port.request)} attached to the instance {self.uuid}"
            for port, profile in self.profiles
        ]

    @property
    def dry_line(self) -> str:
        """What the stock tool says instead of writing."""
        verb = {"created": "Create", "updated": "Update"}[self.what]
        return f"[dry-run] {verb} allocations for instance {self.uuid}: {json.dumps(self.after.document())}"


@dataclass(frozen=True)
class Unseen:
    """An instance that was not dealt with: a service had come to its end before, see ``Healer.stopped``."""


Decision = Plan | Problem | Unseen | None
"""None: nothing to be healed."""


class _End(NamedTuple):
    """Why nothing more can be done in a cell, and the instance whose problem tells of it."""

    problem: ServiceProblem
    instance: str


Result = Done | Problem | Unseen | None
"""What became of a plan; None: there was nothing to do any more."""


class _Unsettled(NamedTuple):
    """A plan for a consumer that Placement refused as new, and that holds nothing."""

    since: float
    plan: Plan
    conflict: RequestRefused


class Healer:
    """Decides about instances and heals them. Called from several threads.

    :ivar port_lines: what the stock tool says of the ports of instances while it writes them
    """

    def __init__(
        self, placement: Placement, neutron: Neutron | None, tree: Callable[[str], frozenset[str]], *, force: bool
    ) -> None:
        """:param neutron: None: ports are not healed
        :param tree: tells the providers below that of a compute node
        :param force: whether instances get what their flavors say, whatever they have
        """
        self._placement = placement
        self._neutron = neutron
        self._tree = tree
        self._force = force
        self._unsettled: list[_Unsettled] = []
        self._failures = FailuresInARow()
        self._ends: list[_End] = []  # of which the first counts
        self.port_lines: dict[str, list[str]] = {}

    @property
    def stopped(self) -> ServiceProblem | None:
        """Why nothing more can be done in this cell, once that is so."""
        return self._ends[0].problem if self._ends else None

    @property
    def stopped_at(self) -> str:
        """The instance whose problem tells of that; empty: none does."""
        return self._ends[0].instance if self._ends else ""

    def stop(self, problem: ServiceProblem, instance: str = "") -> None:
        """Note that nothing more can be done in this cell.

        :param instance: the one whose problem tells of it
        """
        self._ends.append(_End(problem, instance))

    def is_well(self, subject: Subject) -> bool:
        """Whether it is seen at once that an instance needs nothing."""
        consumer = subject.consumer
        return bool(consumer.allocations) and not (
            self._force or subject.ports or consumer.owner != subject.instance.owner
        )

    def decide(self, subject: Subject) -> Decision:
        """What to do for an instance."""
        if self.stopped:
            return Unseen()
        try:
            decision = self._decide(subject)
        except ServiceProblem as problem:
            self._stop_if_dead(problem, subject.instance, subject.node)
            return self._not_written(subject.uuid, problem)
        self._failures.note(None)
        return decision

    def read(self, instance: Instance) -> Consumer | Problem | Unseen:
        """What an instance holds."""
        if self.stopped:
            return Unseen()
        try:
            consumer = self._placement.consumer(instance.uuid)
        except ServiceProblem as problem:
            self._stop_if_dead(problem, instance)
            return self._not_written(instance.uuid, problem)
        self._failures.note(None)
        return consumer

    def _decide(self, subject: Subject) -> Decision:
        anew = self._force or not subject.consumer.allocations
        held = dict(subject.consumer.allocations)
        if anew:
            problem = self._hindrance(subject)
            if problem:
                return problem
            assert subject.node
            assert subject.need
            try:
                resources = subject.need.resources
            except ValueError as error:
                return Problem(
                    subject.uuid, NOT_WRITTEN, f"Instance {subject.uuid}: its flavor cannot be used: {error}"
                )
            held = {subject.node: resources} if resources else {}
        lack = ports.lack_of(subject.ports, held, lambda: self._tree(subject.node or ""))
        if lack and subject.node is None:
            return self._hindrance(subject)
        if not lack and not anew and subject.consumer.owner == subject.instance.owner:
            return None
        if subject.consumer.allocations and subject.consumer.generation is None:
            return self._decide(replace(subject, consumer=self._placement.consumer(subject.uuid)))
        for provider, resources in lack.unbacked.items():
            held[provider] = _at_least(held.get(provider, {}), resources)
        profiles: tuple[tuple[Port, Mapping[str, Any]], ...] = ()
        if lack.homeless:
            found = self._find_home(subject, lack.homeless)
            if isinstance(found, Problem):
                return found
            more, profiles = found
            for provider, resources in more.items():
                held[provider] = _plus(held.get(provider, {}), resources)
        if not held:
            return None
        before = subject.consumer
        generations = {} if anew else before.generations
        after = Consumer(held, *subject.instance.owner, before.generation, generations)
        return Plan(subject, "updated" if self._force or before.allocations else "created", after, profiles)

    def _hindrance(self, subject: Subject) -> Problem | None:
        """Why nothing can be made for an instance of what its flavor says."""
        uuid = subject.uuid
        unsupported = subject.need.flavor.unsupported if subject.need else ""
        if unsupported:
            text = f"Healing allocation for instance {uuid} with {unsupported} request is not supported."
            return Problem(uuid, NOT_SUPPORTED, text)
        if subject.node is None:
            host, node = subject.instance.host, subject.instance.node
            text = (
                f"Instance {uuid}: Compute host {host} could not be found: the cell has no compute node {node} on it."
            )
            if subject.nodes_of_host:
                names = ", ".join(sorted(subject.nodes_of_host))
                text += f" It has {names}: where the node was renamed, correct instances.node."
            return Problem(uuid, NO_COMPUTE_NODE, text)
        if subject.need is None:
            return Problem(uuid, NOT_WRITTEN, f"Instance {uuid}: its flavor in instance_extra cannot be read.")
        return None

    def _find_home(
        self, subject: Subject, homeless: Sequence[Port]
    ) -> Problem | tuple[Mapping[str, Resources], tuple[tuple[Port, Mapping[str, Any]], ...]]:
        """Providers in the tree of the compute node for what ports request; there must be one way exactly."""
        assert subject.node
        self._placement.require(CANDIDATES_VERSION, "healing ports")
        found = self._placement.candidates(
            [group for port in homeless for group in ports.groups_of(port)],
            subject.node,
            [subtree for port in homeless for subtree in ports.subtrees_of(port)],
            subject.need.flavor.group_policy if subject.need else "none",
        )
        if len(found) == 1:
            (candidate,) = found
            return candidate.allocations, tuple(
                (port, ports.with_providers(port, candidate.providers)) for port in homeless
            )
        names = [port.id for port in homeless]
        error = f"Placement returned no allocation candidate to fulfill the resource request of the port(s) {names}"
        if found:
            error = (
                "Placement returned more than one possible allocation candidates to fulfill the resource request of "
                f"the port(s) {names}. There is not enough information to select the proper one. Migrating the "
                "instance heals it: that re-creates the full allocation on the target host."
            )
        return Problem(subject.uuid, NOT_WRITTEN, f"{FAILED} {subject.uuid}. Error: {error}")

    def write(self, plan: Plan) -> Result:
        """Carry a plan out; where others changed the consumer meanwhile, decide again.

        :returns: None: there is nothing to do any more, or it is left to ``settle``
        """
        decision: Decision | Done = plan
        for _ in range(DECISIONS):
            if not isinstance(decision, Plan):
                return decision
            if self.stopped:
                return Unseen()
            written = self._write_once(decision)
            if not isinstance(written, RequestRefused):
                return written
            conflict = written
            LOG.info("instance %s: %s; deciding again", plan.uuid, conflict)
            decision = self._decide_again(decision, conflict)
        return self._not_written(plan.uuid, conflict) if isinstance(decision, Plan) else decision

    def write_each(self, plans: Sequence[Plan], at_once: int) -> list[Result]:
        """Carry plans out, those of one provider one after the other.

        :param at_once: requests that may be under way at the same time
        """
        return map_per_key(self.write, plans, lambda plan: plan.subject.node, at_once)

    def write_all(self, plans: Sequence[Plan]) -> list[Done] | None:
        """Carry plans without ports out in one request.

        :returns: None: it was not done, each is to be written on its own
        """
        if len(plans) < 2 or self.stopped:
            return None
        try:
            self._patiently(lambda: self._placement.write_all({plan.uuid: plan.after for plan in plans}))
        except ServiceProblem as problem:
            LOG.info("%s; writing one by one", problem)
            return None
        return [plan.done for plan in plans]

    def settle(self, still_right: Callable[[Sequence[Plan]], Sequence[Plan]], at_once: int) -> list[Result]:
        """Write what Placement refused as new although it holds nothing.

        Placement makes a consumer in a transaction of its own, before its allocations. If it was killed in between, the
        consumer stays, and must be written as what it is. But as long as another request may be at work on it, even
        one of ours whose answer was lost, that would be wrong: when that request fails at last, Placement deletes the
        consumer, with what was written meanwhile. So nothing is written before a request has had its time.

        :param still_right: tells those plans whose instances are still where they were
        """
        waiting, self._unsettled = self._unsettled, []
        if self.stopped:
            return [Unseen() for _ in waiting]
        if not waiting:
            return []
        pause = max(one.since for one in waiting) + self._placement.patience - time.monotonic()
        LOG.info("%d consumers are refused as new and hold nothing; waiting %.0f s", len(waiting), pause)
        time.sleep(max(pause, 0))
        right = {plan.uuid for plan in still_right([one.plan for one in waiting])}
        waiting = [one for one in waiting if one.plan.uuid in right]
        results = map_per_key(self._write_settled, waiting, lambda one: one.plan.subject.node, at_once)
        results += [self._not_written(one.plan.uuid, one.conflict) for one in self._unsettled]
        self._unsettled = []
        return results

    def _write_settled(self, waiting: _Unsettled) -> Result:
        decision = self._decide_again(waiting.plan, waiting.conflict, settled=True)
        return self.write(decision) if isinstance(decision, Plan) else decision

    def _decide_again(self, plan: Plan, conflict: RequestRefused, *, settled: bool = False) -> Decision | Done:
        """Read a consumer anew and decide.

        :param conflict: with which Placement refused the plan
        :param settled: whether a consumer that holds nothing has had its time
        """
        try:
            consumer = self._placement.consumer(plan.uuid)
            now = self._neutron.ports_of([plan.uuid]) if self._neutron else []
        except ServiceProblem as problem:
            return self._not_written(plan.uuid, problem)
        self._failures.note(None)
        if _same(consumer, plan.after) and not plan.profiles:
            return plan.done  # written by us, and the answer was lost; or by somebody who saw the same
        if not consumer.allocations and plan.after.generation is None:
            if not settled:
                self._unsettled.append(_Unsettled(time.monotonic(), plan, conflict))
                return None
            consumer = replace(consumer, generation=UNUSED)
        return self.decide(replace(plan.subject, consumer=consumer, ports=tuple(now)))

    def _write_once(self, plan: Plan) -> Done | Problem | Unseen | RequestRefused:
        """Ports, then allocations; all or nothing.

        :returns: a refusal, where the consumer has changed meanwhile
        """
        tell = self._tell_of(plan.uuid)
        try:
            if plan.profiles:
                assert self._neutron
                ports.write(self._neutron, plan.profiles, tell)
            try:
                self._patiently(lambda: self._placement.write(plan.uuid, plan.after))
            except ServiceProblem as problem:
                return self._refused(plan, problem)
        except ports.NotWritten as error:
            text = (
                f"Instance {plan.uuid}: Unable to update ports with allocations that are about to be created in "
                f"placement: {error}. The healing of the instance is aborted. It is safe to try to heal it again."
            )
            return self._problem(Problem(plan.uuid, PORTS_NOT_WRITTEN, text), error.problem)
        except ports.NotRolledBack as error:
            self.stop(error.problem, plan.uuid)
            return Problem(plan.uuid, PORTS_NOT_ROLLED_BACK, _by_hand(plan.uuid, error))
        self._failures.note(None)
        return plan.done

    def _tell_of(self, uuid: str) -> Callable[[str], None]:
        """What takes the lines on an instance's ports: for the log, and for ``--verbose``."""
        lines = self.port_lines.setdefault(uuid, [])

        def tell(line: str) -> None:
            LOG.info("instance %s: %s", uuid, line)
            lines.append(line)

        return tell

    def _refused(self, plan: Plan, problem: ServiceProblem) -> Done | Problem | Unseen | RequestRefused:
        """The allocations could not be written. Ports go back, unless it is unknown whether that is right.

        :raises ports.NotRolledBack: they could not
        """
        if isinstance(problem, ServiceUnavailable):
            try:
                if _same(self._placement.consumer(plan.uuid), plan.after):
                    return plan.done
            except ServiceProblem:
                self._stop_if_dead(problem, plan.subject.instance, plan.subject.node)
                if plan.profiles:
                    names = [port.id for port, _ in plan.profiles]
                    LOG.warning("instance %s: ports %s are written, allocations perhaps not", plan.uuid, names)
                return self._not_written(plan.uuid, problem)
        if plan.profiles:
            assert self._neutron
            ports.roll_back(self._neutron, [port for port, _ in plan.profiles], self._tell_of(plan.uuid))
        if isinstance(problem, RequestRefused) and problem.is_consumer_conflict:
            return problem
        return self._not_written(plan.uuid, problem)

    def _not_written(self, uuid: str, problem: ServiceProblem) -> Problem | Unseen:
        return self._problem(Problem(uuid, NOT_WRITTEN, f"{FAILED} {uuid}. Error: {problem}"), problem)

    def _problem(self, told: Problem, problem: ServiceProblem) -> Problem | Unseen:
        """What becomes of an instance. The end of a service is told of once, by the first instance that meets it."""
        self._failures.note(problem)
        if is_of_one(problem):
            return told
        if is_end_of(problem) or self._failures.too_many:
            self.stop(problem, told.instance)
        return told if self.stopped_at in ("", told.instance) else Unseen()

    def _stop_if_dead(self, problem: ServiceProblem, instance: Instance, node: str | None = None) -> None:
        """See whether a Placement that answers, but nothing of use for one consumer, can do anything at all."""
        if not (
            isinstance(problem, ServiceUnavailable) and problem.answered and problem.service == self._placement.name
        ):
            return
        try:
            self._placement.providers(in_tree=node or instance.uuid)
        except ServiceProblem as end:
            self.stop(end, instance.uuid)

    @staticmethod
    def _patiently(write: Callable[[], None]) -> None:
        """Write again as long as only others of the same provider are in the way."""
        for attempt in range(1, TRIES):
            try:
                return write()
            except RequestRefused as refusal:
                if not refusal.is_concurrent:
                    raise
                LOG.info("%s; trying again", refusal)
            pause = FIRST_PAUSE * 2**attempt
            time.sleep(pause + random.uniform(0, pause))  # noqa: S311 - jitter, no secret
        return write()


def _by_hand(uuid: str, error: ports.NotRolledBack) -> str:
    commands = "; ".join(f"openstack port unset {port} --binding-profile allocation" for port in error.ports)
    return (
        f"Instance {uuid}: Failed to update neutron ports with allocation keys and the automatic rollback of the "
        f"previously successful port updates also failed: {error}. Make sure that the binding:profile.allocation key "
        f"of the affected ports {list(error.ports)} is cleaned in neutron, by hand: {commands}"
    )


def _same(one: Consumer, two: Consumer) -> bool:
    return one.allocations == two.allocations and one.owner == two.owner


def _plus(one: Resources, two: Resources) -> Resources:
    return {**one, **{name: one.get(name, 0) + amount for name, amount in two.items()}}


def _at_least(one: Resources, two: Resources) -> Resources:
    return {**one, **{name: max(one.get(name, 0), amount) for name, amount in two.items()}}
