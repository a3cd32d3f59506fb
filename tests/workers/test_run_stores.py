"""What every store of runs does, in memory and in a real Redis."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import pytest
from redis import Redis as Client
from redis.exceptions import OutOfMemoryError

from jobs.action import Failure, FailureKind, Step
from jobs.actions import ACTIONS
from jobs.codec import decode
from jobs.db.archive_deleted_rows import Archived
from runs import rules
from runs.conductor import Conductor, Fleet
from runs.exclusion import Busy
from runs.memory_store import MemoryStore
from runs.records import (
    NEVER,
    CellRecord,
    CellRef,
    Hold,
    Place,
    Progress,
    RunRecord,
    RunState,
    Stage,
    Summary,
    View,
    Wish,
)
from runs.redis_cells import PACE_KEPT
from runs.redis_store import RedisStore
from runs.rules import Claimant, NotPossible, Patience, Refusal
from runs.store import NO_INCREMENTS, Increments, RunDamaged, RunGone, RunStore, TooLate
from tests.support.command import until
from tests.support.run_records import CELLS, TOTAL, A, B, C, moved, order, results
from tests.support.services import Redis
from throttle.readings import Answer, Reading, ServerState

LEASE = 60.0
SHORT = 0.05
FAR = 3600
PATIENCE = Patience(idle=0.2, longest=1.0, grace=NEVER)


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> RunStore:
    """A store without a run."""
    if request.param == "memory":
        return MemoryStore()
    return RedisStore(request.getfixturevalue("client"), FAR)


def create(
    store: RunStore, run: str = "r", cells: Sequence[CellRef] = (A, B), names: str = "", *, state: Stage = Stage.WORK,
    **more: Any,
) -> RunRecord:  # fmt: skip
    """A run that is under way."""
    record = RunRecord(order(run, purge=True), len(cells), store.now(), RunState.RUNNING, **more)
    records = [CellRecord(number, cell, state) for number, cell in enumerate(cells)]
    assert store.create(record, records, frozenset(names), rules.admit)
    return record


def claim_as(
    store: RunStore, who: Claimant, known: View | None = None, number: int = 0, run: str = "r"
) -> Any:
    return store.change_cell(run, 0, number, lambda view: rules.claim(view, 0, who), known)


def claim_within(
    store: RunStore, limit: int, number: int, token: str = "t", lease: float = LEASE
) -> Any:
    """Claim a cell, at most so many connections to its server being had; what becomes of it."""
    who = Claimant(token, f"w-{token}", lease, limit)
    return store.change_cell("r", 0, number, lambda view: rules.claim(view, 0, who))


def claim(
    store: RunStore, token: str = "t", lease: float = LEASE, number: int = 0
) -> tuple[View, Claimant]:
    """Claim a cell, which must succeed."""
    who = Claimant(token, f"w-{token}", lease)
    view = claim_as(store, who, number=number)
    assert isinstance(view, View), view
    return view, who


def record(
    store: RunStore,
    who: Claimant,
    rows: int,
    known: View | None = None,
    increments: Increments = NO_INCREMENTS,
) -> Any:
    return store.change_cell(
        "r",
        0,
        0,
        lambda view: rules.record_step(
            view.cell, who, view.now, Step(moved(0), {"at": rows}), moved(rows)
        ),
        known,
        increments,
    )


def finish(
    store: RunStore,
    number: int = 0,
    token: str = "",
    failure: Failure | None = None,
    phase: int = 0,
    run: str = "r",
) -> Any:
    return store.change_cell(
        run,
        phase,
        number,
        lambda view: rules.finish_cell(view.cell, token, view.now, failure, complete=not failure),
    )


def end(
    store: RunStore, run: str = "r", entries: dict[str, float] | None = None
) -> RunRecord | None:
    """End a run in its first phase."""
    return store.change_run(
        run, lambda so, now: rules.end_run(so, [results(0, 3)], now, ACTIONS), entries=entries or {}
    )


def at_once(tries: int, deed: Callable[[int], Any]) -> list[Any]:
    """What becomes of a deed that many threads do at the same time."""
    barrier = threading.Barrier(tries)

    def do(number: int) -> Any:
        barrier.wait()
        return deed(number)

    with ThreadPoolExecutor(tries) as pool:
        return list(pool.map(do, range(tries)))


def outcome(cell: CellRecord) -> Any:
    """What was done in a cell, however the store keeps it."""
    return (
        cell.outcome
        if isinstance(cell.outcome, Archived | None)
        else decode(Archived, cell.outcome)
    )


# -- connections to a server -----------------------------------------------------------------------


def at_one_server(number: int) -> list[CellRef]:
    """So many cells, each of which needs two connections to one server, and one to another."""
    return [
        CellRef(f"u{cell}", f"c{cell}", "", ("db:3306", "db:3306", "api:3306"))
        for cell in range(number)
    ]


def lines_of(store: RunStore, length: int = 99) -> dict[str, tuple[int, list[int]]]:
    """By server, the connections to it, and the cells that wait for some."""
    return {
        line.server: (line.busy, [cell for *_, cell in line.first]) for line in store.lines(length)
    }


def test_claims_at_the_same_time_share_the_connections_of_a_server(store: RunStore) -> None:
    create(store, cells=at_one_server(12))
    views = at_once(12, lambda number: claim_within(store, 5, number, f"t{number}"))
    held = [view.cell.number for view in views if view.cell.holder]
    assert len(held) == 2
    waiting = sorted(set(range(12)) - set(held))
    assert all(store.cell("r", 0, number).waits_since for number in waiting)
    busy, first = lines_of(store)["db:3306"]
    assert (busy, sorted(first)) == (4, waiting)
    assert lines_of(store)["api:3306"][0] == 2


def test_what_is_given_back_goes_to_who_has_waited_longest(store: RunStore) -> None:
    create(store, cells=at_one_server(4))
    for number in range(4):
        claim_within(store, 2, number, f"t{number}")
    assert lines_of(store) == {"db:3306": (2, [1, 2, 3]), "api:3306": (1, [1, 2, 3])}
    assert lines_of(store, 1)["db:3306"] == (2, [1])
    view = finish(store, 0, "t0")
    assert view.waiting > 0
    assert lines_of(store)["db:3306"] == (0, [1, 2, 3])
    called = store.change_cell(
        "r", 0, 1, lambda view: rules.call_from_line(view.cell, view.now, PATIENCE)
    )
    assert isinstance(called, View)
    assert lines_of(store)["db:3306"] == (0, [2, 3])
    claim_within(store, 2, 3, "t3")  # somebody is faster
    claim_within(store, 2, 1, "t1")
    assert lines_of(store)["db:3306"] == (2, [1, 2])  # its place is kept


def test_a_line_ends_with_its_last_cell(store: RunStore) -> None:
    create(store, cells=at_one_server(2))
    for number in range(2):
        claim_within(store, 2, number, f"t{number}")
    finish(store, 1)
    assert finish(store, 0, "t0").waiting == 0
    assert lines_of(store) == {}


def test_connections_of_a_worker_that_died_lapse_with_its_lease(store: RunStore) -> None:
    create(store, cells=at_one_server(2))
    claim_within(store, 2, 0, "dead", lease=SHORT)
    until(lambda: bool(claim_within(store, 2, 1).cell.holder))
    assert claim_within(store, 2, 0).cell.holder == "dead"
    finish(store, 1, "t")
    assert claim_within(store, 2, 0).cell.holder == "t"


def test_a_renewed_claim_keeps_its_connections(store: RunStore) -> None:
    create(store, cells=at_one_server(2))
    view = claim_within(store, 2, 0, "t0", lease=SHORT)
    keeper = Claimant("t0", "w", LEASE)
    store.change_cell("r", 0, 0, lambda view: rules.renew(view.cell, keeper, view.now), view)
    time.sleep(2 * SHORT)  # the first lease is over
    assert not claim_within(store, 2, 1).cell.holder


def test_a_cell_without_a_record_leaves_its_line(redis_store: RedisStore) -> None:
    create(redis_store, cells=at_one_server(2))
    for number in range(2):
        claim_within(redis_store, 2, number, f"t{number}")
    redis_store.redis.delete("cellkeeper:run:r", "cellkeeper:run:r:0")
    redis_store.redis.delete("cellkeeper:server:db:3306", "cellkeeper:server:api:3306")
    rung: list[Any] = []
    Conductor(redis_store, rung.append, fleet=Fleet(redis_store.workers, 2)).call_waiting()
    assert (rung, lines_of(redis_store)) == ([], {})


def test_a_cell_that_has_come_back_into_its_line_stays_there(store: RunStore) -> None:
    """Whoever takes out one that did not wait may be late: a cell that nobody calls would wait for
    minutes.
    """
    create(store, cells=at_one_server(2))
    for number in range(2):
        claim_within(store, 2, number, f"t{number}")
    store.leave_line("db:3306", ("r", 0, 1))
    _, waiting_cells = lines_of(store)["db:3306"]
    assert waiting_cells == [1]


@pytest.mark.parametrize("key", ["server:db:3306", "line:db:3306", "lines"])
def test_a_key_of_another_type_costs_nothing_but_itself(redis_store: RedisStore, key: str) -> None:
    create(redis_store, cells=at_one_server(3))
    redis_store.redis.set(f"cellkeeper:{key}", "nonsense")
    assert claim_within(redis_store, 2, 0, "t0").cell.holder
    assert not claim_within(redis_store, 2, 1, "t1").cell.holder
    assert lines_of(redis_store)["db:3306"] == (2, [1])


# -- runs ------------------------------------------------------------------------------------------


def test_what_is_kept_comes_back(store: RunStore) -> None:
    run = create(store)
    assert store.run("r") == run
    assert store.cells("r", 0) == [CellRecord(0, A, Stage.WORK), CellRecord(1, B, Stage.WORK)]
    assert store.cell("r", 0, 1) == CellRecord(1, B, Stage.WORK)
    assert store.queue() == [Place("r", admitted=True)]


def test_a_run_is_created_once(store: RunStore) -> None:
    def attempt(number: int) -> bool:
        run = RunRecord(order(), 1, float(number))
        return store.create(run, [CellRecord(0, A, Stage.WORK)], frozenset("a"), rules.admit)

    assert sorted(at_once(16, attempt)) == [False] * 15 + [True]
    assert store.queue() == [Place("r", admitted=True)]


def test_a_run_that_is_there_stays_as_it_is(store: RunStore) -> None:
    run = create(store)
    claim(store)
    assert not store.create(
        RunRecord(order(), 1, 0.0), [CellRecord(0, C, Stage.WORK)], frozenset(), rules.admit
    )
    assert store.run("r") == run
    assert store.cell("r", 0, 0).holder == "t"


def test_what_the_rule_of_the_queue_raises_keeps_the_run_out(store: RunStore) -> None:
    def refuse(queue: Sequence[Place], names: Any) -> Sequence[Place]:
        assert (queue, names) == ([Place("r")], {"r": frozenset("a")})
        raise Busy("r")

    with pytest.raises(Busy):
        store.create(RunRecord(order(), 0, 0.0), [], frozenset("a"), refuse)
    assert (store.queue(), store.recent()) == ([], [])
    with pytest.raises(RunGone):
        store.run("r")


def test_an_unknown_run_is_said_to_be_gone(store: RunStore) -> None:
    asks: list[Callable[[], Any]] = [
        lambda: store.run("nothing"),
        lambda: store.cell("nothing", 0, 0),
        lambda: store.cells("nothing", 0),
        lambda: store.change_run("nothing", rules.wake),
        lambda: finish(store, run="nothing"),
    ]
    for ask in asks:
        with pytest.raises(RunGone, match="nothing"):
            ask()
    assert store.recent() == []


@pytest.mark.parametrize(("phase", "number"), [(0, 2), (0, -1), (1, 0)])
def test_an_unknown_cell_is_said_to_be_gone(store: RunStore, phase: int, number: int) -> None:
    create(store)
    with pytest.raises(RunGone):
        store.cell("r", phase, number)
    with pytest.raises(RunGone):
        finish(store, number, phase=phase)


def test_a_phase_that_a_run_has_not_come_to_is_gone(store: RunStore) -> None:
    create(store)
    create(store, "of no cell", cells=())
    for run in ("r", "of no cell"):
        with pytest.raises(RunGone):
            store.cells(run, 1)
    assert store.cells("of no cell", 0) == []


def test_a_rule_that_wants_no_change_makes_none(store: RunStore) -> None:
    run = create(store)
    assert store.change_run("r", lambda _run, _now: None) is None
    assert store.change_cell("r", 0, 0, lambda _: None) is None
    assert store.change_cell("r", 0, 0, lambda _: Refusal.CLAIMED) is Refusal.CLAIMED
    assert (store.run("r"), store.cell("r", 0, 0)) == (run, CellRecord(0, A, Stage.WORK))


def test_a_phase_is_opened_once(store: RunStore) -> None:
    create(store)
    _, who = claim(store)
    record(store, who, 5)
    opening = [CellRecord(number, cell, Stage.WORK) for number, cell in enumerate((A, B))]

    def attempt(_: int) -> bool:
        def rule(run: RunRecord, now: float) -> RunRecord | None:
            return rules.next_phase(run, results(5, 0), now, ACTIONS) if run.phase == 0 else None

        return store.change_run("r", rule, opening) is not None

    assert sorted(at_once(12, attempt)) == [False] * 11 + [True]
    assert store.run("r").phase == 1
    assert store.cells("r", 1) == opening
    assert [outcome(cell) for cell in store.cells("r", 0)] == [moved(5), None]
    assert (store.count_open("r", 1), store.open_cells("r", 1)) == (2, [0, 1])


def test_a_run_ends_once_with_its_entries(store: RunStore) -> None:
    create(store)
    ended = at_once(12, lambda number: end(store, entries={"duration": float(number)}))
    (winner,) = [number for number, run in enumerate(ended) if run]
    assert store.tally() == {"duration": float(winner)}
    assert (store.run("r").state, store.run("r").exit_code) == (RunState.ENDED, 1)


def test_no_change_of_many_is_lost(store: RunStore) -> None:
    create(store)

    def steer(number: int) -> Any:
        return store.change_run(
            "r", lambda run, now: rules.steer(run, Wish.PAUSE, str(number), "ops@c1", now)
        )

    at_once(12, steer)
    assert sorted(int(step.what) for step in store.run("r").steering) == list(range(12))


def test_runs_are_listed_the_newest_first(store: RunStore) -> None:
    for run in ("a", "b", "c"):
        create(store, run)
        time.sleep(0.002)
    end(store, "b")
    assert (store.recent(), store.recent(2), store.recent(1)) == (
        ["c", "b", "a"],
        ["c", "b"],
        ["c"],
    )


# -- the queue -------------------------------------------------------------------------------------


def test_the_queue_is_in_the_order_of_arrival_with_what_each_keeps_others_off(
    store: RunStore,
) -> None:
    for run, names in (("first", "a"), ("second", "ab"), ("third", "b"), ("fourth", "c")):
        create(store, run, names=names)
    expected = [Place("first", True), Place("second"), Place("third"), Place("fourth", True)]
    assert store.queue() == expected
    known: dict[str, frozenset[str]] = {}

    def look(queue: Sequence[Place], names: Any) -> Sequence[Place]:
        known.update(names)
        return queue

    assert store.change_queue(look) == expected
    assert known == {
        run: frozenset(names) for run, names in zip(known, ("a", "ab", "b", "c"), strict=True)
    }


def test_who_leaves_the_queue_makes_room(store: RunStore) -> None:
    for run in ("first", "second"):
        create(store, run, names="a")
    store.change_queue(lambda queue, _: queue[1:])
    assert store.change_queue(rules.admit) == store.queue() == [Place("second", True)]


def test_all_who_come_at_once_have_a_place_and_one_is_admitted(store: RunStore) -> None:
    def attempt(number: int) -> None:
        create(store, str(number), names="a")

    at_once(12, attempt)
    queue = store.queue()
    assert {place.run for place in queue} == {str(number) for number in range(12)}
    assert [place.admitted for place in queue] == [True] + [False] * 11


# -- claims ----------------------------------------------------------------------------------------


def test_of_many_that_claim_at_once_one_is_granted(store: RunStore) -> None:
    create(store)
    answers = at_once(16, lambda number: claim_as(store, Claimant(str(number), "w", LEASE)))
    granted = [answer for answer in answers if isinstance(answer, View)]
    assert answers.count(Refusal.CLAIMED) == 15
    assert [view.cell.holder for view in granted] == [store.cell("r", 0, 0).holder]
    assert store.cell("r", 0, 1).holder == ""


def test_a_change_returns_what_is_so_after_it(store: RunStore) -> None:
    run = create(store)
    hold = Hold("because", "ops@c1", store.now(), store.now() - 1)
    store.set_hold(hold)
    view, _ = claim(store)
    assert (view.run, view.cell, view.hold) == (run, store.cell("r", 0, 0), hold)
    assert abs(view.now - store.now()) < LEASE


def test_a_known_view_needs_no_other_look(store: RunStore) -> None:
    create(store)
    view, who = claim(store)
    for rows in (1, 2, 3):
        view = record(store, who, rows, view)
        assert isinstance(view, View)
    assert outcome(store.cell("r", 0, 0)) == moved(3)


def test_a_stale_view_is_asked_again(store: RunStore) -> None:
    create(store)
    stale, who = claim(store, lease=SHORT)
    until(lambda: isinstance(claim_as(store, Claimant("heir", "w", LEASE)), View))
    asked: list[str] = []

    def rule(view: View) -> CellRecord | None:
        asked.append(view.cell.holder)
        return rules.record_step(view.cell, who, view.now, Step(moved(0), {}), moved(99))

    assert store.change_cell("r", 0, 0, rule, stale) is None
    assert asked[-1] == "heir"
    assert store.cell("r", 0, 0).outcome is None
    assert finish(store, token="t") is None


def test_a_known_view_learns_of_what_was_done_to_the_run(store: RunStore) -> None:
    create(store)
    view, who = claim(store)
    store.change_run("r", lambda run, now: rules.steer(run, Wish.CANCEL, "cancel", "ops@c1", now))
    after = record(store, who, 5, view)
    assert after.run.wish is Wish.CANCEL
    assert rules.advice(after.run, after.hold, after.now) is rules.Advice.CANCEL
    assert outcome(store.cell("r", 0, 0)) == moved(5)


def test_a_known_view_learns_of_a_hold(store: RunStore) -> None:
    create(store)
    view, who = claim(store)
    store.set_hold(Hold("because", "ops@c1", store.now()))
    after = record(store, who, 5, view)
    assert rules.advice(after.run, after.hold, after.now) is rules.Advice.PAUSE


def test_after_the_lease_another_goes_on_where_the_first_was(store: RunStore) -> None:
    create(store)
    _, dead = claim(store, "dead", SHORT)
    record(store, dead, 7)
    until(lambda: isinstance(claim_as(store, Claimant("heir", "w", LEASE)), View))
    heir = store.cell("r", 0, 0)
    assert (heir.cursor, outcome(heir), heir.attempts) == ({"at": 7}, moved(7), 1)
    assert record(store, dead, 99) is None
    assert outcome(store.cell("r", 0, 0)) == moved(7)


def test_a_cell_is_finished_once(store: RunStore) -> None:
    create(store)
    claim(store)
    assert finish(store) is None  # somebody holds it
    assert finish(store, token="stranger") is None
    answers = at_once(12, lambda _: finish(store, token="t"))
    assert [isinstance(answer, View) for answer in answers].count(True) == 1
    assert finish(store, token="t") is None


def test_what_is_kept_of_a_cell_when_it_is_finished(store: RunStore) -> None:
    create(store)
    _, who = claim(store)
    record(store, who, 5)
    failure = Failure(FailureKind.CELL, "it went away", error=RuntimeError("not kept"))
    finish(store, token="t", failure=failure)
    cell = store.cell("r", 0, 0)
    assert (cell.stage, cell.complete, outcome(cell)) == (Stage.DONE, False, moved(5))
    assert cell.failure == failure
    assert (cell.holder, cell.lease_until, cell.worker) == ("", 0.0, "w-t")
    assert cell.started is not None
    assert cell.finished is not None


def test_a_cell_that_nobody_holds_is_rung_again_by_one_alone(store: RunStore) -> None:
    create(store)

    def ring(_: int) -> Any:
        return store.change_cell(
            "r", 0, 0, lambda view: rules.ring_again(view.cell, view.run, view.now, PATIENCE)
        )

    assert [isinstance(answer, View) for answer in at_once(12, ring)].count(True) == 1


# -- what is asked of a phase ----------------------------------------------------------------------


def test_open_cells_are_counted(store: RunStore) -> None:
    create(store, cells=CELLS)
    assert (store.open_cells("r", 0), store.count_open("r", 0)) == ([0, 1, 2], 3)
    finish(store, 1)
    assert (store.open_cells("r", 0), store.count_open("r", 0)) == ([0, 2], 2)
    for number in (0, 2):
        finish(store, number)
    assert (store.open_cells("r", 0), store.count_open("r", 0)) == ([], 0)


def test_silent_cells_come_the_longest_silent_first(store: RunStore) -> None:
    many = [CellRef(str(number), str(number), "") for number in range(6)]
    create(store, cells=many)
    for number, look_at in enumerate([NEVER, 5.0, store.now() + 60, 3.0, 4.0, 0.0]):
        store.change_cell("r", 0, number, lambda view, at=look_at: replace(view.cell, look_at=at))  # type: ignore[misc]
    assert store.silent("r", 0, 10) == [5, 3, 4, 1]
    assert store.silent("r", 0, 2) == [5, 3]
    finish(store, 5)
    assert store.silent("r", 0, 2) == [3, 4]


def test_changes_are_told_once_each_the_latest_alone(store: RunStore) -> None:
    create(store, cells=CELLS)
    mark, cells = store.changes("r", 0, 0)
    assert cells == []
    _, who = claim(store)
    record(store, who, 5)
    finish(store, 2)
    mark, cells = store.changes("r", 0, mark)
    assert sorted((cell.number, cell.stage) for cell in cells) == [(0, Stage.WORK), (2, Stage.DONE)]
    assert store.changes("r", 0, mark) == (mark, [])
    record(store, who, 6)
    mark, cells = store.changes("r", 0, mark)
    assert [(cell.number, outcome(cell)) for cell in cells] == [(0, moved(6))]


def test_progress_is_summed_up(store: RunStore) -> None:
    create(store, cells=CELLS)
    assert store.progress("r", 0) == Progress(rows=0, open=3, failed=0, at_work=0)
    view, who = claim(store)
    record(store, who, 5, view, Increments(5, handled=8))
    claim(store, "short", SHORT, number=1)
    assert store.progress("r", 0).at_work == 2
    until(lambda: store.progress("r", 0).at_work == 1)
    finish(store, 1, failure=Failure(FailureKind.CELL, "away"))
    progress = store.progress("r", 0)
    assert sum(progress.pace.values()) == 8
    assert replace(progress, pace={}) == Progress(rows=5, open=2, failed=1, at_work=1, foreseen=1)


def test_what_is_left_is_summed_up_over_the_cells_of_which_it_is_known(store: RunStore) -> None:
    create(store, cells=CELLS)

    def step(token: str, number: int, remaining: int | None) -> None:
        who = Claimant(token, "w", LEASE)
        store.change_cell(
            "r", 0, number,
            lambda view: rules.record_step(view.cell, who, view.now, Step(moved(10), {}, remaining), moved(1)),
            increments=Increments(1, handled=10),
        )  # fmt: skip

    for number in range(3):
        claim(store, f"t{number}", number=number)
    seen = []
    for number, remaining in ((0, None), (0, 100), (1, 50), (0, None), (0, 30), (2, 1)):
        step(f"t{number}", number, remaining)
        progress = store.progress("r", 0)
        seen.append((progress.remaining, progress.foreseen))
    assert seen == [(0, 0), (100, 1), (150, 2), (140, 2), (80, 2), (81, 3)]
    step("somebody else's", 0, 7)
    finish(store, 0, "t0")
    progress = store.progress("r", 0)
    assert (progress.remaining, progress.foreseen, sum(progress.pace.values())) == (51, 3, 60)


def test_a_recorded_step_is_one_request(redis_store: RedisStore, client: Client) -> None:
    create(redis_store)
    view, who = claim(redis_store)
    with client.monitor() as monitor:
        client.echo("the begin")
        assert record(redis_store, who, 5, view, Increments(5, {"rows": 5}, 5))
        client.echo("the end")
        sent = iter(monitor.listen())
        for command in sent:
            if "the begin" in command["command"]:
                break
        commands = []
        for command in sent:
            if "the end" in command["command"]:
                break
            if command["client_type"] != "lua":
                commands.append(command["command"].split()[0])
    assert commands == ["EVALSHA"]


def test_what_was_handled_expires_by_itself(redis_store: RedisStore, client: Client) -> None:
    create(redis_store)
    _, who = claim(redis_store)
    record(redis_store, who, 5, increments=Increments(5, handled=5))
    (key,) = client.keys("cellkeeper:run:r:0:pace-*")
    assert 60 < client.ttl(key) <= PACE_KEPT


# -- what outlives the runs ------------------------------------------------------------------------


def test_the_books_count_steps_that_were_recorded(store: RunStore) -> None:
    create(store)
    _, who = claim(store)
    for rows in (5, 7, 0):
        record(store, who, rows, increments=Increments(rows, {"rows": rows}))
    record(store, Claimant("stranger", "w", LEASE), 9, increments=Increments(9, {"rows": 9}))
    assert end(store, entries={"duration": 1.5})
    assert not end(store, entries={"duration": 99.0})
    assert store.tally() == {"rows": 12, "duration": 1.5}


def test_a_summary_of_each_run_that_ended_is_kept(store: RunStore) -> None:
    for run in ("first", "second", "goes on"):
        create(store, run)
    before = store.now()
    for run in ("first", "second"):
        end(store, run)
        time.sleep(0.002)
    summaries = store.history(before - 1)
    assert [summary.run for summary in summaries] == ["first", "second"]
    assert summaries[0] == rules.summary(store.run("first"))
    assert [summary.run for summary in store.history(summaries[1].finished)] == ["second"]


def test_a_hold_is_set_and_released(store: RunStore) -> None:
    assert store.hold() is None
    hold = Hold("the disk is full", "ops@c1", 5.0, 9.5)
    store.set_hold(hold)
    assert store.hold() == hold
    store.set_hold(replace(hold, reason="still", until=None))
    assert store.hold() == Hold("still", "ops@c1", 5.0)
    store.set_hold(None)
    store.set_hold(None)
    assert store.hold() is None


def test_the_right_to_look_at_a_server_is_granted_once_in_a_while(store: RunStore) -> None:
    assert store.claim_look("db1:3306", FAR) == (True, None)
    assert store.claim_look("db1:3306", FAR) == (False, None)
    assert store.claim_look("db2:3306", SHORT) == (True, None)
    time.sleep(2 * SHORT)
    assert store.claim_look("db2:3306", SHORT) == (True, None)


def test_what_was_seen_of_a_server_is_known_to_all(store: RunStore) -> None:
    reading = Reading("replica_lag", Answer.STOP, "5 s behind", "db2:3306", 5.0, 1.0)
    state = ServerState(
        store.now(), [reading], {"flow_control_paused_ns": 17.0}, {"replica_lag db2:3306": 1}
    )
    store.claim_look("db1:3306", FAR)
    store.keep_look("db1:3306", state)
    assert store.claim_look("db1:3306", FAR) == (False, state)
    assert store.claim_look("db2:3306", FAR) == (True, None)


# -- of many processes -----------------------------------------------------------------------------


def claim_from_afar(url: str, number: int) -> bool:
    """What a process of its own does."""
    store = RedisStore(Client.from_url(url, decode_responses=True), FAR)
    return isinstance(claim_as(store, Claimant(str(number), "w", LEASE)), View)


def order_from_afar(url: str, number: int) -> str:
    """Order a run on a database that all want, and say whether it was refused."""
    store = RedisStore(Client.from_url(url, decode_responses=True), FAR)
    try:
        Conductor(store, lambda _: None).start(order(f"run-{number}"), [A], wait=number % 2 == 0)
    except Busy:
        return "refused"
    return "ordered"


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        yield pool


def test_of_many_processes_that_claim_one_is_granted(
    client: Client, broker: Redis, processes: ProcessPoolExecutor
) -> None:
    store = RedisStore(client, FAR)
    create(store)
    answers = list(processes.map(partial(claim_from_afar, broker.url()), range(16)))
    assert answers.count(True) == 1
    assert store.cell("r", 0, 0).holder == str(answers.index(True))


def test_many_processes_that_order_are_admitted_one_after_the_other(
    client: Client, broker: Redis, processes: ProcessPoolExecutor
) -> None:
    store = RedisStore(client, FAR)
    answers = list(processes.map(partial(order_from_afar, broker.url()), range(12)))
    queue = store.queue()
    assert len(queue) == len(store.recent()) == answers.count("ordered") >= 6
    assert [place.admitted for place in queue] == [True] + [False] * (len(queue) - 1)
    assert [store.run(place.run).state for place in queue] == [
        RunState.RUNNING if place.admitted else RunState.WAITING for place in queue
    ]


# -- of Redis alone --------------------------------------------------------------------------------


@pytest.fixture
def redis_store(client: Client) -> RedisStore:
    return RedisStore(client, FAR)


def test_nothing_of_a_run_expires_before_its_end_and_all_of_it_afterwards(
    redis_store: RedisStore, client: Client
) -> None:
    create(redis_store)
    claim(redis_store)
    redis_store.change_run(
        "r",
        lambda run, _: replace(run, phase=1),
        [CellRecord(0, A, Stage.WORK), CellRecord(1, B, Stage.WORK)],
    )
    finish(redis_store, phase=1)
    keys = set(client.scan_iter("cellkeeper:run:*"))
    assert len(keys) == 8
    assert {client.ttl(key) for key in keys} == {-1}
    redis_store.change_run(
        "r", lambda run, now: rules.end_run(run, [results(1, 1)] * 2, now, ACTIONS)
    )
    assert all(0 < client.ttl(key) <= FAR for key in keys)
    shared = {key for key in client.scan_iter() if client.ttl(key) == -1}
    assert shared == {"cellkeeper:queue", "cellkeeper:runs", "cellkeeper:history"}


def test_a_run_that_is_gone_leaves_the_list_and_one_that_goes_on_stays(client: Client) -> None:
    store = RedisStore(client, 0)
    create(store, "long")
    create(store, "ended")
    end(store, "ended")
    until(lambda: client.exists("cellkeeper:run:ended") == 0)
    create(store, "new")
    assert store.recent() == ["new", "long"]


def test_summaries_are_kept_for_so_many_days(client: Client) -> None:
    store = RedisStore(client, FAR, history_days=1)
    create(store, "old")
    end(store, "old")
    (summary,) = client.zrange("cellkeeper:history", 0, -1)
    client.zincrby("cellkeeper:history", -86_401, summary)
    assert [summary.run for summary in store.history(0)] == ["old"]
    create(store, "new")
    end(store, "new")
    assert [summary.run for summary in store.history(0)] == ["new"]


def test_a_record_that_expires_while_it_is_changed_is_gone(
    redis_store: RedisStore, client: Client
) -> None:
    create(redis_store)
    view, who = claim(redis_store)
    client.flushall()
    with pytest.raises(RunGone):
        record(redis_store, who, 5, view)
    with pytest.raises(RunGone):
        redis_store.change_run("r", rules.wake)
    assert client.keys() == []


def test_the_names_of_a_run_are_read_once(redis_store: RedisStore, client: Client) -> None:
    create(redis_store, "first", names="a")
    create(redis_store, "second", names="a")
    redis_store.change_queue(rules.admit)
    before = client.info("commandstats").get("cmdstat_hget", {"calls": 0})["calls"]
    for _ in range(10):
        redis_store.change_queue(rules.admit)
    assert client.info("commandstats")["cmdstat_hget"]["calls"] - before == 10, (
        "the queue, and nothing else"
    )


@pytest.fixture
def doubting_store(redis_store: RedisStore) -> RedisStore:
    """A store whose client loses each first answer, and asks again as it does when a connection
    breaks.
    """
    decide = redis_store._decide

    def decide_twice(args: list[Any]) -> Any:
        decide(args=args)
        return decide(args=args)

    redis_store._decide = decide_twice
    return redis_store


def test_a_change_whose_answer_was_lost_is_made_once_and_known(doubting_store: RedisStore) -> None:
    store = doubting_store
    run = RunRecord(order(), 1, 0.0, RunState.RUNNING)
    assert store.create(run, [CellRecord(0, A, Stage.WORK)], frozenset("a"), rules.admit)
    assert store.queue() == [Place("r", True)]
    assert not store.create(replace(run, ordered=1.0), [], frozenset("a"), rules.admit)
    view, who = claim(store)
    assert view.cell.attempts == 1
    view = record(store, who, 5, view, Increments(5, {"rows": 5}))
    assert isinstance(view, View)
    assert isinstance(finish(store, token="t"), View)
    assert (store.progress("r", 0).rows, store.tally()) == (5, {"rows": 5})
    assert end(store, entries={"duration": 1.5})
    assert not end(store)
    assert len(store.history(0)) == 1


def test_what_is_ordered_too_late_is_not_kept(store: RunStore) -> None:
    """One that is there already is, whenever it is ordered again; time also passes while the queue
    is looked at.
    """
    latest = store.now() + 0.2
    late = RunRecord(replace(order("late"), latest=latest), 0, ordered=0.0)

    def ponder(queue: Sequence[Place], _: Any) -> Sequence[Place]:
        until(lambda: store.now() > latest)
        return queue

    if isinstance(store, RedisStore):  # the other one is asked by nobody else meanwhile
        with pytest.raises(TooLate):
            store.create(late, [], frozenset(), ponder)
    until(lambda: store.now() > latest)
    with pytest.raises(TooLate):
        store.create(late, [], frozenset(), rules.admit)
    assert (store.recent(), store.queue()) == ([], [])
    in_time = replace(late, order=replace(late.order, latest=store.now() + FAR))
    assert store.create(in_time, [], frozenset(), rules.admit)
    assert not store.create(late, [], frozenset(), rules.admit)


def test_a_worker_lives_until_it_rests_or_falls_silent(redis_store: RedisStore) -> None:
    redis_store.show_alive("a:1", None, LEASE)
    redis_store.show_alive("b:2", [A.uuid], LEASE)
    redis_store.show_alive("c:3", [], SHORT)
    until(lambda: "c:3" not in redis_store.workers())
    assert redis_store.workers() == {"a:1": None, "b:2": {A.uuid}}
    redis_store.sign_off("a:1")
    assert redis_store.workers() == {"b:2": {A.uuid}}


# -- what cannot be read ---------------------------------------------------------------------------

GARBAGE = [
    pytest.param("no JSON", id="no JSON"),
    pytest.param("", id="nothing"),
    pytest.param("7 {", id="half of it"),
    pytest.param("7 []", id="no object"),
    pytest.param("7 {}", id="without its fields"),
    pytest.param('7 {"order": 5, "number": "x", "reason": 1}', id="of other types"),
]


def set_field(client: Client, key: str, field: str) -> Callable[[str], None]:
    return lambda text: client.hset(key, field, text)


def retype(client: Client, key: str) -> None:
    """Make a key one of another type."""
    client.delete(key)
    client.set(key, "of another type")


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines that the store has written since."""
    caplog.set_level(logging.WARNING, "cellkeeper.runs")
    return lambda: [line.getMessage() for line in caplog.records if line.name == "cellkeeper.runs"]


