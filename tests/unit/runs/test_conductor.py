"""What moves a run on, with its store in memory and a list for the bells."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, Final
from unittest.mock import Mock

import pytest
from redis.exceptions import ReadOnlyError

from jobs.action import Failure, Step
from jobs.codec import encode
from jobs.db.purge import Purged
from runs import conductor as conductor_module
from runs import rules, tally
from runs.conductor import NO_WORKER, Conductor, Fleet
from runs.exclusion import Busy
from runs.memory_store import MemoryStore
from runs.records import (
    NEVER,
    Bell,
    CellRecord,
    CellRef,
    Hold,
    Order,
    Phase,
    RunRecord,
    RunState,
    View,
    Wish,
)
from runs.rules import Adjustment, Claimant, Patience, Refusal
from runs.store import RunGone
from tests.support.command import until
from tests.support.run_records import ALL, ARCHIVE, PURGE, TOTAL, A, B, C, away, moved, order

LEASE = 60.0
PATIENT = Patience(idle=30.0, longest=480.0, grace=NEVER)
AUDIT = (
    "run r: db.archive_deleted_rows by somebody@somewhere in 2 cells: 5 rows, 0 cells failed, exit "
    "code 1; "
    "throttle: none"
)


class ClockedStore(MemoryStore):
    """A store whose time goes on only when it is told.

    :ivar time: seconds since the epoch
    :ivar reads: how many cells were read
    """

    time = 1_000_000.0

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()

    def cell(self, run: str, phase: int, number: int) -> CellRecord:
        self.reads["cells"] += 1
        return super().cell(run, phase, number)

    def cells(self, run: str, phase: int) -> list[CellRecord]:
        cells = super().cells(run, phase)
        self.reads["cells"] += len(cells)
        return cells

    def change_cell(self, *words: Any, **named: Any) -> Any:
        self.reads["cells"] += 1
        return super().change_cell(*words, **named)

    def now(self) -> float:
        return self.time

    def forget(self, run: str) -> None:
        """Lose a run, as a store that expires or is emptied."""
        del self._runs[run]


class Stage:
    """A conductor, the bells that it rings, and hands that answer them.

    :ivar bells: that nobody has heard yet
    :ivar workers: the live ones, and the cells they serve
    """

    def __init__(self, patience: Patience = PATIENT) -> None:
        self.store = ClockedStore()
        self.bells: list[Bell] = []
        self.workers: dict[str, set[str] | None] = {"w:1": None}
        self.conductor = self.another_conductor(patience)

    def another_conductor(self, patience: Patience = PATIENT) -> Conductor:
        """That of another process."""
        return Conductor(
            self.store, self.bells.append, patience=patience, fleet=Fleet(lambda: self.workers)
        )

    def start(
        self, wanted: Order | None = None, cells: Sequence[CellRef] = (A, B), *, wait: bool = True
    ) -> str:
        return self.conductor.start(wanted or order(), cells, wait=wait).order.id

    def rung(self) -> list[str]:
        """The cells that were rung since the last look, in their order."""
        labels = [bell.label for bell in self.bells]
        self.bells.clear()
        return labels

    def pass_time(self, seconds: float) -> None:
        self.store.time += seconds

    # -- hands that work ---------------------------------------------------------------------------

    def claim(self, ref: CellRef, run: str = "r") -> Claimant | Refusal | None:
        """Answer a cell's bell as a worker does."""
        who = Claimant(f"{ref.uuid} {time.monotonic_ns()}", "w:1", LEASE)
        phase, number = self.run(run).phase, self.cell(ref, run).number
        answer = self.store.change_cell(
            run, phase, number, lambda view: rules.claim(view, phase, who)
        )
        return who if isinstance(answer, View) else answer

    def claim_within(self, ref: CellRef, limit: int) -> None:
        """Answer a cell's bell as a worker does that keeps to a limit of connections."""
        who = Claimant(ref.uuid, "w:1", LEASE, limit)
        self.store.change_cell(
            "r", 0, self.cell(ref).number,
            lambda view: rules.claim(view, 0, who),
        )  # fmt: skip
        self.pass_time(1)

    @staticmethod
    def holder(ref: CellRef) -> Claimant:
        """Who has claimed a cell within a limit."""
        return Claimant(ref.uuid, "w:1", LEASE)

    def hold_cell(self, ref: CellRef, run: str = "r") -> Claimant:
        """Claim a cell, which must succeed."""
        who = self.claim(ref, run)
        assert isinstance(who, Claimant), who
        return who

    def record(self, ref: CellRef, who: Claimant, rows: int, run: str = "r") -> rules.Advice:
        """Record a step under a claim; what its worker is told to do then."""
        record = self.run(run)
        outcome = Purged({"shadow_instances": rows}) if record.phase else moved(rows)
        view = self.store.change_cell(
            run, record.phase, self.cell(ref, run).number,
            lambda view: rules.record_step(view.cell, who, view.now, Step(moved(0), {}), outcome),
        )  # fmt: skip
        assert isinstance(view, View)
        return rules.advice(view.run, view.hold, view.now)

    def end(
        self,
        ref: CellRef,
        who: Claimant,
        failure: Failure | None = None,
        run: str = "r",
        *,
        complete: bool = True,
    ) -> None:
        """End the work in a cell, and see to what follows."""
        view = self.store.change_cell(
            run, self.run(run).phase, self.cell(ref, run).number,
            lambda view: rules.finish_cell(view.cell, who.token, view.now, failure, complete=complete),
        )  # fmt: skip
        assert isinstance(view, View)
        self.conductor.cell_ended(view)

    def work(self, ref: CellRef, rows: int, run: str = "r", *, failed: bool = False) -> None:
        """Work a cell from its beginning to its end."""
        who = self.hold_cell(ref, run)
        assert self.record(ref, who, rows, run) is rules.Advice.GO_ON
        self.end(ref, who, away(ref.label) if failed else None, run, complete=not failed)

    def look(self, ref: CellRef, *, has_work: bool = True) -> None:
        """See whether a cell has anything to do, before its turn."""
        who = self.hold_cell(ref)
        if not has_work:
            self.end(ref, who)
            return
        view = self.store.change_cell(
            "r", 0, self.cell(ref).number, lambda view: rules.queue_up(view.cell, who, view.now)
        )
        assert isinstance(view, View)
        self.conductor.cell_ended(view)

    # -- what is so --------------------------------------------------------------------------------

    def run(self, run: str = "r") -> RunRecord:
        return self.store.run(run)

    def cell(self, ref: CellRef, run: str = "r") -> CellRecord:
        cells = self.store.cells(run, self.run(run).phase)
        return next(cell for cell in cells if cell.ref == ref)

    def states(self, run: str = "r") -> list[str]:
        return [rules.cell_in_words(cell) for cell in self.store.cells(run, self.run(run).phase)]

    def failures(self) -> list[str | None]:
        cells = self.store.cells("r", self.run().phase)
        return [cell.failure.reason if cell.failure else None for cell in cells]

    def words(self, run: str = "r") -> str:
        record = self.run(run)
        at_work = self.store.progress(run, record.phase).at_work
        return rules.state_in_words(record, self.store.hold(), self.store.now(), at_work)

    def queue(self) -> list[tuple[str, bool]]:
        return [(place.run, place.admitted) for place in self.store.queue()]


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def impatient() -> Stage:
    """A conductor that gives up at once what nobody serves."""
    return Stage(replace(PATIENT, grace=0.0))


