"""During runs that succeed, fail and retry, no password and no database URL is seen anywhere but in
nova.conf.
"""

import re
import socket
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from redis import Redis as Client

from tests.support.command import Ended
from tests.support.placement import Placement
from tests.support.realcloud import RealCloud, load
from tests.support.relay import Relay
from tests.support.services import HOST, MariaDB, Redis, free_port
from tests.workers.conftest import PASSWORD
from tests.workers.fleet import Site

ARCHIVE: Final = "db archive_deleted_rows --all-cells --until-complete"
HEAL: Final = "placement heal_allocations"
OLD_PASSWORD: Final = "nova-secret-of-old"
TOKEN, PLACEMENT_PASSWORD, NEUTRON_PASSWORD = (
    "placement-token",
    "placement-secret",
    "neutron-secret",
)
SECRETS: Final = (
    MariaDB.PASSWORD,
    OLD_PASSWORD,
    PASSWORD,
    TOKEN,
    PLACEMENT_PASSWORD,
    NEUTRON_PASSWORD,
)
DATABASE: Final = "placement_of_secrets"

BY_TOKEN: Final = f"""\
[placement]
auth_type = admin_token
token = admin:{TOKEN}
endpoint = {{url}}
"""
BY_PASSWORD: Final = """\
[{section}]
auth_type = password
auth_url = {url}/v3
username = nova
password = {password}
user_domain_name = Default
project_name = service
project_domain_name = Default
"""


class Monitor:
    """Everything that anybody asks of Redis: keys and values, messages, task events."""

    def __init__(self, broker: Redis) -> None:
        self._link = socket.create_connection((HOST, broker.port))
        self._link.sendall(f"AUTH {broker.password}\r\nMONITOR\r\n".encode())
        self._seen: list[bytes] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while part := self._link.recv(1 << 16):
            self._seen.append(part)

    def end(self) -> str:
        """Stop; returns all that was seen."""
        self._link.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._link.close()
        return b"".join(self._seen).decode(errors="replace")


def readable(text: str) -> str:
    """A text with what Celery wrapped in Base64, unwrapped behind it."""
    found = [text]
    for word in re.findall(r"[A-Za-z0-9+/]{40,}={0,2}", text):
        with suppress(ValueError):
            found.append(b64decode(word, validate=True).decode(errors="replace"))
    return "\n".join(found)


def titles(session: int) -> str:
    """The command lines of all processes that a worker has started, as everybody on its host sees
    them.
    """
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[3]) == session:
                found.append((folder / "cmdline").read_text().replace("\0", " "))
    return "\n".join(found)


READERS: dict[str, Callable[[Client, str], object]] = {
    "hash": Client.hgetall,
    "string": Client.get,
    "set": Client.smembers,
    "list": lambda client, key: client.lrange(key, 0, -1),
    "zset": lambda client, key: client.zrange(key, 0, -1),
}


def dump(site: Site) -> str:
    """All keys of Redis with their values."""
    found = []
    for key in site.client.scan_iter():
        kind = site.client.type(key)
        read = READERS.get(str(kind))
        found.append(f"{key} {read(site.client, key) if read else kind}")
    return "\n".join(found)


@pytest.fixture(scope="module")
def placement(mariadb: MariaDB) -> Iterator[Placement]:
    """The Placement of the real cloud: some instances lack allocations."""
    load(mariadb, DATABASE, "placement.sql.gz")
    with Placement(mariadb, DATABASE) as server:
        yield server


@pytest.fixture(scope="module")
def keystone() -> Iterator[Relay]:
    """A Keystone that takes no password."""
    with Relay(free_port()) as relay:
        here = {
            "id": "v3.14",
            "status": "stable",
            "links": [{"rel": "self", "href": f"{relay.url}/v3"}],
        }
        relay.fail("GET", "/v3", status=200, body={"version": here})
        relay.fail(
            "POST",
            "/v3/auth/tokens",
            status=401,
            body={"error": {"code": 401, "message": "refused"}},
        )
        yield relay