@pytest.mark.parametrize("garbage", [*GARBAGE, pytest.param(None, id="another type")])
def test_a_damaged_run_costs_itself_and_one_line(
    redis_store: RedisStore, client: Client, garbage: str | None, warnings: Callable[[], list[str]]
) -> None:
    conductor = Conductor(redis_store, lambda _: None)
    for run in ("bad", "good"):
        conductor.start(order(run), [A])
    if garbage is None:
        retype(client, "cellkeeper:run:bad")
    else:
        client.hset("cellkeeper:run:bad", "record", garbage)
    for _ in range(2):
        with pytest.raises(RunDamaged, match="bad"):
            redis_store.run("bad")
        with pytest.raises(RunDamaged, match="bad"):
            redis_store.change_run("bad", rules.wake)
    with pytest.raises(RunDamaged, match="bad"):
        claim_as(redis_store, Claimant("t", "w", LEASE), run="bad")
    assert set(redis_store.recent()) == {"bad", "good"}
    assert [place.run for place in redis_store.queue()] == ["bad", "good"]
    conductor.look_after_all()
    assert redis_store.queue() == [Place("good", True)]
    assert redis_store.run("good").state is RunState.RUNNING
    assert warnings() == ["run bad: what the store has of it cannot be read, it is given up"]


