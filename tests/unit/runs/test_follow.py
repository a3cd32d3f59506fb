"""Following a run: what its command is told, and what becomes of a stop, with the store in
memory.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs.action import CellResult, Step
from novadb.cells import Cell
from runs import follow as module
from runs import rules
from runs.conductor import Conductor, Fleet
from runs.follow import Follower
from runs.memory_store import MemoryStore
from runs.outcomes import ending_of
from runs.pace import Speed
from runs.records import Bell, View
from runs.rules import Claimant, Patience
from runs.store import RunGone, StoreAway
from tests.support.run_records import A, B, moved, order

LEASE = 1e9


class ShakyStore(MemoryStore):
    """A store that can be away.

    :ivar failures: how many questions are not answered from now on
    """

    away = (RedisConnectionError,)
    failures = 0

    def run(self, run: str) -> Any:
        self._shake()
        return super().run(run)

    def change_run(self, *words: Any, **named: Any) -> Any:
        self._shake()
        return super().change_run(*words, **named)

    def _shake(self) -> None:
        if self.failures:
            self.failures -= 1
            raise RedisConnectionError("Connection refused.")


class Diary:
    """A listener that writes down what it is told."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, ...]] = []
        self.speeds: list[tuple[str, Speed]] = []

    def started(self, cell: Cell) -> None:
        self.entries.append((cell.label, "started"))

    def stepped(self, cell: Cell, rows: int) -> None:
        self.entries.append((cell.label, rows))

    def paced(self, cell: Cell | None, speed: Speed) -> None:
        self.speeds.append((cell.label if cell else "", speed))

    def throttled(self, cell: Cell, reason: str) -> None:
        self.entries.append((cell.label, reason or "goes on"))

    def finished(self, result: CellResult[Any]) -> None:
        self.entries.append((result.cell.label, "complete" if result.complete else "incomplete"))


