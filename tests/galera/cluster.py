"""A Galera cluster on loopback, and a proxy before it that sends all connections to one node."""

import os
import re
import shutil
import tempfile
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pymysql

from tests.support.services import HOST, MariaDB, MissingProgram, ServiceError, free_port

# Where distributions put the library: Debian, Fedora, openSUSE.
PROVIDERS: Final = tuple(
    Path(folder) / "libgalera_smm.so"
    for folder in ("/usr/lib/galera", "/usr/lib64/galera-4", "/usr/lib64/galera")
)
HERE: Final = Path(__file__).parent
SIZE: Final = 3
PATIENCE: Final = 60.0  # seconds for the nodes to agree
# A silent node is missed sooner than by default, which is after 5 s, and the others agree without
# it sooner.
QUICK: Final = (
    "evs.keepalive_period=PT0.3S;evs.inactive_check_period=PT0.3S;evs.suspect_timeout=PT1S;evs.inactive_timeout=PT3S;"
    "evs.install_timeout=PT2S"
)
ENDED_IN_DISORDER: Final = re.compile(r"^seqno:\s+-1$", re.MULTILINE)
RECOVERED: Final = re.compile(r"WSREP: Recovered position: (\S+)")


def provider() -> Path:
    """The library that makes a server a node.

    :raises MissingProgram: it is not installed
    """
    for path in PROVIDERS:
        if path.is_file():
            return path
    raise MissingProgram(
        "libgalera_smm.so is not installed, the tests need it: run tools/install-services.sh galera"
    )


class Node(MariaDB):
    """A server of the cluster."""

    def __init__(self, number: int) -> None:
        """:raises MissingProgram: what makes it a node is not installed"""
        self._library = provider()
        super().__init__()
        self.name = f"node{number}"
        self.others: list[Node] = []
        self._group_port = free_port()
        self._data = self.folder / "data"
        self._position = ""

    def prepare(self) -> None:
        """Make the first data; the others copy them."""
        if not self._data.exists():
            super().prepare()

    def copy(self, other: "Node") -> None:
        """Begin with the data of a node that was ended in order."""
        shutil.copytree(
            other._data, self._data, ignore=shutil.ignore_patterns("galera.cache", "gvwstate.dat")
        )
        shutil.copy(other.folder / "users.sql", self.folder)

    def start(self) -> None:
        self._position = ""
        self._position = self._recovered_position()
        super().start()

    def _recovered_position(self) -> str:
        """Up to where a killed node has the changes of the cluster; empty: it knows by itself."""
        state = self._data / "grastate.dat"
        if not state.exists() or not ENDED_IN_DISORDER.search(state.read_text()):
            return ""
        self.run(*self.command(), "--wsrep-recover")
        return RECOVERED.findall((self.folder / "log").read_text(errors="replace"))[-1]

    def command(self) -> list[str]:
        """Alone it begins a cluster, else it joins: it is sent what it has missed, and never the
        whole of the data.
        """
        members = ",".join(f"{HOST}:{node._group_port}" for node in self.others if node.running)
        provider_options = {
            "gmcast.listen_addr": f"tcp://{HOST}:{self._group_port}",
            "ist.recv_addr": f"{HOST}:{free_port()}",
            "gcache.size": "128M",
            "pc.recovery": "false",
        }
        options = {
            "wsrep-on": "ON",
            "wsrep-provider": str(self._library),
            "wsrep-provider-options": ";".join(
                [*(f"{name}={value}" for name, value in provider_options.items()), QUICK]
            ),
            "wsrep-cluster-name": "cellkeeper-tests",
            "wsrep-cluster-address": f"gcomm://{members}",
            "wsrep-node-name": self.name,
            "wsrep-node-address": HOST,
            "wsrep-sst-method": "missed",
            "binlog-format": "ROW",
            "innodb-autoinc-lock-mode": "2",
            # The proxy leaves without a word whenever it has looked.
            "max-connect-errors": "1000000",
        }
        if self._position:
            options["wsrep-start-position"] = self._position
        environment = [
            f"PATH={HERE}{os.pathsep}{os.environ['PATH']}",
            f"MEETING_PLACE={tempfile.gettempdir()}",
        ]
        return [
            "env",
            *environment,
            *super().command(),
            *(f"--{name}={value}" for name, value in options.items()),
        ]

    def answers(self) -> bool:
        return super().answers() and self.status("wsrep_ready") == "ON"

    def status(self, name: str) -> str:
        """One of the server's variables of state."""
        ((_, value),) = self.execute(f"SHOW GLOBAL STATUS LIKE '{name}'")
        return str(value)

    def isolate(self) -> None:
        """Cut the node off from the others: it has no quorum, they have."""
        self.execute("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=1'")

    def rejoin(self) -> None:
        """End that."""
        self.execute("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=0'")