@pytest.mark.parametrize("key", ["", ":look"])
def test_cells_of_another_type_cost_their_run(
    redis_store: RedisStore, client: Client, key: str
) -> None:
    conductor = Conductor(redis_store, lambda _: None, fleet=Fleet(lambda: {"w": None}))
    for run in ("bad", "good"):
        conductor.start(order(run), [A])
    retype(client, f"cellkeeper:run:bad:0{key}")
    with pytest.raises(RunDamaged):
        finish(redis_store, run="bad")
    conductor.look_after_all()
    assert redis_store.queue() == [Place("good", True)]


@pytest.mark.parametrize("key", [":leases", ":changed"])
def test_a_list_of_another_type_that_a_run_can_do_without_costs_nothing(
    redis_store: RedisStore, client: Client, key: str
) -> None:
    create(redis_store)
    retype(client, f"cellkeeper:run:r:0{key}")
    view, who = claim(redis_store)
    assert record(redis_store, who, 5, view)
    assert redis_store.progress("r", 0).at_work == 1
    assert [cell.number for cell in redis_store.changes("r", 0, 0)[1]] == [0]


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize(
    "params", [order().phases, order(params=TOTAL).phases], ids=["at once", "in turn"]
)
def test_a_damaged_cell_has_failed_and_the_others_go_on(
    redis_store: RedisStore,
    client: Client,
    garbage: str,
    params: Any,
    warnings: Callable[[], list[str]],
) -> None:
    rung: list[int] = []
    at_once = Patience(idle=0.0, longest=0.0, grace=NEVER)
    conductor = Conductor(
        redis_store,
        lambda bell: rung.append(bell.number),
        patience=at_once,
        fleet=Fleet(lambda: {"w": None}),
    )
    conductor.start(replace(order(), phases=params), [A, B])
    for number in (0, 1):
        redis_store.change_cell("r", 0, number, lambda view: replace(view.cell, stage=Stage.WORK))
    client.hset("cellkeeper:run:r:0", "0", garbage)
    failure = Failure(FailureKind.UNEXPECTED, "what the store had of it cannot be read")
    assert [cell.failure for cell in redis_store.cells("r", 0)] == [failure, None]
    assert claim_as(redis_store, Claimant("t", "w", LEASE)) is Refusal.OVER
    _, who = claim(redis_store, number=1)
    conductor.look_after("r")
    assert redis_store.open_cells("r", 0) == [1]
    view = finish(redis_store, 1, who.token)
    conductor.cell_ended(view)
    ended = redis_store.run("r")
    assert (ended.exit_code, ended.facts and ended.facts.failed_cells) == (255, 1)
    assert [cell.failure for cell in redis_store.cells("r", 0)] == [failure, None]
    assert warnings() == ["run r, cell 0: what the store has of it cannot be read, it has failed"]


