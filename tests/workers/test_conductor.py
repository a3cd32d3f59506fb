"""What moves a run on, with a list for the queues."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace

import pytest
from redis import Redis as Client

from jobs.action import Failure, FailureKind
from jobs.db.archive_deleted_rows import Params
from runs import conductor as module
from runs import tally
from runs.conductor import NO_WORKER, Conductor, Message, queue_of
from runs.records import CellRef, Order, Phase, RunRecord
from runs.redis_store import Claim, RedisStore
from tests.acceptance.program import until
from tests.services import Redis
from tests.workers.orders import ARCHIVE, TOTAL, A, B, C, moved, order

LEASE = 60.0
SHORT = 0.02
PURGE = "db.purge"


class Stage:
    """A conductor, the messages that it sends, and hands that work on them.

    :ivar sent: messages that nobody has taken yet
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.store = RedisStore(client, 3600)
        self.sent: list[Message] = []
        self.conductor = Conductor(self.store, self.sent.append)

    def take(self) -> list[str]:
        """The cells of the messages that were sent since the last look, in their order."""
        taken = [message.label for message in self.sent]
        self.sent.clear()
        return taken

    def start(self, run: Order) -> Order:
        self.conductor.start(run)
        return run

    def claim(self, run: Order, cell: CellRef, phase: int = 0, lease: float = LEASE, sequence: int = 0) -> str:
        """Claim a cell; returns the token."""
        token = f"{cell.uuid}-{phase}-{sequence}"
        found = self.store.claim(
            run.id, phase, cell.uuid, sequence=sequence, redelivered=False, token=token, lease=lease, worker="w:1"
        )
        assert isinstance(found, Claim), found
        return token

    def work(self, run: Order, cell: CellRef, rows: int, phase: int = 0, failed: bool = False) -> None:
        """Work a cell from its beginning to its end."""
        token = self.claim(run, cell, phase)
        done = moved(rows) if phase == 0 else {"deleted": {"shadow_instances": rows}, "aged_by": {}, "ageless": []}
        assert self.store.record(run.id, phase, cell.uuid, token, LEASE, ({}, done)) == "kept"
        failure = Failure(FailureKind.CELL, f"{cell.label}: away") if failed else None
        self.conductor.finish_cell(run, phase, cell.uuid, token, failure, complete=not failed)

    def record(self, run: Order) -> RunRecord:
        return self.store.load(run.id)

    def states(self, run: Order) -> list[str]:
        return [str(cell.state) for cell in self.record(run).cells]

    def failures(self, run: Order) -> list[str | None]:
        return [cell.failure[1] if cell.failure else None for cell in self.record(run).cells]

    def queue(self, cell: CellRef) -> None:
        """Leave a message in a cell's queue."""
        self.client.rpush(queue_of(cell.uuid), "message")


