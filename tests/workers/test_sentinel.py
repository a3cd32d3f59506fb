"""The Redis of the runs behind a Sentinel: with a password, and in a database that is not the
first.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis as Client
from redis.exceptions import RedisError

from runs.redis_store import RedisStore
from settings.brokers import RedisAddress
from tests.support.command import until
from tests.support.inventory import Inventory
from tests.support.realcloud import RealCloud
from tests.support.services import HOST, Redis
from tests.workers.conftest import PASSWORD
from tests.workers.fleet import EXPIRES, Site
from tests.workers.test_refusing_redis import LOST
from workers.redis_client import redis_client

DATABASE = 2
MASTER = "ours"
ARCHIVE = "db archive_deleted_rows --all-cells --until-complete"
SCHEDULE = """
[schedule]
enabled = often
[schedule_often]
cron = */5 * * * * *
command = db purge --all-cells --before 2000-01-01
"""
FOR_EVER = 600.0  # seconds
# The times of an operator: those of the other tests are shorter than what a Sentinel takes.
USUAL = {"CELLKEEPER_TEST_PATIENCE": json.dumps({"runs.follow:AWAY": FOR_EVER})}


class Sentinel(Redis):
    """A Sentinel, which tells where the master is, and soon makes a replica one if it is silent."""

    def __init__(self, master: Redis) -> None:
        super().__init__()
        self._master = master

    def prepare(self) -> None:
        """Write its configuration, which it keeps up to date itself."""
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            f"sentinel monitor {MASTER} {HOST} {self._master.port} 1",
            f"sentinel auth-pass {MASTER} {self._master.password}",
            f"sentinel down-after-milliseconds {MASTER} 1000",
        ]
        (self.folder / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [self.programs["redis-server"], str(self.folder / "sentinel.conf"), "--sentinel"]

    def answers(self) -> bool:
        try:
            return Client(HOST, self.port).ping()
        except RedisError:
            return False

    def replicas(self) -> int:
        """How many replicas it knows that could become the master."""
        with Client(HOST, self.port) as client:
            known = client.sentinel_slaves(MASTER)
        return sum(replica["master-link-status"] == "ok" for replica in known)

    def address(self) -> RedisAddress:
        """The Redis that it knows, as a client is told of it."""
        place = HOST, self.port
        return RedisAddress(
            *place, password=PASSWORD, database=DATABASE, sentinels=(place,), master=MASTER
        )


@pytest.fixture
def sentinel(broker: Redis) -> Iterator[Sentinel]:
    with Sentinel(broker) as server:
        yield server


def behind(sentinel: Sentinel, site: Site, master: Redis) -> Site:
    """A site whose Redis is known by way of a Sentinel."""
    url = f"sentinel://:{PASSWORD}@{HOST}:{sentinel.port}/{DATABASE}"
    text = site.config.read_text().replace(
        master.url(DATABASE), f"{url};{url}\nsentinel_master = {MASTER}"
    )
    site.config.write_text(text)
    return site


def test_a_run_by_way_of_a_sentinel(
    realcloud: RealCloud, broker: Redis, sentinel: Sentinel, tmp_path: Path
) -> None:
    site = behind(sentinel, Site(realcloud, broker, tmp_path, DATABASE), broker)
    with site.worker() as worker:
        worker.serve()
        ended = site.call(ARCHIVE)
    assert (ended.code, ended.err) == (1, "")
    assert PASSWORD not in worker.log
    (run,) = site.store.recent()
    assert site.record(run).exit_code == 1
    checked = {
        row["where"]: row["verdict"] for row in site.call("check -f json").document["findings"]
    }
    assert checked["Redis"] == "ok"


# -- a master that hangs ---------------------------------------------------------------------------


@pytest.fixture
def master() -> Iterator[Redis]:
    with Redis("--masterauth", PASSWORD, password=PASSWORD) as server:
        yield server


@pytest.fixture
def replica(master: Redis) -> Iterator[Redis]:
    """What takes the place of the master."""
    with Redis(
        "--masterauth", PASSWORD, "--replicaof", f"{HOST} {master.port}", password=PASSWORD
    ) as server:
        yield server


@pytest.fixture
def watching(master: Redis, replica: Redis) -> Iterator[Sentinel]:
    """A Sentinel that knows both."""
    with Sentinel(master) as server:
        until(lambda: server.replicas() == 1)
        yield server


def is_master(server: Redis) -> bool:
    return "role:master" in server.execute("INFO replication")


def test_a_request_that_is_under_way_goes_to_the_new_master(
    master: Redis, replica: Redis, watching: Sentinel
) -> None:
    """Though it waits as long as it may, and its connection was to the old one."""
    client = redis_client(watching.address(), FOR_EVER)
    client.set("known", "before")
    until(
        lambda: (
            Client(HOST, replica.port, DATABASE, PASSWORD, decode_responses=True).get("known")
            == "before"
        )
    )
    master.pause()
    with ThreadPoolExecutor() as pool:
        request = pool.submit(client.get, "known")
        until(lambda: is_master(replica))
        assert request.result() == "before"
    (connection,) = client.connection_pool._available_connections
    assert connection.port == replica.port


def test_a_run_outlives_a_master_that_hangs(
    realcloud: RealCloud, master: Redis, replica: Redis, watching: Sentinel, tmp_path: Path
) -> None:
    """Worker, command and beat go to the new one, and the old one harms nothing when it wakes
    up.
    """
    site, before = (
        behind(watching, Site(realcloud, master, tmp_path, DATABASE), master),
        Inventory(realcloud),
    )
    site.config.write_text(site.config.read_text() + SCHEDULE)
    new_store = RedisStore(Client.from_url(replica.url(DATABASE), decode_responses=True), EXPIRES)
    with site.worker(env=USUAL) as worker:
        worker.serve()
        with site.start("beat", env=USUAL) as beat:
            running = site.start(f"{ARCHIVE} --max_rows 100 --sleep 0.3", env=USUAL)
            run = site.begun(running)
            until(lambda: site.rows(run) > 0)
            master.pause()
            until(lambda: is_master(replica))
            known = set(new_store.recent())
            ended = running.end()
            assert (ended.code, ended.err) == (1, "")
            before.check_complete()
            assert new_store.run(run).exit_code == 1
            until(
                lambda: any(name.startswith("often-") for name in set(new_store.recent()) - known)
            )
            assert beat.process.poll() is None
            master.resume()
            until(lambda: not is_master(master))
            assert site.call(ARCHIVE).code == 0
            before.check_complete()
            assert "Traceback" not in site.log + beat.err
        worker.terminate()
        assert worker.process.wait(60) == 0
    assert worker.log.count(LOST) <= 1
    assert "Traceback" not in worker.log
    assert "DeprecationWarning" not in worker.log