def test_a_damaged_cell_is_tried_again_by_its_uuid(redis_store: RedisStore, client: Client) -> None:
    conductor = Conductor(redis_store, lambda _: None, fleet=Fleet(lambda: {"w": None}))
    for run in ("r", "worse"):
        conductor.start(order(run), [A, B])
        client.hset(f"cellkeeper:run:{run}:0", "0", "no JSON")
    client.hdel("cellkeeper:run:worse", "refs")
    for run in ("r", "worse"):
        conductor.cancel(run)
    (again,) = conductor.retry("r", "somebody")
    assert [cell.ref for cell in redis_store.cells(again, 0)] == [A]
    with pytest.raises(
        NotPossible, match="what the store has of cell 0 does not say which cell it was"
    ):
        conductor.retry("worse", "somebody")


@pytest.mark.parametrize("garbage", ["no JSON", "", "7 {", "7 5", "7 [{}]", '7 [{"run": 5}]', None])
def test_a_damaged_queue_is_made_anew_from_the_runs(
    redis_store: RedisStore, client: Client, garbage: str | None, warnings: Callable[[], list[str]]
) -> None:
    conductor = Conductor(redis_store, lambda _: None)
    for run in ("first", "second", "third"):
        conductor.start(order(run), [A])
    conductor.cancel("second", "ops@c1")
    if garbage is None:
        retype(client, "cellkeeper:queue")
    else:
        client.hset("cellkeeper:queue", "record", garbage)
    assert redis_store.queue() == [Place("first", True), Place("third")]
    conductor.start(order("fourth"), [A])
    assert redis_store.queue() == [Place("first", True), Place("third"), Place("fourth")]
    assert client.hget("cellkeeper:queue", "record").endswith("]")
    assert warnings() == [
        "the queue of runs: what the store has of it cannot be read, it is made anew from the runs "
        "that have not ended"
    ]


