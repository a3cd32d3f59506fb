"""A Redis that answers and takes no writes, or loads its data: it is waited for like one that is
away, in two lines.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis as Client
from redis.exceptions import RedisError

from settings.brokers import RedisAddress
from tests.support.command import until
from tests.support.services import HOST, Redis, free_port
from tests.workers.conftest import PASSWORD
from tests.workers.fleet import PATIENCE, Site, Worker
from tests.workers.sqlite_cloud import SqliteCloud
from workers.redis_client import redis_client

ARCHIVE = "db archive_deleted_rows --all-cells --until-complete"
SLOWLY = f"{ARCHIVE} --max_rows 10 --sleep 0.3"
LOST = "the broker cannot be used, it is waited for: "
FOUND = "Connected to redis://"
NO_DATA = "saved.rdb"
LOADING = "Redis is loading the dataset in memory"
WAITED_FOR = f"Store or broker cannot be used, they are waited for: {LOADING}"
MANY_KEYS = 60_000
SLOWLY_LOADED = ("--key-load-delay", "2000")  # microseconds: minutes for all of them
SCHEDULE = """
[schedule]
enabled = daily
[schedule_daily]
cron = 0 3 * * *
command = db purge --all-cells --all
"""
# A command waits longer for a Redis than a single request of it does.
PATIENT = {"CELLKEEPER_TEST_PATIENCE": json.dumps(PATIENCE | {"runs.follow:AWAY": 600.0})}


def become_replica(redis: Redis) -> None:
    redis.execute(f"REPLICAOF {HOST} {free_port()}")


def fail_to_save(redis: Redis) -> None:
    """Its data are to be written where a folder stands."""
    (redis.folder / NO_DATA).mkdir()
    assert redis.execute('CONFIG SET save "3600 1"', "BGSAVE")[0] == "+OK"
    until(lambda: "rdb_last_bgsave_status:err" in "\n".join(redis.execute("INFO persistence")))


def be_full(redis: Redis) -> None:
    redis.execute("CONFIG SET maxmemory 1")


REFUSALS: dict[str, tuple[Callable[[Redis], None], list[str], str]] = {
    "replica": (become_replica, ["REPLICAOF NO ONE"], "read only replica"),
    "unsaved": (fail_to_save, ["CONFIG SET stop-writes-on-bgsave-error no"], "MISCONF"),
    "full": (be_full, ["CONFIG SET maxmemory 0"], "maxmemory"),
}


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A Redis of its own, which may be told to refuse."""
    with Redis("--dbfilename", NO_DATA, password=PASSWORD) as server:
        yield server


@pytest.fixture
def refusing(redis: Redis, tmp_path: Path) -> Site:
    """The cloud with it."""
    return Site(SqliteCloud(), redis, tmp_path)


def check_is_calm(worker: Worker) -> None:
    """It told once that it was lost and once that it is back, and never showed where in the
    code.
    """
    assert "Traceback" not in worker.log
    assert worker.log.count(LOST) == 1
    assert worker.log.count(FOUND) == 2  # at the start, and again
    assert worker.log.count("Cannot connect") == 0


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_redis_that_refuses_writes_is_waited_for(refusing: Site, redis: Redis, kind: str) -> None:
    site, (refuse, heal, word) = refusing, REFUSALS[kind]
    with site.worker() as worker:
        worker.serve()
        running = site.start(f"{SLOWLY} -f json", env=PATIENT)
        run = site.begun(running)
        until(lambda: site.rows(run) > 0)
        refuse(redis)
        worker.wait_for(LOST)
        worker.wait_for("signs of life: ")
        findings = site.call("check -f json").document["findings"]
        (found,) = [one for one in findings if one["what"] == "writes"]
        assert found["verdict"] == "failed"
        assert word in found["detail"]
        assert "workers" not in {one["what"] for one in findings}, "nobody can give a sign of life"
        for line in (ARCHIVE, "worker --ping --name w@here"):
            refused = site.call(line)
            assert (refused.code, refused.out) == (255, "")
            assert refused.line.startswith("The store of runs cannot be used: ")
        assert site.call("runs list").code == 0
        assert running.process.poll() is None
        assert worker.process.poll() is None
        redis.execute(*heal)
        worker.wait_for("signs of life: it works again")
        ended = running.end()
        assert ended.code == 1
        check_is_calm(worker)
        worker.terminate()
        assert worker.process.wait(60) == 0


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_is_refused_within_a_script_is_told_without_the_script(
    redis: Redis, kind: str
) -> None:
    refuse, _, word = REFUSALS[kind]
    refuse(redis)
    client = redis_client(RedisAddress(HOST, redis.port, password=PASSWORD), 0)
    with pytest.raises(RedisError) as refused:
        client.register_script("return redis.call('SET', 'cellkeeper', '')")()
    assert word in str(refused.value)
    assert "script" not in str(refused.value)


def have_much_to_load(redis: Redis) -> None:
    """Fill a database that nobody uses."""
    with Client.from_url(redis.url(9)) as client, client.pipeline(transaction=False) as pipe:
        for number in range(MANY_KEYS):
            pipe.set(f"key {number}", "")
        pipe.execute()


@contextmanager
def loading(redis: Redis) -> Iterator[None]:
    """Start a Redis again, which loads its data until the end of the context."""
    redis.options = SLOWLY_LOADED
    starting = threading.Thread(target=redis.start)
    starting.start()
    try:
        until(lambda: says(redis, f"-LOADING {LOADING}"))
        yield
    finally:
        assert redis.execute("CONFIG SET key-load-delay 0") == ["+OK"]
        starting.join()


def says(redis: Redis, answer: str) -> bool:
    """Whether a Redis that may still be down gives an answer."""
    try:
        return redis.execute("PING") == [answer]
    except OSError:
        return False


def test_a_redis_that_loads_its_data_is_waited_for(refusing: Site, redis: Redis) -> None:
    site = refusing
    site.config.write_text(site.config.read_text() + SCHEDULE)
    have_much_to_load(redis)
    with site.worker() as worker:
        worker.serve()
        running = site.start(f"{SLOWLY} -f json", env=PATIENT)
        run = site.begun(running)
        until(lambda: site.rows(run) > 0)
        redis.kill()
        with loading(redis), site.worker(name="late") as late, site.start("beat") as beat:
            for words in (LOST, "signs of life: "):
                worker.wait_for(words)
            late.wait_for(WAITED_FOR)
            until(lambda: WAITED_FOR in site.log)
            (found,) = [
                row
                for row in site.call("check -f json").document["findings"]
                if row["where"] == "Redis"
            ]
            assert (found["verdict"], found["detail"]) == ("failed", LOADING)
            refused = site.call(ARCHIVE)
            assert (refused.code, refused.out) == (255, "")
            assert refused.line == f"The store of runs cannot be used: {LOADING}"
            assert (running.process.poll(), running.err, beat.process.poll()) == (None, "", None)
            assert (late.log.count(LOADING), site.log.count(WAITED_FOR)) == (1, 1)
        worker.wait_for("signs of life: it works again")
        assert running.end().code == 1
        check_is_calm(worker)
        worker.terminate()
        assert worker.process.wait(60) == 0


def test_a_redis_that_refuses_the_login_is_named(site: Site) -> None:
    port = site.broker.port
    ended = site.start(
        "runs list", env={"OS_CELERY__STORE_URL": f"redis://:wrong@127.0.0.1:{port}/0"}
    ).end()
    assert (ended.code, ended.out) == (255, "")
    assert ended.line.startswith(
        f"The store of runs cannot be used: the Redis at 127.0.0.1:{port} refuses the login: "
    )
