"""The inline engine: cells at the same time within limits, one after another on a budget, and
stopped between steps.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, TypeVar

import pytest
from sqlalchemy.exc import OperationalError

from jobs.action import Action, ApiDatabaseProblem, CellResult, Cursor, FailureKind, Step, Target
from novadb.cells import Cell
from novadb.engine import Database
from novadb.errors import DatabaseProblem, Unreachable
from runs.local import LocalEngine
from runs.pace import Speed
from settings.databases import Timeouts
from tests.support.run_records import Rows

T = TypeVar("T")
LIMITS = Timeouts()
PATIENCE = 30.0  # seconds after which something is taken to hang


@dataclass(frozen=True)
class Budget:
    """The parameters of the tests' actions; ``rows`` is None where each cell does all it has."""

    rows: int | None = None
    pause: float = 0.0


class Code(IntEnum):
    DONE = 0


Work = Callable[[Target, Budget], Generator[Step[Rows]]]


def step(rows: int) -> Step[Rows]:
    return Step(Rows(rows), {}, ends_batch=rows > 0)


def next_budget(left: Budget, done: Rows) -> Budget | None:
    assert left.rows is not None
    return replace(left, rows=left.rows - done.rows) if left.rows > done.rows else None


def action(
    work: Work, has_work: Callable[[Target, Budget], bool] = lambda *_: True
) -> Action[Budget, Rows]:
    def begin(target: Target, params: Budget, cursor: Cursor | None) -> Generator[Step[Rows]]:
        assert cursor is None
        return work(target, params)

    return Action(
        name="test",
        params=Budget,
        work=begin,
        nothing=Rows(),
        collapse=lambda *_: Code.DONE,
        in_turn=lambda params: params.rows is not None,
        next_params=next_budget,
        has_work=has_work,
        pause=lambda params: params.pause,
    )


def targets(*servers: str) -> list[Target]:
    """Cells called 0, 1, 2, ... with their databases on these servers."""
    return [
        Target(
            Cell(
                f"uuid-{n}",
                str(n),
                frozenset({n}),
                Database(f"mysql://nova:nova-secret@{server}/{n}", str(n), LIMITS),
            ),
            api=None,
        )
        for n, server in enumerate(servers)
    ]


def apart(count: int) -> list[Target]:
    """Cells on a server each."""
    return targets(*(f"db{n}" for n in range(count)))


def number(target: Target) -> int:
    return int(target.cell.label)


@dataclass
class Diary:
    """A listener that writes down what it is told."""

    entries: list[tuple[Any, ...]] = field(default_factory=list)
    stepped_once: threading.Event = field(default_factory=threading.Event)

    def started(self, cell: Cell) -> None:
        self.entries.append((cell.label, "started"))

    def stepped(self, cell: Cell, rows: int) -> None:
        self.entries.append((cell.label, "stepped", rows))
        self.stepped_once.set()

    def paced(self, cell: Cell | None, speed: Speed) -> None: ...

    def throttled(self, cell: Cell, reason: str) -> None: ...

    def finished(self, result: CellResult[Rows]) -> None:
        end = "failed" if result.failure else "complete" if result.complete else "incomplete"
        self.entries.append((result.cell.label, end))

    def of(self, cell: int) -> list[tuple[Any, ...]]:
        """What was told of a cell; its steps in one entry, as it is not told how many they were."""
        told = [entry[1:] for entry in self.entries if entry[0] == str(cell)]
        rows = sum(entry[1] for entry in told if entry[0] == "stepped")
        others = [entry for entry in told if entry[0] != "stepped"]
        return [*others[:1], ("rows", rows), *others[1:]] if rows else others