def test_damaged_names_keep_off_nobody(redis_store: RedisStore, client: Client) -> None:
    create(redis_store, "first", names="a")
    client.hset("cellkeeper:run:first", "names", "{")
    another = RedisStore(client, FAR)
    create(another, "second", names="a")
    assert another.queue() == [Place("first", True), Place("second", True)]


@pytest.mark.parametrize("garbage", [*GARBAGE, pytest.param(None, id="another type")])
def test_a_damaged_hold_holds_nothing_until_it_is_set_again(
    redis_store: RedisStore, client: Client, garbage: str | None, warnings: Callable[[], list[str]]
) -> None:
    create(redis_store)
    if garbage is None:
        retype(client, "cellkeeper:hold")
    else:
        client.hset("cellkeeper:hold", "record", garbage)
    assert redis_store.hold() is None
    claim(redis_store)
    assert warnings() == [
        "the hold of all runs: what the store has of it cannot be read, nothing is held"
    ]
    hold = Hold("because", "ops@c1", 1.0)
    redis_store.set_hold(hold)
    assert redis_store.hold() == hold
    redis_store.set_hold(None)
    assert redis_store.hold() is None


@pytest.mark.parametrize(
    "garbage",
    ["no JSON", "", "{}", "[]", "5", '{"serves": 5, "format": 2}', '{"serves": [[]], "format": 2}'],
)
def test_a_workers_damaged_sign_of_life_costs_that_worker(
    redis_store: RedisStore, client: Client, garbage: str, warnings: Callable[[], list[str]]
) -> None:
    for worker in ("bad", "good"):
        redis_store.show_alive(worker, None, LEASE)
    client.set("cellkeeper:worker:bad", garbage)
    assert redis_store.workers() == redis_store.workers() == {"good": None}
    assert warnings() == [
        "worker bad, its sign of life: what the store has of it cannot be read, it counts as dead"
    ]
    redis_store.show_alive("bad", [A.uuid], LEASE)
    assert redis_store.workers() == {"bad": {A.uuid}, "good": None}


