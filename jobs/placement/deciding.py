"""Deciding what an instance should hold in Placement. Nothing is written here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from clients.neutron import Port
from clients.placement import CANDIDATES_VERSION, Consumer, Placement, Resources
from jobs.placement import ports
from jobs.placement.verdicts import (
    Change,
    Decision,
    Exit,
    HealProblem,
    Plan,
    Subject,
    Verdict,
    allocation_problem,
)


@dataclass(frozen=True)
class Draft:
    """What an instance should hold, before providers are found for its ports.

    :ivar allocations: resources by provider
    :ivar is_from_flavor: whether they were computed, whatever the instance holds now
    :ivar missing: what its ports do not have
    """

    allocations: Mapping[str, Resources]
    is_from_flavor: bool
    missing: ports.MissingForPorts


@dataclass(frozen=True)
class PlacedPorts:
    """The one way to give ports what they request.

    :ivar allocations: resources by provider
    """

    allocations: Mapping[str, Resources]
    profiles: tuple[ports.NewProfile, ...]


class Decider:
    """Decides what to write for an instance. Called from several threads."""

    def __init__(
        self, placement: Placement, tree: Callable[[str], frozenset[str]], *, force: bool
    ) -> None:
        """:param tree: tells the providers in the tree of a compute node, given its uuid
        :param force: whether instances get what their flavors say, whatever they hold
        """
        self._placement = placement
        self._tree = tree
        self._force = force

    def needs_nothing(self, subject: Subject) -> bool:
        """Whether it is plain without any request that an instance is up to date."""
        if self._force or subject.ports:
            return False
        return bool(subject.consumer.allocations) and subject.has_right_owner

    def decide(self, subject: Subject) -> Decision:
        """What to do for an instance.

        :raises ServiceProblem: Placement does not answer a question that the decision rests on
        """
        draft = self._draft(subject)
        if isinstance(draft, Draft) and _needs_fresh_consumer(subject, draft):
            fresh = self._placement.consumer(subject.uuid)
            subject = replace(subject, consumer=fresh)
            draft = self._draft(subject)
        if isinstance(draft, HealProblem):
            return draft
        if _is_up_to_date(subject, draft):
            return Verdict.UP_TO_DATE
        return self._complete(subject, draft)

    def _draft(self, subject: Subject) -> Draft | HealProblem:
        is_from_flavor = self._force or not subject.consumer.allocations
        if is_from_flavor:
            computed = _allocations_from_flavor(subject)
            if isinstance(computed, HealProblem):
                return computed
            allocations = computed
        else:
            allocations = subject.consumer.allocations
        missing = ports.find_missing(
            subject.ports, allocations, lambda: self._tree(subject.node or "")
        )
        if missing and subject.node is None:
            return _unsupported(subject) or _no_compute_node(subject)
        return Draft(allocations, is_from_flavor, missing)

    def _complete(self, subject: Subject, draft: Draft) -> Decision:
        """Give the ports what they lack."""
        allocations = dict(draft.allocations)
        profiles: tuple[ports.NewProfile, ...] = ()
        for provider, resources in draft.missing.unbacked.items():
            allocations[provider] = _at_least(allocations.get(provider, {}), resources)
        if draft.missing.homeless:
            placed = self._place_ports(subject, draft.missing.homeless)
            if isinstance(placed, HealProblem):
                return placed
            profiles = placed.profiles
            for provider, resources in placed.allocations.items():
                allocations[provider] = _sum_of(allocations.get(provider, {}), resources)
        if not allocations:
            return Verdict.UP_TO_DATE  # the flavor needs nothing, as that of a bare metal node may
        before = subject.consumer
        generations = {} if draft.is_from_flavor else before.generations
        after = Consumer(allocations, *subject.instance.owner, before.generation, generations)
        is_update = self._force or bool(before.allocations)
        change = Change.UPDATED if is_update else Change.CREATED
        return Plan(subject, change, after, profiles)

    def _place_ports(self, subject: Subject, homeless: Sequence[Port]) -> PlacedPorts | HealProblem:
        """Find providers in the tree of the compute node. There must be exactly one way."""
        assert subject.node
        self._placement.require(CANDIDATES_VERSION, "healing ports")
        candidates = self._placement.candidates(
            chain.from_iterable(map(ports.groups_of, homeless)),
            subject.node,
            chain.from_iterable(map(ports.subtrees_of, homeless)),
            subject.need.flavor.group_policy if subject.need else "none",
        )
        if len(candidates) == 1:
            (candidate,) = candidates
            profiles = [
                (port, ports.with_providers(port, candidate.providers)) for port in homeless
            ]
            return PlacedPorts(candidate.allocations, tuple(profiles))
        port_ids = [port.id for port in homeless]
        if candidates:
            reason = (
                "Placement returned more than one possible allocation candidates to fulfill the "
                f"resource request of the port(s) {port_ids}. There is not enough information to "
                "select the proper one. Migrating the instance heals it: that re-creates the full "
                "allocation on the target host."
            )
        else:
            reason = (
                "Placement returned no allocation candidate to fulfill the resource request of "
                f"the port(s) {port_ids}"
            )
        return allocation_problem(subject.uuid, reason)


def _needs_fresh_consumer(subject: Subject, draft: Draft) -> bool:
    """Whether the consumer must be read before it is written: a snapshot has no generations."""
    is_from_snapshot = bool(subject.consumer.allocations) and subject.consumer.generation is None
    return is_from_snapshot and not _is_up_to_date(subject, draft)


def _is_up_to_date(subject: Subject, draft: Draft) -> bool:
    return not draft.is_from_flavor and not draft.missing and subject.has_right_owner


def _allocations_from_flavor(subject: Subject) -> Mapping[str, Resources] | HealProblem:
    """What the flavor says, on the provider of the compute node."""
    if problem := _unsupported(subject):
        return problem
    if subject.node is None:
        return _no_compute_node(subject)
    if subject.need is None:
        text = f"Instance {subject.uuid}: its flavor in instance_extra cannot be read."
        return HealProblem(subject.uuid, Exit.NOT_WRITTEN, text)
    try:
        resources = subject.need.resources
    except ValueError as error:
        text = f"Instance {subject.uuid}: its flavor cannot be used: {error}"
        return HealProblem(subject.uuid, Exit.NOT_WRITTEN, text)
    return {subject.node: resources} if resources else {}


def _unsupported(subject: Subject) -> HealProblem | None:
    request = subject.need.flavor.unsupported_request if subject.need else ""
    if not request:
        return None
    text = (
        f"Healing allocation for instance {subject.uuid} with {request} request is not supported."
    )
    return HealProblem(subject.uuid, Exit.NOT_SUPPORTED, text)


def _no_compute_node(subject: Subject) -> HealProblem:
    host, node = subject.instance.host, subject.instance.node
    text = (
        f"Instance {subject.uuid}: Compute host {host} could not be found: "
        f"the cell has no compute node {node} on it."
    )
    if subject.nodes_on_host:
        names = ", ".join(sorted(subject.nodes_on_host))
        text += f" It has {names}: where the node was renamed, correct instances.node."
    return HealProblem(subject.uuid, Exit.NO_COMPUTE_NODE, text)


def _sum_of(one: Resources, other: Resources) -> Resources:
    return {**one, **{name: one.get(name, 0) + amount for name, amount in other.items()}}


def _at_least(held: Resources, due: Resources) -> Resources:
    return {**held, **{name: max(held.get(name, 0), amount) for name, amount in due.items()}}