@pytest.fixture
def stage(broker: Redis) -> Stage:
    client = Client.from_url(broker.url(), decode_responses=True)
    client.flushall()
    return Stage(client)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conductor that gives up, and sends again, at once."""
    monkeypatch.setattr(module, "IDLE", 0.0)
    monkeypatch.setattr(module, "GRACE", 0.0)


def audits(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.getMessage() for line in caplog.records if line.name == "cellkeeper.audit"]


@pytest.fixture(autouse=True)
def listen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cellkeeper.audit")


# -- phases ----------------------------------------------------------------------------------------------------------


def test_every_cell_gets_a_message_that_says_what_is_meant(stage: Stage) -> None:
    run = stage.start(order())
    assert [asdict(message) for message in stage.sent] == [
        {
            "run": "r",
            "phase": 0,
            "action": ARCHIVE,
            "cell": cell.uuid,
            "label": cell.label,
            "fingerprint": cell.fingerprint,
            "sequence": 0,
            "format": 1,
        }
        for cell in (A, B)
    ]
    assert stage.states(run) == ["waiting", "waiting"]


def test_the_last_cell_ends_the_run_with_the_collapsed_code(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    run = stage.start(order())
    stage.work(run, B, 0)
    assert stage.record(run).exit_code is None
    stage.work(run, A, 5)
    assert stage.record(run).exit_code == 1
    said = "run r: db.archive_deleted_rows by somebody@somewhere in 2 cells: 5 rows, 0 cells failed, exit code 1"
    assert audits(caplog) == [said]


# Rows and failure of each cell, the code of the whole.
ENDS: Sequence[tuple[tuple[tuple[int, bool], tuple[int, bool]], int]] = (
    (((0, False), (0, False)), 0),
    (((0, False), (3, False)), 1),
    (((0, True), (3, False)), 255),
    (((0, True), (0, True)), 255),
)


@pytest.mark.parametrize(("cells", "code"), ENDS)
def test_the_exit_code_is_that_of_the_cells(
    stage: Stage, cells: tuple[tuple[int, bool], tuple[int, bool]], code: int
) -> None:
    run = stage.start(order())
    for cell, (rows, failed) in zip((A, B), cells, strict=True):
        stage.work(run, cell, rows, failed=failed)
    assert stage.record(run).exit_code == code


def test_the_next_phase_begins_behind_the_last_cell(stage: Stage) -> None:
    run = stage.start(order(purge=True))
    assert stage.take() == [A.label, B.label]
    stage.work(run, A, 5)
    assert stage.take() == []
    stage.work(run, B, 0)
    assert [(message.phase, message.action) for message in stage.sent] == [(1, PURGE)] * 2
    stage.work(run, A, 5, phase=1)
    stage.work(run, B, 0, phase=1)
    assert (stage.record(run).phase, stage.record(run).exit_code) == (1, 1)


def test_nothing_follows_what_wrote_nothing(stage: Stage) -> None:
    run = stage.start(order(purge=True))
    stage.work(run, A, 0)
    stage.work(run, B, 0)
    assert (stage.record(run).phase, stage.record(run).exit_code) == (0, 0)


def test_a_failure_in_a_later_phase_is_a_failure_of_the_run(stage: Stage) -> None:
    run = stage.start(order(purge=True))
    stage.work(run, A, 5)
    stage.work(run, B, 0)
    stage.work(run, A, 2, phase=1, failed=True)
    stage.work(run, B, 0, phase=1)
    assert stage.record(run).exit_code == 255


def test_a_run_over_no_cell_ends_at_once(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    run = stage.start(order(cells=()))
    assert stage.record(run).exit_code == 0
    assert len(audits(caplog)) == 1


def test_a_run_is_told_once_however_many_move_it_on(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    run = stage.start(order())
    stage.work(run, A, 1)
    stage.work(run, B, 1)
    for _ in range(3):
        stage.conductor.go_on(run.id)
        stage.conductor.look_after(run.id, LEASE)
        stage.conductor.cancel(run.id)
    assert len(audits(caplog)) == 1
    assert stage.record(run).exit_code == 1


def test_whoever_looks_finishes_what_a_dead_process_began(stage: Stage) -> None:
    """It died between two of its writes: the run was stored and not begun; its last cell was done and it was not."""
    run = order(purge=True)
    stage.store.create(run)
    stage.conductor.look_after(run.id, LEASE)
    assert stage.take() == [A.label, B.label]
    for cell in (A, B):
        token = stage.claim(run, cell)
        stage.store.record(run.id, 0, cell.uuid, token, LEASE, ({}, moved(1)))
        stage.store.finish(run.id, 0, cell.uuid, token, None, True)
    stage.conductor.look_after(run.id, LEASE)
    assert stage.record(run).phase == 1
    assert stage.take() == [A.label, B.label]


# -- in turn ---------------------------------------------------------------------------------------------------------


def test_cells_with_one_budget_are_worked_in_turn(stage: Stage) -> None:
    run = stage.start(order(params=TOTAL, cells=(A, B, C)))
    assert stage.take() == [A.label]
    assert stage.states(run) == ["waiting", "queued", "queued"]
    stage.conductor.go_on(run.id)
    assert stage.take() == []
    stage.work(run, A, 30)
    assert stage.take() == [B.label]
    stage.work(run, B, 0)
    assert stage.take() == [C.label]
    stage.work(run, C, 70)
    assert stage.record(run).exit_code == 1


def test_a_cell_in_turn_is_given_what_is_left(stage: Stage) -> None:
    run = stage.start(order(params=TOTAL, cells=(A, B, C)))
    stage.work(run, A, 30)
    params = module.params_for(stage.record(run), B.uuid)
    assert params == Params(max_rows=70, begun=True)
    assert module.params_for(stage.record(run), A.uuid) == TOTAL


def test_without_a_budget_the_other_cells_are_only_looked_at_and_all_at_once(stage: Stage) -> None:
    run = stage.start(order(params=TOTAL, cells=(A, B, C)))
    stage.take()
    stage.work(run, A, 100)
    assert stage.take() == [B.label, C.label]
    assert module.params_for(stage.record(run), B.uuid) is None
    stage.work(run, B, 0)
    stage.work(run, C, 0, failed=True)
    assert stage.record(run).exit_code == 255


def test_a_cell_that_fails_gives_its_turn_to_the_next(stage: Stage) -> None:
    run = stage.start(order(params=TOTAL))
    stage.work(run, A, 10, failed=True)
    assert stage.take() == [A.label, B.label]
    stage.work(run, B, 90)
    assert stage.record(run).exit_code == 255


# -- cancel ----------------------------------------------------------------------------------------------------------


def test_cancel_ends_at_once_what_nobody_works_on(stage: Stage) -> None:
    run = stage.start(order(cells=(A, B, C)))
    token = stage.claim(run, A)
    stage.conductor.cancel(run.id)
    assert stage.states(run) == ["working", "done", "done"]
    assert stage.record(run).exit_code is None
    assert stage.store.record(run.id, 0, A.uuid, token, LEASE, ({}, moved(3))) == "cancelled"
    stage.conductor.finish_cell(run, 0, A.uuid, token, None, complete=False)
    ended = stage.record(run)
    assert (ended.state, ended.exit_code) == ("cancelled", 1)
    assert not any(cell.complete for cell in ended.cells)


def test_cancel_ends_what_waits_for_its_turn(stage: Stage) -> None:
    run = stage.start(order(params=TOTAL, cells=(A, B, C)))
    stage.conductor.cancel(run.id)
    assert (stage.record(run).state, stage.record(run).exit_code) == ("cancelled", 0)


def test_after_a_cancel_no_phase_follows(stage: Stage) -> None:
    run = stage.start(order(purge=True))
    stage.work(run, A, 5)
    stage.conductor.cancel(run.id)
    assert (stage.record(run).phase, stage.record(run).exit_code) == (0, 1)


def test_a_cancelled_run_whose_worker_died_ends(stage: Stage, impatient: None) -> None:
    run = stage.start(order(cells=(A,)))
    stage.claim(run, A, lease=LEASE / 300)
    stage.conductor.cancel(run.id)
    until(lambda: not stage.record(run).cells[0].leased)
    stage.store.beat("w:2", None, LEASE)
    stage.take()
    stage.conductor.look_after(run.id, LEASE)
    if stage.record(run).exit_code is None:  # then a worker is told, and learns with its claim that it is over
        (message,) = stage.sent
        token = stage.claim(run, A, sequence=message.sequence)
        stage.conductor.finish_cell(run, 0, A.uuid, token, None, complete=False)
    assert stage.record(run).state == "cancelled"


# -- the maintenance window ------------------------------------------------------------------------------------------


def closed(run: Order) -> Order:
    """The same run, with a window that has closed."""
    return replace(run, until=1.0)


def test_what_nobody_works_on_ends_when_the_window_has_closed(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    run = stage.start(closed(order(cells=(A, B, C))))
    token = stage.claim(run, A)
    stage.conductor.look_after(run.id, LEASE)
    assert stage.states(run) == ["working", "done", "done"]
    assert stage.store.record(run.id, 0, A.uuid, token, LEASE, ({}, moved(3))) == "closed"
    stage.conductor.finish_cell(run, 0, A.uuid, token, None, complete=False)
    ended = stage.record(run)
    assert (ended.state, ended.exit_code) == ("window closed", 1)
    assert audits(caplog)[-1] == "run r: its window closed before these were through: cell-a, cell-b, cell-c"


def test_no_cell_has_its_turn_after_the_window_has_closed(stage: Stage) -> None:
    run = stage.start(closed(order(params=TOTAL, cells=(A, B, C))))
    assert stage.take() == []
    assert (stage.record(run).state, stage.record(run).exit_code) == ("window closed", 0)


def test_no_phase_follows_after_the_window_has_closed(stage: Stage) -> None:
    run = stage.start(closed(order(purge=True)))
    for cell in (A, B):
        token = stage.claim(run, cell)
        assert stage.store.record(run.id, 0, cell.uuid, token, LEASE, ({}, moved(5))) == "closed"
        stage.conductor.finish_cell(run, 0, cell.uuid, token, None, complete=True)
    assert (stage.record(run).phase, stage.record(run).exit_code) == (0, 1)


# -- one run of each id ----------------------------------------------------------------------------------------------


def test_a_run_that_is_ordered_again_sends_nothing(stage: Stage) -> None:
    run = stage.start(order())
    stage.take()
    assert not stage.conductor.start(run)
    assert stage.take() == []
    for cell in (A, B):
        stage.work(run, cell, 5)
    assert not stage.conductor.start(run)
    assert stage.take() == []
    assert stage.record(run).exit_code == 1


# -- the books -------------------------------------------------------------------------------------------------------


def test_a_run_that_ends_enters_what_it_did_in_each_cell(stage: Stage) -> None:
    run = stage.start(order(purge=True))
    stage.work(run, A, 5)
    stage.work(run, B, 3, failed=True)
    for cell in (A, B):
        stage.work(run, cell, 0, phase=1)
    books = {name: value for name, value in stage.store.tally().items() if not name.startswith("duration")}
    succeeded = {name for name in books if name.startswith(tally.SUCCESS)}
    assert succeeded == {
        tally.name(tally.SUCCESS, action, cell.uuid) for action, cell in ((ARCHIVE, A), (PURGE, A), (PURGE, B))
    }
    failed = {name: value for name, value in books.items() if name.startswith(tally.FAILED)}
    assert failed == {
        tally.name(tally.FAILED, ARCHIVE, A.uuid): 0,
        tally.name(tally.FAILED, ARCHIVE, B.uuid): 1,
        tally.name(tally.FAILED, PURGE, A.uuid): 0,
        tally.name(tally.FAILED, PURGE, B.uuid): 0,
    }


def test_a_cell_that_was_not_begun_enters_nothing(stage: Stage) -> None:
    run = stage.start(order(params=TOTAL, cells=(A, B)))
    stage.work(run, A, 100)
    stage.conductor.cancel(run.id)
    assert {entry.rsplit(" ", 1)[1] for entry in stage.store.tally()} == {A.uuid}


# -- looking after ---------------------------------------------------------------------------------------------------


def test_a_cell_that_no_worker_serves_is_given_up_by_name(stage: Stage, impatient: None) -> None:
    run = stage.start(order())
    stage.store.beat("w:1", [B.uuid], LEASE)
    stage.conductor.look_after(run.id, LEASE)
    assert stage.failures(run) == [f"{A.label}: {NO_WORKER}", None]
    stage.work(run, B, 3)
    assert stage.record(run).exit_code == 255


def test_a_cell_without_a_worker_has_a_grace(stage: Stage) -> None:
    run = stage.start(order())
    stage.conductor.look_after(run.id, LEASE)
    assert stage.states(run) == ["waiting", "waiting"]


def test_the_grace_begins_when_the_last_worker_is_gone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that has waited for long, because the worker is busy with others, outlives the worker's restart."""
    monkeypatch.setattr(module, "GRACE", 1.0)
    run = stage.start(order())
    stage.store.beat("w:1", None, LEASE)
    for cell in (A, B):
        stage.queue(cell)
    until(lambda: stage.record(run).cells[0].idle > 1.0)
    stage.conductor.look_after(run.id, LEASE)
    stage.store.rest("w:1")
    stage.conductor.look_after(run.id, LEASE)
    assert stage.failures(run) == [None, None]


