"""What moves a run on: who is next, when a phase is over, which cell was left by its worker."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jobs.action import Action, CellResult, Failure, FailureKind, Scope
from jobs.actions import ACTIONS
from jobs.codec import decode
from novadb.cells import Cell
from novadb.errors import DatabaseProblem
from runs import tally
from runs.records import FORMAT, CellRecord, CellRef, CellState, Order, RunRecord
from runs.redis_store import RedisStore, RunGone

LOG = logging.getLogger("cellkeeper.audit")

NO_WORKER: Final = "no worker serves it: start one with: cellkeeper worker"
# A cell without a live claim and without a message shows no sign of life for so long: it is sent again.
IDLE: Final = 30.0  # seconds
# A cell without any worker that serves it is given up after so long.
GRACE: Final = 30.0  # seconds


@dataclass(frozen=True)
class Message:
    """What travels to a worker: which slice of which cell.

    :ivar fingerprint: of the database that is meant
    """

    run: str
    phase: int
    action: str
    cell: str
    label: str
    fingerprint: str
    sequence: int
    format: int = FORMAT


def queue_of(cell: str) -> str:
    """The name of a cell's queue."""
    return f"cell.{cell}"


def serving(workers: Mapping[str, set[str] | None], cell: str) -> int:
    """How many of the workers serve a cell.

    :param workers: the uuids of the cells that each one serves; None: all
    """
    return sum(serves is None or cell in serves for serves in workers.values())


def hold_names(order: Order) -> list[str]:
    """What a run excludes others from: its actions, on its databases or at all. What does not write excludes nobody."""
    writing = [action for action in (ACTIONS[phase.action] for phase in order.phases) if action.writes]
    return [f"{action.name}:{place}" for action in writing for place in _places(action, order)]


def _places(action: Action[Any, Any], order: Order) -> list[str]:
    return ["cloud"] if action.scope is Scope.CLOUD else [cell.fingerprint for cell in order.cells]


class Conductor:
    """Moves runs on. Any process may; whatever must happen once is decided by the store."""

    def __init__(self, store: RedisStore, send: Callable[[Message], None]) -> None:
        """:param send: puts a message into its cell's queue"""
        self.store = store
        self._send = send
        self._unserved: dict[tuple[str, str], float] = {}

    def start(self, order: Order) -> bool:
        """Store a run, and send its first messages.

        :returns: False: there is a run of this id already, which stays as it is
        """
        created = self.store.create(order)
        if created:
            self._open(order, 0)
        return created

    def finish_cell(
        self, order: Order, phase: int, cell: str, token: str | None, failure: Failure | None, complete: bool
    ) -> None:
        """End the work in a cell, and what follows from it."""
        told = (failure.kind.name, failure.reason) if failure else None
        if self.store.finish(order.id, phase, cell, token, told, complete) is not None:
            self.go_on(order.id)

    def refuse(self, run: str, phase: int, cell: str, reason: str) -> None:
        """End the work in a cell that a worker cannot do."""
        failure = Failure(FailureKind.CELL, reason)
        self.finish_cell(self.store.load(run).order, phase, cell, None, failure, complete=False)

    def go_on(self, run: str) -> None:
        """Do what is due in a run: the next cell's turn, the next phase, its end. May be called at any time."""
        record = self.store.load(run)
        if record.exit_code is not None:
            return
        if record.phase < 0:
            self._open(record.order, 0)
        elif all(cell.state is CellState.DONE for cell in record.cells):
            self._end_phase(record)
        elif all(cell.state in (CellState.DONE, CellState.QUEUED) for cell in record.cells):
            self._next_turn(record)

    def cancel(self, run: str) -> None:
        """Ask a run to end; cells that nobody works on end at once.

        :raises RunGone: there is no such run
        """
        self.store.cancel(run)
        self._end_unheld(self.store.load(run))

    def _end_unheld(self, record: RunRecord) -> None:
        """End the cells that nobody works on right now."""
        for cell in record.cells:
            if cell.state is not CellState.DONE and not cell.leased:
                self.finish_cell(record.order, record.phase, cell.ref.uuid, None, None, complete=False)

    def look_after(self, run: str, lease: float, *, leading: bool = True) -> None:
        """Renew what a run holds, send again what was lost, give up what nobody serves. Called every few seconds.

        :param leading: whether to do what is due in the run as well; otherwise only if no worker lives that would
        :param lease: seconds for which the run goes on to hold its databases
        """
        try:
            record = self.store.load(run)
        except RunGone:
            self.store.forget_active(run)
            return
        order = record.order
        if order.format != FORMAT or not all(phase.action in ACTIONS for phase in order.phases):
            return  # a run of a newer program; its own workers look after it
        self.store.hold(run, hold_names(order), lease, renew=True)
        self.store.keep(order, record.phase)
        if record.closed:
            self._end_unheld(record)
            record = self.store.load(run)
        workers = self.store.workers()
        for cell in record.cells:
            if cell.state in (CellState.WAITING, CellState.WORKING) and not cell.leased:
                self._look_after_cell(record, cell, workers)
        if leading or not workers:
            self.go_on(run)

    def _look_after_cell(self, record: RunRecord, cell: CellRecord, workers: dict[str, set[str] | None]) -> None:
        order, uuid = record.order, cell.ref.uuid
        if not serving(workers, uuid):
            since = self._unserved.setdefault((order.id, uuid), time.monotonic())
            if time.monotonic() - since >= GRACE:
                failure = Failure(FailureKind.CELL, f"{cell.ref.label}: {NO_WORKER}")
                self.finish_cell(order, record.phase, uuid, None, failure, complete=False)
            return
        self._unserved.pop((order.id, uuid), None)
        if self.store.queue_length(queue_of(uuid)) == 0:
            sequence = self.store.revive(order.id, record.phase, uuid, IDLE)
            if sequence is not None:
                self._send(self._message(order, record.phase, cell.ref, sequence))

    def _open(self, order: Order, phase: int) -> None:
        action = ACTIONS[order.phases[phase].action]
        params = decode(action.params, order.phases[phase].params)
        first = CellState.QUEUED if action.in_turn(params) else CellState.WAITING
        if not self.store.open_phase(order, phase, [first] * len(order.cells)):
            return
        if first is CellState.QUEUED or not order.cells:
            self.go_on(order.id)
            return
        for cell in order.cells:
            self._send(self._message(order, phase, cell, 0))

    def _next_turn(self, record: RunRecord) -> None:
        """Send the first cell that has not had its turn; if the run is to end, end the rest.

        Without a budget they are sent all at once, to look whether they have anything to do.
        """
        order, phase = record.order, record.phase
        queued = [cell.ref for cell in record.cells if cell.state is CellState.QUEUED]
        is_over = params_for(record, queued[0].uuid) is None
        if record.stopping or (is_over and ACTIONS[order.phases[phase].action].has_work is None):
            for cell in queued:
                self.store.finish(order.id, phase, cell.uuid, None, None, complete=False)
            self.go_on(order.id)
            return
        for cell in queued if is_over else queued[:1]:
            if self.store.take_turn(order.id, phase, cell.uuid):
                self._send(self._message(order, phase, cell, 0))

    def _end_phase(self, record: RunRecord) -> None:
        """Begin the next phase if the first one wrote rows; else end the run with the collapsed exit code."""
        order, following = record.order, record.phase + 1
        first = results_of(self.store.load(order.id, 0), 0)
        if following < len(order.phases) and not record.stopping and any(one.outcome.rows for one in first):
            self._open(order, following)
            return
        code = exit_code_of(first, order)
        later = [results_of(self.store.load(order.id, number), number) for number in range(1, record.phase + 1)]
        books: dict[str, float] = {}
        for phase, results in zip(order.phases, [first, *later], strict=False):
            if ACTIONS[phase.action].writes:
                books |= tally.entries(phase.action, results, time.time())
        if any(result.failure for results in later for result in results):
            code = 255
        if self.store.close(order, code, hold_names(order), books):
            rows = sum(result.outcome.rows for result in first)
            failed = sum(result.failure is not None for result in first)
            LOG.info(
                "run %s: %s by %s in %d cells: %d rows, %d cells failed, exit code %d",
                order.id, order.phases[0].action, order.by, len(order.cells), rows, failed, code,
            )  # fmt: skip
            left = [result.cell.label for result in first if not result.complete and not result.failure]
            if record.closed and left:
                LOG.warning("run %s: its window closed before these were through: %s", order.id, ", ".join(left))

    @staticmethod
    def _message(order: Order, phase: int, cell: CellRef, sequence: int) -> Message:
        action = order.phases[phase].action
        return Message(order.id, phase, action, cell.uuid, cell.label, cell.fingerprint, sequence)


