"""What the store decides, by scripts in a real Redis."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis as Client

from runs.records import CellRecord, CellState, Order
from runs.redis_store import Claim, RedisStore, RunGone
from tests.acceptance.program import until
from tests.workers.orders import A, B, C, moved, order

LEASE = 60.0
SHORT = 0.05
FAR = 3600


@pytest.fixture
def store(client: Client) -> RedisStore:
    return RedisStore(client, FAR)


def begin(store: RedisStore, run: Order, state: CellState = CellState.WAITING) -> Order:
    """A run in its first phase."""
    store.create(run)
    assert store.open_phase(run, 0, [state] * len(run.cells))
    return run


@pytest.fixture
def run(store: RedisStore) -> Order:
    """A run over two cells."""
    return begin(store, order(purge=True))


def try_to_claim(
    store: RedisStore, token: str, sequence: int = 0, *, lease: float = LEASE, redelivered: bool = False, phase: int = 0
) -> Claim | str:
    return store.claim(
        "r", phase, A.uuid, sequence=sequence, redelivered=redelivered, token=token, lease=lease, worker=f"w-{token}"
    )


def claim(
    store: RedisStore, token: str, sequence: int = 0, *, lease: float = LEASE, redelivered: bool = False
) -> Claim:
    """Claim the first cell, which must succeed."""
    found = try_to_claim(store, token, sequence, lease=lease, redelivered=redelivered)
    assert isinstance(found, Claim), found
    return found


def cell(store: RedisStore, name: str = A.label) -> CellRecord:
    return next(one for one in store.load("r").cells if one.ref.label == name)


def until_lapsed(store: RedisStore) -> None:
    """Wait until nobody holds a live claim to the first cell."""
    until(lambda: not cell(store).leased)


def record(store: RedisStore, token: str, rows: int | None = None, lease: float = LEASE) -> str:
    progress = None if rows is None else ({"at": rows}, moved(rows))
    return store.record("r", 0, A.uuid, token, lease, progress)


def finish(store: RedisStore, uuid: str, token: str | None = None, *, complete: bool = True) -> int | None:
    return store.finish("r", 0, uuid, token, None, complete)


def at_once(tries: int, deed: Callable[[int], Any]) -> list[Any]:
    """What becomes of a deed that many do at the same time."""
    barrier = threading.Barrier(tries)

    def do(number: int) -> Any:
        barrier.wait()
        return deed(number)

    with ThreadPoolExecutor(tries) as pool:
        return list(pool.map(do, range(tries)))


# -- claims ----------------------------------------------------------------------------------------------------------


def test_the_current_message_is_granted_the_cell(store: RedisStore, run: Order) -> None:
    found = claim(store, "t")
    assert found == Claim("t", 0, None, None, attempts=1, stopping="")
    now = cell(store)
    assert (now.state, now.worker, now.leased) == (CellState.WORKING, "w-t", True)
    assert now.started is not None
    assert cell(store, B.label).state is CellState.WAITING


def test_who_claims_a_held_cell_gets_nothing(store: RedisStore, run: Order) -> None:
    claim(store, "t")
    assert try_to_claim(store, "u") == "held"
    assert try_to_claim(store, "u", redelivered=True) == "held"
    assert cell(store).worker == "w-t"


def test_of_many_that_claim_at_once_one_is_granted(store: RedisStore, run: Order) -> None:
    found = at_once(16, lambda number: try_to_claim(store, str(number)))
    assert sorted(isinstance(one, Claim) for one in found) == [False] * 15 + [True]


def test_an_outdated_message_is_granted_nothing(store: RedisStore, run: Order) -> None:
    claim(store, "t")
    assert store.advance("r", 0, A.uuid, "t") == 1
    assert try_to_claim(store, "u", 0) == "outdated"
    assert try_to_claim(store, "u", 2) == "outdated"
    assert try_to_claim(store, "u", 1, redelivered=True) != "outdated"


def test_after_the_lease_another_may_claim_and_goes_on_where_the_first_was(store: RedisStore, run: Order) -> None:
    claim(store, "dead", lease=SHORT)
    assert record(store, "dead", 7, lease=SHORT) == "kept"
    until_lapsed(store)
    found = claim(store, "heir")
    assert (found.cursor, found.outcome) == ({"at": 7}, moved(7))
    assert record(store, "dead", 99) == "lost"
    assert store.advance("r", 0, A.uuid, "dead") is None
    assert finish(store, A.uuid, "dead") is None
    assert cell(store).outcome == moved(7)
    assert record(store, "heir", 8) == "kept"


def test_a_message_left_behind_by_a_dead_worker_stands_for_the_one_that_may_never_have_been_sent(
    store: RedisStore, run: Order
) -> None:
    claim(store, "dead")
    assert store.advance("r", 0, A.uuid, "dead") == 1
    assert try_to_claim(store, "u", 0) == "outdated"  # a copy of it, not the message that came back
    assert claim(store, "heir", 0, redelivered=True).sequence == 1
    assert try_to_claim(store, "late", 1) == "held"


def test_a_message_left_behind_is_outdated_once_its_continuation_was_claimed(store: RedisStore, run: Order) -> None:
    claim(store, "dead")
    store.advance("r", 0, A.uuid, "dead")
    claim(store, "heir", 1, lease=SHORT)
    until_lapsed(store)
    assert try_to_claim(store, "u", 0, redelivered=True) == "outdated"


def test_the_chain_does_not_fork_when_both_the_message_and_its_continuation_come(store: RedisStore, run: Order) -> None:
    claim(store, "dead")
    store.advance("r", 0, A.uuid, "dead")
    claim(store, "heir", 0, redelivered=True)
    assert store.advance("r", 0, A.uuid, "heir") == 2
    assert try_to_claim(store, "late", 1) == "outdated"
    assert isinstance(try_to_claim(store, "next", 2), Claim)


def test_what_is_over_cannot_be_claimed(store: RedisStore, run: Order) -> None:
    assert try_to_claim(store, "t", phase=1) == "over"
    begin(store, order("other"), CellState.QUEUED)
    assert store.claim("other", 0, A.uuid, sequence=0, redelivered=False, token="t", lease=LEASE, worker="w") == "over"
    assert store.claim("gone", 0, A.uuid, sequence=0, redelivered=False, token="t", lease=LEASE, worker="w") == "over"
    finish(store, A.uuid)
    assert try_to_claim(store, "t") == "over"
    finish(store, B.uuid)
    store.open_phase(run, 1, [CellState.WAITING] * 2)
    assert try_to_claim(store, "t") == "over"
    store.close(run, 0, [])
    assert try_to_claim(store, "t", phase=1) == "over"


def test_attempts_count_the_claims_since_the_last_step(store: RedisStore, run: Order) -> None:
    for attempts in (1, 2, 3):
        assert claim(store, f"t{attempts}", lease=SHORT).attempts == attempts
        assert record(store, f"t{attempts}", lease=SHORT) == "kept"  # only a sign of life, no step
        until_lapsed(store)
    claim(store, "t4")
    assert record(store, "t4", 1, lease=SHORT) == "kept"
    until_lapsed(store)
    assert claim(store, "t5").attempts == 1


# -- steps -----------------------------------------------------------------------------------------------------------


def test_a_step_renews_the_claim_and_keeps_what_was_done(store: RedisStore, run: Order) -> None:
    claim(store, "t", lease=SHORT)
    assert record(store, "t", 5) == "kept"
    now = cell(store)
    assert (now.cursor, now.outcome, now.leased) == ({"at": 5}, moved(5), True)
    assert record(store, "t") == "kept"
    assert cell(store).outcome == moved(5)


def test_who_works_learns_that_the_run_is_cancelled_and_what_was_done_is_kept(store: RedisStore, run: Order) -> None:
    claim(store, "t")
    store.cancel("r")
    assert record(store, "t", 5) == "cancelled"
    assert cell(store).outcome == moved(5)
    assert store.load("r").state == "cancelling"


def test_who_claims_learns_that_the_run_is_cancelled(store: RedisStore, run: Order) -> None:
    store.cancel("r")
    assert claim(store, "t").stopping == "cancelled"


def test_what_a_stranger_records_is_lost(store: RedisStore, run: Order, client: Client) -> None:
    assert record(store, "stranger", 5) == "lost"
    claim(store, "t")
    assert record(store, "stranger", 5) == "lost"
    assert cell(store).outcome is None
    client.flushall()
    assert record(store, "t", 5) == "lost"
    assert client.keys() == []


def test_the_next_slice_waits_for_a_worker(store: RedisStore, run: Order) -> None:
    claim(store, "t")
    record(store, "t", 5)
    assert store.advance("r", 0, A.uuid, "t") == 1
    assert not cell(store).leased
    assert store.advance("r", 0, A.uuid, "t") is None
    found = claim(store, "u", 1)
    assert (found.sequence, found.cursor, found.outcome) == (1, {"at": 5}, moved(5))


# -- ends ------------------------------------------------------------------------------------------------------------


def test_the_counter_tells_the_last_cell(store: RedisStore) -> None:
    begin(store, order(cells=(A, B, C)))
    assert [finish(store, one.uuid) for one in (A, B, C)] == [2, 1, 0]
    assert [one.state for one in store.load("r").cells] == [CellState.DONE] * 3


def test_a_cell_is_finished_once(store: RedisStore, run: Order) -> None:
    claim(store, "t")
    assert finish(store, A.uuid) is None  # somebody holds it
    assert finish(store, A.uuid, "stranger") is None
    left = at_once(12, lambda _: finish(store, A.uuid, "t"))
    assert sorted(left, key=str) == [1] + [None] * 11
    assert finish(store, A.uuid) is None
    assert finish(store, B.uuid) == 0


def test_what_is_left_of_a_cell_when_it_is_finished(store: RedisStore, run: Order) -> None:
    claim(store, "t")
    record(store, "t", 5)
    assert store.finish("r", 0, A.uuid, "t", ("CELL", "it went away"), False) == 1
    now = cell(store)
    assert (now.failure, now.complete, now.outcome, now.leased) == (("CELL", "it went away"), False, moved(5), False)
    assert now.finished is not None


def test_a_claim_that_lapsed_can_be_finished_by_others(store: RedisStore, run: Order) -> None:
    claim(store, "dead", lease=SHORT)
    until_lapsed(store)
    assert finish(store, A.uuid) == 1
    assert record(store, "dead", 5) == "lost"
    assert cell(store).outcome is None


def test_a_phase_is_opened_once(store: RedisStore, run: Order) -> None:
    claim(store, "t")
    record(store, "t", 5)
    finish(store, A.uuid, "t")
    finish(store, B.uuid)
    opened = at_once(12, lambda _: store.open_phase(run, 1, [CellState.WAITING] * 2))
    assert sorted(opened) == [False] * 11 + [True]
    assert not store.open_phase(run, 0, [CellState.WAITING] * 2)
    second, first = store.load("r"), store.load("r", 0)
    assert second.phase == 1
    assert [(one.state, one.outcome) for one in second.cells] == [(CellState.WAITING, None)] * 2
    assert first.cells[0].outcome == moved(5)


def test_no_phase_is_opened_in_a_run_that_is_over_or_gone(store: RedisStore, run: Order, client: Client) -> None:
    store.close(run, 1, [])
    assert not store.open_phase(run, 1, [CellState.WAITING] * 2)
    client.flushall()
    assert not store.open_phase(run, 0, [CellState.WAITING] * 2)
    assert client.keys() == []


def test_a_run_is_ended_once_and_holds_nothing_any_more(store: RedisStore, run: Order) -> None:
    names = ["archive:a", "archive:b"]
    assert store.hold("r", names, LEASE) is None
    assert store.active() == {"r"}
    closed = at_once(12, lambda number: store.close(run, number, names))
    assert sorted(closed) == [False] * 11 + [True]
    ended = store.load("r")
    assert (ended.exit_code, ended.state) == (closed.index(True), "finished")
    assert ended.finished is not None
    assert store.active() == set()
    assert store.hold("next", names, LEASE) is None


def test_the_end_of_a_run_frees_nothing_of_others(store: RedisStore, run: Order) -> None:
    assert store.hold("other", ["archive:a"], LEASE) is None
    store.close(run, 0, ["archive:a", "archive:b"])
    assert store.hold("next", ["archive:a"], LEASE) == "other"


def test_what_is_cancelled_after_its_end_stays_as_it_ended(store: RedisStore, run: Order) -> None:
    store.close(run, 1, [])
    store.cancel("r")
    assert store.load("r").state == "finished"


# -- exclusion -------------------------------------------------------------------------------------------------------


def test_all_or_none_is_held(store: RedisStore) -> None:
    assert store.hold("first", ["b", "c"], LEASE) is None
    assert store.hold("second", ["a", "b"], LEASE) == "first"
    assert store.hold("third", ["a"], LEASE) is None


def test_of_many_that_want_to_hold_one_does(store: RedisStore) -> None:
    names = [str(number) for number in range(5)]

    def take(number: int) -> str | None:
        return store.hold(str(number), names[number % 5 :] + names[: number % 5], LEASE)

    holders = at_once(16, take)
    (winner,) = [number for number, holder in enumerate(holders) if holder is None]
    assert {holder for holder in holders if holder is not None} == {str(winner)}


def test_two_cells_with_one_database_hold_it_once(store: RedisStore) -> None:
    assert store.hold("first", ["a", "a"], LEASE) is None
    assert store.hold("second", ["a"], LEASE) == "first"


def test_who_holds_may_renew(store: RedisStore) -> None:
    store.hold("first", ["a"], SHORT)
    assert store.hold("first", ["a"], LEASE) is None
    assert store.hold("second", ["a"], LEASE) == "first"


def test_what_nobody_renews_is_free(store: RedisStore) -> None:
    store.hold("first", ["a"], SHORT)
    until(lambda: store.hold("second", ["a"], LEASE) is None)


def test_what_writes_nothing_holds_nothing(store: RedisStore, client: Client) -> None:
    assert store.hold("first", [], LEASE) is None
    assert client.keys() == []


def test_a_renewal_after_the_end_takes_nothing(store: RedisStore, run: Order, client: Client) -> None:
    store.hold("r", ["a"], LEASE)
    store.close(run, 0, ["a"])
    assert store.hold("r", ["a"], LEASE) is None
    assert client.keys("cellkeeper:hold:*") == []


# -- what was lost ---------------------------------------------------------------------------------------------------


def test_what_shows_no_sign_of_life_is_sent_again_by_one_alone(store: RedisStore, run: Order) -> None:
    until(lambda: cell(store).idle > 0.2)
    revived = at_once(12, lambda _: store.revive("r", 0, A.uuid, 0.2))
    assert sorted(revived, key=str) == [0] + [None] * 11


def test_what_is_sent_again_is_the_current_slice(store: RedisStore, run: Order) -> None:
    claim(store, "dead")
    store.advance("r", 0, A.uuid, "dead")
    until(lambda: store.revive("r", 0, A.uuid, 0.01) == 1)


def test_a_held_cell_is_not_sent_again(store: RedisStore, run: Order) -> None:
    claim(store, "t")
    time.sleep(0.05)
    assert store.revive("r", 0, A.uuid, 0.01) is None
    finish(store, A.uuid, "t")
    time.sleep(0.05)
    assert store.revive("r", 0, A.uuid, 0.01) is None


@pytest.mark.parametrize("state", [CellState.QUEUED, CellState.DONE])
def test_what_waits_for_its_turn_or_is_done_is_not_sent_again(store: RedisStore, state: CellState) -> None:
    begin(store, order(), state)
    time.sleep(0.05)
    assert store.revive("r", 0, A.uuid, 0.01) is None


def test_a_turn_is_taken_once(store: RedisStore) -> None:
    begin(store, order(), CellState.QUEUED)
    taken = at_once(12, lambda _: store.take_turn("r", 0, A.uuid))
    assert sorted(taken) == [False] * 11 + [True]
    assert [one.state for one in store.load("r").cells] == [CellState.WAITING, CellState.QUEUED]


# -- keeping ---------------------------------------------------------------------------------------------------------


def test_an_unknown_run_is_said_to_be_gone(store: RedisStore, client: Client) -> None:
    for ask in (store.load, store.cancel):
        with pytest.raises(RunGone, match="nothing"):
            ask("nothing")
    assert client.keys() == []


def test_runs_are_listed_the_newest_first(store: RedisStore) -> None:
    for name in ("a", "b", "c"):
        store.create(order(name))
        time.sleep(0.002)
    assert store.recent() == ["c", "b", "a"]
    assert store.active() == {"a", "b", "c"}
    store.forget_active("b")
    assert store.active() == {"a", "c"}


def test_everything_of_a_run_expires(store: RedisStore, run: Order, client: Client) -> None:
    ever: Sequence[str] = [key for key in client.scan_iter() if client.ttl(key) == -1]
    assert sorted(ever) == ["cellkeeper:active", "cellkeeper:runs"]


def test_a_run_that_is_worked_on_does_not_expire(client: Client) -> None:
    store = RedisStore(client, 1)
    run = begin(store, order())
    claim(store, "t")
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        record(store, "t", 1)
        time.sleep(0.1)
    assert cell(store).outcome == moved(1)
    assert store.load(run.id).exit_code is None


# -- workers ---------------------------------------------------------------------------------------------------------


def test_a_worker_lives_until_it_rests_or_falls_silent(store: RedisStore) -> None:
    store.beat("a:1", None, LEASE)
    store.beat("b:2", [A.uuid], LEASE)
    store.beat("c:3", [], SHORT)
    until(lambda: "c:3" not in store.workers())
    assert store.workers() == {"a:1": None, "b:2": {A.uuid}}
    store.rest("a:1")
    assert store.workers() == {"b:2": {A.uuid}}


# -- one run of each id ----------------------------------------------------------------------------------------------


def test_a_run_is_created_once(store: RedisStore) -> None:
    assert sorted(at_once(16, lambda _: store.create(order()))) == [False] * 15 + [True]


def test_a_run_that_is_there_stays_as_it_is(store: RedisStore, run: Order) -> None:
    claim(store, "t")
    assert not store.create(order(cells=(C,)))
    assert store.load("r").order == run
    assert cell(store).leased


# -- the maintenance window ------------------------------------------------------------------------------------------


def closing(store: RedisStore, seconds: float) -> Order:
    """A run whose window closes in so many seconds."""
    return begin(store, replace(order(), until=time.time() + seconds))


def test_who_works_learns_that_the_window_has_closed_and_what_was_done_is_kept(store: RedisStore) -> None:
    closing(store, 0.3)
    assert claim(store, "t").stopping == ""
    assert not store.load("r").closed
    until(lambda: record(store, "t", 5) == "closed")
    assert store.load("r").state == "window closing"
    assert cell(store).outcome == moved(5)


def test_who_claims_learns_that_the_window_has_closed(store: RedisStore) -> None:
    closing(store, -1)
    assert claim(store, "t").stopping == "closed"


def test_an_open_window_stops_nobody(store: RedisStore) -> None:
    closing(store, 3600)
    assert claim(store, "t").stopping == ""
    assert record(store, "t", 5) == "kept"


def test_a_run_that_ended_before_its_window_closed_is_finished(store: RedisStore) -> None:
    run = closing(store, 0.5)
    assert store.close(run, 0, [])
    assert store.load("r").state == "finished"
    until(lambda: time.time() > (run.until or 0))
    assert store.load("r").state == "finished"


# -- the books -------------------------------------------------------------------------------------------------------


def test_the_books_count_steps_and_outlive_the_run(store: RedisStore, client: Client, run: Order) -> None:
    claim(store, "t")
    for rows in (5, 7, 0):
        assert store.record("r", 0, A.uuid, "t", LEASE, ({}, moved(rows)), ("rows", rows)) == "kept"
    assert store.record("r", 0, A.uuid, "somebody else", LEASE, ({}, moved(9)), ("rows", 9)) == "lost"
    assert store.close(run, 1, [], {"duration": 1.5})
    assert not store.close(run, 1, [], {"duration": 99})
    client.delete("cellkeeper:run:r")
    assert store.tally() == {"rows": 12, "duration": 1.5}
