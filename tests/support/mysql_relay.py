"""A relay between the program and MariaDB: it counts what is said, and cuts a line where a test
wants it cut.
"""

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final, Self

from tests.support.services import HOST

QUIT: Final = 1  # the command with which a client leaves
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: what closes sends a reset
# What a greeting begins with; an error instead of one begins otherwise.
PROTOCOL: Final = bytes([10])
OFFERS_TLS: Final = 0x0800  # in the greeting's first two bytes of capabilities
# Bytes of the greeting between the server's version and its capabilities.
BEHIND_VERSION: Final = 4 + 8 + 1


class Cut(Enum):
    """Where a line is cut."""

    BEFORE = "the statement does not reach the server"
    AFTER = "the server has done the statement, and its answer is lost"


@dataclass(frozen=True)
class Said:
    """One packet of a client: a login, or a command."""

    line: int
    text: str


class MysqlRelay:
    """A relay in this process, for all databases of a server. As a context manager it listens until
    the end.

    :ivar port: on loopback
    :ivar said: what the clients have said since the last ``reset``, on all lines, in order; without
        farewells
    """

    def __init__(self, port: int) -> None:
        """:param port: of the server, on loopback"""
        self._upstream = port
        self._listener = socket.create_server((HOST, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.said: list[Said] = []
        self._lock = threading.Lock()
        self._cut_at: int | None = None
        self._cut = Cut.BEFORE
        self._every: int | None = None
        self._lines = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def reset(
        self, cut_at: int | None = None, cut: Cut = Cut.BEFORE, every: int | None = None
    ) -> None:
        """Forget what was said.

        :param cut_at: the number of the packet, from 0, at which its line is cut; None: none
        :param every: how many packets pass until the next cut; None: there is one
        """
        with self._lock:
            self.said = []
            self._cut_at, self._cut, self._every = cut_at, cut, every

    @property
    def has_cut(self) -> bool:
        """Whether it came to the cut."""
        return self._cut_at is not None and len(self.said) > self._cut_at

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._lines += 1
            threading.Thread(
                target=_Line(self, client, self._upstream, self._lines).run, daemon=True
            ).start()

    def hear(self, said: Said) -> Cut | None:
        """Note a packet; how its line is to be cut, if it is."""
        with self._lock:
            self.said.append(said)
            if self._cut_at is None:
                return None
            behind = len(self.said) - 1 - self._cut_at
            is_next = behind >= 0 and self._every is not None and behind % self._every == 0
            return self._cut if is_next or behind == 0 else None


class _Line:
    """One connection of a client, with one to the server."""

    def __init__(
        self, relay: MysqlRelay, client: socket.socket, upstream: int, number: int
    ) -> None:
        self._relay = relay
        self._client = client
        self._server = socket.create_connection((HOST, upstream))
        self._number = number
        self._answer_is_lost = False

    def run(self) -> None:
        back = threading.Thread(target=self._pass_back, daemon=True)
        back.start()
        with suppress(OSError):
            self._pass_on()
        for link in (self._client, self._server):
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        back.join()
        self._client.close()
        self._server.close()

    def _pass_on(self) -> None:
        with self._client.makefile("rb") as packets:
            while header := packets.read(4):
                length, sequence = int.from_bytes(header[:3], "little"), header[3]
                body = packets.read(length)
                is_login, is_command = sequence == 1, sequence == 0
                cut = None
                if is_login or (is_command and body[:1] != bytes([QUIT])):
                    text = "login" if is_login else body[1:].decode(errors="replace")
                    cut = self._relay.hear(Said(self._number, text))
                if cut is Cut.BEFORE:
                    self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    return
                self._answer_is_lost = cut is Cut.AFTER
                self._server.sendall(header + body)

    def _pass_back(self) -> None:
        with suppress(OSError):
            self._client.sendall(self._greeting())
            while data := self._server.recv(65_536):
                if self._answer_is_lost:
                    self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    break
                self._client.sendall(data)
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def _greeting(self) -> bytes:
        """The server's first packet, without its offer of TLS: what is said could not be read
        here.
        """
        packet = bytearray(self._server.recv(4, socket.MSG_WAITALL))
        packet += self._server.recv(int.from_bytes(packet[:3], "little"), socket.MSG_WAITALL)
        if packet[4:5] == PROTOCOL:
            capabilities = packet.index(0, 5) + 1 + BEHIND_VERSION
            flags = int.from_bytes(packet[capabilities : capabilities + 2], "little") & ~OFFERS_TLS
            packet[capabilities : capabilities + 2] = flags.to_bytes(2, "little")
        return bytes(packet)