def in_time(function: Callable[[], T]) -> T:
    """What the function returns; fails instead of waiting for ever for one that hangs."""
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(function()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it hangs"
    return found[0]


def run(
    engine: LocalEngine, what: Action[Budget, Rows], params: Budget, cells: Sequence[Target]
) -> list[CellResult[Rows]]:
    return in_time(lambda: engine.work(what, params, cells))  # fmt: skip


def test_results_stand_in_the_order_of_the_cells_whoever_ends_first() -> None:
    ended = [threading.Event() for _ in range(4)]

    def work(target: Target, _: Budget) -> Generator[Step[Rows]]:
        cell = number(target)
        if cell < 3:
            assert ended[cell + 1].wait(PATIENCE)
        yield step(cell)
        ended[cell].set()

    results = run(LocalEngine(4, 4), action(work), Budget(), apart(4))
    assert [result.cell.label for result in results] == ["0", "1", "2", "3"]
    assert [result.outcome.rows for result in results] == [0, 1, 2, 3]
    assert all(result.complete and result.failure is None for result in results)


def test_no_cell_is_no_result() -> None:
    def work(*_: Any) -> Generator[Step[Rows]]:
        yield step(1)

    assert run(LocalEngine(4, 4), action(work), Budget(), []) == []


class Crowd:
    """Counts who works at the same time, by server."""

    def __init__(self, together: int) -> None:
        """:param together: so many must be at work at the same time before any goes on"""
        self.most: Counter[str] = Counter()
        self._now: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._meeting = threading.Barrier(together)

    def work(self, target: Target, _: Budget) -> Generator[Step[Rows]]:
        places = (target.database.server, "all")
        with self._lock:
            self._now.update(places)
            self.most |= self._now
        self._meeting.wait(PATIENCE)
        yield step(1)
        with self._lock:
            self._now.subtract(places)


@pytest.mark.parametrize(("concurrency", "cells"), [(1, 3), (2, 6), (3, 9), (4, 4)])
def test_as_many_cells_as_allowed_work_at_once_and_no_more(concurrency: int, cells: int) -> None:
    crowd = Crowd(concurrency)
    results = run(LocalEngine(concurrency, 99), action(crowd.work), Budget(), apart(cells))
    assert all(result.complete for result in results)
    assert crowd.most["all"] == concurrency


@pytest.mark.parametrize(("per_server", "together"), [(1, 2), (2, 4)])
def test_as_many_cells_of_a_server_as_allowed_work_at_once_and_no_more(
    per_server: int, together: int
) -> None:
    crowd = Crowd(together)
    cells = targets("db1", "db1", "db1", "db1", "DB2", "db2:3306", "db2", "db2")
    results = run(LocalEngine(99, per_server), action(crowd.work), Budget(), cells)
    assert all(result.complete for result in results)
    assert crowd.most == {"db1:3306": per_server, "db2:3306": per_server, "all": together}


def test_a_cell_that_must_wait_for_its_server_lets_others_pass() -> None:
    passed = threading.Event()

    def work(target: Target, _: Budget) -> Generator[Step[Rows]]:
        if number(target) == 0:
            assert passed.wait(PATIENCE)
        if number(target) == 2:
            passed.set()
        yield step(1)

    results = run(LocalEngine(2, 1), action(work), Budget(), targets("db1", "db1", "db2"))
    assert [result.complete for result in results] == [True, True, True]


@pytest.mark.parametrize(("per_server", "together"), [(1, 1), (2, 1), (3, 1), (4, 2)])
def test_connections_to_the_api_database_count_at_its_server(
    per_server: int, together: int
) -> None:
    crowd = Crowd(together)
    api = Database("mysql://nova:nova-secret@db1/api", "the API database", LIMITS)
    cells = [replace(target, api=api) for target in targets("db1", "db1", "db1", "db1")]
    results = run(
        LocalEngine(99, per_server), replace(action(crowd.work), uses_api=True), Budget(), cells
    )
    assert all(result.complete for result in results)
    assert crowd.most["db1:3306"] == together


@pytest.mark.parametrize(
    ("per_server", "cells", "granted"), [(8, 1, 1), (1, 1, 0), (2, 2, 0), (4, 3, 1), (4, 2, 2)]
)
def test_a_second_connection_is_granted_while_the_server_has_one_to_spare(
    per_server: int, cells: int, granted: int
) -> None:
    """The cells do not wait for it, nor for each other."""
    met, asked = threading.Barrier(cells), threading.Barrier(cells)
    answers = []

    def work(target: Target, _: Budget) -> Generator[Step[Rows]]:
        met.wait(PATIENCE)
        with target.second() as is_granted:
            answers.append(is_granted)
            asked.wait(PATIENCE)
        yield step(1)

    results = run(LocalEngine(9, per_server), action(work), Budget(), targets(*["db1"] * cells))
    assert all(result.complete for result in results)
    assert answers.count(True) == granted


def test_a_second_connection_leaves_half_to_the_cells_that_wait() -> None:
    answers = []

    def work(target: Target, _: Budget) -> Generator[Step[Rows]]:
        with target.second() as is_granted:
            answers.append((number(target), is_granted))
            yield step(1)

    run(LocalEngine(9, 1), action(work), Budget(), targets("db1", "db1"))
    assert answers == [(0, False), (1, False)]


def test_a_slow_cell_holds_nobody_up() -> None:
    others = threading.Semaphore(0)

    def work(target: Target, _: Budget) -> Generator[Step[Rows]]:
        if number(target) == 0:
            assert all(others.acquire(timeout=PATIENCE) for _other in range(5))
        yield step(1)
        others.release()

    results = run(LocalEngine(2, 2), action(work), Budget(), apart(6))
    assert all(result.complete for result in results)


def test_the_listener_hears_begin_rows_and_end_in_order() -> None:
    diary = Diary()

    def work(target: Target, _: Budget) -> Generator[Step[Rows]]:
        yield step(2)
        yield step(0)
        if number(target):
            raise Unreachable("gone")
        yield step(3)

    results = run(LocalEngine(4, 4, [diary]), action(work), Budget(), apart(2))
    assert diary.of(0) == [("started",), ("rows", 5), ("complete",)]
    assert diary.of(1) == [("started",), ("rows", 2), ("failed",)]
    assert [result.outcome.rows for result in results] == [5, 2]


@pytest.mark.parametrize("budget", [Budget(), Budget(rows=5)])
def test_a_stop_before_the_beginning_begins_nothing(budget: Budget) -> None:
    def work(*_: Any) -> Generator[Step[Rows]]:
        raise AssertionError("it must not begin")

    diary = Diary()
    stop = threading.Event()
    stop.set()
    results = run(LocalEngine(4, 4, [diary], stop), action(work), budget, apart(2))
    assert [(result.outcome.rows, result.failure, result.complete) for result in results] == [
        (0, None, False)
    ] * 2
    assert sorted(diary.entries) == [("0", "incomplete"), ("1", "incomplete")]


@pytest.mark.parametrize("rows", [10, 0])
def test_a_stop_ends_each_cell_behind_its_current_step_and_begins_no_other(rows: int) -> None:
    stop = threading.Event()
    diary = Diary()
    both = threading.Barrier(2, action=stop.set)
    closed = []

    def work(target: Target, _: Budget) -> Generator[Step[Rows]]:
        try:
            yield step(1)
            both.wait(PATIENCE)
            yield step(rows)
            yield step(100)
        finally:
            closed.append(target.cell.label)

    results = run(LocalEngine(2, 2, [diary], stop), action(work), Budget(), apart(3))
    done = (1 + rows, False)
    assert [(result.outcome.rows, result.complete) for result in results] == [
        done,
        done,
        (0, False),
    ]
    assert diary.of(0) == diary.of(1) == [("started",), ("rows", 1 + rows), ("incomplete",)]
    assert sorted(closed) == ["0", "1"]
    assert diary.of(2) == [("incomplete",)]


def test_a_stop_ends_the_pause_between_two_steps() -> None:
    stop = threading.Event()
    diary = Diary()

    def work(target: Target, _: Budget) -> Generator[Step[Rows]]:
        if number(target) == 0:
            yield step(1)
            yield step(1)
        else:
            assert diary.stepped_once.wait(PATIENCE)
            stop.set()

    results = run(
        LocalEngine(2, 2, [diary], stop), action(work), Budget(pause=10 * PATIENCE), apart(2)
    )
    assert [(result.outcome.rows, result.complete) for result in results] == [(1, False), (0, True)]


def test_there_is_no_pause_behind_a_step_that_ends_no_batch() -> None:
    def work(*_: Any) -> Generator[Step[Rows]]:
        yield step(0)
        yield step(0)

    (result,) = run(LocalEngine(2, 2), action(work), Budget(pause=10 * PATIENCE), apart(1))
    assert result.complete


SECRET_STATEMENT = OperationalError(
    "DELETE nova-secret", {"x": "nova-secret"}, Exception(1213, "Deadlock\nfound")
)


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (Unreachable("cell is gone"), FailureKind.CELL, "cell is gone"),
        (DatabaseProblem("no such table"), FailureKind.CELL, "no such table"),
        (ApiDatabaseProblem("API is gone"), FailureKind.API_DATABASE, "API is gone"),
        (SECRET_STATEMENT, FailureKind.CELL, "1 (db1:3306/1): Deadlock found (error 1213)"),
        (
            RuntimeError("nova-secret\nmore"),
            FailureKind.UNEXPECTED,
            "unexpected RuntimeError; --debug logs where",
        ),
        (
            KeyError("nova-secret"),
            FailureKind.UNEXPECTED,
            "unexpected KeyError; --debug logs where",
        ),
    ],
)
@pytest.mark.parametrize("budget", [Budget(), Budget(rows=99)])
def test_a_cell_that_fails_keeps_what_it_did_and_leaves_the_others_alone(
    error: Exception, kind: FailureKind, reason: str, budget: Budget
) -> None:
    def work(target: Target, _: Budget) -> Generator[Step[Rows]]:
        yield step(2)
        if number(target) == 1:
            raise error
        yield step(3)

    results = run(LocalEngine(4, 4), action(work), budget, apart(3))
    assert [result.outcome.rows for result in results] == [5, 2, 5]
    assert [result.complete for result in results] == [True, False, True]
    failure = results[1].failure
    assert failure is not None
    assert failure.kind is kind
    assert failure.reason.startswith(reason)
    assert len(failure.reason.splitlines()) == 1
    assert "nova-secret" not in repr(results)
    assert results[0].failure is results[2].failure is None


