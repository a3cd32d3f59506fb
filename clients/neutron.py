"""Neutron: the ports of instances, and what they have in Placement."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from clients.documents import expect_amounts, expect_list, expect_object, expect_text, expect_texts
from clients.service import Service

PORT_FIELDS: Final = ("id", "device_id", "resource_request", "binding:profile")
BINDING_PROFILE: Final = "binding:profile"
# Instances asked for in one request: their uuids must fit into the first line of it, of which servers take 8,190 bytes.
DEVICES_PER_REQUEST: Final = 150


@dataclass(frozen=True)
class Port:
    """A port of an instance.

    :ivar request: what it needs of Placement, in one of the two forms that Neutron has; empty: nothing
    :ivar profile: its binding profile, whole
    """

    id: str
    device: str
    request: Mapping[str, Any] = field(default_factory=dict)
    profile: Mapping[str, Any] = field(default_factory=dict)


class Neutron(Service):
    """The service."""

    name = "neutron"
    title = "Neutron"

    def ports_of(self, devices: Sequence[str]) -> list[Port]:
        """The ports of instances, in as few requests as can be.

        :param devices: uuids of instances
        """
        return [
            port
            for begin in range(0, len(devices), DEVICES_PER_REQUEST)
            for port in self._pages(devices[begin : begin + DEVICES_PER_REQUEST])
        ]

    def _pages(self, devices: Sequence[str]) -> Iterator[Port]:
        """Ports, page by page where the server cuts its answers."""
        asked: list[tuple[str, str]] = [("device_id", device) for device in devices]
        asked += [("fields", name) for name in PORT_FIELDS]
        marker: list[tuple[str, str]] | None = []
        while marker is not None:
            ports, marker = self.read(self._path("/ports"), _page, params=_several([*asked, *marker]))
            yield from ports

    def set_profile(self, port: str, profile: Mapping[str, Any]) -> None:
        """Replace the binding profile of a port."""
        self.ask("PUT", self._path(f"/ports/{port}"), json={"port": {BINDING_PROFILE: dict(profile)}})

    def _path(self, path: str) -> str:
        """Some catalogs name the version, some leave it to the client."""
        return path if self.place.endswith("/v2.0") else f"/v2.0{path}"


def _page(found: Any) -> tuple[list[Port], list[tuple[str, str]] | None]:
    """The ports of a page, and by which parameters the next one is asked for; None: there is no other."""
    page = expect_object(found)
    ports = [_port(port) for port in expect_list(page["ports"])]
    onward = [expect_text(link["href"]) for link in expect_list(page.get("ports_links", [])) if link["rel"] == "next"]
    if not onward:
        return ports, None
    return ports, [pair for pair in parse_qsl(urlsplit(onward[0]).query) if pair[0] in ("marker", "limit")]


def _port(found: Any) -> Port:
    port = expect_object(found)
    request = expect_object(port.get("resource_request") or {})
    profile = expect_object(port.get(BINDING_PROFILE) or {})
    for document in expect_list(request.get("request_groups") or [{"id": "", **request}]):
        group = expect_object(document)
        expect_text(group["id"])
        expect_amounts(group.get("resources") or {})
        expect_texts(group.get("required") or [])
    expect_texts(request.get("same_subtree") or [])
    return Port(expect_text(port["id"]), expect_text(port["device_id"]), request, profile)


def _several(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found
