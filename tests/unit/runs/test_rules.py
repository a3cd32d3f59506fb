"""The rules of a run, one table each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pytest

from jobs.action import CellResult, Failure, FailureKind, Step
from jobs.actions import ACTIONS
from jobs.codec import encode
from jobs.db.archive_deleted_rows import Archived
from runs import rules
from runs.pace import Speed
from runs.records import (
    NEVER,
    CellRecord,
    CellRef,
    Hold,
    Order,
    Phase,
    Place,
    Progress,
    RunRecord,
    RunState,
    Stage,
    Steering,
    View,
    Wish,
)
from runs.rules import Adjustment, Advice, Claimant, NotPossible, Patience, Refusal
from tests.support.run_records import (
    ALL,
    ARCHIVE,
    PURGE,
    TOTAL,
    A,
    B,
    C,
    away,
    moved,
    order,
    result,
    results,
)

NOW = 1000.0
LATER = NOW + 1
PATIENCE = Patience(idle=30.0, longest=100.0, grace=30.0)
ME = Claimant("mine", "host:1", 60.0)
HELD = Hold("the database is on fire", "ops@c1", NOW - 10)
WITH_PURGE = order(purge=True)
DRY_RUN = Order("dry", (Phase(f"{ARCHIVE}.dry_run", {}),), "somebody")


def run(state: RunState = RunState.RUNNING, **more: Any) -> RunRecord:
    """A run over two cells that was ordered long ago."""
    known: dict[str, Any] = {"order": order(), "cells": 2, "ordered": 10.0, "state": state}
    return RunRecord(**known | more)


def cell(stage: Stage = Stage.WORK, **more: Any) -> CellRecord:
    return CellRecord(**{"number": 0, "ref": A, "stage": stage} | more)


def held_by(token: str, until: float = NOW + 60, **more: Any) -> CellRecord:
    return cell(
        **{"holder": token, "lease_until": until, "look_at": until, "attempts": 1, "started": 900.0}
        | more
    )


# -- the queue -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ordered", "cells", "names"),
    [
        (order(), [A, B], {f"{ARCHIVE}:print-a", f"{ARCHIVE}:print-b"}),
        (order(), [A, replace(B, fingerprint=A.fingerprint)], {f"{ARCHIVE}:print-a"}),
        (order(purge=True), [A], {f"{ARCHIVE}:print-a", f"{PURGE}:print-a"}),
        (
            Order("r", (Phase("cell_v2.discover_hosts", {}),), "somebody"),
            [A, B],
            {"cell_v2.discover_hosts:cloud"},
        ),
        (DRY_RUN, [A, B], set()),
        (order(), [], set()),
    ],
    ids=[
        "each database",
        "two cells of one database",
        "each phase",
        "the cloud",
        "what only reads",
        "no cell",
    ],
)
def test_what_a_run_keeps_others_off(ordered: Order, cells: list[CellRef], names: set[str]) -> None:
    assert rules.exclusions_of(ordered, cells, ACTIONS) == names


def names(**wanted: str) -> Mapping[str, frozenset[str]]:
    """What each run wants, a letter for each database."""
    return {run: frozenset(letters) for run, letters in wanted.items()}


def places(*runs: str) -> Sequence[Place]:
    """A queue; a run with a star has been admitted."""
    return [Place(run.rstrip("*"), run.endswith("*")) for run in runs]


QUEUES = [
    pytest.param(names(first="ab", second="cd"), ["first*", "second*"], id="different databases"),
    pytest.param(names(first="ab", second="bc"), ["first*", "second"], id="one database in common"),
    pytest.param(
        names(first="a", second="ab", third="b"),
        ["first*", "second", "third"],
        id="nobody overtakes",
    ),
    pytest.param(
        names(first="a", second="ab", third="c"),
        ["first*", "second", "third*"],
        id="who is in nobody's way",
    ),
    pytest.param(
        names(first="a", second=""), ["first*", "second*"], id="who wants nothing never waits"
    ),
    pytest.param({}, [], id="nobody"),
]


@pytest.mark.parametrize(("wanted", "queue"), QUEUES)
def test_runs_are_admitted_in_the_order_of_their_arrival(
    wanted: Mapping[str, frozenset[str]], queue: list[str]
) -> None:
    admitted = rules.admit(places(*wanted), wanted)
    assert admitted == places(*queue)
    assert rules.admit(admitted, wanted) == admitted


@pytest.mark.parametrize(
    ("waiting", "blocker"),
    [
        ("first", None),
        ("second", "first"),
        ("third", "first"),
        ("fourth", "second"),
        ("unknown", None),
    ],
)
def test_a_run_waits_for_the_first_before_it_that_wants_the_same(
    waiting: str, blocker: str | None
) -> None:
    wanted = names(first="a", second="ab", third="ab", fourth="b", unknown="a")
    assert rules.blocker(places("first*", "second", "third", "fourth"), wanted, waiting) == (
        "first" if waiting == "unknown" else blocker
    )


# -- the run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ordered", "budget"),
    [(order(), None), (order(params=TOTAL), encode(TOTAL))],
    ids=["no budget", "a budget"],
)
def test_a_new_run_waits_with_its_whole_budget(ordered: Order, budget: Any) -> None:
    new = rules.new_run(replace(ordered, until=5000.0), [A, B], ACTIONS, NOW)
    assert (new.state, new.wish, new.phase, new.cells, new.ordered) == (
        RunState.WAITING,
        Wish.NOTHING,
        0,
        2,
        NOW,
    )
    assert (new.started, new.until, new.turn, new.budget) == (None, 5000.0, 0, budget)


@pytest.mark.parametrize(
    ("ordered", "cells", "stage"),
    [
        pytest.param(order(), [A, B], Stage.WORK, id="all at once"),
        pytest.param(order(params=TOTAL), [A, B, C], Stage.LOOK, id="in turn, all looked at first"),
        pytest.param(order(params=TOTAL), [A], Stage.QUEUED, id="a single one needs no look"),
        pytest.param(order(), [], Stage.WORK, id="none"),
    ],
)
def test_the_cells_of_a_phase_at_its_begin(
    ordered: Order, cells: list[CellRef], stage: Stage
) -> None:
    new = rules.new_cells(rules.new_run(ordered, cells, ACTIONS, NOW), cells, ACTIONS)
    assert [(record.number, record.ref, record.stage) for record in new] == [
        (number, ref, stage) for number, ref in enumerate(cells)
    ]
    assert {record.look_at for record in new} <= {NEVER if stage is Stage.QUEUED else 0.0}


@pytest.mark.parametrize("state", RunState)
def test_a_run_begins_once(state: RunState) -> None:
    begun = rules.begin_run(run(state), NOW)
    if state is RunState.WAITING:
        assert begun == replace(run(), started=NOW, woken=NOW)
    else:
        assert begun is None


@pytest.mark.parametrize(
    ("hold", "is_held"),
    [
        (None, False),
        (HELD, True),
        (replace(HELD, until=NOW + 1), True),
        (replace(HELD, until=NOW), False),
        (replace(HELD, until=NOW - 1), False),
    ],
)
def test_a_hold_ends_by_itself(hold: Hold | None, is_held: bool) -> None:
    assert rules.all_runs_pause(hold, NOW) is is_held


@pytest.mark.parametrize(
    ("until", "finished", "has_closed"),
    [
        (None, None, False),
        (NOW + 1, None, False),
        (NOW, None, True),
        (NOW - 1, None, True),
        (NOW - 1, NOW - 2, False),
        (NOW - 2, NOW - 1, True),
    ],
)
def test_a_window_that_closes_after_the_end_has_not_closed(
    until: float | None, finished: float | None, has_closed: bool
) -> None:
    assert rules.has_closed(run(until=until, finished=finished), NOW) is has_closed


CLOSED = NOW - 1
ADVICE = [
    # what was asked for, the window, the hold, what is to be done, whether that is for ever
    (Wish.NOTHING, None, None, Advice.GO_ON, False),
    (Wish.NOTHING, NOW + 1, None, Advice.GO_ON, False),
    (Wish.NOTHING, None, HELD, Advice.PAUSE, False),
    (Wish.PAUSE, None, None, Advice.PAUSE, False),
    (Wish.NOTHING, CLOSED, None, Advice.CLOSE, True),
    (Wish.PAUSE, CLOSED, HELD, Advice.CLOSE, True),
    (Wish.CANCEL, None, None, Advice.CANCEL, True),
    (Wish.CANCEL, CLOSED, HELD, Advice.CANCEL, True),
]


@pytest.mark.parametrize(("wish", "until", "hold", "advice", "for_ever"), ADVICE)
def test_what_a_run_is_to_do_now(
    wish: Wish, until: float | None, hold: Hold | None, advice: Advice, for_ever: bool
) -> None:
    record = run(wish=wish, until=until)
    assert rules.advice(record, hold, NOW) is advice
    assert rules.is_stopping(record, hold, NOW) is for_ever


def test_nothing_goes_on_in_a_run_that_has_ended() -> None:
    assert rules.advice(run(RunState.ENDED), None, NOW) is Advice.CANCEL


@pytest.mark.parametrize(
    ("record", "hold", "at_work", "words"),
    [
        (run(RunState.WAITING), None, 0, "waiting"),
        (run(RunState.WAITING, wish=Wish.PAUSE), None, 0, "paused"),
        (run(), None, 1, "running"),
        (run(wish=Wish.PAUSE), None, 1, "pausing"),
        (run(wish=Wish.PAUSE), None, 0, "paused"),
        (run(), HELD, 2, "pausing"),
        (run(), HELD, 0, "paused"),
        (run(wish=Wish.CANCEL), HELD, 1, "cancelling"),
        (run(RunState.WAITING, wish=Wish.CANCEL), None, 0, "cancelling"),
        (run(until=CLOSED), None, 1, "window closing"),
    ],
)
def test_the_state_of_a_run_in_words(
    record: RunRecord, hold: Hold | None, at_work: int, words: str
) -> None:
    assert rules.state_in_words(record, hold, NOW, at_work) == words


STEERED = (Steering("what", "ops@c1", NOW),)


@pytest.mark.parametrize(
    ("state", "before", "wish", "is_steered"),
    [
        (RunState.RUNNING, Wish.NOTHING, Wish.PAUSE, True),
        (RunState.WAITING, Wish.NOTHING, Wish.PAUSE, True),
        (RunState.RUNNING, Wish.PAUSE, Wish.NOTHING, True),
        (RunState.RUNNING, Wish.PAUSE, Wish.CANCEL, True),
        (RunState.WAITING, Wish.NOTHING, Wish.CANCEL, True),
        (RunState.RUNNING, Wish.CANCEL, Wish.NOTHING, False),
        (RunState.RUNNING, Wish.CANCEL, Wish.CANCEL, False),
        (RunState.ENDED, Wish.NOTHING, Wish.CANCEL, False),
        (RunState.ENDED, Wish.NOTHING, Wish.PAUSE, False),
    ],
)
def test_a_run_is_steered_until_it_is_to_end(
    state: RunState, before: Wish, wish: Wish, is_steered: bool
) -> None:
    steered = rules.steer(run(state, wish=before), wish, "what", "ops@c1", NOW)
    if not is_steered:
        assert steered is None
        return
    assert steered is not None
    assert (steered.state, steered.wish, steered.steering) == (state, wish, STEERED)
    assert steered.woken == (NOW if wish is Wish.NOTHING else 0.0)


def test_all_that_was_done_to_a_run_is_kept() -> None:
    paused = rules.steer(run(), Wish.PAUSE, "pause", "a", NOW)
    assert paused is not None
    resumed = rules.steer(paused, Wish.NOTHING, "resume", "b", NOW + 1)
    assert resumed is not None
    assert resumed.steering == (Steering("pause", "a", NOW), Steering("resume", "b", NOW + 1))


@pytest.mark.parametrize(
    ("state", "woken"), [(RunState.WAITING, None), (RunState.RUNNING, NOW), (RunState.ENDED, None)]
)
def test_only_a_run_that_runs_is_woken(state: RunState, woken: float | None) -> None:
    awake = rules.wake(run(state), NOW)
    assert (awake and awake.woken) == woken


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ({}, {}),
        ({"max_rows": "500"}, {"max_rows": 500}),
        ({"sleep": "0.5"}, {"sleep": 0.5}),
        ({"sleep": "1", "max_rows": "7"}, {"sleep": 1.0, "max_rows": 7}),
    ],
)
def test_what_may_change_while_a_run_goes_on(
    words: dict[str, str], changed: dict[str, Any]
) -> None:
    adjusted = rules.adjust(
        run(order=WITH_PURGE), Adjustment(words, None, "set it"), "ops@c1", NOW, ACTIONS
    )
    archive, purge = adjusted.order.phases
    assert archive == Phase(ARCHIVE, encode(replace(ALL, **changed)))
    assert purge == WITH_PURGE.phases[1]
    assert (adjusted.until, adjusted.steering) == (None, (Steering("set it", "ops@c1", NOW),))


@pytest.mark.parametrize(
    ("before", "given", "after"),
    [
        (None, None, None),
        (None, LATER, LATER),
        (LATER, None, LATER),
        (LATER, LATER + 1, LATER + 1),
        (LATER, float("inf"), None),
    ],
)
def test_a_window_can_be_set_moved_and_taken_away(
    before: float | None, given: float | None, after: float | None
) -> None:
    for params in (ALL, TOTAL):
        record = run(order=order(params=params), until=before)
        adjusted = rules.adjust(record, Adjustment({}, given, "set it"), "ops@c1", NOW, ACTIONS)
        assert adjusted.until == after


@pytest.mark.parametrize(
    ("record", "words", "reason"),
    [
        (run(RunState.ENDED), {}, "it has ended"),
        (run(), {"max_rows": "many"}, "max_rows=many: it must lie between"),
        *(
            (run(), {"sleep": text}, f"sleep={text}: it must be a number of seconds")
            for text in ("x", "", "-1", "nan")
        ),
        (run(), {"before": "2d"}, "before cannot be set; what can: max_rows, sleep, until"),
        (
            run(order=order(params=TOTAL)),
            {"max_rows": "5"},
            "its cells share a budget: nothing but until can be set",
        ),
        (
            run(order=WITH_PURGE, phase=1),
            {"sleep": "5"},
            f"{ARCHIVE} is through: nothing but until can be set",
        ),
    ],
)
def test_what_cannot_be_set_is_told(record: RunRecord, words: dict[str, str], reason: str) -> None:
    with pytest.raises(NotPossible) as told:
        rules.adjust(record, Adjustment(words, None, "set it"), "ops@c1", NOW, ACTIONS)
    assert str(told.value).startswith(reason)


@pytest.mark.parametrize("closes", [NOW, NOW - 1, -1e12])
def test_no_window_is_set_that_has_closed(closes: float) -> None:
    with pytest.raises(NotPossible, match=r"^until is in the past"):
        rules.adjust(run(), Adjustment({}, closes, "set it"), "ops@c1", NOW, ACTIONS)


GOOD, BAD = cell(Stage.DONE, complete=True), cell(Stage.DONE, failure=away("cell-a"))
ALSO_BAD = replace(BAD, number=1, ref=B)


@pytest.mark.parametrize(
    ("phases", "again"),
    [
        ([[BAD, ALSO_BAD]], [(2, [A, B])]),
        ([[GOOD, ALSO_BAD]], [(2, [B])]),
        ([[GOOD, replace(GOOD, number=1, ref=B)], [BAD, ALSO_BAD]], [(1, [A, B])]),
        ([[BAD, replace(GOOD, number=1, ref=B)], [GOOD, ALSO_BAD]], [(2, [A]), (1, [B])]),
    ],
    ids=["all", "one", "in a later phase", "in both"],
)
def test_failed_cells_are_worked_again_from_the_phase_in_which_they_failed(
    phases: list[list[CellRecord]], again: list[tuple[int, list[CellRef]]]
) -> None:
    ended = run(RunState.ENDED, order=WITH_PURGE, phase=len(phases) - 1)
    assert rules.retries(ended, phases) == [
        (WITH_PURGE.phases[-count:], refs) for count, refs in again
    ]


@pytest.mark.parametrize(
    ("record", "cells", "reason"),
    [
        (run(), [BAD], "it has not ended"),
        (run(RunState.ENDED), [GOOD], "none of its cells failed"),
        (
            run(RunState.ENDED),
            [BAD, replace(BAD, ref=CellRef("", "cell 1", ""))],
            "what the store has of cell 1 does",
        ),
    ],
)
def test_what_cannot_be_tried_again_is_told(
    record: RunRecord, cells: list[CellRecord], reason: str
) -> None:
    with pytest.raises(NotPossible, match=reason):
        rules.retries(record, [cells])


@pytest.mark.parametrize(
    ("latest", "is_late"), [(None, False), (NOW, False), (NOW - 0.1, True), (NOW + 1, False)]
)
def test_an_order_may_come_too_late(latest: float | None, is_late: bool) -> None:
    assert rules.is_too_late(replace(order(), latest=latest), NOW) is is_late


# -- the turns of cells that share a budget --------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "budget"),
    [
        (0, encode(TOTAL)),
        (30, encode(replace(TOTAL, max_rows=70, begun=True))),
        (100, None),
        (130, None),
    ],
)
def test_a_cell_in_turn_is_given_what_is_left(rows: int, budget: dict[str, Any] | None) -> None:
    record = run(order=order(params=TOTAL), budget=encode(TOTAL))
    counted = rules.count_turn(record, cell(Stage.DONE, outcome=moved(rows)), ACTIONS)
    assert counted == replace(record, turn=1, budget=budget)


@pytest.mark.parametrize(
    "outcome", [moved(30), encode(moved(30)), None], ids=["an object", "encoded", "nothing"]
)
def test_a_turn_is_counted_once(outcome: Any) -> None:
    record, done = (
        run(order=order(params=TOTAL), budget=encode(TOTAL)),
        cell(Stage.DONE, outcome=outcome),
    )
    counted = rules.count_turn(record, done, ACTIONS)
    assert counted is not None
    assert rules.count_turn(counted, done, ACTIONS) is None
    assert rules.count_turn(record, replace(done, number=1), ACTIONS) is None


def test_a_budget_that_is_gone_stays_gone() -> None:
    record = run(order=order(params=TOTAL), budget=None)
    counted = rules.count_turn(record, cell(Stage.DONE, outcome=moved(0)), ACTIONS)
    assert counted is not None
    assert (counted.turn, counted.budget) == (1, None)


def test_no_turn_is_counted_after_the_end() -> None:
    assert rules.count_turn(run(RunState.ENDED), cell(Stage.DONE), ACTIONS) is None


@pytest.mark.parametrize("stage", Stage)
def test_a_turn_is_taken_once(stage: Stage) -> None:
    taken = rules.take_turn(cell(stage, look_at=NEVER), NOW, PATIENCE)
    if stage is Stage.QUEUED:
        assert taken == cell(Stage.WORK, look_at=NOW + 30, touched=NOW)
    else:
        assert taken is None


# -- claims ----------------------------------------------------------------------------------------


CLAIMS = [
    # the run, the cell, the phase of the bell, the hold, why it is refused
    pytest.param(run(), cell(), 0, None, None, id="due"),
    pytest.param(run(), cell(Stage.LOOK), 0, None, None, id="to be looked at"),
    pytest.param(run(), held_by("dead", NOW), 0, None, None, id="its lease has lapsed"),
    pytest.param(run(), held_by("other"), 0, None, Refusal.CLAIMED, id="somebody works on it"),
    pytest.param(run(), cell(Stage.DONE), 0, None, Refusal.OVER, id="done"),
    pytest.param(run(), cell(Stage.QUEUED), 0, None, Refusal.OVER, id="its turn has not come"),
    pytest.param(
        run(), cell(failure=away("cell-a")), 0, None, Refusal.OVER, id="its record is damaged"
    ),
    pytest.param(run(), cell(), 1, None, Refusal.OVER, id="a bell of a later phase"),
    pytest.param(run(phase=1), cell(), 0, None, Refusal.OVER, id="a bell of an earlier phase"),
    pytest.param(run(RunState.WAITING), cell(), 0, None, Refusal.OVER, id="the run waits"),
    pytest.param(run(RunState.ENDED), cell(), 0, None, Refusal.OVER, id="the run has ended"),
    pytest.param(run(wish=Wish.PAUSE), cell(), 0, None, Refusal.PAUSED, id="the run pauses"),
    pytest.param(run(), cell(), 0, HELD, Refusal.PAUSED, id="all runs pause"),
    pytest.param(run(), cell(), 0, replace(HELD, until=NOW), None, id="the hold is over"),
    pytest.param(
        run(wish=Wish.CANCEL), cell(), 0, HELD, None, id="cancelled: somebody must end it"
    ),
    pytest.param(run(until=CLOSED), cell(), 0, None, None, id="closed: somebody must end it"),
]


@pytest.mark.parametrize(("record", "due", "phase", "hold", "refusal"), CLAIMS)
def test_a_cell_is_granted_or_refused(
    record: RunRecord, due: CellRecord, phase: int, hold: Hold | None, refusal: Refusal | None
) -> None:
    answer = rules.claim(View(record, due, hold, NOW), phase, ME)
    if refusal:
        assert answer is refusal
        return
    assert isinstance(answer, CellRecord)
    assert (answer.holder, answer.worker, answer.attempts) == ("mine", "host:1", due.attempts + 1)
    assert (answer.lease_until, answer.look_at, answer.rings, answer.touched) == (
        NOW + 60,
        NOW + 60,
        0,
        NOW,
    )


@pytest.mark.parametrize(
    ("record", "due", "started"),
    [
        (run(), cell(), NOW),
        (run(), cell(started=900.0), 900.0),
        (run(), cell(Stage.LOOK), None),
        (run(wish=Wish.CANCEL), cell(), None),
        (run(until=CLOSED), cell(), None),
    ],
    ids=["work begins", "work goes on", "a look", "cancelled", "closed"],
)
def test_a_cell_is_begun_when_its_work_is(
    record: RunRecord, due: CellRecord, started: float | None
) -> None:
    granted = rules.claim(View(record, due, None, NOW), 0, ME)
    assert isinstance(granted, CellRecord)
    assert granted.started == started


def test_after_the_lease_another_goes_on_where_the_first_was() -> None:
    left_behind = held_by("dead", NOW - 1, cursor={"at": 7}, outcome=moved(7))
    granted = rules.claim(View(run(), left_behind, None, NOW), 0, ME)
    assert isinstance(granted, CellRecord)
    assert (granted.cursor, granted.outcome, granted.attempts) == ({"at": 7}, moved(7), 2)


# What each rule of a claimed cell makes of one that is ours.
MINE = held_by("mine", NOW + 5, rings=0, slices=2, attempts=2)
GIVEN_BACK = replace(MINE, holder="", lease_until=0.0, touched=NOW)
FAILURE = Failure(FailureKind.CELL, "it went away")


AT_ONE: Final = replace(A, servers=("db:3306",))
WITH_API: Final = replace(A, servers=("db:3306", "db:3306"))
FOUR: Final = replace(ME, per_server=4)


def claim_of(
    due: CellRecord, busy: int | None, who: Claimant = FOUR, *, reads_ahead: bool = False
) -> Any:
    there = None if busy is None else {"db:3306": busy}
    return rules.claim(View(run(), due, None, NOW, busy=there), 0, who, reads_ahead=reads_ahead)


@pytest.mark.parametrize(
    ("ref", "busy", "most"),
    [
        pytest.param(AT_ONE, None, 3, id="others are not counted yet"),
        pytest.param(AT_ONE, 3, 3, id="there is room for one"),
        pytest.param(WITH_API, 2, 2, id="there is room for two"),
        pytest.param(
            replace(A, servers=("db:3306",) * 5),
            0,
            0,
            id="one that needs more than the limit, alone",
        ),
    ],
)
def test_a_cell_is_claimed_provided_that_others_leave_room(
    ref: CellRef, busy: int | None, most: int
) -> None:
    granted = claim_of(cell(ref=ref, waits_since=5.0, called=True), busy)
    assert granted.connections == {"db:3306": (0, most)}
    assert (granted.cell.holder, granted.cell.waits_since, granted.cell.called) == (
        "mine",
        0.0,
        False,
    )


@pytest.mark.parametrize(
    ("ref", "busy", "least"),
    [
        pytest.param(AT_ONE, 4, 4, id="all are taken"),
        pytest.param(WITH_API, 3, 3, id="two are needed and one is left"),
        pytest.param(
            replace(A, servers=("db:3306",) * 5),
            1,
            1,
            id="one that needs more than the limit, not alone",
        ),
    ],
)
def test_a_cell_whose_server_is_full_waits_in_its_line(ref: CellRef, busy: int, least: int) -> None:
    answer = claim_of(cell(ref=ref), busy)
    assert answer.connections == {"db:3306": (least, rules.MANY)}
    assert (answer.cell.holder, answer.cell.waits_since, rules.is_in_line(answer.cell)) == (
        "",
        NOW,
        True,
    )
    again = claim_of(replace(answer.cell, waits_since=5.0, called=True), busy)
    assert (again.cell.waits_since, rules.is_in_line(again.cell)) == (5.0, True)


@pytest.mark.parametrize(
    ("busy", "limit", "reads_ahead", "has_second"),
    [
        (0, 8, True, True),
        (2, 8, True, True),
        (3, 8, True, False),
        (0, 8, False, False),
        (0, 3, True, False),
        (0, 4, True, True),
    ],
)
def test_a_second_connection_leaves_half_of_the_limit_to_others(
    busy: int, limit: int, reads_ahead: bool, has_second: bool
) -> None:
    granted = claim_of(
        cell(ref=AT_ONE, second=True), busy, replace(ME, per_server=limit), reads_ahead=reads_ahead
    )
    assert granted.cell.second is has_second
    assert rules.connections(granted.cell) == {"db:3306": 1 + has_second}
    most = limit // 2 - 2 if has_second else limit - 1
    assert granted.connections == {"db:3306": (0, most)}


def test_nobody_counts_where_nobody_limits() -> None:
    assert isinstance(claim_of(cell(ref=AT_ONE), 99, ME), CellRecord)
    assert isinstance(claim_of(cell(), 99), CellRecord)


@pytest.mark.parametrize(
    ("waiting", "is_called"),
    [
        (cell(waits_since=5.0), True),
        (cell(waits_since=5.0, called=True), False),
        (cell(), False),
        (held_by("other"), False),
    ],
)
def test_a_cell_is_called_once(waiting: CellRecord, is_called: bool) -> None:
    called = rules.call_from_line(waiting, NOW, PATIENCE)
    assert (called is not None) is is_called
    assert called is None or (called.called, called.look_at) == (True, NOW + 30)


@pytest.mark.parametrize(
    ("record", "stands"),
    [
        (cell(), True),
        (held_by("other"), False),
        (cell(Stage.DONE), False),
        (cell(waits_since=5.0), False),
    ],
)
def test_a_cell_that_was_given_back_lets_others_go_first(record: CellRecord, stands: bool) -> None:
    waiting = rules.stand_in_line(record, NOW)
    assert (waiting is not None) is stands
    assert waiting is None or waiting.waits_since == NOW


@pytest.mark.parametrize(
    "lease_until", [NOW + 5, NOW - 5], ids=["in time", "late, and nobody else came"]
)
def test_a_claim_is_renewed(lease_until: float) -> None:
    mine = replace(MINE, lease_until=lease_until)
    assert rules.renew(mine, ME, NOW) == replace(
        MINE, lease_until=NOW + 60, look_at=NOW + 60, touched=NOW
    )


def test_a_step_is_recorded_with_a_renewal_and_ends_the_count_of_attempts() -> None:
    assert rules.record_step(MINE, ME, NOW, Step(moved(0), {"at": 5}), moved(5)) == replace(
        MINE,
        lease_until=NOW + 60,
        look_at=NOW + 60,
        touched=NOW,
        cursor={"at": 5},
        outcome=moved(5),
        attempts=0,
    )


@pytest.mark.parametrize(
    ("before", "handled", "told", "after"),
    [
        (None, 5, None, None),
        (None, 5, 70, 70),
        (90, 5, 70, 70),
        (90, 5, None, 85),
        (3, 5, None, 0),
        (90, 0, 0, 0),
        (None, 5, 10**29, None),
        (90, 5, 10**29, 85),
    ],  # a limit beyond all rows
)
def test_a_step_tells_what_is_left_or_takes_off_what_it_did(
    before: int | None, handled: int, told: int | None, after: int | None
) -> None:
    recorded = rules.record_step(
        replace(MINE, remaining=before), ME, NOW, Step(moved(handled), {}, told), moved(1)
    )
    assert recorded is not None
    assert recorded.remaining == after
    assert recorded.pace == ({100: handled} if handled else {})


LOCKED = "a: Lock wait timeout exceeded"


@pytest.mark.parametrize(
    ("before", "seconds_since", "contended_for", "contentions"),
    [
        pytest.param({}, 0.0, 0.0, 1, id="the first time"),
        pytest.param({"contended_for": 20.0, "contentions": 4}, 10.0, 30.0, 5, id="again"),
        pytest.param(
            {"contended_for": 20.0, "contentions": 4},
            7200.0,
            80.0,
            5,
            id="again, behind a pause of the run",
        ),
    ],
)
def test_tries_that_others_hold_up_are_counted_with_their_time(
    before: dict[str, Any], seconds_since: float, contended_for: float, contentions: int
) -> None:
    mine = replace(MINE, contended_at=NOW - seconds_since, **before)
    contended = rules.contend(mine, ME, NOW, LOCKED)
    assert contended is not None
    assert (contended.contended, contended.contended_at) == (LOCKED, NOW)
    assert (contended.contended_for, contended.contentions) == (contended_for, contentions)
    assert contended.lease_until == NOW + 60


@pytest.mark.parametrize(
    ("contended_for", "is_over"), [(0.0, False), (179.0, False), (180.0, True)]
)
def test_others_that_hold_up_a_cell_for_three_minutes_fail_it(
    contended_for: float, is_over: bool
) -> None:
    assert rules.gives_up(replace(MINE, contended_for=contended_for)) is is_over


@pytest.mark.parametrize(
    ("contentions", "pause"), [(1, 0.1), (2, 0.2), (5, 1.6), (7, 5.0), (1000, 5.0)]
)
def test_pauses_between_tries_grow_to_some_seconds(contentions: int, pause: float) -> None:
    assert rules.pause_of_contended(replace(MINE, contentions=contentions)) == pause


@pytest.mark.parametrize(
    ("cursor", "handled", "is_free"),
    [
        pytest.param({"at": 6}, 0, True, id="it went on"),
        pytest.param({"at": 5}, 3, True, id="it wrote rows"),
        pytest.param({"at": 5}, 0, False, id="it is where it was"),
    ],
)
def test_a_step_ends_the_count_of_tries_if_it_got_further(
    cursor: dict[str, int], handled: int, is_free: bool
) -> None:
    contended = {"contended": LOCKED, "contended_at": NOW, "contended_for": 9.0, "contentions": 3}
    mine = replace(MINE, cursor={"at": 5}, **contended)
    recorded = rules.record_step(mine, ME, NOW, Step(moved(handled), cursor), moved(3))
    assert recorded is not None
    assert (recorded.contentions, recorded.contended_for) == ((0, 0.0) if is_free else (3, 9.0))
    assert bool(recorded.contended) is not is_free


# -- how fast it goes ------------------------------------------------------------------------------

PACE = {100: 50, 99: 50}
AT_WORK = held_by("mine", started=900.0, pace=PACE, remaining=400)
RELEASED = replace(HELD, until=NOW - 2)


@pytest.mark.parametrize(
    ("record", "hold", "since"),
    [
        pytest.param(run(started=900.0), None, 900.0, id="it began"),
        pytest.param(run(started=900.0, woken=950.0), None, 950.0, id="it was resumed"),
        pytest.param(
            run(started=900.0, woken=950.0), RELEASED, NOW - 2, id="a hold has ended by itself"
        ),
        pytest.param(run(started=900.0), HELD, None, id="it is held"),
        pytest.param(run(started=900.0, wish=Wish.PAUSE), None, None, id="it pauses"),
        pytest.param(run(started=900.0, wish=Wish.CANCEL), None, None, id="it is cancelled"),
        pytest.param(run(started=900.0, until=NOW - 1), None, None, id="its window has closed"),
        pytest.param(run(RunState.WAITING), None, None, id="it waits"),
        pytest.param(run(RunState.ENDED, started=900.0), None, None, id="it has ended"),
    ],
)
def test_pauses_do_not_count(record: RunRecord, hold: Hold | None, since: float | None) -> None:
    assert rules.goes_on_since(record, hold, NOW) == since


@pytest.mark.parametrize(
    ("of", "record", "speed"),
    [
        pytest.param(AT_WORK, run(), Speed(100 / 60, 400), id="at work"),
        pytest.param(
            replace(AT_WORK, started=990.0), run(), Speed(10.0, 400), id="begun ten seconds ago"
        ),
        pytest.param(AT_WORK, run(woken=990.0), Speed(10.0, 400), id="resumed ten seconds ago"),
        pytest.param(AT_WORK, run(wish=Wish.PAUSE), Speed(None, 400), id="it pauses"),
        pytest.param(
            replace(AT_WORK, remaining=None),
            run(),
            Speed(100 / 60, None),
            id="what is left is not known",
        ),
        pytest.param(cell(Stage.QUEUED), run(), Speed(None, None), id="its turn has not come"),
        pytest.param(
            cell(Stage.DONE, started=900.0, remaining=0), run(), Speed(None, 0), id="done"
        ),
    ],
)
def test_the_speed_of_a_cell(of: CellRecord, record: RunRecord, speed: Speed) -> None:
    assert rules.speed_of_cell(of, record, None, NOW) == speed


@pytest.mark.parametrize(
    ("record", "foreseen", "remaining"),
    [
        pytest.param(run(), 2, 400, id="known of all cells"),
        pytest.param(run(), 1, None, id="of one it is not known"),
        pytest.param(run(order=WITH_PURGE), 2, None, id="a phase is to come"),
        pytest.param(run(order=WITH_PURGE, phase=1), 2, 400, id="the last phase"),
        pytest.param(
            run(order=order(params=TOTAL), budget=encode(TOTAL)), 1, 400, id="a total of all cells"
        ),
        pytest.param(run(RunState.ENDED), 2, None, id="it has ended"),
        pytest.param(
            run(order=replace(order(), phases=(Phase("other", {}),))),
            2,
            None,
            id="of another version",
        ),
    ],
)
def test_what_is_left_of_a_run_is_known_if_it_is_of_each_cell(
    record: RunRecord, foreseen: int, remaining: int | None
) -> None:
    progress = Progress(0, 2, 0, 1, 400, foreseen, PACE)
    speed = rules.speed_of_run(progress, record, None, NOW, ACTIONS)
    assert speed.remaining == remaining
    assert speed.rate == (None if record.state is RunState.ENDED else pytest.approx(100 / 60))


def test_a_slice_that_ends_in_order_leaves_its_cell_due_and_no_attempt_counted() -> None:
    assert rules.give_back(MINE, ME, NOW, PATIENCE) == replace(
        GIVEN_BACK, look_at=NOW + 30, slices=3, attempts=0
    )


def test_a_cell_that_has_work_queues_for_its_turn() -> None:
    looking = replace(MINE, stage=Stage.LOOK)
    assert rules.queue_up(looking, ME, NOW) == replace(
        GIVEN_BACK, stage=Stage.QUEUED, look_at=NEVER, attempts=0
    )


@pytest.mark.parametrize(
    "of", [held_by("other"), cell(), cell(Stage.DONE)], ids=["another's", "nobody's", "done"]
)
def test_whoever_lost_a_claim_changes_nothing(of: CellRecord) -> None:
    assert rules.renew(of, ME, NOW) is None
    assert rules.record_step(of, ME, NOW, Step(moved(0), {}), moved(1)) is None
    assert rules.give_back(of, ME, NOW, PATIENCE) is None
    assert rules.queue_up(of, ME, NOW) is None
    assert rules.finish_cell(of, "mine", NOW, None, complete=True) is None


@pytest.mark.parametrize(
    ("of", "token", "is_finished"),
    [
        (held_by("mine"), "mine", True),
        (held_by("mine", NOW - 1), "mine", True),
        (held_by("other"), "mine", False),
        (held_by("other"), "", False),
        (held_by("dead", NOW), "", True),
        (cell(), "", True),
        (cell(Stage.LOOK), "", True),
        (cell(Stage.QUEUED), "", True),
        (cell(Stage.DONE), "", False),
    ],
)
@pytest.mark.parametrize(("failure", "complete"), [(None, True), (None, False), (FAILURE, False)])
def test_a_cell_is_finished_once_by_whoever_holds_it_or_if_nobody_does(
    of: CellRecord, token: str, is_finished: bool, failure: Failure | None, complete: bool
) -> None:
    done = rules.finish_cell(of, token, NOW, failure, complete=complete)
    if not is_finished:
        assert done is None
        return
    assert done == replace(
        of, stage=Stage.DONE, holder="", lease_until=0.0, look_at=NEVER, failure=failure, complete=complete,
        finished=NOW, touched=NOW, remaining=0,
    )  # fmt: skip


# -- lost bells ------------------------------------------------------------------------------------


RINGS = [
    # the run, the cell, how long nobody looks again; None: it is not rung
    pytest.param(run(), cell(), 30, id="never claimed"),
    pytest.param(run(), cell(Stage.LOOK), 30, id="never looked at"),
    pytest.param(run(), held_by("dead", NOW, look_at=NOW), 30, id="its worker died"),
    pytest.param(run(), cell(rings=1), 60, id="rung once again"),
    pytest.param(run(), cell(rings=2), 100, id="rung twice again: never longer than that"),
    pytest.param(run(), cell(rings=50), 100, id="rung for a night"),
    pytest.param(run(), cell(look_at=NOW + 1), None, id="it is not yet time"),
    pytest.param(run(), held_by("other"), None, id="somebody works on it"),
    pytest.param(run(woken=NOW - 29), cell(), None, id="all were rung just now"),
    pytest.param(run(woken=NOW - 30), cell(), 30, id="all were rung a while ago"),
    pytest.param(run(), cell(rings=5000), 100, id="rung in vain for a month"),
    pytest.param(run(), cell(Stage.QUEUED), None, id="its turn has not come"),
    pytest.param(run(), cell(Stage.DONE), None, id="done"),
    pytest.param(run(), cell(failure=FAILURE), None, id="its record is damaged"),
]


@pytest.mark.parametrize(("record", "silent", "pause"), RINGS)
def test_a_cell_without_a_sign_of_life_is_rung_again(
    record: RunRecord, silent: CellRecord, pause: float | None
) -> None:
    rung = rules.ring_again(silent, record, NOW, PATIENCE)
    expected = (
        None if pause is None else replace(silent, rings=silent.rings + 1, look_at=NOW + pause)
    )
    assert rung == expected


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (cell(), "waiting"),
        (cell(Stage.LOOK), "waiting"),
        (held_by("mine"), "working"),
        (cell(Stage.QUEUED), "queued"),
        (cell(Stage.DONE, complete=True), "done"),
        (cell(Stage.DONE), "stopped"),
        (cell(Stage.DONE, failure=FAILURE), "failed"),
    ],
)
def test_the_state_of_a_cell_in_words(record: CellRecord, words: str) -> None:
    assert rules.cell_in_words(record) == words


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "decoded"),
    [(None, Archived()), (moved(5), moved(5)), (encode(moved(5)), moved(5)), ({}, Archived())],
    ids=["nothing", "of memory", "of Redis", "of an older version"],
)
def test_what_was_done_in_a_cell(outcome: Any, decoded: Archived) -> None:
    assert rules.outcome_of(ACTIONS[ARCHIVE], cell(outcome=outcome)) == decoded


@pytest.mark.parametrize(
    ("record", "first", "follows"),
    [
        pytest.param(run(order=WITH_PURGE), results(0, 3), True, id="rows were written"),
        pytest.param(
            run(order=WITH_PURGE), results(0, 0), False, id="nothing follows what wrote nothing"
        ),
        pytest.param(
            run(order=WITH_PURGE),
            [result(5, failed=True), result()],
            True,
            id="a cell failed, after rows",
        ),
        pytest.param(run(), results(0, 3), False, id="there is no other phase"),
        pytest.param(
            run(order=WITH_PURGE, phase=1), results(0, 3), False, id="it was the last one"
        ),
        pytest.param(run(order=WITH_PURGE, wish=Wish.CANCEL), results(0, 3), False, id="cancelled"),
        pytest.param(run(order=WITH_PURGE, wish=Wish.PAUSE), results(0, 3), True, id="paused"),
        pytest.param(
            run(order=WITH_PURGE, until=CLOSED), results(0, 3), False, id="the window has closed"
        ),
    ],
)
def test_the_next_phase_begins_behind_rows(
    record: RunRecord, first: Sequence[CellResult[Any]], follows: bool
) -> None:
    following = rules.next_phase(replace(record, turn=2), first, NOW, ACTIONS)
    assert following == (
        replace(record, phase=record.phase + 1, turn=0, woken=NOW) if follows else None
    )


def test_the_next_phase_begins_with_its_own_budget() -> None:
    twice = replace(order(), phases=(Phase(ARCHIVE, encode(ALL)), Phase(ARCHIVE, encode(TOTAL))))
    following = rules.next_phase(run(order=twice), results(1), NOW, ACTIONS)
    assert following is not None
    assert following.budget == encode(TOTAL)


@pytest.mark.parametrize(
    ("phases", "code"),
    [
        ([results(0, 0)], 0),
        ([results(0, 3)], 1),
        ([[result(0, failed=True), result(3)]], 255),
        ([[result(0, failed=True), result(0, failed=True)]], 255),
        ([results(0, 3), results(0, 0)], 1),
        ([results(0, 3), [result(0, failed=True), result(0)]], 255),
        ([[]], 0),
    ],
)
def test_the_exit_code_is_that_of_the_first_phase_unless_a_later_one_fails(
    phases: Sequence[Sequence[CellResult[Any]]], code: int
) -> None:
    assert rules.exit_code(WITH_PURGE, phases, ACTIONS) == code


@pytest.mark.parametrize(
    ("record", "phases", "code"),
    [
        (run(order=WITH_PURGE), [results(0, 0)], 0),
        (run(order=WITH_PURGE, phase=1), [results(0, 3), results(0, 0)], 1),
        (run(order=WITH_PURGE, phase=1), [results(0, 3)], None),
        (run(RunState.ENDED, order=WITH_PURGE), [results(0, 0)], None),
        (run(RunState.WAITING, order=WITH_PURGE, wish=Wish.CANCEL), [results(0, 0)], 0),
    ],
    ids=[
        "of one phase",
        "of two",
        "another phase has begun",
        "ended before",
        "cancelled while it waited",
    ],
)
def test_a_run_ends_once(
    record: RunRecord, phases: Sequence[Sequence[CellResult[Any]]], code: int | None
) -> None:
    ended = rules.end_run(record, phases, NOW, ACTIONS)
    if code is None:
        assert ended is None
        return
    assert ended is not None
    assert (ended.state, ended.finished, ended.exit_code) == (RunState.ENDED, NOW, code)
    assert ended.facts is not None
    assert rules.end_run(ended, phases, NOW, ACTIONS) is None


@pytest.mark.parametrize(
    ("record", "phases", "facts"),
    [
        pytest.param(run(), [results(0, 3)], {}, id="all went well"),
        pytest.param(run(), [[result(3, failed=True), result()]], {"failed_cells": 1, "unfinished": True}, id="failed"),
        pytest.param(run(), [[result(3, complete=False)]], {"unfinished": True}, id="not worked to its end"),
        pytest.param(run(order=WITH_PURGE), [results(3)], {"unfinished": True}, id="a phase was due"),
        pytest.param(run(order=WITH_PURGE), [results(0)], {"rows": 0}, id="none was"),
        pytest.param(
            run(order=WITH_PURGE, phase=1), [results(3), [result(failed=True)]],
            {"failed_later": True, "unfinished": True}, id="failed later",
        ),
        pytest.param(run(wish=Wish.CANCEL), [results(3)], {"cancelled": True}, id="cancelled"),
        pytest.param(run(until=CLOSED), [results(3)], {"window_closed": True}, id="the window has "
        "closed"),
        pytest.param(run(until=NOW + 9), [results(3)], {}, id="the window is open"),
    ],
)  # fmt: skip
def test_what_decides_how_a_run_ended(
    record: RunRecord, phases: Sequence[Sequence[CellResult[Any]]], facts: dict[str, Any]
) -> None:
    ended = replace(record, finished=NOW)
    code = rules.exit_code(record.order, phases, ACTIONS)
    expected = {"cells": 2, "rows": 3, "has_bad_code": code == 255} | facts
    assert rules.facts_of(ended, phases, code, ACTIONS) == rules.RunFacts(**expected)


@pytest.mark.parametrize("started", [20.0, None])
def test_what_remains_of_a_run(started: float | None) -> None:
    ended = rules.end_run(run(started=started), [results(0, 3)], NOW, ACTIONS)
    assert ended is not None
    summary = rules.summary(ended)
    assert (summary.run, summary.action, summary.by) == ("r", ARCHIVE, "somebody@somewhere")
    assert (summary.ordered, summary.started, summary.finished) == (10.0, started, NOW)
    assert (summary.exit_code, summary.ending, summary.facts) == (1, "ok", ended.facts)