def test_a_workers_key_of_another_type_costs_that_worker(
    redis_store: RedisStore, client: Client
) -> None:
    for worker in ("bad", "good"):
        redis_store.show_alive(worker, None, LEASE)
    client.delete("cellkeeper:worker:bad")
    client.lpush("cellkeeper:worker:bad", "x")
    assert redis_store.workers() == {"good": None}
    redis_store.show_alive("bad", None, LEASE)
    assert redis_store.workers() == {"bad": None, "good": None}


def test_a_worker_of_another_version_is_none_of_ours(
    redis_store: RedisStore, client: Client
) -> None:
    redis_store.show_alive("old", None, LEASE)
    client.set("cellkeeper:worker:old", '{"serves": null, "format": 1}')
    assert redis_store.workers() == {}


@pytest.mark.parametrize("garbage", ["no JSON", "{}", "[]", '{"run": 5}'])
def test_a_damaged_summary_is_left_out(
    redis_store: RedisStore, client: Client, garbage: str, warnings: Callable[[], list[str]]
) -> None:
    create(redis_store)
    end(redis_store)
    client.zadd("cellkeeper:history", {garbage: redis_store.now()})
    assert [summary.run for summary in redis_store.history(0)] == ["r"]
    assert isinstance(redis_store.history(0)[0], Summary)
    assert warnings() == [
        "a run of the history: what the store has of it cannot be read, it is left out"
    ]