class Proxy(MariaDB):
    """HAProxy before the nodes: as seen by a client, a server. All connections go to the first node
    that is up.
    """

    PROGRAMS = ("haproxy",)

    def __init__(self, nodes: list[Node]) -> None:
        super().__init__()
        self._nodes = nodes

    def prepare(self) -> None:
        servers = [
            f"server {node.name} {HOST}:{node.port} check inter 200 fall 2 rise 2"
            for node in self._nodes
        ]
        first, *others = servers
        lines = [
            "defaults",
            "mode tcp",
            "timeout connect 2s",
            "timeout client 60s",
            "timeout server 60s",
            "listen galera",
            f"bind {HOST}:{self.port}",
            "default-server on-marked-down shutdown-sessions",
            first,
            *(f"{server} backup" for server in others),
        ]
        (self.folder / "haproxy.cfg").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [self.programs["haproxy"], "-db", "-f", str(self.folder / "haproxy.cfg")]


class Cluster:
    """Three nodes and the proxy. As a context manager they are started and stopped.

    :ivar nodes: the first of them gets the connections that come to the proxy
    """

    def __init__(self) -> None:
        self.nodes = [Node(number) for number in range(1, SIZE + 1)]
        for node in self.nodes:
            node.others = [other for other in self.nodes if other is not node]
        self.proxy = Proxy(self.nodes)

    def __enter__(self) -> Self:
        first, *others = self.nodes
        try:
            first.start()
            first.end()
            for node in others:
                node.copy(first)
            self.revive()
            self.proxy.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all for good."""
        for server in (self.proxy, *reversed(self.nodes)):
            server.stop()

    def revive(self) -> None:
        """Make all nodes serve again with their defaults, whatever a test did to them."""
        for node in self.nodes:
            node.revive()
            node.rejoin()
            node.execute(
                "SET GLOBAL wsrep_max_ws_size = DEFAULT, GLOBAL wsrep_max_ws_rows = DEFAULT"
            )
        self.wait_until_whole()

    def limit(self, variable: str, value: int) -> None:
        """Set a variable of all nodes."""
        for node in self.nodes:
            node.execute(f"SET GLOBAL {variable} = {value}")

    def wait_until_whole(self) -> None:
        """Wait until all nodes are in the primary component, and have all changes.

        :raises ServiceError: they do not come together
        """
        deadline = time.monotonic() + PATIENCE
        while not all(_is_synced(node) for node in self.nodes):
            if time.monotonic() > deadline:
                raise ServiceError("the nodes do not come together")
            time.sleep(0.05)

    def wait_until_applied(self) -> None:
        """Wait until each node has carried out what the others did so far.

        The proxy may come back to a node that is behind: a snapshot there would be older than its
        tables.
        """
        for node in self.nodes:
            with closing(node.connect()) as link:
                link.query("SET SESSION wsrep_sync_wait = 15")
                link.query("SELECT 1")


def _is_synced(node: Node) -> bool:
    wanted = {
        "wsrep_cluster_status": "Primary",
        "wsrep_cluster_size": str(SIZE),
        "wsrep_local_state_comment": "Synced",
    }
    try:
        return all(node.status(name) == value for name, value in wanted.items())
    except pymysql.Error:
        return False