def test_a_cell_that_is_worked_on_needs_no_sign_of_its_worker(stage: Stage, impatient: None) -> None:
    run = stage.start(order(cells=(A,)))
    stage.claim(run, A)
    stage.conductor.look_after(run.id, LEASE)
    assert stage.states(run) == ["working"]


def test_a_lost_message_is_sent_again(stage: Stage, impatient: None) -> None:
    run = stage.start(order())
    stage.take()
    stage.store.beat("w:1", None, LEASE)
    stage.queue(B)
    stage.conductor.look_after(run.id, LEASE)
    assert stage.take() == [A.label]  # that of the other one still lies in its queue
    token = stage.claim(run, A)
    assert stage.store.advance(run.id, 0, A.uuid, token) == 1
    stage.conductor.look_after(run.id, LEASE)
    assert [(message.cell, message.sequence) for message in stage.sent] == [(A.uuid, 1)]


def test_nothing_is_sent_again_before_its_time(stage: Stage) -> None:
    run = stage.start(order())
    stage.take()
    stage.store.beat("w:1", None, LEASE)
    stage.conductor.look_after(run.id, LEASE)
    assert stage.take() == []


def test_a_dead_workers_cell_is_sent_again(stage: Stage, impatient: None) -> None:
    run = stage.start(order(cells=(A,)))
    stage.take()
    stage.store.beat("w:2", None, LEASE)
    stage.claim(run, A, lease=SHORT)
    until(lambda: not stage.record(run).cells[0].leased)
    stage.conductor.look_after(run.id, LEASE)
    assert stage.take() == [A.label]


