"""Ports that need resources: what Placement does not give them yet, and recording it in Neutron.

Neutron has two forms. With request groups, the binding profile of a port names a provider for
each group. Older ports have a single request, and the profile names a single provider.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from clients.errors import ServiceProblem, ServiceUnavailable
from clients.neutron import Neutron, Port
from clients.placement import RequestGroup, Resources

ALLOCATION: Final = "allocation"  # the key of a binding profile that names providers

NewProfile = tuple[Port, Mapping[str, Any]]
"""A port, and the binding profile that it is to get."""


def groups_of(port: Port) -> list[RequestGroup]:
    """The request groups of a port; the old form is one group, with the port's id as its name."""
    groups = port.request.get("request_groups")
    if groups is None:
        groups = [{"id": port.id, **port.request}]
    return [
        RequestGroup(group["id"], dict(group["resources"]), tuple(group.get("required") or ()))
        for group in groups
        if group.get("resources")
    ]


def providers_of(port: Port) -> dict[str, str]:
    """The provider that a port's profile names for each group; empty if it names none."""
    allocation = port.profile.get(ALLOCATION)
    if not allocation:
        return {}
    suffixes = [group.suffix for group in groups_of(port)]
    if isinstance(allocation, Mapping):
        return {suffix: allocation[suffix] for suffix in suffixes if suffix in allocation}
    return dict.fromkeys(suffixes, str(allocation))


@dataclass(frozen=True)
class MissingForPorts:
    """What the ports of an instance do not have yet.

    :ivar homeless: ports for whose request a provider must be found
    :ivar unbacked: what providers named in profiles should give and do not: the whole amounts,
        by provider
    """

    homeless: tuple[Port, ...] = ()
    unbacked: Mapping[str, Resources] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.homeless or self.unbacked)


def find_missing(
    ports: Iterable[Port],
    held: Mapping[str, Resources],
    tree: Callable[[], frozenset[str]],
) -> MissingForPorts:
    """Compare what ports request, and which providers they name, with what the instance holds.

    A profile that names a provider which gives nothing is what a crash between Neutron and
    Placement leaves behind. If the named provider belongs to another host's tree, a move left it
    behind, and a provider must be found anew.

    :param held: what the instance holds, by provider
    :param tree: the providers of the instance's compute node; called only where it matters
    """
    requesting = [port for port in ports if groups_of(port)]
    named = {port.id: providers_of(port) for port in requesting}
    short_providers = {
        provider
        for provider, due in _due_by_provider(requesting, named).items()
        if not _is_covered(held.get(provider, {}), due)
    }
    foreign_providers = short_providers - tree() if short_providers else set()

    def is_homeless(port: Port) -> bool:
        if len(named[port.id]) < len(groups_of(port)):
            return True
        return not foreign_providers.isdisjoint(named[port.id].values())

    homeless = tuple(port for port in requesting if is_homeless(port))
    settled_ports = [port for port in requesting if not is_homeless(port)]
    unbacked = {
        provider: due
        for provider, due in _due_by_provider(settled_ports, named).items()
        if provider in short_providers
    }
    return MissingForPorts(homeless, unbacked)


def _due_by_provider(
    ports: Iterable[Port], named: Mapping[str, Mapping[str, str]]
) -> dict[str, Resources]:
    """What providers should give to the ports that name them."""
    due: dict[str, Resources] = {}
    for port in ports:
        for group in groups_of(port):
            provider = named[port.id].get(group.suffix)
            if not provider:
                continue
            resources = due.setdefault(provider, {})
            for name, amount in group.resources.items():
                resources[name] = resources.get(name, 0) + amount
    return due


def _is_covered(held: Resources, due: Resources) -> bool:
    return all(held.get(name, 0) >= amount for name, amount in due.items())


def subtrees_of(port: Port) -> list[list[str]]:
    """The groups of a port whose providers must be in one subtree."""
    subtree = port.request.get("same_subtree")
    return [list(subtree)] if subtree else []


def with_providers(port: Port, providers: Mapping[str, str]) -> dict[str, Any]:
    """The binding profile of a port with providers in it, in the form that its request has.

    :param providers: by group; groups of other ports are ignored
    """
    if "request_groups" not in port.request:
        return {**port.profile, ALLOCATION: providers[port.id]}
    own_providers = {group.suffix: providers[group.suffix] for group in groups_of(port)}
    return {**port.profile, ALLOCATION: own_providers}


class PortsNotWritten(Exception):
    """A port could not be written; the ports before it are as they were."""

    def __init__(self, problem: ServiceProblem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class PortsNotRolledBack(Exception):
    """The binding profiles of ports could not be restored.

    :ivar ports: their uuids
    """

    def __init__(self, problem: ServiceProblem, ports: Sequence[str]) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.ports = tuple(ports)


TellLine = Callable[[str], None]
"""Takes a line that the stock tool prints with ``--verbose``."""


def write_profiles(neutron: Neutron, profiles: Sequence[NewProfile], tell: TellLine) -> None:
    """Write binding profiles, all or none.

    :raises PortsNotWritten: a port could not be written
    :raises PortsNotRolledBack: a port could not be written, and ports before it not be restored
    """
    written: list[Port] = []
    for port, profile in profiles:
        tell(f"Updating port {port.id} with attributes {{'binding:profile': {dict(profile)}}}")
        try:
            neutron.set_profile(port.id, profile)
        except ServiceProblem as problem:
            tell(f"Updating port {port.id} failed: {problem}")
            if isinstance(problem, ServiceUnavailable) and _may_be_written(neutron, port, profile):
                written.append(port)
            roll_back_profiles(neutron, written, tell)
            raise PortsNotWritten(problem) from problem
        written.append(port)


def _may_be_written(neutron: Neutron, port: Port, profile: Mapping[str, Any]) -> bool:
    """Whether a write without an answer may have been done."""
    try:
        current_ports = neutron.ports_of([port.device])
    except ServiceProblem:
        return True
    return any(current.id == port.id and current.profile == profile for current in current_ports)


def roll_back_profiles(neutron: Neutron, ports: Iterable[Port], tell: TellLine) -> None:
    """Restore binding profiles to what they were when the ports were read.

    :raises PortsNotRolledBack: some could not be restored; all have been tried
    """
    failed_ports: list[str] = []
    last_problem: ServiceProblem | None = None
    for port in ports:
        tell(f"Rolling back port update for {port.id}")
        try:
            neutron.set_profile(port.id, port.profile)
        except ServiceProblem as problem:
            tell(f"Rolling back update for port {port.id} failed: {problem}")
            failed_ports.append(port.id)
            last_problem = problem
    if last_problem:
        raise PortsNotRolledBack(last_problem, failed_ports)
