"""A Redis that answers and takes no writes, or loads its data: it is waited for like one that is away, in two lines."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.command import until
from tests.support.services import HOST, Redis, free_port
from tests.workers.conftest import PASSWORD
from tests.workers.fleet import PATIENCE, Site, Worker
from tests.workers.sqlite_cloud import SqliteCloud

ARCHIVE = "db archive_deleted_rows --all-cells --until-complete"
SLOWLY = f"{ARCHIVE} --max_rows 10 --sleep 0.3"
LOST = "the broker cannot be used, it is waited for: "
FOUND = "Connected to redis://"
NO_DATA = "saved.rdb"
# A command waits longer for a Redis than a single request of it does.
PATIENT = {"CELLKEEPER_TEST_PATIENCE": json.dumps(PATIENCE | {"runs.follow:AWAY": 60.0})}


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
    """It told once that it was lost and once that it is back, and never showed where in the code."""
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
        (found,) = [one for one in site.call("check -f json").document["findings"] if one["what"] == "writes"]
        assert found["verdict"] == "failed"
        assert word in found["detail"]
        refused = site.call(ARCHIVE)
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