class Eye:
    """Sees what anybody could while commands run."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._monitor = Monitor(site.broker)
        self._bare = f"[DEFAULT]\ndebug = true\n{site.config.read_text()}"
        self._stored: list[str] = []
        self._named: list[str] = []
        self._logs: list[str] = []
        self._told: list[str] = []

    def watch(self, name: str, services: str, *lines: str) -> list[Ended]:
        """Run some commands by a worker of its own, whose nova.conf says how to reach services."""
        self._site.config.write_text(self._bare + services)
        with self._site.worker(name=name) as worker:
            worker.serve()
            ended = [self._run(line, worker.process.pid) for line in lines]
            self._logs.append(worker.log)
        return ended

    def _run(self, line: str, session: int) -> Ended:
        with self._site.start(line) as running:
            while running.process.poll() is None:
                self._stored.append(dump(self._site))
                self._named.append(
                    titles(session) + Path(f"/proc/{running.process.pid}/cmdline").read_text()
                )
            ended = running.end()
        self._stored.append(dump(self._site))
        self._told.append(ended.out + ended.err)
        return ended

    def close(self) -> dict[str, str]:
        """Stop; returns all that was seen, by where it was seen."""
        return {
            "store": readable("\n".join(self._stored)),
            "titles": "\n".join(self._named),
            "log": readable("\n".join(self._logs)),
            "traffic": readable(self._monitor.end()),
            "commands": "\n".join(self._told) + self._site.log,
        }


@pytest.fixture(scope="module")
def seen(
    shared_site: Site, loaded_realcloud: RealCloud, placement: Placement, keystone: Relay
) -> dict[str, str]:
    """All that can be seen while some runs go on, by where it was seen.

    One cell has a wrong password, another no database; each secret is used.
    """
    cloud = loaded_realcloud
    cloud.restore()
    wrong, unknown = (
        cloud.server.url(cloud.cell2, password=OLD_PASSWORD),
        cloud.server.url("nova_cell9"),
    )
    for name, url in (("cell2", wrong), ("cell3", unknown)):
        cloud.rows(
            cloud.api,
            f"UPDATE cell_mappings SET database_connection = '{url}' WHERE name = '{name}'",
        )
    eye = Eye(shared_site)
    services = BY_TOKEN.format(url=placement.url) + BY_PASSWORD.format(
        section="neutron", url=keystone.url, password=NEUTRON_PASSWORD
    )
    first = eye.watch("token", services, HEAL, f"{HEAL} --skip-port-allocations -f json")
    assert "cell1" in first[0].err
    assert [cell["created"] > 0 for cell in first[1].document["cells"]] == [True, False, False]
    services = BY_PASSWORD.format(
        section="placement", url=keystone.url, password=PLACEMENT_PASSWORD
    )
    rows = (f"{ARCHIVE} --max_rows 100 --purge", "db purge --all --all-cells")
    second = eye.watch("password", services, f"{HEAL} --skip-port-allocations", *rows)
    assert [ended.code for ended in (*first, *second)] == [255] * 5
    asked = str(keystone.asked)
    assert NEUTRON_PASSWORD in asked
    assert PLACEMENT_PASSWORD in asked
    return eye.close()


# Where, and what must have been seen there: else nothing was looked at.
PLACES = {
    "store": (
        "cellkeeper:run:",
        "cell2",
        "Access denied",
        "Unknown database",
        "placement.heal_allocations",
    ),
    "titles": ("cellkeeper", "worker", "--config-file", "heal_allocations"),
    "log": (
        "serving cell3",
        "Task db.archive_deleted_rows",
        "run ",
        "Task placement.heal_allocations",
    ),
    "traffic": (
        "cellkeeper:run:",
        '"LPUSH" "cell.',
        "task-succeeded",
        "worker-heartbeat",
        "Access denied",
    ),
    "commands": ("cell2 (", "Access denied", "cell3 (", "Neutron: "),
}


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_seen(seen: dict[str, str], place: str) -> None:
    for word in PLACES[place]:
        assert word in seen[place]
    for secret in SECRETS:
        assert secret not in seen[place]
    urls = re.findall(r"(?:mysql|mariadb)(?:\+\w+)?://\S*|\w+:\S+@127\.0\.0\.1\S*", seen[place])
    assert [url for url in urls if ":**@" not in url] == []


def test_the_worker_writes_what_it_shows_and_not_more(seen: dict[str, str]) -> None:
    """Celery prints the broker's URL at its start, without the password."""
    assert f"redis://:**@{HOST}:" in seen["log"]