def test_a_run_that_goes_on_holds_its_databases(stage: Stage) -> None:
    run = stage.start(order())
    assert stage.store.hold(run.id, module.hold_names(run), SHORT) is None
    stage.conductor.look_after(run.id, LEASE)
    assert stage.store.hold("other", [f"{ARCHIVE}:{B.fingerprint}"], LEASE) == run.id
    stage.work(run, A, 0)
    stage.work(run, B, 0)
    stage.conductor.look_after(run.id, LEASE)
    assert stage.store.hold("other", [f"{ARCHIVE}:{B.fingerprint}"], LEASE) is None


def test_a_run_that_is_gone_is_forgotten(stage: Stage) -> None:
    run = stage.start(order())
    stage.client.delete(f"cellkeeper:run:{run.id}")
    stage.conductor.look_after(run.id, LEASE)
    assert stage.store.active() == set()


def test_a_refused_cell_fails_with_the_reason(stage: Stage) -> None:
    run = stage.start(order())
    stage.conductor.refuse(run.id, 0, A.uuid, "cell-a: upgrade it")
    assert stage.failures(run) == ["cell-a: upgrade it", None]
    assert stage.states(run) == ["done", "waiting"]


def test_what_only_looks_holds_nothing() -> None:
    assert module.hold_names(order()) == [f"{ARCHIVE}:{cell.fingerprint}" for cell in (A, B)]
    dry = Order("r", (Phase(f"{ARCHIVE}.dry_run", {}),), (A,), "somebody")
    assert module.hold_names(dry) == []