@pytest.fixture(autouse=True)
def listen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, "cellkeeper.audit"):
        yield


def audits(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.getMessage() for line in caplog.records if line.name == "cellkeeper.audit"]


# -- phases ----------------------------------------------------------------------------------------


def test_every_cell_is_rung_with_what_is_meant(stage: Stage) -> None:
    stage.start()
    assert [asdict(bell) for bell in stage.bells] == [
        {
            "run": "r",
            "phase": 0,
            "action": ARCHIVE,
            "number": number,
            "cell": ref.uuid,
            "label": ref.label,
            "slices": 0,
            "rows": 0,
            "format": 2,
        }
        for number, ref in enumerate((A, B))
    ]
    assert stage.states() == ["waiting", "waiting"]


def test_a_bell_says_how_far_the_work_is(stage: Stage) -> None:
    stage.start(cells=(A,))
    who = stage.hold_cell(A)
    stage.record(A, who, 7)
    view = stage.store.change_cell(
        "r", 0, 0, lambda view: rules.give_back(view.cell, who, view.now, PATIENT)
    )
    assert isinstance(view, View)
    stage.rung()
    stage.conductor.ring(view.run, view.cell)
    assert [(bell.slices, bell.rows) for bell in stage.bells] == [(1, 7)]


def test_the_last_cell_ends_the_run_with_the_collapsed_code(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.start()
    stage.work(B, 0)
    assert stage.run().exit_code is None
    stage.work(A, 5)
    assert stage.run().exit_code == 1
    assert stage.queue() == []
    assert audits(caplog) == [AUDIT]


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        ([(0, False), (0, False)], 0),
        ([(0, False), (3, False)], 1),
        ([(0, True), (3, False)], 255),
        ([(0, True), (0, True)], 255),
    ],
)
def test_the_exit_code_is_that_of_the_cells(
    stage: Stage, cells: list[tuple[int, bool]], code: int
) -> None:
    stage.start()
    for ref, (rows, failed) in zip((A, B), cells, strict=True):
        stage.work(ref, rows, failed=failed)
    assert stage.run().exit_code == code


def test_the_next_phase_begins_behind_the_last_cell(stage: Stage) -> None:
    stage.start(order(purge=True))
    assert stage.rung() == [A.label, B.label]
    stage.work(A, 5)
    assert stage.rung() == []
    stage.work(B, 0)
    assert [(bell.phase, bell.action) for bell in stage.bells] == [(1, PURGE)] * 2
    stage.work(A, 5)
    stage.work(B, 0)
    assert (stage.run().phase, stage.run().exit_code) == (1, 1)


def test_nothing_follows_what_wrote_nothing(stage: Stage) -> None:
    stage.start(order(purge=True))
    stage.work(A, 0)
    stage.work(B, 0)
    assert (stage.run().phase, stage.run().exit_code) == (0, 0)


def test_a_failure_in_a_later_phase_is_a_failure_of_the_run(stage: Stage) -> None:
    stage.start(order(purge=True))
    stage.work(A, 5)
    stage.work(B, 0)
    stage.work(A, 2, failed=True)
    stage.work(B, 0)
    assert stage.run().exit_code == 255


