"""Placement: resource providers, allocations, aggregates.

Microversions are those that first have what is asked for, so that old services can be used.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from keystoneauth1.adapter import Adapter

from clients.documents import (
    expect_amounts,
    expect_list,
    expect_number,
    expect_object,
    expect_text,
    expect_texts,
)
from clients.errors import RequestRefused
from clients.service import Service

T = TypeVar("T")

Resources = dict[str, int]
"""Amounts by resource class."""

PROVIDERS_VERSION: Final = "1.14"
AGGREGATES_VERSION: Final = "1.19"
ALLOCATIONS_VERSION: Final = "1.28"
CANDIDATES_VERSION: Final = "1.36"

CONSUMERS_PER_REQUEST: Final = 50


@dataclass(frozen=True)
class Provider:
    """A resource provider.

    :ivar root: the UUID of the root of its tree; a compute node's provider is a root itself
    """

    uuid: str
    name: str
    generation: int
    root: str
    parent: str | None


@dataclass(frozen=True)
class Consumer:
    """The allocations of one consumer, as read or to be written.

    :ivar allocations: by provider; empty: the consumer has nothing
    :ivar generation: as read; None: Placement must not know the consumer when this is written
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
        """The consumer as Placement wants to have it."""
        return {
            "allocations": {
                provider: self._allocation_document(provider, resources)
                for provider, resources in self.allocations.items()
            },
            "project_id": self.project_id,
            "user_id": self.user_id,
            "consumer_generation": self.generation,
        }

    def _allocation_document(self, provider: str, resources: Resources) -> dict[str, Any]:
        document: dict[str, Any] = {"resources": dict(resources)}
        if provider in self.generations:
            document["generation"] = self.generations[provider]
        return document


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
    """A consumer's allocation at one provider.

    :ivar generation: of the consumer; None: the service is too old to say
    """

    resources: Resources
    generation: int | None


class Placement(Service):
    """The placement service.

    :ivar batch_lock: to be held while several consumers are written in one request. Placement locks
        the gaps of an index around each consumer that is new to it, so two such requests easily run
        into a deadlock, after which it sleeps for seconds (seen with 16.0 on MariaDB)
    """

    name = "placement"
    title = "Placement"

    def __init__(self, link: Adapter) -> None:
        super().__init__(link)
        self.batch_lock = threading.RLock()

    def providers(self, in_tree: str | None = None) -> list[Provider]:
        """All providers, or those of one tree."""
        params = {"in_tree": in_tree} if in_tree else {}
        return self.read(
            "/resource_providers", _read_providers, microversion=PROVIDERS_VERSION, params=params
        )

    def allocations_of(self, provider: str) -> dict[str, ProviderAllocation]:
        """The allocations at a provider, by consumer; empty if there is no such provider.

        Old services are supported as well; they do not tell generations.
        """
        has_generations = self.offers(ALLOCATIONS_VERSION)
        microversion = ALLOCATIONS_VERSION if has_generations else PROVIDERS_VERSION
        path = f"/resource_providers/{provider}/allocations"
        try:
            return self.read(path, _read_allocations, microversion=microversion)
        except RequestRefused as refusal:
            if refusal.status == 404:
                return {}
            raise

    def resources_by_consumer(self, provider: str) -> dict[str, Resources]:
        """The resources that consumers hold at a provider."""
        allocations = self.allocations_of(provider)
        return {consumer: allocation.resources for consumer, allocation in allocations.items()}

    def consumer(self, uuid: str) -> Consumer:
        """A consumer, its allocations and owner."""
        return self.read(f"/allocations/{uuid}", _read_consumer, microversion=ALLOCATIONS_VERSION)

    def write_consumer(self, uuid: str, consumer: Consumer) -> None:
        """Replace all allocations of a consumer.

        Not for two consumers of one provider at the same time: Placement may then book more than
        there is, or leave their owners unchanged, and answer 204 (seen with 16.0 on MariaDB).

        :raises RequestRefused: with ``is_consumer_conflict`` if the consumer has changed since it
            was read
        """
        path = f"/allocations/{uuid}"
        self.ask("PUT", path, microversion=ALLOCATIONS_VERSION, json=consumer.document())

    def write_consumers(self, consumers: Mapping[str, Consumer]) -> None:
        """Replace all allocations of several consumers, in one transaction of Placement's.

        :raises RequestRefused: one of them cannot be written, so none was
        """
        document = {uuid: consumer.document() for uuid, consumer in consumers.items()}
        with self.batch_lock:
            self.ask("POST", "/allocations", microversion=ALLOCATIONS_VERSION, json=document)

    def usage(self, project_id: str, user_id: str) -> Resources:
        """What all consumers of one user in one project hold together."""
        params = {"project_id": project_id, "user_id": user_id}
        return self.read("/usages", _read_usages, microversion=ALLOCATIONS_VERSION, params=params)

    def candidates(
        self,
        groups: Iterable[RequestGroup],
        in_tree: str,
        same_subtree: Iterable[Iterable[str]],
        group_policy: str,
    ) -> list[Candidate]:
        """The ways to fulfil request groups in one tree.

        :param in_tree: the UUID of a provider of the tree
        :param same_subtree: suffixes of groups whose providers must have a common ancestor among
            them
        :param group_policy: ``none`` or ``isolate``
        """
        params = [("group_policy", group_policy)]
        suffixes: set[str] = set()
        for group in groups:
            suffixes.add(group.suffix)
            params += _group_params(group, in_tree)
        params += [("same_subtree", ",".join(subtree)) for subtree in same_subtree]
        # Placement wants colons and commas as they are.
        query = urlencode(sorted(params), safe=":,")
        return self.read(
            f"/allocation_candidates?{query}",
            partial(_read_candidates, suffixes=suffixes),
            microversion=CANDIDATES_VERSION,
        )

    def aggregates(self, provider: str) -> tuple[frozenset[str], int]:
        """The aggregates of a provider, and its generation.

        :raises RequestRefused: 404: there is no such provider
        """
        path = f"/resource_providers/{provider}/aggregates"
        return self.read(path, _read_aggregates, microversion=AGGREGATES_VERSION)

    def set_aggregates(self, provider: str, aggregates: Iterable[str], generation: int) -> None:
        """Replace the aggregates of a provider.

        :param generation: as read
        :raises RequestRefused: with ``is_concurrent`` if it has changed since
        """
        path = f"/resource_providers/{provider}/aggregates"
        document = {"aggregates": sorted(aggregates), "resource_provider_generation": generation}
        self.ask("PUT", path, microversion=AGGREGATES_VERSION, json=document)


