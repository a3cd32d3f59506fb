"""Who looks at a server, and who goes by what others have seen."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from novadb.engine import Database
from runs import throttles as module
from runs.memory_store import MemoryStore
from runs.throttles import Throttles
from settings.databases import Timeouts
from throttle.readings import CONNECTION, Answer, Reading, ServerState

CELL1 = Database("mysql://nova:pw@db1/nova_cell1", "cell1", Timeouts())
CELL2 = Database("mysql://nova:pw@DB1/nova_cell2", "cell2", Timeouts())
ELSEWHERE = Database("mysql://nova:pw@db2/nova_cell3", "cell3", Timeouts())
BUSY = Reading("threads_running", Answer.STOP, "60 threads running")
SILENT = Reading(CONNECTION, Answer.UNKNOWN, "cell1: it does not answer")


class Watch:
    """Sees what a test wants, and counts its looks."""

    def __init__(self, reading: Reading, before: Callable[[], object] = lambda: None) -> None:
        self.looks = 0
        self._reading = reading
        self._before = before

    def look(self, _before: ServerState | None) -> ServerState:
        self.looks += 1
        self._before()
        return ServerState(time.time(), [self._reading])

    def close(self) -> None:
        pass


def test_cells_of_one_server_share_a_look_and_others_have_their_own() -> None:
    watches: dict[str, Watch] = {}

    def watch(database: Database) -> Watch:
        return watches.setdefault(database.name, Watch(BUSY))

    throttles = Throttles(MemoryStore(), watch, every=1000.0)
    assert [throttles.verdict(database) for database in (CELL1, CELL2, CELL1, ELSEWHERE)] == [
        BUSY
    ] * 4
    assert {name: watch.looks for name, watch in watches.items()} == {"cell1": 1, "cell3": 1}


def test_processes_share_a_look_by_way_of_the_store() -> None:
    store, watch = MemoryStore(), Watch(BUSY)
    processes = [Throttles(store, lambda _: watch, every=1000.0) for _ in range(3)]
    store.keep_look(CELL1.server, ServerState(store.now(), [BUSY]))
    assert [process.verdict(CELL1) for process in processes] == [BUSY] * 3
    assert watch.looks == 1


def test_a_watch_that_was_closed_is_made_anew_by_the_url_that_the_cell_has_then() -> None:
    urls: list[str] = []

    def watch(database: Database) -> Watch:
        urls.append(database.url.password or "")
        return Watch(BUSY)

    throttles = Throttles(MemoryStore(), watch, every=0.0)
    throttles.verdict(CELL1)
    throttles.verdict(CELL1)
    throttles.close()
    throttles.verdict(Database("mysql://nova:new@db1/nova_cell1", "cell1", Timeouts()))
    assert urls == ["pw", "new"]


def test_a_silent_server_does_not_hold_up_cell_after_cell() -> None:
    watch = Watch(SILENT)
    throttles = Throttles(MemoryStore(), lambda _: watch, every=0.0)
    assert [throttles.verdict(CELL1) for _ in range(5)] == [None] * 5
    assert watch.looks == 1


def test_who_finds_a_look_under_way_waits_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_PATIENCE", 0.01)
    looking, may_end = threading.Event(), threading.Event()

    def hang() -> None:
        looking.set()
        may_end.wait()

    throttles = Throttles(MemoryStore(), lambda _: Watch(BUSY, hang))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(throttles.verdict, CELL1)
        looking.wait()
        assert throttles.verdict(CELL2) is None
        may_end.set()
        assert first.result() == BUSY
    assert throttles.verdict(CELL2) == BUSY


def test_nobody_goes_on_before_the_first_look_of_another_process_has_ended() -> None:
    store, looking, may_end = MemoryStore(), threading.Event(), threading.Event()

    def hang() -> None:
        looking.set()
        may_end.wait()

    first, second = (Throttles(store, lambda _: Watch(BUSY, hang), every=1000.0) for _ in range(2))
    with ThreadPoolExecutor(2) as pool:
        looks = pool.submit(first.verdict, CELL1)
        looking.wait()
        waits = pool.submit(second.verdict, CELL2)
        may_end.set()
        assert (looks.result(), waits.result()) == (BUSY, BUSY)
