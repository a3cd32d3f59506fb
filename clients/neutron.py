"""Neutron: the ports of instances, and what they have in Placement."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from clients.documents import expect_amounts, expect_list, expect_object, expect_text, expect_texts
from clients.service import Service

PORT_FIELDS: Final = ("id", "device_id", "resource_request", "binding:profile")
BINDING_PROFILE: Final = "binding:profile"
# Instances asked for in one request. Their UUIDs must fit into the request line, and servers take
# 8,190 bytes of it.
DEVICES_PER_REQUEST: Final = 150


@dataclass(frozen=True)
class Port:
    """A port of an instance.

    :ivar device: the UUID of the instance
    :ivar request: the resources it needs, in either of Neutron's two forms; empty: none
    :ivar profile: its whole binding profile
    """

    id: str
    device: str
    request: Mapping[str, Any] = field(default_factory=dict)
    profile: Mapping[str, Any] = field(default_factory=dict)


class Neutron(Service):
    """The network service."""

    name = "neutron"
    title = "Neutron"

    def ports_of(self, devices: Sequence[str]) -> list[Port]:
        """The ports of instances, in as few requests as possible.

        :param devices: UUIDs of instances
        """
        ports: list[Port] = []
        for begin in range(0, len(devices), DEVICES_PER_REQUEST):
            ports += self._read_pages(devices[begin : begin + DEVICES_PER_REQUEST])
        return ports

    def _read_pages(self, devices: Sequence[str]) -> Iterator[Port]:
        """Ports of instances, page by page: a server may limit the length of its answers."""
        query: list[tuple[str, str]] = [("device_id", device) for device in devices]
        query += [("fields", name) for name in PORT_FIELDS]
        marker: list[tuple[str, str]] | None = []
        while marker is not None:
            params = _values_by_name([*query, *marker])
            ports, marker = self.read(self._path("/ports"), _read_page, params=params)
            yield from ports

    def set_profile(self, port: str, profile: Mapping[str, Any]) -> None:
        """Replace the binding profile of a port."""
        document = {"port": {BINDING_PROFILE: dict(profile)}}
        self.ask("PUT", self._path(f"/ports/{port}"), json=document)

    def _path(self, path: str) -> str:
        """A path below the endpoint, which has the version in some catalogs only."""
        return path if self.endpoint.endswith("/v2.0") else f"/v2.0{path}"


def _read_page(document: Any) -> tuple[list[Port], list[tuple[str, str]] | None]:
    """The ports of a page, and the parameters that ask for the next one; None: this is the last."""
    page = expect_object(document)
    ports = [_read_port(port) for port in expect_list(page["ports"])]
    links = expect_list(page.get("ports_links", []))
    next_pages = [expect_text(link["href"]) for link in links if link["rel"] == "next"]
    if not next_pages:
        return ports, None
    query = parse_qsl(urlsplit(next_pages[0]).query)
    return ports, [(name, value) for name, value in query if name in ("marker", "limit")]


def _read_port(document: Any) -> Port:
    port = expect_object(document)
    request = expect_object(port.get("resource_request") or {})
    profile = expect_object(port.get(BINDING_PROFILE) or {})
    # The older form of a request is a single group, without a name.
    groups = expect_list(request.get("request_groups") or [{"id": "", **request}])
    for group in map(expect_object, groups):
        expect_text(group["id"])
        expect_amounts(group.get("resources") or {})
        expect_texts(group.get("required") or [])
    expect_texts(request.get("same_subtree") or [])
    return Port(expect_text(port["id"]), expect_text(port["device_id"]), request, profile)


def _values_by_name(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values
