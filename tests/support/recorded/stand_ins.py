"""Keystone and Neutron as far as the records have them, answering on loopback; the real ones are in
tests/peers.
"""

import json
from abc import abstractmethod
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.support.listener import Listener, body_of, respond

USER, PASSWORD, REGION = "nova", "recorded-secret", "RegionOne"
TOKEN: Final = "admin"
"""What Keystone gives: Placement with ``noauth2`` takes it for its administrator."""


class Answer(NamedTuple):
    """What comes back."""

    status: int
    document: Any
    headers: Mapping[str, str] = {}


class StandIn(Listener):
    """A service in this process."""

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = body_of(request)
        status, document, headers = self.answer(
            request.command, request.path, json.loads(body) if body else None
        )
        respond(request, status, json.dumps(document).encode(), headers)

    @abstractmethod
    def answer(self, method: str, path: str, document: Any) -> Answer:
        """Answer one request."""


class Keystone(StandIn):
    """Knows one user and the catalog."""

    def __init__(self, catalog: Mapping[str, str]) -> None:
        """:param catalog: URL by service type"""
        super().__init__()
        self._catalog = [
            {"type": kind, "name": kind, "id": kind, "endpoints": [
                {"id": interface, "interface": interface, "region": REGION, "region_id": REGION, "url": url}
                for interface in ("public", "internal")
            ]}
            for kind, url in catalog.items()
        ]  # fmt: skip

    def answer(self, method: str, path: str, document: Any) -> Answer:
        if method == "GET":
            links = [{"rel": "self", "href": f"{self.url}/v3/"}]
            return Answer(200, {"version": {"id": "v3.14", "status": "stable", "links": links}})
        user = document["auth"]["identity"]["password"]["user"]
        if (user["name"], user["password"]) != (USER, PASSWORD):
            message = "The request you have made requires authentication."
            return Answer(
                401, {"error": {"code": 401, "title": "Unauthorized", "message": message}}
            )
        token = {"methods": ["password"], "expires_at": "2099-01-01T00:00:00.000000Z", "catalog": self._catalog,
                 "user": {"id": USER, "name": USER, "domain": {"id": "default", "name": "Default"}}}  # fmt: skip
        return Answer(201, {"token": token}, {"X-Subject-Token": TOKEN})


class Neutron(StandIn):
    """Knows ports: those of given instances are listed, and the binding profile of one can be
    replaced.

    :ivar ports: by id, each as Neutron shows it
    """

    def __init__(self) -> None:
        super().__init__()
        self.ports: dict[str, dict[str, Any]] = {}

    def answer(self, method: str, path: str, document: Any) -> Answer:
        where = urlsplit(path)
        if method == "PUT":
            port = self.ports[where.path.rpartition("/")[2]]
            port.update(document["port"])
            return Answer(200, {"port": port})
        devices = parse_qs(where.query).get("device_id", [])
        return Answer(
            200, {"ports": [one for one in self.ports.values() if one["device_id"] in devices]}
        )
