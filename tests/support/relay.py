"""A relay between the program and a service: it remembers what was asked, and answers in the
service's stead.
"""

import http.client
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Final, NamedTuple

from tests.support.listener import Listener, body_of, respond
from tests.support.services import HOST

PATIENCE: Final = 300.0  # seconds until a request that nobody lets go on is an error
PASSED_ON: Final = (
    "content-type",
    "openstack-api-version",
    "x-auth-token",
    "accept",
    "x-openstack-request-id",
)


class Asked(NamedTuple):
    """A request, and the status that came back; 0 for none."""

    method: str
    path: str
    body: Any
    status: int


@dataclass
class Fault:
    """What the relay does to some requests.

    :ivar method: of HTTP
    :ivar path: a regular expression; with the query
    :ivar status: to answer; 0: close the connection without an answer
    :ivar body: to answer: a document, or a text as it stands
    :ivar times: how often; None: always
    :ivar skip: how many such requests pass before
    :ivar after: let the service do it, then answer so
    :ivar silent: do not answer until the relay ends
    :ivar held: hold the request up until ``go_on``; then it passes
    :ivar dropped: whether it was held up until the relay was healed: it never arrives
    """

    method: str
    path: str
    status: int = 500
    body: Any = ""
    times: int | None = None
    skip: int = 0
    after: bool = False
    silent: bool = False
    held: bool = False
    dropped: bool = False
    _reached: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)

    def wait_until_reached(self) -> None:
        """Wait until the program has sent such a request."""
        assert self._reached.wait(PATIENCE), "the request was not sent"

    def go_on(self) -> None:
        """Let what is held up pass."""
        self._released.set()


def placement_error(
    status: int, code: str = "placement.undefined_code", detail: str = "injected"
) -> dict[str, Any]:
    """A document as Placement's errors are."""
    return {"errors": [{"status": status, "title": "Injected", "detail": detail, "code": code}]}


class Relay(Listener):
    """A relay in this process. As a context manager it listens until the end.

    :ivar asked: all requests so far, in the order of their ends
    :ivar at_once: how many requests were under way at the same time, at the most, by method and
        path without the query
    :ivar tokens: what the service gets instead of some tokens, and of none
    """

    def __init__(self, port: int) -> None:
        """:param port: of the service, on loopback"""
        super().__init__()
        self.asked: list[Asked] = []
        self.at_once: Counter[tuple[str, str]] = Counter()
        self._under_way: Counter[tuple[str, str]] = Counter()
        self.tokens: Mapping[str | None, str] = {}
        self._faults: list[Fault] = []
        self._upstream = port
        self._lock = threading.Lock()
        self._over = threading.Event()

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self.heal()
        super().__exit__(*exception)

    def fail(self, method: str, path: str, **how: Any) -> Fault:
        """Do something to requests from now on; the parameters are those of ``Fault``."""
        fault = Fault(method, path, **how)
        with self._lock:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Let all requests pass again, and forget what was asked. What is still held up never
        arrives.
        """
        with self._lock:
            for fault in self._faults:
                fault.dropped = True
                fault.go_on()
            self._faults = []
            self.asked = []
            self.at_once = Counter()

    def count(self, method: str, path: str) -> int:
        """How many requests of that kind there were; the path is a regular expression."""
        return sum(
            one.method == method and re.search(path, one.path) is not None for one in self.asked
        )

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = body_of(request)
        kind = request.command, request.path.partition("?")[0]
        with self._lock:
            self._under_way[kind] += 1
            self.at_once[kind] = max(self.at_once[kind], self._under_way[kind])
        try:
            self._handle(request, body)
        finally:
            with self._lock:
                self._under_way[kind] -= 1

    def _handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        fault = self._fault(request.command, request.path)
        if fault:
            fault._reached.set()
            if fault.silent:
                self._over.wait(PATIENCE)
                request.close_connection = True
                return
            if fault.held:
                fault._released.wait(PATIENCE)
                if fault.dropped:
                    request.close_connection = True
                    return
        status, kind, answer = 0, "application/json", b""
        if fault is None or fault.after or fault.held:
            status, kind, answer = self._pass_on(request, body)
        if fault and not fault.held:
            status = fault.status
            answer = (
                fault.body.encode()
                if isinstance(fault.body, str)
                else json.dumps(fault.body).encode()
            )
        with self._lock:
            self.asked.append(
                Asked(request.command, request.path, json.loads(body) if body else None, status)
            )
        if not status:
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        respond(request, status, answer, {"Content-Type": kind})

    def _fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.method == method and re.search(fault.path, path) and fault.times != 0:
                    if fault.skip:
                        fault.skip -= 1
                    else:
                        fault.times = None if fault.times is None else fault.times - 1
                        return fault
        return None

    def _pass_on(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        link = http.client.HTTPConnection(HOST, self._upstream, timeout=PATIENCE)
        headers = {
            name: value for name, value in request.headers.items() if name.lower() in PASSED_ON
        }
        token = headers.pop("X-Auth-Token", None)
        if token := self.tokens.get(token, token):
            headers["X-Auth-Token"] = token
        try:
            link.request(request.command, request.path, body or None, headers)
            answer = link.getresponse()
            return (
                answer.status,
                answer.headers.get("content-type", "application/json"),
                answer.read(),
            )
        finally:
            link.close()


Prepare = Callable[[Relay], None]
"""What a test does to a relay before the program starts."""
