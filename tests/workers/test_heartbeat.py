"""The end of a worker's heartbeat, at whatever it is just then."""

import logging
import threading
from collections.abc import Iterator

import pytest
from oslo_config.cfg import ConfigOpts
from redis import Redis as Client

from runs.conductor import Conductor
from runs.redis_store import RedisStore
from settings.files import load_configuration
from tests.support.command import until
from tests.support.services import Redis
from workers import heartbeat
from workers.heartbeat import Heartbeat
from workers.redis_client import run_store

DAY = 86_400


class SlowStore(RedisStore):
    """A store whose next sign of life waits until it may go on."""

    def __init__(self, client: Client) -> None:
        super().__init__(client, DAY)
        self.reached = threading.Event()
        self.may_go_on = threading.Event()

    def show_alive(self, worker: str, serves: object, lease: float) -> None:
        self.reached.set()
        self.may_go_on.wait()
        super().show_alive(worker, None, lease)


@pytest.fixture
def slow(client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SlowStore, Heartbeat]]:
    """A heartbeat with such a store, that has begun a sign of life."""
    store = SlowStore(client)
    monkeypatch.setattr(heartbeat, "run_store", lambda *_: store)
    beating = Heartbeat(
        None, Conductor(store, lambda _: None), load_configuration([]), (), "w@here"
    )
    beating.start()
    store.reached.wait()
    yield store, beating
    store.may_go_on.set()


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_a_sign_of_life_that_is_under_way_is_none_after_the_stop(
    slow: tuple[SlowStore, Heartbeat],
) -> None:
    store, beating = slow
    stopping = threading.Thread(target=beating.stop)
    stopping.start()
    store.may_go_on.set()
    stopping.join()
    assert store.workers() == {}
    until(lambda: "heartbeat" not in threads())
    assert store.workers() == {}


def test_a_sign_of_life_that_hangs_keeps_no_worker_from_its_end(
    slow: tuple[SlowStore, Heartbeat],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, beating = slow
    monkeypatch.setattr(heartbeat, "ANSWER", 0.05)
    caplog.set_level(logging.INFO, "cellkeeper.worker")
    beating.stop()
    assert (
        "the store could not be told that this worker ends: it does not answer" in caplog.messages
    )
    store.may_go_on.set()
    until(lambda: "heartbeat" not in threads())
    assert store.workers() == {}


@pytest.fixture
def conf(broker: Redis) -> ConfigOpts:
    """A configuration that names the Redis and no database."""
    broker.revive()
    read = load_configuration([])
    read.set_override("broker_url", broker.url(), "celery")
    return read


def test_what_a_heartbeat_cannot_do_is_told_once_and_when_it_can_again(
    broker: Redis,
    conf: ConfigOpts,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.02)
    caplog.set_level(logging.INFO, "cellkeeper.worker")
    store = run_store(conf, 0)
    beating = Heartbeat(None, Conductor(store, lambda _: None), conf, (), "w@here")
    broker.kill()
    try:
        beating.start()
        until(lambda: any(line.startswith("signs of life: ") for line in caplog.messages))
        broker.start()
        until(lambda: "signs of life: it works again" in caplog.messages)
        until(lambda: "runs: it works again" in caplog.messages)
    finally:
        broker.revive()
        beating.stop()
    until(lambda: "heartbeat" not in threads())
    signs = [line for line in caplog.messages if line.startswith("signs of life: ")]
    assert len(signs) == 2
    assert store.workers() == {}