def params_for(record: RunRecord, cell: str) -> Any | None:
    """The parameters for a cell: in turn, what the cells before it have left; None: nothing."""
    phase = record.order.phases[record.phase]
    action = ACTIONS[phase.action]
    params = decode(action.params, phase.params)
    if not action.in_turn(params):
        return params
    for before in record.cells:
        if before.ref.uuid == cell or params is None:
            break
        params = action.next_params(params, outcome_of(action, before))
    return params


def outcome_of(action: Action[Any, Any], cell: CellRecord) -> Any:
    """What was done in a cell so far."""
    return decode(type(action.nothing), cell.outcome) if cell.outcome is not None else action.nothing


def results_of(record: RunRecord, phase: int) -> list[CellResult[Any]]:
    """The cells of a phase as results, in their order.

    :param record: with the cells of that phase
    """
    action = ACTIONS[record.order.phases[phase].action]
    return [_result(action, cell) for cell in record.cells]


def results_of_phases(store: RedisStore, record: RunRecord) -> list[list[CellResult[Any]]]:
    """The results of each phase that a run has come to.

    :raises RunGone: it has expired meanwhile
    """
    return [results_of(store.load(record.order.id, number), number) for number in range(record.phase + 1)]


def _result(action: Action[Any, Any], cell: CellRecord) -> CellResult[Any]:
    named = Cell(cell.ref.uuid, cell.ref.label, frozenset(), DatabaseProblem("known by name only"))
    failure = Failure(FailureKind[cell.failure[0]], cell.failure[1]) if cell.failure else None
    seconds = (cell.finished or cell.touched) - cell.started if cell.started else 0.0
    return CellResult(named, outcome_of(action, cell), failure, cell.complete, seconds)


def exit_code_of(results: Sequence[CellResult[Any]], order: Order) -> int:
    """The exit code that results of the first phase collapse into."""
    action = ACTIONS[order.phases[0].action]
    return int(action.collapse(results, decode(action.params, order.phases[0].params)))