def test_a_run_over_no_cell_ends_at_once(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.start(cells=())
    assert stage.run().exit_code == 0
    assert len(audits(caplog)) == 1


def test_a_run_is_told_once_however_many_move_it_on(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.start()
    stage.work(A, 1)
    stage.work(B, 1)
    for conductor in (stage.conductor, stage.another_conductor(), stage.another_conductor()):
        conductor.go_on("r")
        conductor.look_after("r")
        conductor.look_after_all()
        conductor.cancel("r", "late@c1")
    assert len(audits(caplog)) == 1
    assert (stage.run().exit_code, stage.run().steering) == (1, ())


def test_whoever_looks_finishes_what_a_dead_process_began(stage: Stage) -> None:
    """It died between two of its writes: the run was stored and not begun; its last cell was done
    and it was not.
    """
    wanted = order(purge=True)
    waiting = rules.new_run(wanted, (A, B), stage.conductor.actions, stage.store.now())
    cells = rules.new_cells(waiting, (A, B), stage.conductor.actions)
    stage.store.create(waiting, cells, frozenset("a"), lambda queue, _: queue)
    stage.conductor.look_after("r")
    assert stage.rung() == [A.label, B.label]
    for ref in (A, B):
        who = stage.hold_cell(ref)
        stage.record(ref, who, 1)
        number, token = stage.cell(ref).number, who.token
        stage.store.change_cell(
            "r",
            0,
            number,
            lambda view, token=token: rules.finish_cell(
                view.cell, token, view.now, None, complete=True
            ),  # type: ignore[misc]
        )
    assert stage.run().phase == 0
    stage.conductor.look_after("r")
    assert stage.run().phase == 1
    assert stage.rung() == [A.label, B.label]


def test_a_run_that_ended_and_is_still_in_the_queue_makes_room(stage: Stage) -> None:
    """The process that ended it died before it left the queue."""
    stage.start(cells=(A,))
    results = [
        [replace(result, complete=True) for result in phase]
        for phase in stage.conductor.results(stage.run())
    ]
    stage.store.change_run(
        "r", lambda run, now: rules.end_run(run, results, now, stage.conductor.actions)
    )
    stage.start(order("next"), cells=(A,))
    assert stage.queue() == [("next", True)]


# -- in turn ---------------------------------------------------------------------------------------


def test_cells_with_one_budget_are_looked_at_all_at_once_and_worked_in_turn(stage: Stage) -> None:
    stage.start(order(params=TOTAL), cells=(A, B, C))
    assert stage.rung() == [A.label, B.label, C.label]
    stage.look(C)
    stage.look(B)
    assert stage.rung() == []
    assert stage.states() == ["waiting", "queued", "queued"]
    stage.look(A)
    assert stage.rung() == [A.label]
    stage.conductor.go_on("r")
    assert stage.rung() == []
    stage.work(A, 30)
    assert stage.rung() == [B.label]
    stage.work(B, 0)
    assert stage.rung() == [C.label]
    stage.work(C, 70)
    assert stage.run().exit_code == 1


def test_a_cell_without_work_needs_no_turn(stage: Stage) -> None:
    stage.start(order(params=TOTAL), cells=(A, B, C))
    stage.rung()
    stage.look(A, has_work=False)
    stage.look(B, has_work=False)
    assert stage.rung() == []
    stage.look(C)
    assert stage.rung() == [C.label]
    assert stage.run().budget == encode(TOTAL)


def test_a_cell_in_turn_is_given_what_is_left(stage: Stage) -> None:
    stage.start(order(params=TOTAL), cells=(A, B, C))
    for ref in (A, B, C):
        stage.look(ref)
    assert stage.run().budget == encode(TOTAL)
    stage.work(A, 30)
    assert stage.run().budget == encode(replace(TOTAL, max_rows=70, begun=True))


def test_without_a_budget_the_other_cells_are_not_begun(stage: Stage) -> None:
    stage.start(order(params=TOTAL), cells=(A, B, C))
    for ref in (A, B, C):
        stage.look(ref)
    stage.rung()
    stage.work(A, 100)
    assert stage.rung() == []
    cells = stage.store.cells("r", 0)
    assert [(cell.complete, cell.started is not None) for cell in cells] == [
        (True, True),
        (False, False),
        (False, False),
    ]
    assert (stage.run().exit_code, stage.words()) == (1, "ok")


def test_a_cell_that_could_not_be_looked_at_fails_the_run_also_without_a_budget(
    stage: Stage,
) -> None:
    stage.start(order(params=TOTAL), cells=(A, B, C))
    stage.look(A)
    stage.look(B)
    stage.end(C, stage.hold_cell(C), away(C.label), complete=False)
    stage.work(A, 100)
    assert stage.failures() == [None, None, "cell-c: away"]
    assert stage.run().exit_code == 255


def test_a_cell_that_fails_gives_its_turn_to_the_next(stage: Stage) -> None:
    stage.start(order(params=TOTAL))
    stage.look(A)
    stage.look(B)
    stage.rung()
    stage.work(A, 10, failed=True)
    assert stage.rung() == [B.label]
    stage.work(B, 90)
    assert stage.run().exit_code == 255


def test_whoever_looks_gives_the_turn_that_a_dead_process_has_not_given(stage: Stage) -> None:
    stage.start(order(params=TOTAL))
    stage.look(A)
    stage.look(B)
    who = stage.hold_cell(A)
    stage.record(A, who, 30)
    stage.store.change_cell(
        "r",
        0,
        0,
        lambda view: rules.finish_cell(view.cell, who.token, view.now, None, complete=True),
    )
    stage.rung()
    stage.another_conductor().look_after("r")
    assert stage.rung() == [B.label]


# -- cancel ----------------------------------------------------------------------------------------


def test_cancel_ends_at_once_what_nobody_works_on(stage: Stage) -> None:
    stage.start(cells=(A, B, C))
    who = stage.hold_cell(A)
    stage.conductor.cancel("r", "ops@c1")
    assert stage.states() == ["working", "stopped", "stopped"]
    assert (stage.run().exit_code, stage.words()) == (None, "cancelling")
    assert stage.record(A, who, 3) is rules.Advice.CANCEL
    stage.end(A, who, complete=False)
    assert (stage.words(), stage.run().exit_code) == ("cancelled", 1)
    assert not any(cell.complete for cell in stage.store.cells("r", 0))
    assert [(step.what, step.by) for step in stage.run().steering] == [("cancel", "ops@c1")]


def test_cancel_ends_what_waits_for_its_turn(stage: Stage) -> None:
    stage.start(order(params=TOTAL), cells=(A, B, C))
    stage.look(B)
    stage.conductor.cancel("r", "ops@c1")
    assert (stage.words(), stage.run().exit_code) == ("cancelled", 0)


def test_after_a_cancel_no_phase_follows(stage: Stage) -> None:
    stage.start(order(purge=True))
    stage.work(A, 5)
    stage.conductor.cancel("r", "ops@c1")
    assert (stage.run().phase, stage.run().exit_code, stage.words()) == (0, 1, "cancelled")


def test_a_cancelled_run_whose_worker_died_ends(stage: Stage) -> None:
    stage.start(cells=(A,))
    stage.hold_cell(A)
    stage.conductor.cancel("r", "ops@c1")
    assert stage.run().exit_code is None
    stage.pass_time(LEASE)
    stage.conductor.look_after("r")
    assert stage.words() == "cancelled"


def test_a_run_that_waits_can_be_cancelled(stage: Stage) -> None:
    stage.start()
    stage.start(order("second"))
    stage.start(order("third"))
    stage.conductor.cancel("second", "ops@c1")
    assert (stage.words("second"), stage.run("second").exit_code) == ("cancelled", 0)
    assert stage.queue() == [("r", True), ("third", False)]


# -- pause, resume, hold, release ------------------------------------------------------------------


def test_a_paused_run_comes_to_rest_and_goes_on_where_it_was(stage: Stage) -> None:
    stage.start()
    who = stage.hold_cell(A)
    stage.conductor.pause("r", "ops@c1")
    assert stage.words() == "pausing"
    assert stage.record(A, who, 3) is rules.Advice.PAUSE
    stage.store.change_cell(
        "r", 0, 0, lambda view: rules.give_back(view.cell, who, view.now, PATIENT)
    )
    assert stage.words() == "paused"
    assert stage.claim(B) is Refusal.PAUSED
    stage.rung()
    stage.conductor.resume("r", "ops@c2")
    assert stage.rung() == [A.label, B.label]
    assert stage.words() == "running"
    assert [(step.what, step.by) for step in stage.run().steering] == [
        ("pause", "ops@c1"),
        ("resume", "ops@c2"),
    ]
    assert stage.hold_cell(A)
    assert stage.cell(A).outcome == moved(3)


def test_a_paused_run_keeps_its_databases_and_is_never_rung(stage: Stage) -> None:
    stage.start()
    stage.start(order("next"))
    stage.conductor.pause("r", "ops@c1")
    stage.rung()
    stage.pass_time(86_400)
    stage.conductor.look_after_all()
    assert stage.rung() == []
    assert stage.queue() == [("r", True), ("next", False)]
    assert (stage.words(), stage.states()) == ("paused", ["waiting", "waiting"])


def test_a_paused_run_can_be_cancelled(stage: Stage) -> None:
    stage.start()
    stage.conductor.pause("r", "ops@c1")
    stage.conductor.cancel("r", "ops@c1")
    assert (stage.words(), stage.queue()) == ("cancelled", [])


def test_a_run_that_is_paused_while_it_waits_lets_others_pass_and_waits_again_when_it_is_resumed(
    stage: Stage,
) -> None:
    stage.start(cells=(A,))
    stage.start(order("second"), cells=(A,))
    stage.conductor.pause("second", "ops@c1")
    stage.start(order("third"), cells=(A,))
    stage.rung()
    stage.work(A, 1)
    assert stage.words("second") == "paused"
    assert stage.rung() == [A.label]
    stage.conductor.resume("second", "ops@c1")
    assert (stage.words("second"), stage.conductor.waits_for("second")) == ("waiting", "third")
    stage.work(A, 0, "third")
    assert stage.rung() == [A.label]
    stage.work(A, 0, "second")
    assert [stage.run(run).exit_code for run in ("second", "third")] == [0, 0]


def test_a_window_closes_on_a_paused_run(stage: Stage) -> None:
    stage.start(order(until=stage.store.now() + 10))
    stage.conductor.pause("r", "ops@c1")
    stage.pass_time(10)
    stage.conductor.look_after("r")
    assert stage.words() == "window closed"


def hold(stage: Stage, seconds: float | None = None) -> None:
    now = stage.store.now()
    stage.conductor.hold(
        Hold("the disk is full", "ops@c1", now, None if seconds is None else now + seconds)
    )


def test_a_hold_pauses_all_runs_until_it_is_released(stage: Stage) -> None:
    stage.start(cells=(A,))
    stage.start(order("other"), cells=(B,))
    who = stage.hold_cell(A)
    hold(stage)
    assert (stage.words(), stage.words("other")) == ("pausing", "paused")
    assert stage.record(A, who, 3) is rules.Advice.PAUSE
    stage.store.change_cell(
        "r", 0, 0, lambda view: rules.give_back(view.cell, who, view.now, PATIENT)
    )
    assert stage.claim(B, "other") is Refusal.PAUSED
    stage.rung()
    stage.pass_time(86_400)
    stage.conductor.look_after_all()
    assert stage.rung() == []
    stage.conductor.release()
    assert stage.store.hold() is None
    assert stage.rung() == [A.label, B.label]
    assert (stage.words(), stage.words("other")) == ("running", "running")


def test_a_run_that_is_ordered_during_a_hold_begins_behind_it(stage: Stage) -> None:
    hold(stage)
    stage.start()
    assert stage.words() == "paused"
    assert stage.claim(A) is Refusal.PAUSED
    stage.rung()
    stage.conductor.release()
    assert stage.rung() == [A.label, B.label]


def test_a_run_that_was_paused_before_the_hold_stays_paused_behind_it(stage: Stage) -> None:
    stage.start()
    stage.conductor.pause("r", "ops@c1")
    hold(stage)
    stage.conductor.release()
    assert stage.words() == "paused"
    assert stage.claim(A) is Refusal.PAUSED


def test_a_hold_ends_by_itself_and_whoever_looks_rings(stage: Stage) -> None:
    stage.start()
    hold(stage, 3600)
    stage.rung()
    stage.pass_time(3600)
    stage.conductor.look_after("r")
    assert stage.rung() == [A.label, B.label]
    assert stage.words() == "running"


def test_a_release_reaches_the_others_when_one_run_is_gone(stage: Stage) -> None:
    hold(stage)
    stage.start(cells=(A,))
    stage.start(order("other"), cells=(B,))
    stage.store.forget("r")
    stage.rung()
    stage.conductor.release()
    assert stage.rung() == [B.label]


def test_a_run_is_steered_until_it_ends_and_by_its_name_alone(stage: Stage) -> None:
    stage.start(cells=(A,))
    assert stage.conductor.pause("r", "ops@c1")
    assert stage.conductor.resume("r", "ops@c1")
    stage.work(A, 0)
    assert not stage.conductor.pause("r", "ops@c1")
    assert not stage.conductor.resume("r", "ops@c1")
    for steer in (stage.conductor.pause, stage.conductor.resume, stage.conductor.cancel):
        with pytest.raises(RunGone, match="nothing"):
            steer("nothing", "ops@c1")


# -- set and retry ---------------------------------------------------------------------------------


def test_what_is_set_is_what_the_next_slice_is_given(stage: Stage) -> None:
    stage.start(cells=(A,))
    stage.conductor.adjust("r", Adjustment({"max_rows": "7"}, None, "set max_rows=7"), "ops@c1")
    assert stage.run().order.phases == (Phase(ARCHIVE, encode(replace(ALL, max_rows=7))),)
    assert [(step.what, step.by) for step in stage.run().steering] == [("set max_rows=7", "ops@c1")]


def test_a_window_that_was_set_ends_the_run_when_it_closes(stage: Stage) -> None:
    stage.start()
    stage.conductor.adjust("r", Adjustment({}, stage.store.now() + 5, "set until=soon"), "ops@c1")
    assert stage.words() == "running"
    stage.pass_time(5)
    stage.conductor.look_after("r")
    assert stage.words() == "window closed"


def test_a_retry_is_a_run_over_the_failed_cells_alone(stage: Stage) -> None:
    stage.start(cells=(A, B, C))
    stage.work(A, 1)
    stage.work(B, 1, failed=True)
    stage.work(C, 1)
    stage.rung()
    (again,) = stage.conductor.retry("r", "ops@c1")
    assert stage.rung() == [B.label]
    order_again = stage.run(again).order
    assert (order_again.retry_of, order_again.by, order_again.phases) == (
        "r",
        "ops@c1",
        stage.run().order.phases,
    )
    stage.work(B, 0, again)
    assert (stage.run(again).exit_code, stage.run().exit_code) == (0, 255)


def test_a_retry_waits_for_others_on_its_databases(stage: Stage) -> None:
    stage.start(cells=(A,))
    stage.work(A, 1, failed=True)
    stage.start(order("other"), cells=(A,))
    (again,) = stage.conductor.retry("r", "ops@c1")
    assert stage.queue() == [("other", True), (again, False)]


# -- the maintenance window ------------------------------------------------------------------------


def test_what_nobody_works_on_ends_when_the_window_has_closed(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.start(order(until=stage.store.now() + 1), cells=(A, B, C))
    who = stage.hold_cell(A)
    stage.pass_time(1)
    stage.conductor.look_after("r")
    assert (stage.states(), stage.words()) == (["working", "stopped", "stopped"], "window closing")
    assert stage.record(A, who, 3) is rules.Advice.CLOSE
    stage.end(A, who, complete=False)
    assert (stage.words(), stage.run().exit_code) == ("window closed", 1)
    assert (
        audits(caplog)[-1]
        == "run r: its window closed before these were through: cell-a, cell-b, cell-c"
    )


def test_no_cell_has_its_turn_after_the_window_has_closed(stage: Stage) -> None:
    stage.start(order(params=TOTAL, until=stage.store.now() + 1), cells=(A, B, C))
    for ref in (A, B, C):
        stage.look(ref)
    who = stage.hold_cell(A)
    stage.rung()
    stage.pass_time(1)
    stage.record(A, who, 0)
    stage.end(A, who, complete=False)
    assert stage.rung() == []
    assert (stage.words(), stage.run().exit_code) == ("window closed", 0)


def test_no_phase_follows_after_the_window_has_closed(stage: Stage) -> None:
    stage.start(order(purge=True, until=stage.store.now() + 1))
    claims = [(ref, stage.hold_cell(ref)) for ref in (A, B)]
    stage.pass_time(1)
    for ref, who in claims:
        assert stage.record(ref, who, 5) is rules.Advice.CLOSE
        stage.end(ref, who)
    assert (stage.run().phase, stage.run().exit_code) == (0, 1)


def test_a_run_that_ended_before_its_window_closed_stays_as_it_ended(stage: Stage) -> None:
    stage.start(order(until=stage.store.now() + 1), cells=(A,))
    stage.work(A, 5)
    stage.pass_time(10)
    stage.conductor.look_after("r")
    assert stage.words() == "ok"


def test_a_run_that_waits_until_its_window_has_closed_ends(stage: Stage) -> None:
    stage.start()
    stage.start(order("second", until=stage.store.now() + 1))
    stage.pass_time(1)
    stage.conductor.look_after_all()
    assert (stage.words("second"), stage.queue()) == ("window closed", [("r", True)])


# -- the queue -------------------------------------------------------------------------------------


def test_a_run_that_is_ordered_again_rings_nobody(stage: Stage) -> None:
    stage.start()
    stage.rung()
    assert stage.conductor.start(order(), (A, B)) == stage.run()
    assert stage.rung() == []
    for ref in (A, B):
        stage.work(ref, 5)
    assert stage.conductor.start(order(), (A, B)) == stage.run()
    assert stage.rung() == []
    assert (stage.run().exit_code, stage.queue()) == (1, [])


def test_runs_on_one_database_are_served_in_the_order_of_their_arrival(stage: Stage) -> None:
    for run in ("first", "second", "third"):
        stage.start(order(run), cells=(A,))
    assert stage.queue() == [("first", True), ("second", False), ("third", False)]
    assert [stage.words(run) for run in ("first", "second", "third")] == [
        "running",
        "waiting",
        "waiting",
    ]
    for run in ("first", "second", "third"):
        assert stage.rung() == [A.label]
        assert {bell.run for bell in stage.bells} == set()
        stage.work(A, 0, run)
    assert [stage.run(run).exit_code for run in ("first", "second", "third")] == [0, 0, 0]


def test_nobody_overtakes_a_run_that_waits_for_one_of_its_databases(stage: Stage) -> None:
    stage.start(order("first"), cells=(A,))
    stage.start(order("second"), cells=(A, B))
    stage.start(order("third"), cells=(B,))
    stage.start(order("fourth"), cells=(C,))
    assert stage.queue() == [("first", True), ("second", False), ("third", False), ("fourth", True)]
    assert [stage.conductor.waits_for(run) for run in ("first", "second", "third", "fourth")] == [
        None,
        "first",
        "second",
        None,
    ]


def test_what_only_reads_waits_for_nobody(stage: Stage) -> None:
    stage.start()
    stage.start(Order("dry", (Phase(f"{ARCHIVE}.dry_run", {}),), "somebody"))
    assert stage.queue() == [("r", True), ("dry", True)]


def test_a_run_that_must_not_wait_is_refused_and_leaves_nothing_behind(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.start()
    stage.rung()
    with pytest.raises(
        Busy,
        match=r"db\.archive_deleted_rows, run r by somebody@somewhere, since 1970-01-12 13:46:40 UTC",
    ):
        stage.start(order("second"), wait=False)
    assert (stage.queue(), stage.store.recent(), stage.rung(), audits(caplog)) == (
        [("r", True)],
        ["r"],
        [],
        [],
    )
    for ref in (A, B):
        stage.work(ref, 0)
    stage.start(order("second"), wait=False)
    assert stage.words("second") == "running"


def test_a_dead_starters_place_in_the_queue_is_admitted_by_whoever_looks(stage: Stage) -> None:
    """Each of the three writes of a start may be the last one of its process."""
    actions, now = stage.conductor.actions, stage.store.now()
    for run, rule in (("stored", lambda queue, _: queue), ("admitted", rules.admit)):
        wanted = order(run)
        waiting = rules.new_run(wanted, (A,), actions, now)
        cells = rules.new_cells(waiting, (A,), actions)
        stage.store.create(waiting, cells, frozenset([run]), rule)
        stage.another_conductor().look_after(run)
        assert (run, True) in stage.queue()
        assert stage.words(run) == "running"
        assert stage.rung() == [A.label]


def test_a_run_that_goes_on_holds_its_databases_until_its_end(stage: Stage) -> None:
    stage.start()
    stage.pass_time(86_400)
    stage.conductor.look_after("r")
    with pytest.raises(Busy):
        stage.start(order("other"), cells=(B,), wait=False)
    stage.work(A, 0)
    stage.work(B, 0)
    stage.conductor.look_after("r")
    stage.start(order("other"), cells=(B,), wait=False)
    assert stage.queue() == [("other", True)]


def test_a_run_that_is_gone_makes_room(stage: Stage) -> None:
    stage.start()
    stage.start(order("next"))
    stage.store.forget("r")
    stage.conductor.look_after("r")
    assert stage.queue() == [("next", True)]
    assert stage.conductor.describe("r") == "run r"


# -- the tally -------------------------------------------------------------------------------------


def test_a_run_that_ends_enters_what_it_did_in_each_cell(stage: Stage) -> None:
    stage.start(order(purge=True))
    stage.work(A, 5)
    stage.work(B, 3, failed=True)
    for ref in (A, B):
        stage.work(ref, 0)
    numbers = stage.store.tally()
    succeeded = {name for name in numbers if name.startswith(tally.SUCCESS)}
    assert succeeded == {
        tally.entry_name(tally.SUCCESS, action, ref.uuid)
        for action, ref in ((ARCHIVE, A), (PURGE, A), (PURGE, B))
    }
    failed = {name: value for name, value in numbers.items() if name.startswith(tally.FAILED)}
    assert failed == {
        tally.entry_name(tally.FAILED, ARCHIVE, A.uuid): 0,
        tally.entry_name(tally.FAILED, ARCHIVE, B.uuid): 1,
        tally.entry_name(tally.FAILED, PURGE, A.uuid): 0,
        tally.entry_name(tally.FAILED, PURGE, B.uuid): 0,
    }


def test_a_cell_that_was_not_begun_enters_nothing(stage: Stage) -> None:
    stage.start(order(params=TOTAL))
    stage.look(A)
    stage.look(B)
    stage.work(A, 100)
    assert stage.run().exit_code == 1
    assert {entry.rsplit(" ", 1)[1] for entry in stage.store.tally()} == {A.uuid}


def test_a_dry_run_enters_nothing(stage: Stage) -> None:
    stage.start(Order("r", (Phase(f"{ARCHIVE}.dry_run", {}),), "somebody"), cells=(A,))
    stage.end(A, stage.hold_cell(A))
    assert stage.run().state is RunState.ENDED
    assert stage.store.tally() == {}


# -- looking after ---------------------------------------------------------------------------------


def test_a_cell_that_no_worker_serves_is_given_up_by_name(impatient: Stage) -> None:
    stage = impatient
    stage.start()
    stage.workers = {"w:1": {B.uuid}}
    stage.conductor.look_after("r")
    assert stage.failures() == [f"{A.label}: {NO_WORKER}", None]
    stage.work(B, 3)
    assert stage.run().exit_code == 255


def test_without_any_worker_all_cells_are_given_up_together(impatient: Stage) -> None:
    stage = impatient
    stage.start(order(params=TOTAL), cells=(A, B, C))
    stage.look(B)
    stage.workers = {}
    stage.conductor.look_after("r")
    assert stage.failures() == [f"{ref.label}: {NO_WORKER}" for ref in (A, B, C)]
    assert (stage.run().exit_code, stage.words()) == (255, "failed")


def test_a_cell_without_a_worker_has_a_grace(stage: Stage) -> None:
    stage.start()
    stage.workers = {}
    stage.conductor.look_after("r")
    assert stage.states() == ["waiting", "waiting"]


def test_the_grace_begins_when_the_last_worker_is_gone() -> None:
    """A cell that has waited for long, because the worker is busy with others, outlives the
    worker's restart.
    """
    stage = Stage(replace(PATIENT, grace=0.2))
    stage.start()
    stage.pass_time(3600)
    for workers in ({"w:1": None}, {}, {"w:2": None}, {}):
        stage.workers = workers
        stage.conductor.look_after("r")
    assert stage.failures() == [None, None]

    def is_given_up() -> bool:
        stage.conductor.look_after("r")
        return stage.run().exit_code == 255

    until(is_given_up)


def test_what_nobody_looked_at_counts_for_no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A beat looks when it orders something: two restarts of a worker that it happens to see are
    hours apart.
    """
    monkeypatch.setattr(conductor_module, "UNWATCHED", 0.1)
    stage = Stage(replace(PATIENT, grace=0.2))
    stage.start()
    stage.pass_time(3600)
    stage.workers = {}
    for _ in range(2):
        stage.conductor.look_after("r")
        time.sleep(0.3)
    assert stage.failures() == [None, None]


def test_a_run_of_another_version_is_left_to_it(stage: Stage) -> None:
    stage.start(cells=(A,))
    stage.conductor.pause("r", "ops@c1")
    stage.rung()
    other = Conductor(stage.store, stage.bells.append, actions={})
    assert other.resume("r", "ops@c1")
    assert stage.rung() == []
    with pytest.raises(rules.NotPossible, match="nothing but until"):
        other.adjust("r", Adjustment({"max_rows": "5"}, None, "set max_rows=5"), "ops@c1")
    stage.work(A, 3)
    with pytest.raises(rules.NotPossible, match="another version"):
        other.retry("r", "ops@c1")


def test_while_the_store_takes_no_writes_no_grace_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(replace(PATIENT, grace=0.2))
    stage.start()
    stage.pass_time(3600)
    stage.workers = {}
    stage.conductor.look_after("r")
    time.sleep(0.3)
    with monkeypatch.context() as patch:
        patch.setattr(stage.store, "away", (ReadOnlyError,))
        patch.setattr(stage.store, "try_write", Mock(side_effect=ReadOnlyError))
        with pytest.raises(ReadOnlyError):
            stage.conductor.look_after("r")
    stage.conductor.look_after("r")
    assert stage.failures() == [None, None]


def test_a_cell_that_is_worked_on_needs_no_sign_of_its_worker(impatient: Stage) -> None:
    stage = impatient
    stage.start(cells=(A,))
    who = stage.hold_cell(A)
    stage.workers = {}
    stage.conductor.look_after("r")
    assert stage.states() == ["working"]
    stage.end(A, who)
    assert stage.run().exit_code == 0


def test_a_paused_run_is_not_given_up_without_workers(impatient: Stage) -> None:
    stage = impatient
    stage.start()
    stage.conductor.pause("r", "ops@c1")
    stage.workers = {}
    stage.conductor.look_after("r")
    assert stage.states() == ["waiting", "waiting"]


def test_a_lost_bell_is_rung_again_by_one_alone(stage: Stage) -> None:
    stage.start()
    stage.rung()
    stage.hold_cell(B)
    stage.pass_time(PATIENT.idle)
    for conductor in (stage.conductor, stage.another_conductor()):
        conductor.look_after("r")
    assert stage.rung() == [A.label]
    stage.pass_time(PATIENT.idle)
    stage.conductor.look_after("r")
    assert set(stage.rung()) == {A.label, B.label}  # the lease of the other one has lapsed as well


def test_nothing_is_rung_again_before_its_time(stage: Stage) -> None:
    stage.start()
    stage.rung()
    stage.pass_time(PATIENT.idle - 1)
    stage.conductor.look_after("r")
    assert stage.rung() == []


def test_who_stays_silent_is_rung_less_and_less_often(stage: Stage) -> None:
    stage.start(cells=(A,))
    stage.rung()
    moments = []
    for second in range(0, 2000, 10):
        stage.conductor.look_after("r")
        moments += [second] * len(stage.rung())
        stage.pass_time(10)
    assert moments == [30, 60, 120, 240, 480, 960, 1440, 1920]


@pytest.mark.parametrize("cells", [3, 300])
def test_what_a_look_and_a_bell_read_does_not_grow_with_the_cells(stage: Stage, cells: int) -> None:
    refs = [CellRef(str(number), str(number), str(number)) for number in range(cells)]
    stage.start(cells=refs)
    bell = stage.bells[1]
    who = Claimant("t", "w:1", LEASE)
    stage.store.reads.clear()
    stage.conductor.look_after_all()
    stage.store.change_cell("r", 0, bell.number, lambda view: rules.claim(view, 0, who))
    view = stage.store.change_cell(
        "r",
        0,
        bell.number,
        lambda view: rules.finish_cell(view.cell, "t", view.now, None, complete=True),
    )
    assert isinstance(view, View)
    stage.conductor.cell_ended(view)
    assert stage.store.reads["cells"] == 2, "the claim and the end of the one that was rung"


def test_a_dead_workers_cell_is_rung_again(stage: Stage) -> None:
    stage.start(cells=(A,))
    stage.hold_cell(A)
    stage.rung()
    stage.pass_time(LEASE)
    stage.conductor.look_after("r")
    assert stage.rung() == [A.label]
    assert stage.claim(A)


# -- connections to a server -----------------------------------------------------------------------

AT_ONE: Final = tuple(replace(ref, servers=("db:3306",)) for ref in (A, B, C))


@pytest.fixture
def crowded(stage: Stage) -> Stage:
    """One cell has the only connection to a server, two wait for it."""
    stage.conductor.per_server = 1
    stage.start(cells=AT_ONE)
    for ref in AT_ONE:
        stage.claim_within(ref, 1)
    stage.rung()
    return stage


def test_who_has_waited_longest_is_called_when_a_connection_is_free(crowded: Stage) -> None:
    crowded.conductor.call_waiting()
    assert crowded.rung() == []
    crowded.pass_time(LEASE)  # its worker was killed
    crowded.conductor.look_after("r")
    assert crowded.rung().count(B.label) == 1
    crowded.conductor.call_waiting({"db:3306": 1})
    assert crowded.rung() == [C.label]


def test_a_cell_that_was_given_back_goes_to_the_end_of_the_line(crowded: Stage) -> None:
    view = crowded.store.change_cell(
        "r", 0, 0, lambda view: rules.give_back(view.cell, crowded.holder(A), view.now, PATIENT)
    )
    assert isinstance(view, View)
    crowded.pass_time(1)
    crowded.conductor.ring_or_wait(view)
    crowded.conductor.call_waiting({"db:3306": 1})
    assert crowded.rung() == [B.label]
    for ref in (C, A):
        crowded.conductor.call_waiting({"db:3306": 1})
        assert crowded.rung() == [ref.label]


def test_a_cell_for_which_nobody_waits_is_rung_at_once(stage: Stage) -> None:
    stage.conductor.per_server = 1
    stage.start(cells=AT_ONE[:1])
    stage.claim_within(AT_ONE[0], 1)
    stage.rung()
    view = stage.store.change_cell(
        "r", 0, 0, lambda view: rules.give_back(view.cell, stage.holder(A), view.now, PATIENT)
    )
    assert isinstance(view, View)
    stage.conductor.ring_or_wait(view)
    assert stage.rung() == [A.label]


def test_cells_of_a_run_that_is_cancelled_wait_no_more(crowded: Stage) -> None:
    crowded.conductor.cancel("r", "ops")
    assert crowded.store.lines(9) == []


def test_the_first_bells_of_a_phase_may_all_be_lost(stage: Stage) -> None:
    stage.start(order(purge=True))
    stage.work(A, 5)
    stage.work(B, 5)
    stage.rung()
    stage.pass_time(PATIENT.idle)
    stage.conductor.look_after("r")
    assert [(bell.phase, bell.label) for bell in stage.bells] == [(1, A.label), (1, B.label)]


def test_a_bell_of_a_phase_that_is_over_is_harmless(stage: Stage) -> None:
    stage.start(order(purge=True))
    early = stage.bells[0]
    stage.work(A, 5)
    stage.work(B, 0)
    assert stage.run().phase == 1
    who = Claimant("late", "w:2", LEASE)
    answer = stage.store.change_cell(
        "r", early.phase, early.number,
        lambda view: rules.claim(view, early.phase, who),
    )  # fmt: skip
    assert answer is Refusal.OVER


def test_a_run_of_another_version_is_left_to_its_own_workers(stage: Stage) -> None:
    unknown = replace(order(), phases=(Phase("db.unheard_of", {}),))
    for wanted in (replace(order("newer"), format=99), replace(unknown, id="unknown")):
        record = RunRecord(wanted, 1, 0.0, RunState.RUNNING, Wish.CANCEL)
        stage.store.create(record, [], frozenset(), lambda queue, _: queue)
    stage.conductor.look_after_all()
    assert [place.run for place in stage.store.queue()] == ["newer", "unknown"]
    assert stage.run("newer").exit_code is None


# -- what happens between two looks ----------------------------------------------------------------


def test_what_was_done_to_a_run_while_its_next_phase_opens_is_kept(stage: Stage) -> None:
    """Somebody pauses and resumes it between the look at its cells and the opening."""
    stage.start(order(purge=True), cells=(A,))
    whole = stage.store.change_run
    meanwhile = [("pause", Wish.PAUSE), ("resume", Wish.NOTHING)]

    def change_run(*words, **named):  # type: ignore[no-untyped-def]
        while meanwhile and stage.store.count_open("r", 0) == 0:
            what, wish = meanwhile.pop(0)
            whole(
                "r",
                lambda run, now, what=what, wish=wish: rules.steer(run, wish, what, "ops@c1", now),
            )
        return whole(*words, **named)

    stage.store.change_run = change_run  # type: ignore[method-assign]
    stage.work(A, 5)
    assert stage.run().phase == 1
    assert [step.what for step in stage.run().steering] == ["pause", "resume"]