def test_only_debug_logs_tell_where_an_unexpected_error_comes_from(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def here_it_comes_from(*_: Any) -> Generator[Step[Rows]]:
        yield step(1)
        raise RuntimeError("so it was")

    caplog.set_level(logging.DEBUG, logger="cellkeeper")
    run(LocalEngine(1, 1), action(here_it_comes_from), Budget(), apart(1))
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert "in here_it_comes_from" in caplog.text


def test_a_cell_whose_url_cannot_be_used_is_one_failure() -> None:
    def work(target: Target, _: Budget) -> Generator[Step[Rows]]:
        yield step(len(target.database.name))

    cells = apart(2)
    cells[0] = Target(
        replace(cells[0].cell, database=DatabaseProblem("0: its URL cannot be used")), None
    )
    results = run(LocalEngine(2, 2), action(work), Budget(), cells)
    assert [
        result.failure.reason if result.failure else result.outcome.rows for result in results
    ] == [
        "0: its URL cannot be used",
        1,
    ]


class Ledger:
    """Cells with so many rows each, worked one after another on one budget."""

    def __init__(self, *rows: int) -> None:
        self.rows = rows
        self.budgets: list[tuple[int, int | None]] = []
        self.at_work = threading.Lock()

    def work(self, target: Target, params: Budget) -> Generator[Step[Rows]]:
        assert self.at_work.acquire(blocking=False), "two cells at the same time"
        self.budgets.append((number(target), params.rows))
        assert params.rows is not None
        yield step(min(self.rows[number(target)], params.rows))
        self.at_work.release()

    def has_work(self, target: Target, _: Budget) -> bool:
        return self.rows[number(target)] > 0

    def end(self, budget: int) -> list[tuple[int, bool]]:
        """Rows of each cell, and whether it is known to be complete."""
        cells = apart(len(self.rows))
        results = run(LocalEngine(8, 8), action(self.work, self.has_work), Budget(budget), cells)
        return [(result.outcome.rows, result.complete) for result in results]


@pytest.mark.parametrize(
    ("rows", "budget", "ends", "budgets"),
    [
        pytest.param(
            (2, 3, 4),
            99,
            [(2, True), (3, True), (4, True)],
            [(0, 99), (1, 97), (2, 94)],
            id="enough",
        ),
        pytest.param(
            (2, 3, 4),
            4,
            [(2, True), (2, False), (0, False)],
            [(0, 4), (1, 2)],
            id="gone in the second",
        ),
        pytest.param(
            (9, 3, 4), 4, [(4, False), (0, False), (0, False)], [(0, 4)], id="gone in the first"
        ),
        pytest.param(
            (0, 3, 0), 4, [(0, True), (3, True), (0, True)], [(1, 4)], id="cells without work"
        ),
        pytest.param((0, 0), 3, [(0, True), (0, True)], [], id="no work at all"),
        pytest.param((7,), 99, [(7, True)], [(0, 99)], id="one cell"),
    ],
)
def test_in_turn_cells_share_one_budget_in_their_order(
    rows: tuple[int, ...], budget: int, ends: list[tuple[int, bool]], budgets: list[tuple[int, int]]
) -> None:
    ledger = Ledger(*rows)
    assert ledger.end(budget) == ends
    assert ledger.budgets == budgets


def test_in_turn_all_cells_are_asked_at_once_whether_they_have_work() -> None:
    asked = threading.Barrier(4)

    def has_work(*_: Any) -> bool:
        asked.wait(PATIENCE)
        return False

    results = run(LocalEngine(4, 4), action(Ledger().work, has_work), Budget(rows=1), apart(4))
    assert all(result.complete for result in results)


def test_a_single_cell_is_not_asked_first() -> None:
    def has_work(*_: Any) -> bool:
        raise AssertionError("a look too many")

    (result,) = run(LocalEngine(4, 4), action(Ledger(3).work, has_work), Budget(rows=9), apart(1))
    assert result.outcome.rows == 3


def test_in_turn_a_cell_that_cannot_be_asked_is_one_failure() -> None:
    ledger = Ledger(2, 3, 4)
    diary = Diary()

    def has_work(target: Target, _: Budget) -> bool:
        if number(target) == 1:
            raise Unreachable("cell is gone")
        return True

    results = run(
        LocalEngine(4, 4, [diary]), action(ledger.work, has_work), Budget(rows=99), apart(3)
    )
    assert [(result.outcome.rows, result.complete) for result in results] == [
        (2, True),
        (0, False),
        (4, True),
    ]
    assert results[1].failure is not None
    assert results[1].failure.reason == "cell is gone"
    assert ledger.budgets == [(0, 99), (2, 97)]
    assert diary.of(1) == [("failed",)]


def test_in_turn_what_the_looks_found_is_told_also_when_the_budget_is_gone() -> None:
    def has_work(target: Target, _: Budget) -> bool:
        if number(target) == 1:
            raise Unreachable("cell is gone")
        return number(target) == 0

    results = run(
        LocalEngine(4, 4), action(Ledger(3, 0, 0).work, has_work), Budget(rows=3), apart(3)
    )
    assert [result.failure.reason if result.failure else None for result in results] == [
        None,
        "cell is gone",
        None,
    ]
    assert [result.complete for result in results] == [False, False, True]


def test_in_turn_a_stop_begins_no_further_cell() -> None:
    stop = threading.Event()

    def work(target: Target, _: Budget) -> Generator[Step[Rows]]:
        assert number(target) == 0
        yield step(1)
        stop.set()
        yield step(1)
        yield step(1)

    results = run(LocalEngine(4, 4, stop=stop), action(work), Budget(rows=99), apart(3))
    assert [(result.outcome.rows, result.complete) for result in results] == [
        (2, False),
        (0, False),
        (0, False),
    ]
    assert not any(result.failure for result in results)