class Worker:
    """Answers bells at once, in the process of whoever rings.

    :ivar steps: rows of each step of a cell
    :ivar behind_a_step: what happens then
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.bells: list[Bell] = []
        self.conductor = Conductor(store, self.bells.append)

    def work(self, *steps: int) -> None:
        """Work the cells that were rung, to their end."""
        while self.bells:
            bell = self.bells.pop(0)
            who = Claimant(bell.cell, "w", LEASE)
            self._change(
                bell,
                lambda view, bell=bell, who=who: rules.claim(
                    replace(view, now=0.0), bell.phase, who
                ),
            )  # type: ignore[misc]
            for rows in steps:
                self._change(
                    bell,
                    lambda view, who=who, rows=rows: rules.record_step(
                        view.cell, who, 0.0, Step(moved(0), {}), moved(rows)
                    ),
                )  # type: ignore[misc]
            view = self._change(
                bell,
                lambda view, who=who: rules.finish_cell(
                    view.cell, who.token, 1.0, None, complete=True
                ),
            )  # type: ignore[misc]
            assert isinstance(view, View)
            self.conductor.cell_ended(view)

    def _change(self, bell: Bell, rule: Callable[[View], Any]) -> Any:
        return self._store.change_cell(bell.run, bell.phase, bell.number, rule)


@pytest.fixture
def store() -> ShakyStore:
    return ShakyStore()


@pytest.fixture
def worker(store: ShakyStore) -> Worker:
    return Worker(store)


def test_a_listener_hears_begin_rows_and_end_of_each_cell_of_its_phase(worker: Worker) -> None:
    worker.conductor.start(order(purge=True), (A, B))
    diaries = [Diary(), Diary()]
    looks = iter([lambda: worker.work(2, 5), lambda: None])
    follower = Follower(
        worker.conductor, threading.Event(), diaries, on_look=lambda: next(looks, lambda: None)()
    )
    finished = follower.follow("r")
    assert (finished.code, len(finished.phases)) == (1, 2)
    assert sorted(map(str, diaries[0].entries)) == sorted(
        map(
            str,
            [
                (label, what)
                for label in ("cell-a", "cell-b")
                for what in ("started", 5, "complete")
            ],
        )
    )
    assert {entry[0] for entry in diaries[1].entries} == {"cell-a", "cell-b"}


def test_a_listener_is_told_how_fast_it_goes_in_each_cell_at_work_and_in_all(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TELL_SPEED", 0.0)
    worker.conductor.start(order(), (A, B))
    diary, bell, who = Diary(), worker.bells.pop(0), Claimant("t", "w", LEASE)

    def begin() -> None:
        worker._change(bell, lambda view: rules.claim(view, 0, who))
        worker._change(
            bell,
            lambda view: rules.record_step(
                view.cell, who, view.now, Step(moved(5), {}, 40), moved(5)
            ),
        )

    def end() -> None:
        worker._change(
            bell,
            lambda view: rules.finish_cell(view.cell, who.token, view.now, None, complete=True),
        )
        worker.work(1)

    looks = iter([begin, lambda: None, end])
    Follower(
        worker.conductor, threading.Event(), [diary], on_look=lambda: next(looks, lambda: None)()
    ).follow("r")
    assert ("cell-a", Speed(None, 40)) in diary.speeds, "a moment after its begin there is no rate"
    assert {label for label, _ in diary.speeds} == {"cell-a", ""}


def test_a_listener_is_told_why_work_pauses_and_that_it_goes_on(worker: Worker) -> None:
    worker.conductor.start(order(), (A,))
    diary, bell, who = Diary(), worker.bells.pop(0), Claimant("t", "w", LEASE)

    def throttle(reason: str) -> None:
        worker._change(bell, lambda view: rules.throttle(view.cell, who, view.now, reason))

    def end() -> None:
        finished = worker._change(
            bell, lambda view: rules.finish_cell(view.cell, "t", view.now, None, complete=True)
        )
        worker.conductor.cell_ended(finished)

    worker._change(bell, lambda view: rules.claim(view, 0, who))
    looks = iter(
        [lambda: throttle("5 s behind"), lambda: throttle("5 s behind"), lambda: throttle(""), end]
    )
    Follower(
        worker.conductor, threading.Event(), [diary], on_look=lambda: next(looks, lambda: None)()
    ).follow("r")
    assert diary.entries == [
        ("cell-a", "started"),
        ("cell-a", "5 s behind"),
        ("cell-a", "goes on"),
        ("cell-a", "complete"),
    ]


def test_a_stop_cancels_the_run_once_in_the_name_of_whoever_ordered_it(
    store: ShakyStore, worker: Worker
) -> None:
    worker.conductor.start(order(), (A, B))
    stop, told = threading.Event(), []
    stop.set()
    finished = Follower(worker.conductor, stop, on_stop=lambda: told.append("stopping")).follow("r")
    assert told == ["stopping"]
    assert [(step.what, step.by) for step in finished.run.steering] == [
        ("cancel", "somebody@somewhere")
    ]


def test_a_stop_while_the_store_is_away_is_not_lost(
    store: ShakyStore, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL", 0.001)
    worker.conductor.start(order(), (A, B))
    stop = threading.Event()
    stop.set()
    whole = store.change_run

    def change_run(*words: Any, **named: Any) -> Any:
        store.change_run = whole  # type: ignore[method-assign]
        raise RedisConnectionError("Connection refused.")

    store.change_run = change_run  # type: ignore[method-assign]
    assert ending_of(Follower(worker.conductor, stop).follow("r").run.facts) == "cancelled"  # type: ignore[arg-type]


def test_a_store_that_comes_back_costs_nothing(
    store: ShakyStore, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL", 0.001)
    worker.conductor.start(order(), (A,))
    worker.work(0)
    store.failures = 5
    assert Follower(worker.conductor, threading.Event()).follow("r").code == 0


def test_the_time_without_the_store_counts_for_no_cell_without_a_worker(
    store: ShakyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL", 0.001)
    monkeypatch.setattr(module, "LOOK_AFTER", 0.0)
    conductor = Conductor(store, lambda _: None, patience=Patience(grace=0.2), fleet=Fleet(dict))
    conductor.start(order(), (A,))

    def go_away() -> None:
        time.sleep(0.3)
        store.failures = 1

    def see() -> None:
        assert store.cell("r", 0, 0).failure is None

    looks = iter([lambda: None, go_away, lambda: None, see])
    follower = Follower(conductor, threading.Event(), on_look=lambda: next(looks, lambda: None)())
    assert follower.follow("r").code == 255
    assert next(looks, None) is None


def test_a_store_that_stays_away_is_told_with_what_to_do(
    store: ShakyStore, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL", 0.001)
    monkeypatch.setattr(module, "AWAY", 0.05)
    worker.conductor.start(order(), (A,))
    store.failures = 10**9
    with pytest.raises(StoreAway, match="the run goes on, see: runs wait r"):
        Follower(worker.conductor, threading.Event()).follow("r")


def test_a_run_that_is_gone_ends_the_wait(worker: Worker) -> None:
    with pytest.raises(RunGone, match="r"):
        Follower(worker.conductor, threading.Event()).follow("r")


def test_each_run_that_is_waited_for_is_told_once(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL", 0.001)
    for run in ("first", "second", "third"):
        worker.conductor.start(order(run), (A,))
    told: list[str] = []
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks % 5 == 0:
            worker.work(0)

    Follower(worker.conductor, threading.Event(), on_wait=told.append, on_look=look).follow("third")
    assert [line.split(" by ")[0] for line in told] == [
        "db.archive_deleted_rows, run first",
        "db.archive_deleted_rows, run second",
    ][: len(told)]
    assert told[0].startswith("db.archive_deleted_rows, run first by somebody@somewhere, since ")
