"""Healing instances: deciding what each should hold, and writing that, its ports first."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from clients.errors import RequestRefused, ServiceProblem, ServiceUnavailable
from clients.neutron import Neutron
from clients.placement import Consumer, Placement
from jobs.placement import ports
from jobs.placement.deciding import Decider
from jobs.placement.request_pool import RequestPool
from jobs.placement.service_watch import ServiceWatch
from jobs.placement.verdicts import (
    Decision,
    Exit,
    HealedInstance,
    HealProblem,
    Plan,
    Result,
    Subject,
    Verdict,
    allocation_problem,
)
from novadb.attempts import attempts

LOG = logging.getLogger("cellkeeper.heal")

# How often an instance is decided on whose consumer others keep changing.
MAX_DECISIONS: Final = 4
# The generation of a consumer that Placement has made and that has never held anything.
NEVER_USED: Final = 0


class ConsumerChanged(Exception):
    """Placement refused a write because somebody else has changed the consumer since it was read.

    :ivar refusal: what it said
    """

    def __init__(self, refusal: RequestRefused) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class _Postponed(NamedTuple):
    """A plan for a consumer that Placement refused as new, although it holds nothing.

    :ivar since: by ``time.monotonic``
    """

    since: float
    plan: Plan
    refusal: RequestRefused


class Healer:
    """Heals the instances of one cell. Called from several threads.

    :ivar port_lines: by instance, what the stock tool prints while ports are written
    """

    def __init__(
        self,
        placement: Placement,
        neutron: Neutron | None,
        decider: Decider,
        watch: ServiceWatch,
        requests: RequestPool,
    ) -> None:
        """:param neutron: None: ports are not healed"""
        self._placement = placement
        self._neutron = neutron
        self._decider = decider
        self._watch = watch
        self._requests = requests
        self._postponed: list[_Postponed] = []
        self.port_lines: dict[str, list[str]] = {}

    def decide_each(self, subjects: Sequence[Subject]) -> list[Decision]:
        """What to do for instances, in their order."""
        return self._requests.map(self._decide, subjects)

    def _decide(self, subject: Subject) -> Decision:
        if self._watch.stopped:
            return Verdict.NOT_LOOKED_AT
        try:
            decision = self._decider.decide(subject)
        except ServiceProblem as problem:
            self._watch.probe_placement(problem, subject.uuid, subject.node)
            return self._not_written(subject.uuid, problem)
        self._watch.record_success()
        return decision

    def write_each(self, plans: Sequence[Plan]) -> list[Result]:
        """Carry plans out, those of one provider one after the other."""
        return self._requests.map_per_key(self._write, plans, lambda plan: plan.subject.node)

    def write_in_one_request(self, plans: Sequence[Plan]) -> list[HealedInstance] | None:
        """Carry plans without ports out, all or none.

        :returns: None: none was carried out, and each is to be written on its own
        """
        if len(plans) < 2 or self._watch.stopped:
            return None
        consumers = {plan.uuid: plan.after for plan in plans}
        try:
            _write_patiently(lambda: self._placement.write_consumers(consumers))
        except ServiceProblem as problem:
            LOG.info("%s; writing one by one", problem)
            return None
        return [plan.healed for plan in plans]

    def _write(self, plan: Plan) -> Result:
        """Carry a plan out; decide again each time others have changed the consumer."""
        for _ in range(MAX_DECISIONS):
            if self._watch.stopped:
                return Verdict.NOT_LOOKED_AT
            try:
                return self._write_once(plan)
            except ConsumerChanged as change:
                LOG.info("instance %s: %s; deciding again", plan.uuid, change)
                refusal = change.refusal
            decision = self._decide_again(plan, refusal)
            if not isinstance(decision, Plan):
                return decision
            plan = decision
        return self._not_written(plan.uuid, refusal)

    def _write_once(self, plan: Plan) -> Result:
        """Ports, then allocations; all or nothing.

        :raises ConsumerChanged: nothing was written
        """
        try:
            if plan.profiles:
                assert self._neutron
                tell = self._port_line_taker(plan.uuid)
                ports.write_profiles(self._neutron, plan.profiles, tell)
        except ports.PortsNotWritten as error:
            problem = HealProblem(plan.uuid, Exit.PORTS_NOT_WRITTEN, _ports_text(plan.uuid, error))
            return self._watch.judge(problem, error.problem)
        except ports.PortsNotRolledBack as error:
            return self._ports_left_behind(plan, error)
        try:
            _write_patiently(lambda: self._placement.write_consumer(plan.uuid, plan.after))
        except ServiceProblem as problem:
            return self._after_failed_write(plan, problem)
        self._watch.record_success()
        return plan.healed

    def _after_failed_write(self, plan: Plan, problem: ServiceProblem) -> Result:
        """The allocations could not be written: restore the ports, if it is certain.

        :raises ConsumerChanged: the ports are restored
        """
        if isinstance(problem, ServiceUnavailable):
            try:
                current = self._placement.consumer(plan.uuid)
            except ServiceProblem:
                return self._outcome_unknown(plan, problem)
            if _holds_the_same(current, plan.after):
                return plan.healed  # only the answer was lost
        if plan.profiles:
            assert self._neutron
            written_ports = [port for port, _ in plan.profiles]
            tell = self._port_line_taker(plan.uuid)
            try:
                ports.roll_back_profiles(self._neutron, written_ports, tell)
            except ports.PortsNotRolledBack as error:
                return self._ports_left_behind(plan, error)
        if isinstance(problem, RequestRefused) and problem.is_consumer_conflict:
            raise ConsumerChanged(problem)
        return self._not_written(plan.uuid, problem)

    def _outcome_unknown(self, plan: Plan, problem: ServiceProblem) -> HealProblem | Verdict:
        """Ports stay as they are: the allocations may be there, and the next run will see."""
        self._watch.probe_placement(problem, plan.uuid, plan.subject.node)
        if plan.profiles:
            port_ids = [port.id for port, _ in plan.profiles]
            LOG.warning(
                "instance %s: ports %s are written, allocations perhaps not", plan.uuid, port_ids
            )
        return self._not_written(plan.uuid, problem)

    def _ports_left_behind(self, plan: Plan, error: ports.PortsNotRolledBack) -> HealProblem:
        self._watch.stop(error.problem, plan.uuid)
        text = _rollback_text(plan.uuid, error)
        return HealProblem(plan.uuid, Exit.PORTS_NOT_ROLLED_BACK, text)

    def _decide_again(
        self, plan: Plan, refusal: RequestRefused, *, may_take_over: bool = False
    ) -> Decision | HealedInstance:
        """Read what Placement refused to change, and decide with that.

        :param may_take_over: whether a consumer that holds nothing has had its time
        """
        try:
            consumer = self._placement.consumer(plan.uuid)
            current_ports = self._neutron.ports_of([plan.uuid]) if self._neutron else []
        except ServiceProblem as problem:
            return self._not_written(plan.uuid, problem)
        self._watch.record_success()
        if _holds_the_same(consumer, plan.after) and not plan.profiles:
            return plan.healed  # by us, with the answer lost, or by somebody who saw the same
        if not consumer.allocations and plan.after.generation is None:
            if not may_take_over:
                self._postponed.append(_Postponed(time.monotonic(), plan, refusal))
                return Verdict.POSTPONED
            consumer = replace(consumer, generation=NEVER_USED)
        return self._decide(replace(plan.subject, consumer=consumer, ports=tuple(current_ports)))

    @property
    def has_postponed(self) -> bool:
        """Whether there are instances for ``settle``."""
        return bool(self._postponed)

    @property
    def seconds_to_wait(self) -> float:
        """How long ``settle`` is too early; 0: it is not."""
        if self._watch.stopped or not self._postponed:
            return 0.0
        newest = max(postponed.since for postponed in self._postponed)
        return max(newest + self._placement.answer_timeout - time.monotonic(), 0.0)

    def settle(self, still_right: Callable[[Sequence[Plan]], Sequence[Plan]]) -> list[Result]:
        """Write what Placement refused as new although it holds nothing.

        Placement makes a consumer in a transaction of its own, before its allocations. If it is
        killed in between, the consumer stays, and must be written as what it is. But as long as
        another request may be at work on it, even one of ours whose answer was lost, that would
        be wrong: when that request fails at last, Placement deletes the consumer, with what was
        written meanwhile. So this is to be called only once that request has had its time, see
        ``seconds_to_wait``.

        :param still_right: picks the plans whose instances are still where they were
        """
        if self._watch.stopped:
            results: list[Result] = [Verdict.NOT_LOOKED_AT] * len(self._postponed)
            self._postponed = []
            return results
        right_plans = {plan.uuid for plan in still_right([each.plan for each in self._postponed])}
        right = [each for each in self._postponed if each.plan.uuid in right_plans]
        results = self._requests.map_per_key(
            self._write_settled, right, lambda postponed: postponed.plan.subject.node
        )
        self._postponed = []
        return results

    def _write_settled(self, postponed: _Postponed) -> Result:
        plan, refusal = postponed.plan, postponed.refusal
        decision = self._decide_again(plan, refusal, may_take_over=True)
        result = self._write(decision) if isinstance(decision, Plan) else decision
        if result is Verdict.POSTPONED:  # once is enough: the next run will see
            return self._not_written(plan.uuid, refusal)
        return result

    def _not_written(self, uuid: str, cause: ServiceProblem) -> HealProblem | Verdict:
        return self._watch.judge(allocation_problem(uuid, cause), cause)

    def _port_line_taker(self, uuid: str) -> ports.TellLine:
        """Takes lines about an instance's ports: for the log, and for ``--verbose``."""
        lines = self.port_lines.setdefault(uuid, [])

        def take_line(line: str) -> None:
            LOG.info("instance %s: %s", uuid, line)
            lines.append(line)

        return take_line