def test_a_damaged_entry_of_the_books_is_left_out(redis_store: RedisStore, client: Client) -> None:
    create(redis_store)
    end(redis_store, entries={"duration": 1.5})
    client.hset("cellkeeper:tally", "rows", "many")
    assert redis_store.tally() == {"duration": 1.5}


SHARED = ["history", "tally", "runs", "workers"]


@pytest.mark.parametrize("key", SHARED)
def test_a_shared_key_of_another_type_is_empty_until_it_is_written(
    redis_store: RedisStore, client: Client, key: str, warnings: Callable[[], list[str]]
) -> None:
    create(redis_store, "before")
    retype(client, f"cellkeeper:{key}")
    asks: dict[str, Callable[[], Any]] = {
        "history": lambda: [summary.run for summary in redis_store.history(0)],
        "tally": redis_store.tally,
        "runs": redis_store.recent,
        "workers": redis_store.workers,
    }
    assert not asks[key]()
    create(redis_store)
    view, who = claim(redis_store)
    record(redis_store, who, 5, view, Increments(5, {"rows": 5}))
    redis_store.show_alive("w", None, LEASE)
    end(redis_store)
    assert {name: ask() for name, ask in asks.items()} == {
        "history": ["r"],
        "tally": {"rows": 5},
        "runs": ["r"] if key == "runs" else ["r", "before"],
        "workers": {"w": None},
    }
    assert len(warnings()) == 1


