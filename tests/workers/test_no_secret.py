"""During runs that succeed, fail and retry, no password and no database URL is seen anywhere but in nova.conf."""

import re
import socket
import threading
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis as Client

from tests.realcloud import RealCloud
from tests.services import HOST, MariaDB, Redis
from tests.workers.conftest import PASSWORD
from tests.workers.fleet import Site

ARCHIVE = "db archive_deleted_rows --all-cells --until-complete"
OLD_PASSWORD = "nova-secret-of-old"


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
    """The command lines of all processes that a worker has started, as everybody on its host sees them."""
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
def seen(shared_site: Site, loaded_realcloud: RealCloud) -> dict[str, str]:
    """All that can be seen while some runs go on, by where it was seen."""
    site, cloud = shared_site, loaded_realcloud
    cloud.restore()
    wrong, unknown = cloud.server.url(cloud.cell2, password=OLD_PASSWORD), cloud.server.url("nova_cell9")
    for name, url in (("cell2", wrong), ("cell3", unknown)):
        cloud.rows(cloud.api, f"UPDATE cell_mappings SET database_connection = '{url}' WHERE name = '{name}'")
    monitor, stored, named = Monitor(site.broker), [], []
    site.config.write_text(site.config.read_text().replace("[database]", "[DEFAULT]\ndebug = true\n[database]"))
    with site.worker() as worker:
        worker.serve()
        for line, code in ((f"{ARCHIVE} --max_rows 100 --purge", 255), ("db purge --all --all-cells", 255)):
            with site.start(line) as running:
                while running.process.poll() is None:
                    stored.append(dump(site))
                    named.append(titles(worker.process.pid))
                assert running.end().code == code
        stored.append(dump(site))
        log = worker.log
    return {
        "store": readable("\n".join(stored)),
        "titles": "\n".join(named),
        "log": readable(log),
        "traffic": readable(monitor.end()),
    }


# Where, and what must have been seen there: else nothing was looked at.
PLACES = {
    "store": ("cellkeeper:run:", "cell2", "Access denied", "Unknown database"),
    "titles": ("cellkeeper", "worker", "--config-file"),
    "log": ("serving cell3", "Task db.archive_deleted_rows", "run "),
    "traffic": ("cellkeeper:run:", '"LPUSH" "cell.', "task-succeeded", "worker-heartbeat", "Access denied"),
}


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_seen(seen: dict[str, str], place: str) -> None:
    for word in PLACES[place]:
        assert word in seen[place]
    for secret in (MariaDB.PASSWORD, OLD_PASSWORD, PASSWORD):
        assert secret not in seen[place]
    urls = re.findall(r"(?:mysql|mariadb)(?:\+\w+)?://\S*|\w+:\S+@127\.0\.0\.1\S*", seen[place])
    assert [url for url in urls if ":**@" not in url] == []


def test_the_worker_writes_what_it_shows_and_not_more(seen: dict[str, str]) -> None:
    """Celery prints the broker's URL at its start, without the password."""
    assert f"redis://:**@{HOST}:" in seen["log"]