def _write_patiently(write: Callable[[], None]) -> None:
    """Write again as long as only other writers of the same provider are in the way."""
    conflict: RequestRefused | None = None
    for _ in attempts():
        try:
            return write()
        except RequestRefused as refusal:
            if not refusal.is_concurrent:
                raise
            LOG.info("%s; trying again", refusal)
            conflict = refusal
    assert conflict
    raise conflict


def _holds_the_same(one: Consumer, other: Consumer) -> bool:
    return one.allocations == other.allocations and one.owner == other.owner


def _ports_text(uuid: str, error: ports.PortsNotWritten) -> str:
    return (
        f"Instance {uuid}: Unable to update ports with allocations that are about to be created "
        f"in placement: {error}. The healing of the instance is aborted. It is safe to try to "
        "heal it again."
    )


def _rollback_text(uuid: str, error: ports.PortsNotRolledBack) -> str:
    commands = "; ".join(
        f"openstack port unset {port} --binding-profile allocation" for port in error.ports
    )
    return (
        f"Instance {uuid}: Failed to update neutron ports with allocation keys and the automatic "
        f"rollback of the previously successful port updates also failed: {error}. Make sure that "
        f"the binding:profile.allocation key of the affected ports {list(error.ports)} is cleaned "
        f"in neutron, by hand: {commands}"
    )