def _group_params(group: RequestGroup, in_tree: str) -> list[tuple[str, str]]:
    """The parameters of a query that stand for one request group."""
    amounts = sorted(group.resources.items())
    params = [
        (f"resources{group.suffix}", ",".join(f"{name}:{amount}" for name, amount in amounts)),
        (f"in_tree{group.suffix}", in_tree),
    ]
    if group.required:
        params.append((f"required{group.suffix}", ",".join(group.required)))
    return params


def _read_providers(document: Any) -> list[Provider]:
    return [_read_provider(provider) for provider in expect_list(document["resource_providers"])]


def _read_provider(document: Any) -> Provider:
    provider = expect_object(document)
    return Provider(
        expect_text(provider["uuid"]),
        expect_text(provider["name"]),
        expect_number(provider["generation"]),
        expect_text(provider["root_provider_uuid"]),
        _expect_optional(expect_text, provider.get("parent_provider_uuid")),
    )


def _read_allocations(document: Any) -> dict[str, ProviderAllocation]:
    allocations = expect_object(document["allocations"])
    return {consumer: _read_allocation(held) for consumer, held in allocations.items()}


def _read_allocation(document: Any) -> ProviderAllocation:
    held = expect_object(document)
    generation = _expect_optional(expect_number, held.get("consumer_generation"))
    return ProviderAllocation(expect_amounts(held["resources"]), generation)


def _read_consumer(document: Any) -> Consumer:
    consumer = expect_object(document)
    resources: dict[str, Resources] = {}
    generations: dict[str, int] = {}
    for provider, held in expect_object(consumer["allocations"]).items():
        resources[provider] = expect_amounts(held["resources"])
        if "generation" in held:
            generations[provider] = expect_number(held["generation"])
    if not resources:
        return Consumer()
    return Consumer(
        resources,
        expect_text(consumer.get("project_id", "")),
        expect_text(consumer.get("user_id", "")),
        _expect_optional(expect_number, consumer.get("consumer_generation")),
        generations,
    )


def _read_usages(document: Any) -> Resources:
    return expect_amounts(document["usages"])


def _read_candidates(document: Any, suffixes: Iterable[str]) -> list[Candidate]:
    requests = expect_list(document["allocation_requests"])
    return [_read_candidate(request, suffixes) for request in requests]


def _read_candidate(document: Any, suffixes: Iterable[str]) -> Candidate:
    by_provider = expect_object(document["allocations"])
    allocations = {uuid: expect_amounts(held["resources"]) for uuid, held in by_provider.items()}
    mappings = document["mappings"]
    return Candidate(
        allocations, {suffix: expect_texts(mappings[suffix])[0] for suffix in suffixes}
    )


def _read_aggregates(document: Any) -> tuple[frozenset[str], int]:
    aggregates = frozenset(expect_texts(document["aggregates"]))
    return aggregates, expect_number(document["resource_provider_generation"])


def _expect_optional(expect: Callable[[Any], T], value: Any) -> T | None:
    return None if value is None else expect(value)
