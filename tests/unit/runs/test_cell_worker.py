"""A slice of work in one cell: how it begins and ends, with its store in memory and a list for the
bells.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import count
from typing import Any

import pytest

from jobs.action import Action, ApiDatabaseProblem, Cursor, Failure, FailureKind, Step, Target
from jobs.retry import Contended
from novadb.cells import Cell
from novadb.engine import Database
from novadb.errors import DatabaseProblem, Unreachable
from runs import rules
from runs.cell_worker import CellWorker
from runs.conductor import Conductor, Fleet
from runs.memory_store import MemoryStore
from runs.orders import ref_of
from runs.records import NEVER, Bell, CellRecord, Hold, Order, Phase, RunState, Stage
from runs.rules import ATTEMPTS, Patience
from runs.slices import SliceEnd, SliceLimits, WorkingProcess
from runs.throttles import Throttles
from settings.databases import Timeouts
from tests.support.run_records import Rows
from throttle.readings import Answer, Reading, ServerState

NEVER_ENDING = 1 << 30
PATIENCE = Patience(idle=30.0, longest=480.0, grace=NEVER)


@dataclass(frozen=True)
class Params:
    budget: int | None = None


class Code(IntEnum):
    DONE = 0
    FAILED = 1


Work = Callable[[Target, Params, Cursor | None], Generator[Step[Rows]]]


def three_steps(_target: Target, _params: Params, cursor: Cursor | None) -> Generator[Step[Rows]]:
    """Three steps of a row each, from where the last slice ended."""
    for number in range((cursor or {"step": 0})["step"] + 1, 4):
        yield Step(Rows(1), {"step": number})


def cell(name: str) -> Cell:
    url = f"mysql://nova:nova-secret@db/{name}"
    return Cell(f"uuid-{name}", name, frozenset({1}), Database(url, name, Timeouts()))


@dataclass
class Bench:
    """A run over one cell, and a worker of it.

    :ivar meanwhile: what happens after the current step, once
    """

    work: Work = three_steps
    limits: SliceLimits = field(default_factory=lambda: SliceLimits(work=NEVER, lease=NEVER))
    is_draining: bool = False
    readings: Sequence[Reading | None] = ()
    throttle: bool = True
    meanwhile: Callable[[], Any] | None = None

    def __post_init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.store = MemoryStore()
        self.bells: list[Bell] = []
        self.known = cell("a")
        action = Action(
            name="test", params=Params, work=self._watched, nothing=Rows(),
            collapse=lambda results, _: Code(any(result.failure for result in results)),
        )  # fmt: skip
        self.conductor = Conductor(
            self.store, self.bells.append, {"test": action}, PATIENCE, Fleet(lambda: {"w": None})
        )
        process = WorkingProcess(
            "w:1", self.limits, lambda: self.is_draining,
            throttles=Throttles(self.store, lambda _: Scripted(self), every=0.0),
        )  # fmt: skip
        self.worker = CellWorker(
            self.conductor, lambda _run, _uuid: Target(self.known, None), process
        )
        order = Order("r", (Phase("test", {"budget": None}),), "somebody", throttle=self.throttle)
        self.conductor.start(order, [ref_of(self.known)])

    def _watched(
        self, target: Target, params: Params, cursor: Cursor | None
    ) -> Iterator[Step[Rows]]:
        steps = self.work(target, params, cursor)
        try:
            for step in steps:
                if self.meanwhile:
                    self.meanwhile()
                    self.meanwhile = None
                yield step
        finally:
            steps.close()

    def answer(self) -> SliceEnd:
        """Answer the first bell that nobody has heard."""
        return self.worker.answer(self.bells.pop(0))

    @property
    def cell(self) -> CellRecord:
        return self.store.cell("r", 0, 0)

    @property
    def failure(self) -> Failure:
        assert self.cell.failure is not None
        return self.cell.failure


@dataclass
class Scripted:
    """Sees of a server what a test wants: one reading at each look, and nothing after the last."""

    bench: Bench
    looks: int = 0

    def look(self, _before: ServerState | None) -> ServerState:
        self.looks += 1
        self.bench.seen.append((self.bench.cell.throttled, self.bench.cell.outcome))
        readings = self.bench.readings[self.looks - 1 : self.looks]
        return ServerState(0.0, [reading for reading in readings if reading])

    def close(self) -> None:
        pass


def test_a_cell_that_is_through_ends_its_run() -> None:
    bench = Bench()
    assert bench.answer() is SliceEnd.COMPLETE
    assert (bench.cell.stage, bench.cell.complete, bench.cell.outcome) == (
        Stage.DONE,
        True,
        Rows(3),
    )
    assert bench.store.run("r").exit_code == 0
    assert bench.bells == []


@pytest.mark.parametrize("why", ["the slice is over", "the worker drains"])
def test_a_slice_that_ends_early_rings_for_the_next_which_goes_on_where_it_was(why: str) -> None:
    bench = (
        Bench(limits=SliceLimits(0.0, NEVER))
        if why == "the slice is over"
        else Bench(is_draining=True)
    )
    for number in (1, 2, 3):
        assert bench.answer() is SliceEnd.MORE
        assert [(bell.slices, bell.rows) for bell in bench.bells] == [(number, number)]
        assert (bench.cell.holder, bench.cell.cursor) == ("", {"step": number})
    assert bench.answer() is SliceEnd.COMPLETE
    assert bench.cell.outcome == Rows(3)


def asks_before_each_step(
    _target: Target, _params: Params, cursor: Cursor | None
) -> Generator[Step[Rows]]:
    """Two steps; before each one it asks whether it may write, and says what it has begun."""
    at = cursor or {"step": 0}
    while at["step"] < 2:
        yield Step(Rows(), None)
        yield Step(Rows(), at | {"begun": True})
        yield Step(Rows(), None)
        at = {"step": at["step"] + 1}
        yield Step(Rows(1), at)


def test_a_slice_is_over_only_when_it_has_got_further() -> None:
    """However short it is to be, or long the first step takes."""
    bench = Bench(asks_before_each_step, SliceLimits(0.0, NEVER))
    ends = [bench.answer() for _ in range(5)]
    assert ends == [*[SliceEnd.MORE] * 4, SliceEnd.COMPLETE]
    assert bench.cell.outcome == Rows(2)


def test_a_paused_run_gets_its_cell_back_and_nobody_rings() -> None:
    bench = Bench()
    bench.meanwhile = lambda: bench.conductor.pause("r", "ops@c1")
    assert bench.answer() is SliceEnd.PAUSED
    assert (bench.cell.holder, bench.cell.outcome, bench.bells) == ("", Rows(1), [])
    bench.conductor.resume("r", "ops@c1")
    assert bench.answer() is SliceEnd.COMPLETE
    assert bench.cell.outcome == Rows(3)


def test_what_is_set_between_two_steps_holds_at_once() -> None:
    def batches(*_: Any) -> Generator[Step[Rows]]:
        for step in three_steps(*_):
            yield replace(step, ends_batch=True)

    bench = Bench(batches)
    shorter = (Phase("test", {"budget": 5}),)

    def pause(params: Params) -> float:
        if params.budget is not None:
            return 0.0
        bench.store.change_run(
            "r", lambda run, _: replace(run, order=replace(run.order, phases=shorter))
        )
        return 3600.0

    bench.conductor.actions = {"test": replace(bench.conductor.actions["test"], pause=pause)}
    assert bench.answer() is SliceEnd.MORE
    assert bench.answer() is SliceEnd.COMPLETE
    assert bench.cell.slices == 1


def test_a_bell_in_a_pause_is_not_worked_on() -> None:
    bench = Bench()
    bench.conductor.hold(Hold("because", "ops@c1", 0.0))
    assert bench.answer() is SliceEnd.PAUSED
    assert bench.cell.started is None


def test_a_run_that_is_resumed_while_its_cell_is_given_back_loses_no_bell() -> None:
    """Whoever resumes rings no cell that somebody holds: its worker does when it sees what is
    so.
    """

    def work(*_: Any) -> Generator[Step[Rows]]:
        try:
            bench.conductor.pause("r", "ops@c1")
            yield Step(Rows(1), {})
        finally:
            bench.conductor.resume("r", "ops@c1")
            assert bench.bells == []

    bench = Bench(work)
    assert bench.answer() is SliceEnd.PAUSED
    assert [bell.label for bell in bench.bells] == ["a"]


def test_a_cancelled_run_ends_behind_the_current_step() -> None:
    bench = Bench()
    bench.meanwhile = lambda: bench.conductor.cancel("r", "ops@c1")
    assert bench.answer() is SliceEnd.CANCELLED
    assert (bench.cell.outcome, bench.cell.complete) == (Rows(1), False)
    assert bench.store.run("r").state is RunState.ENDED


def test_a_late_bell_is_harmless() -> None:
    bench = Bench()
    late = replace(bench.bells[0])
    assert bench.answer() is SliceEnd.COMPLETE
    assert bench.worker.answer(late) is SliceEnd.OVER
    for unknown in (replace(late, run="gone"), replace(late, number=7), replace(late, phase=3)):
        assert bench.worker.answer(unknown) is SliceEnd.OVER


def test_what_a_bell_says_of_the_work_is_for_people_alone() -> None:
    bench = Bench()
    assert (
        bench.worker.answer(replace(bench.bells[0], action="another", label="x", rows=99))
        is SliceEnd.COMPLETE
    )
    assert bench.cell.outcome == Rows(3)


def test_a_doubled_bell_finds_the_cell_held() -> None:
    bench = Bench()
    doubled = bench.bells[0]
    ends = []
    bench.meanwhile = lambda: ends.append(bench.worker.answer(doubled))
    assert bench.answer() is SliceEnd.COMPLETE
    assert ends == [SliceEnd.CLAIMED]


def test_a_run_that_is_gone_while_it_is_worked_on_is_no_failure() -> None:
    """The store was emptied: nothing more is written anywhere."""
    bench = Bench()
    bench.meanwhile = lambda: bench.store._runs.clear()
    assert bench.answer() is SliceEnd.LOST


def test_a_cell_that_fails_says_why_and_keeps_what_it_did() -> None:
    def work(*_: Any) -> Generator[Step[Rows]]:
        yield Step(Rows(2), {})
        raise Unreachable("cell is gone")

    bench = Bench(work)
    assert bench.answer() is SliceEnd.FAILED
    assert (bench.failure.kind, bench.failure.reason) == (FailureKind.CELL, "cell is gone")
    assert bench.cell.outcome == Rows(2)
    assert bench.store.run("r").exit_code == 1


def test_a_cell_whose_database_is_another_one_here_is_refused() -> None:
    bench = Bench()
    bench.known = replace(cell("b"), uuid="uuid-a")
    assert bench.answer() is SliceEnd.FAILED
    assert (
        bench.failure.reason
        == "a: w:1 has another database configured for it than the one that is meant"
    )
    assert bench.cell.outcome is None


class Killed(BaseException):
    """Ends a worker as SIGKILL does: nothing is written any more."""


def test_a_cell_that_kills_its_workers_fails_when_they_got_no_step_done() -> None:
    def work(*_: Any) -> Generator[Step[Rows]]:
        raise Killed
        yield

    bench = Bench(work, SliceLimits(NEVER, lease=-1.0))  # a lease that lapses at once
    bell = bench.bells[0]
    for _ in range(ATTEMPTS):
        with pytest.raises(Killed):
            bench.worker.answer(bell)
    assert bench.worker.answer(bell) is SliceEnd.FAILED
    assert bench.failure.reason == "3 workers in a row died of it without getting a step done"


def test_a_cell_whose_workers_die_behind_a_step_goes_on_for_ever() -> None:
    def work(_target: Target, _params: Params, cursor: Cursor | None) -> Generator[Step[Rows]]:
        at = (cursor or {"step": 0})["step"]
        yield Step(Rows(1), {"step": at + 1})
        if at < 3 * ATTEMPTS:
            raise Killed

    bench = Bench(work, SliceLimits(NEVER, lease=-1.0))
    bell = bench.bells[0]
    for _ in range(3 * ATTEMPTS):
        with pytest.raises(Killed):
            bench.worker.answer(bell)
    assert bench.worker.answer(bell) is SliceEnd.COMPLETE
    assert bench.cell.outcome == Rows(3 * ATTEMPTS + 1)


def test_a_slice_that_is_drained_before_it_gets_further_counts_no_attempt() -> None:
    def work(*_: Any) -> Generator[Step[Rows]]:
        yield Step(Rows(), None)

    bench = Bench(work, is_draining=True)
    for _ in range(2 * ATTEMPTS):
        assert bench.answer() is SliceEnd.MORE
    assert (bench.cell.slices, bench.cell.attempts) == (2 * ATTEMPTS, 0)


BUSY = Reading("threads_running", Answer.STOP, "60 threads running")
LATE = Reading("replica_lag", Answer.STOP, "5 s behind", "db2:3306")
CRITICAL = Reading("threads_running", Answer.CRITICAL, "200 threads running")


def test_a_server_that_suffers_is_written_nothing_until_it_has_calmed_down() -> None:
    bench = Bench(readings=[BUSY, None, LATE, LATE])
    assert bench.answer() is SliceEnd.COMPLETE
    assert bench.seen == [
        ("", None),
        ("60 threads running", None),
        ("", Rows(1)),
        ("5 s behind on db2:3306", Rows(1)),
        ("5 s behind on db2:3306", Rows(1)),
        ("", Rows(2)),
        ("", Rows(3)),
    ]
    assert (bench.cell.outcome, bench.cell.throttled) == (Rows(3), "")


def test_seconds_of_a_pause_are_counted_by_its_signal() -> None:
    bench = Bench(readings=[BUSY, BUSY, LATE])
    bench.answer()
    counted = {
        name: seconds
        for name, seconds in bench.store.tally().items()
        if name.startswith("throttled")
    }
    assert counted == {"throttled threads_running uuid-a": 1.0, "throttled replica_lag uuid-a": 0.5}


def test_a_slice_that_ends_in_a_pause_counts_as_no_attempt_and_writes_nothing() -> None:
    bench = Bench(limits=SliceLimits(0.0, NEVER), readings=[BUSY] * (ATTEMPTS + 1))
    for _ in range(ATTEMPTS + 1):
        assert bench.answer() is SliceEnd.MORE
        assert (bench.cell.outcome, bench.cell.holder) == (None, "")
    assert bench.answer() is SliceEnd.MORE
    assert bench.cell.outcome == Rows(1)


def test_a_run_that_is_cancelled_while_its_server_suffers_ends() -> None:
    bench = Bench(readings=[BUSY] * 1000)
    original = bench.store.claim_look

    def cancel_then_look(server: str, every: float) -> Any:
        bench.conductor.cancel("r", "ops@c1")
        return original(server, every)

    bench.store.claim_look = cancel_then_look  # type: ignore[method-assign]
    assert bench.answer() is SliceEnd.CANCELLED
    assert bench.cell.outcome is None


def test_a_critical_server_ends_the_run_and_says_who_did() -> None:
    bench = Bench(readings=[None, CRITICAL])
    assert bench.answer() is SliceEnd.CANCELLED
    run = bench.store.run("r")
    assert (run.state, run.exit_code, bench.cell.outcome) == (RunState.ENDED, 0, Rows(1))
    assert [(steering.what, steering.by) for steering in run.steering] == [
        ("cancel", "the throttle: 200 threads running")
    ]


def test_a_run_without_throttle_asks_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "cellkeeper.audit")
    bench = Bench(readings=[BUSY] * 1000, throttle=False)
    assert bench.answer() is SliceEnd.COMPLETE
    assert bench.seen == []
    assert caplog.messages[-1].endswith("; throttle: off by --no-throttle")


def test_a_run_knows_which_signals_have_guarded_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "cellkeeper.audit")
    node, flow = (Reading(signal, Answer.GO, "") for signal in ("galera_node", "flow_control"))
    unread = Reading("http", Answer.UNKNOWN, "the HTTP check answered 500")
    bench = Bench(readings=[node, flow, unread, BUSY])
    assert bench.answer() is SliceEnd.COMPLETE
    assert bench.store.run("r").guards == ("galera", "threads_running")
    assert caplog.messages[-1].endswith("; throttle: galera, threads_running")


# -- others are at the same rows -------------------------------------------------------------------


@dataclass
class Locked:
    """Work of three steps, of which the second is refused some times, as others are at its row.

    :ivar seen: the sizes of transactions with which the work began
    """

    refusals: int
    problem: type[DatabaseProblem] = Unreachable
    seen: list[int] = field(default_factory=list)

    def work(self, target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Rows]]:
        self.seen.append(target.size.rows)
        for step in three_steps(target, params, cursor):
            if self.refusals and step.cursor == {"step": 2}:
                self.refusals -= 1
                target.size.refused(target.size.rows)
                raise Contended(self.problem("a: Lock wait timeout exceeded"))
            yield step


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "FIRST_PAUSE", 0.0)


@pytest.mark.usefixtures("no_pauses")
def test_a_row_that_others_hold_longer_than_six_tries_does_not_fail_the_cell() -> None:
    locked = Locked(10)
    bench = Bench(locked.work)
    assert bench.answer() is SliceEnd.COMPLETE
    assert (bench.cell.outcome, bench.cell.contended, bench.cell.contentions) == (Rows(3), "", 0)
    assert locked.seen == [100, 50, 25, 12, 6, 3, 1, 1, 1, 1, 1]


@pytest.mark.usefixtures("no_pauses")
def test_waiting_for_others_ends_with_the_slice_and_goes_on_in_the_next() -> None:
    locked = Locked(3)
    bench = Bench(locked.work, SliceLimits(0.0, NEVER))
    ends = [bench.answer() for _ in range(7)]
    assert ends == [*[SliceEnd.MORE] * 6, SliceEnd.COMPLETE]
    assert (bench.cell.outcome, bench.cell.slices) == (Rows(3), 6)


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("problem", [Unreachable, ApiDatabaseProblem])
def test_others_that_hold_a_row_for_minutes_fail_the_cell(
    monkeypatch: pytest.MonkeyPatch, problem: type[DatabaseProblem]
) -> None:
    locked = Locked(NEVER_ENDING, problem)
    bench = Bench(locked.work)
    clock = count(0.0, 50.0)
    monkeypatch.setattr(bench.store, "now", lambda: next(clock))
    assert bench.answer() is SliceEnd.FAILED
    assert bench.cell.outcome == Rows(1)
    is_of_api = problem is ApiDatabaseProblem
    assert bench.failure.kind is (FailureKind.API_DATABASE if is_of_api else FailureKind.CELL)
    assert bench.failure.reason == "a: Lock wait timeout exceeded; it was tried again for 3 minutes"


@pytest.mark.parametrize("wish", ["cancel", "pause"])
def test_a_run_is_steered_while_it_waits_for_others(wish: str) -> None:
    def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Rows]]:
        getattr(bench.conductor, wish)("r", "ops@c1")
        yield from Locked(NEVER_ENDING).work(target, params, {"step": 1})

    bench = Bench(work)
    assert bench.answer() is (SliceEnd.CANCELLED if wish == "cancel" else SliceEnd.PAUSED)
    assert bench.cell.failure is None


@pytest.mark.usefixtures("no_pauses")
def test_a_cell_that_waits_for_others_says_so() -> None:
    bench = Bench(Locked(1).work, SliceLimits(0.0, NEVER))
    for _ in range(2):
        assert bench.answer() is SliceEnd.MORE
    assert rules.cell_in_words(bench.cell) == "rows locked"
    assert (
        rules.reason_of_pause(bench.cell)
        == "others are at the same rows: a: Lock wait timeout exceeded"
    )


# -- the size of transactions ----------------------------------------------------------------------


class Sized:
    """Work in quick transactions.

    :ivar sizes: the rows that each of them was allowed
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def work(self, target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Rows]]:
        for step in three_steps(target, params, cursor):
            self.sizes.append(target.size.rows)
            target.size.took(target.size.rows, 0.001)
            yield step


def test_the_size_of_transactions_outlives_the_slice() -> None:
    sized = Sized()
    bench = Bench(sized.work, SliceLimits(0.0, NEVER))
    while bench.answer() is SliceEnd.MORE:
        pass
    assert sized.sizes == [100, 200, 400]
    assert bench.cell.transaction_rows == 800


def test_after_a_pause_of_the_server_transactions_are_small_again() -> None:
    sized = Sized()
    assert Bench(sized.work, readings=[None, None, BUSY]).answer() is SliceEnd.COMPLETE
    assert sized.sizes == [100, 200, 100]
