"""Somebody who types what the documents print, at a shell on a host of a cloud."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from socket import create_connection
from typing import Final

from redis import Redis as Client

from demo.cloud import build
from runs.redis_store import RedisStore
from tests.docs.printed import OWN, Printed
from tests.support.command import environment, until
from tests.support.hypervisors import Hosts, reachable
from tests.support.placement import Placement, nova_conf
from tests.support.realcloud import NOVA_CONF, RealCloud
from tests.support.services import HOST, PLACES, MariaDB, Redis
from tests.workers.fleet import guarded, hooked

REDIS_PASSWORD: Final = "redis-secret"
USER: Final = "cellkeeper"
PATIENCE: Final = 30  # seconds for a command to end
NEVER: Final = (2, 255)
"""Exit codes of a command line that is wrong, and of one that failed."""
CONFIG: Final = """\
[celery]
broker_url = redis://{user}:{password}@{host}:{port}/0
slice_seconds = 1
[neutron]
# It knows no ports; what is done with some is tested by tests/peers.
auth_type = admin_token
token = admin
endpoint = {neutron}
[flower]
password = tulip-secret
[schedule]
enabled = nightly_archive, weekly_purge
"""
PLACEHOLDER: Final = re.compile(r"(?<![\w$%{:/-])(?:HH:MM|[A-Z][A-Z0-9_]*)(?![\w=}])")
DEMO: Final = "demo-cloud"
HOST_DOWN: Final = "cmp-c1-01"
HOST_UP: Final = "cmp-c1-02"
# What docs/migrations.md asks for before a node may move, and one instance at most, as Ironic has
# it.
STOPPED: Final = (
    f"UPDATE services SET forced_down = 1 WHERE host = '{HOST_DOWN}'",
    f"UPDATE instances SET deleted = id WHERE host = '{HOST_DOWN}' AND deleted = 0",
)
# What nova-compute writes when it starts.
NODE: Final = (
    "INSERT INTO compute_nodes (deleted, mapped, host, hypervisor_hostname, uuid, vcpus, "
    "memory_mb, local_gb, "
    "vcpus_used, memory_mb_used, local_gb_used, hypervisor_type, hypervisor_version, cpu_info) "
    "VALUES "
    "(0, 0, 'host{0}', 'host{0}', '5b1c3d5e-0000-4000-8000-0000000000{0}', 1, 1, 1, 0, 0, 0, "
    "'QEMU', 1, '')"
)


class Operator:
    """Somebody with a nova.conf in ``~/.nova``.

    :ivar home: where commands are started; what they print is kept there
    :ivar placeholders: what stands for the words in capitals of the documents
    """

    def __init__(self, home: Path, conf: str) -> None:
        """:param conf: nova.conf"""
        self.home = home
        self.config = home / ".nova" / "nova.conf"
        self.config.parent.mkdir(parents=True)
        self.config.write_text(conf)
        (home / "node_exporter" / "textfile").mkdir(parents=True)
        self.placeholders: dict[str, Callable[[], str]] = {
            "N": lambda: "20",
            "HH:MM": lambda: "06:00",
        }

    def run(self, shown: Printed) -> str | None:
        """Run a command to its end, or, of one that serves, until it can be asked to end; what went
        wrong.
        """
        return next(filter(None, (self._run(shown, text) for text in shown.variants)), None)

    def _run(self, shown: Printed, printed: str) -> str | None:
        if DEMO in printed:
            build(self.home / DEMO)
        text = PLACEHOLDER.sub(self._value, printed).replace("/var/lib/", f"{self.home}/")
        log = self.home / f"{shown.file.name}.{shown.line}.log"
        process = self.start(text, log)
        serves = next((ready for words, ready in SERVING if _begins(shown.words, words)), None)
        with guarded(process):
            try:
                if serves:
                    until(lambda: process.poll() is not None or serves(text, log))
                    process.send_signal(signal.SIGTERM)
                code = process.wait(PATIENCE)
            except (subprocess.TimeoutExpired, AssertionError):
                return f"{text}: it hangs: {_end_of(log)}"
        expected = code == shown.code if shown.code is not None else code >= 0 and code not in NEVER
        if (
            expected
            and not (serves and code)
            and "Traceback" not in log.read_text(errors="replace")
        ):
            return None
        return f"{text}: exit code {code}: {_end_of(log)}"

    def start(self, text: str, log: Path) -> "subprocess.Popen[bytes]":
        """Start what is printed, in a shell and a session of its own; to be ended by
        ``guarded``.
        """
        with log.open("ab") as file:
            return subprocess.Popen(
                ["bash", "-c", f"exec {text}" if "\n" not in text else text],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=self._environment(), cwd=self.home,
                start_new_session=True,
            )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"], *PLACES))
        # Whatever the tests are started with: compiling the program at each start takes a third of
        # a short command.
        return environment(hooked(PATH=path, HOME=str(self.home), PYTHONDONTWRITEBYTECODE=""))

    def _value(self, found: re.Match[str]) -> str:
        return self.placeholders[found[0]]() if found[0] in self.placeholders else found[0]


class OfRealCloud(Operator):
    """Somebody with all there is: cells, a Placement, hypervisors, a Redis with workers."""

    def __init__(self, home: Path, cloud: RealCloud, placement: Placement, broker: Redis) -> None:
        super().__init__(home, "")
        address = {"user": USER, "password": REDIS_PASSWORD, "host": HOST, "port": broker.port}
        section = CONFIG.format(**address, neutron=placement.url)
        cloud.config(self.config.parent)
        self.config.write_text(self.config.read_text() + section + nova_conf(placement.url))
        hosts = Hosts(home)
        hosts.have_all(cloud, cloud.cell1, cloud.cell2, cloud.cell3)
        reachable(self.config, hosts.template)
        self._cloud = cloud
        self._broker = broker
        self.placeholders |= {
            "RUN": self._newest_run,
            "CELL_UUID": lambda: cloud.uuids["cell1"],
            "HOST": lambda: HOST_UP,
            "INSTANCE_UUID": self._instance,
            "MACHINE_TYPE": lambda: "pc-q35-9.0",
            "NODE_UUID": self._stopped_node,
        }

    def _newest_run(self) -> str:
        client = Client(
            HOST, self._broker.port, username=USER, password=REDIS_PASSWORD, decode_responses=True
        )
        return next(iter(RedisStore(client, 3600).recent()))

    def _instance(self) -> str:
        found = (
            f"SELECT uuid FROM instances WHERE host = '{HOST_UP}' AND deleted = 0 ORDER BY id "
            "LIMIT 1"
        )
        return str(self._cloud.rows(self._cloud.cell1, found)[0][0])

    def _stopped_node(self) -> str:
        for statement in STOPPED:
            self._cloud.rows(self._cloud.cell1, statement)
        found = f"SELECT uuid FROM compute_nodes WHERE host = '{HOST_DOWN}' AND deleted = 0"
        return str(self._cloud.rows(self._cloud.cell1, found)[0][0])


class OfNothing(Operator):
    """Somebody who begins: the databases are there and empty, with the names that the documents
    take for granted.
    """

    DATABASES: Final = ("nova_api", "nova_cell0", "nova", "nova_cell1")

    def __init__(self, home: Path, server: MariaDB) -> None:
        """:param server: on which nobody else has databases of these names"""
        for database in self.DATABASES:
            server.drop(database)
            server.create(database)
        conf = NOVA_CONF.format(
            locks=home / "locks", cell1=server.url("nova"), api=server.url("nova_api")
        )
        super().__init__(home, f"[DEFAULT]\ntransport_url = rabbit://u:p@mq:5672/\n{conf}")
        self._server = server

    def _run(self, shown: Printed, printed: str) -> str | None:
        if "discover_hosts" in shown.words:
            for number in range(10, 30):
                self._server.execute(NODE.format(number), "nova")
        return super()._run(shown, printed)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def _begins(words: list[str], with_words: tuple[str, ...]) -> bool:
    return (
        words[0:1] == [OWN]
        and words[1 : 1 + len(with_words)] == list(with_words)
        and "--ping" not in words
    )


def serves_cells(_text: str, log: Path) -> bool:
    """Whether a worker says that it works."""
    return "serving cell" in log.read_text(errors="replace")


def _listens(text: str, _log: Path) -> bool:
    ports = re.findall(r"(?:--port |:)(\d{4,5})\b", text) or ["5555"]
    with suppress(OSError):
        create_connection((HOST, int(ports[0])), timeout=5).close()
        return True
    return False


def _tells_when(_text: str, log: Path) -> bool:
    return "next at" in log.read_text(errors="replace")


# Commands that serve until a signal ends them, and how each is known to be at work.
SERVING: Final[tuple[tuple[tuple[str, ...], Callable[[str, Path], bool]], ...]] = (
    (("worker",), serves_cells),
    (("flower",), _listens),
    (("beat",), _tells_when),
    (("metrics", "--listen"), _listens),
)