def test_a_refusal_of_redis_is_no_damage(broker: Redis, client: Client) -> None:
    """A server that refuses writes is waited for like one that is away: no run is given up because
    of it.
    """
    store = RedisStore(client, FAR)
    conductor = Conductor(store, lambda _: None)
    conductor.start(order(), [A])
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(OutOfMemoryError):
            conductor.cancel("r", "ops@c1")
        with pytest.raises(OutOfMemoryError):
            claim(store)
    finally:
        client.config_set("maxmemory", "0")
    assert store.queue() == [Place("r", True)]
    assert claim(store)


@pytest.mark.parametrize("what_is_there", ["no JSON", '{"at": "soon"}', "[]"])
def test_what_was_seen_of_a_server_is_looked_at_anew_where_it_cannot_be_read(
    redis_store: RedisStore, client: Client, what_is_there: str
) -> None:
    client.set("cellkeeper:look:db1:3306", what_is_there)
    assert redis_store.claim_look("db1:3306", FAR) == (True, None)


def test_what_was_seen_of_a_server_is_looked_at_anew_where_its_key_is_of_another_type(
    redis_store: RedisStore, client: Client
) -> None:
    client.rpush("cellkeeper:look:db1:3306", "list")
    assert redis_store.claim_look("db1:3306", FAR) == (True, None)
    redis_store.keep_look("db1:3306", ServerState(1.0))
    assert redis_store.claim_look("db1:3306", FAR) == (False, ServerState(1.0))
