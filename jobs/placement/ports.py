"""The ports of an instance that need something of Placement: what they lack, and writing it down in Neutron.

Neutron has two forms. With request groups, a port's binding profile names a provider for each group; before, a port had
one request, and the profile names one provider.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from clients.errors import ServiceProblem, ServiceUnavailable
from clients.neutron import Neutron, Port
from clients.placement import RequestGroup, Resources

ALLOCATION: Final = "allocation"


def groups_of(port: Port) -> list[RequestGroup]:
    """What a port requests, group by group; the old form has one group, of the port's own name."""
    found = port.request.get("request_groups")
    groups = [{"id": port.id, **port.request}] if found is None else found
    return [
        RequestGroup(group["id"], dict(group["resources"]), tuple(group.get("required") or ()))
        for group in groups
        if group.get("resources")
    ]


def providers_of(port: Port) -> dict[str, str]:
    """The provider that a port's profile names for each group; nothing if it names none."""
    named = port.profile.get(ALLOCATION)
    if not named:
        return {}
    if isinstance(named, Mapping):
        return {group.suffix: named[group.suffix] for group in groups_of(port) if group.suffix in named}
    return {group.suffix: str(named) for group in groups_of(port)}


@dataclass(frozen=True)
class Lack:
    """What the ports of an instance lack.

    :ivar homeless: ports for whose request a provider must be found
    :ivar unbacked: what providers that profiles name should have given, and have not: by provider, the whole amount
    """

    homeless: tuple[Port, ...] = ()
    unbacked: Mapping[str, Resources] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.homeless or self.unbacked)


def lack_of(ports: Iterable[Port], held: Mapping[str, Resources], tree: Callable[[], frozenset[str]]) -> Lack:
    """Compare what ports request and name with what the instance holds.

    A profile that names a provider which gives nothing is what a crash between Neutron and Placement leaves. A provider
    of another host's tree is what a move left: it is looked for anew.

    :param held: of the instance, by provider
    :param tree: tells the providers of the instance's compute node; only asked where that matters
    """
    wanting = [port for port in ports if groups_of(port)]
    named = {port.id: providers_of(port) for port in wanting}
    short = {uuid for uuid, due in _due(wanting, named).items() if not _covers(held.get(uuid, {}), due)}
    strange = short - tree() if short else short
    homeless = tuple(
        port for port in wanting if len(named[port.id]) < len(groups_of(port)) or strange & set(named[port.id].values())
    )
    at_home = _due([port for port in wanting if port not in homeless], named)
    return Lack(homeless, {uuid: due for uuid, due in at_home.items() if uuid in short})


def _due(ports: Iterable[Port], named: Mapping[str, Mapping[str, str]]) -> dict[str, Resources]:
    """What providers should give to ports that name them."""
    due: dict[str, Resources] = {}
    for port in ports:
        for group in groups_of(port):
            if provider := named[port.id].get(group.suffix):
                into = due.setdefault(provider, {})
                for name, amount in group.resources.items():
                    into[name] = into.get(name, 0) + amount
    return due


def _covers(held: Resources, due: Resources) -> bool:
    return all(held.get(name, 0) >= amount for name, amount in due.items())


def subtrees_of(port: Port) -> list[list[str]]:
    """The groups of a port that must be fulfilled below one provider."""
    subtree = port.request.get("same_subtree")
    return [list(subtree)] if subtree else []


def with_providers(port: Port, providers: Mapping[str, str]) -> dict[str, Any]:
    """The binding profile of a port that names providers, in the form that its request has.

    :param providers: by group
    """
    mine = {group.suffix: providers[group.suffix] for group in groups_of(port)}
    in_groups = "request_groups" in port.request
    return {**port.profile, ALLOCATION: mine if in_groups else mine[port.id]}


class NotWritten(Exception):
    """A port could not be written; those before it are as they were."""

    def __init__(self, problem: ServiceProblem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class NotRolledBack(Exception):
    """Ports could not be set back.

    :ivar ports: their uuids
    """

    def __init__(self, problem: ServiceProblem, ports: Sequence[str]) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.ports = tuple(ports)


Tell = Callable[[str], None]
"""Takes a line that the stock tool prints with ``--verbose``."""


def write(neutron: Neutron, profiles: Sequence[tuple[Port, Mapping[str, Any]]], tell: Tell) -> None:
    """Write binding profiles, all or none.

    :raises NotWritten: one could not be written
    :raises NotRolledBack: nor could those before it be set back
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
            roll_back(neutron, written, tell)
            raise NotWritten(problem) from problem
        written.append(port)


def _may_be_written(neutron: Neutron, port: Port, profile: Mapping[str, Any]) -> bool:
    """Whether a write that was not answered may have come through."""
    try:
        now = [one.profile for one in neutron.ports_of([port.device]) if one.id == port.id]
    except ServiceProblem:
        return True
    return now == [profile]


def roll_back(neutron: Neutron, ports: Iterable[Port], tell: Tell) -> None:
    """Set binding profiles back to what they were.

    :raises NotRolledBack: some could not be; all have been tried
    """
    left: list[str] = []
    last: ServiceProblem | None = None
    for port in ports:
        tell(f"Rolling back port update for {port.id}")
        try:
            neutron.set_profile(port.id, port.profile)
        except ServiceProblem as problem:
            tell(f"Rolling back update for port {port.id} failed: {problem}")
            left.append(port.id)
            last = problem
    if last:
        raise NotRolledBack(last, left)
