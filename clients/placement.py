"""Placement: resource providers, allocations, aggregates."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from keystoneauth1.adapter import Adapter

from clients.documents import expect_amounts, expect_list, expect_number, expect_object, expect_text, expect_texts
from clients.errors import RequestRefused
from clients.service import Service

T = TypeVar("T")

Resources = dict[str, int]
"""Amounts by resource class."""

PROVIDERS_VERSION: Final = "1.14"
AGGREGATES_VERSION: Final = "1.19"
ALLOCATIONS_VERSION: Final = "1.28"
CANDIDATES_VERSION: Final = "1.36"

CONSUMERS_PER_REQUEST: Final = 50  # that are written in one request


@dataclass(frozen=True)
class Provider:
    """A resource provider.

    :ivar root: the uuid of the root of its tree; that of a compute node's provider is the node's own
    """

    uuid: str
    name: str
    generation: int
    root: str
    parent: str | None


@dataclass(frozen=True)
class Consumer:
    """The allocations of one consumer, as read or to be written.

    :ivar allocations: by provider; none: the consumer has nothing
    :ivar generation: as read; None: it must not be there when this is written
    :ivar generations: of the providers, as read with the allocations
    """

    allocations: Mapping[str, Resources] = field(default_factory=dict)
    project_id: str = ""
    user_id: str = ""
    generation: int | None = None
    generations: Mapping[str, int] = field(default_factory=dict)

    @property
    def owner(self) -> tuple[str, str]:
        """Project and user."""
        return self.project_id, self.user_id

    def document(self) -> dict[str, Any]:
        """What Placement wants to have of it."""
        return {
            "allocations": {
                uuid: {"resources": dict(held)}
                | ({"generation": self.generations[uuid]} if uuid in self.generations else {})
                for uuid, held in self.allocations.items()
            },
            "project_id": self.project_id,
            "user_id": self.user_id,
            "consumer_generation": self.generation,
        }


@dataclass(frozen=True)
class RequestGroup:
    """Resources that one provider must give.

    :ivar suffix: the name of the group
    """

    suffix: str
    resources: Resources
    required: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """One way to fulfil what was asked.

    :ivar providers: which provider fulfils each group, by suffix
    """

    allocations: Mapping[str, Resources]
    providers: Mapping[str, str]


@dataclass(frozen=True)
class ProviderAllocation:
    """What one consumer holds of one provider.

    :ivar generation: of the consumer; None where the service is too old to tell
    """

    resources: Resources
    generation: int | None


class Placement(Service):
    """The service.

    :ivar turn: of whoever writes several consumers in one request, one at a time: Placement locks the gaps of an index
        around each consumer that is new to it, so two of them easily get into a deadlock, after which it sleeps for
        seconds (seen with 16.0 on MariaDB)
    """

    name = "placement"
    title = "Placement"

    def __init__(self, link: Adapter) -> None:
        super().__init__(link)
        self.turn = threading.RLock()

    def providers(self, in_tree: str | None = None) -> list[Provider]:
        """All providers, or those of one tree."""
        params = {"in_tree": in_tree} if in_tree else {}
        return self.read("/resource_providers", _providers, microversion=PROVIDERS_VERSION, params=params)

    def holdings(self, provider: str) -> dict[str, ProviderAllocation]:
        """What each consumer holds of a provider, also of an old service; nothing where there is no such provider."""
        microversion = ALLOCATIONS_VERSION if self.offers(ALLOCATIONS_VERSION) else PROVIDERS_VERSION
        try:
            return self.read(f"/resource_providers/{provider}/allocations", _holdings, microversion=microversion)
        except RequestRefused as refusal:
            if refusal.status == 404:
                return {}
            raise

    def held_of(self, provider: str) -> dict[str, Resources]:
        """The same without generations."""
        return {consumer: held.resources for consumer, held in self.holdings(provider).items()}

    def consumer(self, uuid: str) -> Consumer:
        """What one consumer holds, and whose it is."""
        return self.read(f"/allocations/{uuid}", _consumer, microversion=ALLOCATIONS_VERSION)

    def write(self, uuid: str, consumer: Consumer) -> None:
        """Replace all that a consumer holds.

        Not for two consumers of one provider at the same time: Placement may then book more than there is, or leave
        their owners as they were, and answer 204 (seen with 16.0 on MariaDB).

        :raises Refused: with ``is_consumer_conflict`` if it is no longer as ``consumer.generation`` says
        """
        self.ask("PUT", f"/allocations/{uuid}", microversion=ALLOCATIONS_VERSION, json=consumer.document())

    def write_all(self, consumers: Mapping[str, Consumer]) -> None:
        """Replace what several consumers hold: all or none.

        :raises Refused: one of them cannot be written
        """
        document = {uuid: consumer.document() for uuid, consumer in consumers.items()}
        with self.turn:
            self.ask("POST", "/allocations", microversion=ALLOCATIONS_VERSION, json=document)

    def usage(self, project_id: str, user_id: str) -> Resources:
        """What all consumers of one user in one project hold together."""
        params = {"project_id": project_id, "user_id": user_id}
        return self.read("/usages", _usages, microversion=ALLOCATIONS_VERSION, params=params)

    def candidates(
        self, groups: Iterable[RequestGroup], in_tree: str, same_subtree: Iterable[Iterable[str]], group_policy: str
    ) -> list[Candidate]:
        """The ways to fulfil request groups in one tree.

        :param in_tree: the uuid of a provider of the tree
        :param same_subtree: suffixes of groups whose providers must have a common ancestor among them
        :param group_policy: ``none`` or ``isolate``
        """
        params = [("group_policy", group_policy)]
        wanted: set[str] = set()
        for group in groups:
            wanted.add(group.suffix)
            resources = ",".join(f"{name}:{amount}" for name, amount in sorted(group.resources.items()))
            params += [(f"resources{group.suffix}", resources), (f"in_tree{group.suffix}", in_tree)]
            if group.required:
                params.append((f"required{group.suffix}", ",".join(group.required)))
        params += [("same_subtree", ",".join(suffixes)) for suffixes in same_subtree]
        query = urlencode(sorted(params), safe=":,")
        understand = partial(_candidates, wanted=wanted)
        return self.read(f"/allocation_candidates?{query}", understand, microversion=CANDIDATES_VERSION)

    def aggregates(self, provider: str) -> tuple[frozenset[str], int]:
        """The aggregates of a provider, and its generation.

        :raises Refused: 404: there is no such provider
        """
        return self.read(f"/resource_providers/{provider}/aggregates", _aggregates, microversion=AGGREGATES_VERSION)

    def set_aggregates(self, provider: str, aggregates: Iterable[str], generation: int) -> None:
        """Replace the aggregates of a provider.

        :param generation: as read
        :raises Refused: with ``is_concurrent`` if it has changed since
        """
        document = {"aggregates": sorted(aggregates), "resource_provider_generation": generation}
        self.ask("PUT", f"/resource_providers/{provider}/aggregates", microversion=AGGREGATES_VERSION, json=document)


def _providers(found: Any) -> list[Provider]:
    return [
        Provider(
            expect_text(provider["uuid"]),
            expect_text(provider["name"]),
            expect_number(provider["generation"]),
            expect_text(provider["root_provider_uuid"]),
            _or_none(expect_text, provider.get("parent_provider_uuid")),
        )
        for provider in map(expect_object, expect_list(found["resource_providers"]))
    ]


def _holdings(found: Any) -> dict[str, ProviderAllocation]:
    return {
        consumer: ProviderAllocation(
            expect_amounts(held["resources"]), _or_none(expect_number, held.get("consumer_generation"))
        )
        for consumer, held in expect_object(found["allocations"]).items()
    }


def _consumer(found: Any) -> Consumer:
    document = expect_object(found)
    by_provider = expect_object(document["allocations"])
    allocations = {provider: expect_amounts(held["resources"]) for provider, held in by_provider.items()}
    if not allocations:
        return Consumer()
    return Consumer(
        allocations,
        expect_text(document.get("project_id", "")),
        expect_text(document.get("user_id", "")),
        _or_none(expect_number, document.get("consumer_generation")),
        {provider: expect_number(held["generation"]) for provider, held in by_provider.items() if "generation" in held},
    )


def _usages(found: Any) -> Resources:
    return expect_amounts(found["usages"])


def _candidates(found: Any, wanted: Iterable[str]) -> list[Candidate]:
    return [_candidate(request, wanted) for request in expect_list(found["allocation_requests"])]


def _candidate(found: Any, wanted: Iterable[str]) -> Candidate:
    allocations = {
        uuid: expect_amounts(held["resources"]) for uuid, held in expect_object(found["allocations"]).items()
    }
    return Candidate(allocations, {suffix: expect_texts(found["mappings"][suffix])[0] for suffix in wanted})


def _aggregates(found: Any) -> tuple[frozenset[str], int]:
    return frozenset(expect_texts(found["aggregates"])), expect_number(found["resource_provider_generation"])


def _or_none(kind: Callable[[Any], T], value: Any) -> T | None:
    return None if value is None else kind(value)
