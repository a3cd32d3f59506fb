"""What moves a run on: who is next, when a phase is over, whose bell was lost, how it ends."""

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from jobs.action import CellResult, Failure, FailureKind
from novadb.cells import Cell
from novadb.errors import DatabaseProblem
from runs import rules, tally
from runs.exclusion import Busy
from runs.records import (
    FORMAT,
    Bell,
    CellRecord,
    CellRef,
    Hold,
    Order,
    Phase,
    Place,
    RunRecord,
    RunState,
    Stage,
    View,
    Wish,
)
from runs.rules import Actions, Adjustment, Advice, Patience
from runs.store import CellKey, RunGone, RunStore

LOG = logging.getLogger("cellkeeper.audit")

NO_WORKER: Final = "no worker serves it: start one with: cellkeeper worker"
PATIENCE: Final = Patience()
SILENT_AT_ONCE: Final = 200
"""How many silent cells of a run are looked after in one round."""
UNWATCHED: Final = 30.0
"""Seconds without a look after which nobody knows what was between: a beat looks only when it
orders something.
"""
Results = Sequence[CellResult[Any]]
Locate = Callable[[CellRef, Sequence[Phase]], CellRef]


@dataclass(frozen=True)
class Fleet:
    """The workers to which cells are left.

    :ivar living: tells which of them live, and the uuids of the cells that each one serves; None:
        all
    :ivar per_server: connections to one server that all cells together may have; None: others see
        to that
    """

    living: Callable[[], Mapping[str, set[str] | None]]
    per_server: int | None = None


def queue_of(cell: str) -> str:
    """The name of a cell's queue."""
    return f"cell.{cell}"


def count_serving(workers: Mapping[str, set[str] | None], cell: str) -> int:
    """How many of the workers serve a cell.

    :param workers: the uuids of the cells that each one serves; None: all
    """
    return sum(cells is None or cell in cells for cells in workers.values())


def _all_actions() -> Actions:
    # With all that they import, which a command that has one of them does without.
    from jobs.actions import ACTIONS

    return ACTIONS


class Conductor:
    """Moves runs on. Any process may, at any time; whatever must happen once is decided by the
    store.
    """

    def __init__(
        self,
        store: RunStore,
        ring: Callable[[Bell], None],
        actions: Actions | None = None,
        patience: Patience = PATIENCE,
        fleet: Fleet | None = None,
        on_end: Callable[[RunRecord, Sequence[Results]], None] | None = None,
    ) -> None:
        """:param ring: tells whoever works cells that one is due
        :param actions: those that it knows; None: all
        :param fleet: None: this process alone works cells, as long as the run lasts, and sees to
            connections itself
        :param on_end: told about each run that this one has ended; None: writes a line for whoever
            asks later
        """
        self.store = store
        self.per_server = fleet.per_server if fleet else None
        self.actions = _all_actions() if actions is None else actions
        self.patience = patience
        self._ring = ring
        self._fleet = fleet
        self._on_end = on_end or write_audit
        self._unserved: dict[str, tuple[float, float]] = {}

    # -- ordering and steering ---------------------------------------------------------------------

    def start(self, order: Order, cells: Sequence[CellRef], *, wait: bool = True) -> RunRecord:
        """Start a run, or let it wait for its turn in the queue.

        :param wait: whether it may wait for others that work on its databases
        :returns: the run; one of this id that is there already, as it is
        :raises Busy: it would have to wait
        :raises TooLate: the time until which it may be ordered has passed
        """
        run = rules.new_run(order, cells, self.actions, self.store.now())
        first = rules.new_cells(run, cells, self.actions)
        exclusions = rules.exclusions_of(order, cells, self.actions)
        self.look_after_all()  # a run that only its own end keeps in the queue is in nobody's way
        if self.store.create(run, first, exclusions, partial(self._join, run=order.id, wait=wait)):
            self._begin_if_admitted(order.id)
        return self.store.run(order.id)

    def _join(
        self,
        queue: Sequence[Place],
        exclusions: Mapping[str, frozenset[str]],
        *,
        run: str,
        wait: bool,
    ) -> Sequence[Place]:
        """The queue with a new run at its end.

        :raises Busy: it would have to wait, and must not
        """
        blocker = rules.blocker(queue, exclusions, run)
        if blocker and not wait:
            raise Busy(self.describe(blocker))
        return rules.admit(queue, exclusions)

    def waits_for(self, run: str) -> str | None:
        """The run for which one waits that has not begun."""
        blockers: list[str | None] = []

        def look(
            queue: Sequence[Place], exclusions: Mapping[str, frozenset[str]]
        ) -> Sequence[Place]:
            blockers.append(rules.blocker(queue, exclusions, run) if run in exclusions else None)
            return queue

        self.store.change_queue(look)
        return blockers[-1]

    def describe(self, run: str) -> str:
        """A run in words: what it does, who started it, and when."""
        try:
            record = self.store.run(run)
        except RunGone:
            return f"run {run}"
        since = time.strftime(
            "%Y-%m-%d %H:%M:%S UTC", time.gmtime(record.started or record.ordered)
        )
        return f"{record.order.phases[0].action}, run {run} by {record.order.by}, since {since}"

    def cancel(self, run: str, by: str = "") -> None:
        """Ask a run to end after the current steps; cells that nobody works on end at once.

        :raises RunGone: there is no such run
        """
        self._steer(run, Wish.CANCEL, "cancel", by)
        self.look_after(run)

    def pause(self, run: str, by: str) -> bool:
        """Ask a run to pause after the current steps.

        :returns: False: it has ended, or is about to
        :raises RunGone: there is no such run
        """
        changed = self._steer(run, Wish.PAUSE, "pause", by)
        if changed and changed.state is RunState.WAITING:
            self.store.change_queue(lambda queue, _: rules.let_pass(queue, run, paused=True))
            self.admit()
        return changed is not None

    def resume(self, run: str, by: str) -> bool:
        """Let a paused run go on.

        :returns: False: it has ended, or is about to
        :raises RunGone: there is no such run
        """
        changed = self._steer(run, Wish.NOTHING, "resume", by)
        if changed and changed.state is RunState.RUNNING:
            self._ring_all(changed)
        if changed and changed.state is RunState.WAITING:
            self.store.change_queue(lambda queue, _: rules.let_pass(queue, run, paused=False))
            self.admit()
        return changed is not None

    def adjust(self, run: str, change: Adjustment, by: str) -> None:
        """Change a run while it goes on, from its next step on.

        :raises NotPossible: it has ended, has no such setting, or the value makes no sense
        :raises RunGone: there is no such run
        """
        self.store.change_run(
            run, lambda record, now: rules.adjust(record, change, by, now, self.actions)
        )

    def retry(self, run: str, by: str, locate: Locate = lambda ref, _: ref) -> list[str]:
        """Work the failed cells of a run that has ended again.

        :param locate: tells which database a cell has now, for some phases
        :returns: the ids of the new runs: one for each phase in which cells failed
        :raises NotPossible: it goes on, nothing failed, or it is one of another version
        :raises RunGone: there is no such run
        """
        record = self.store.run(run)
        if self._is_foreign(record):
            raise rules.NotPossible("another version of cellkeeper ordered it, which alone can")
        phases = [self.store.cells(run, number) for number in range(record.phase + 1)]
        started = []
        for later_phases, cells in rules.retries(record, phases):
            order = replace(
                record.order,
                id=uuid.uuid4().hex[:12],
                phases=later_phases,
                by=by,
                until=None,
                latest=None,
                retry_of=run,
            )
            located = [locate(cell, later_phases) for cell in cells]
            started.append(self.start(order, located).order.id)
        return started

    def hold(self, hold: Hold) -> None:
        """Let all runs pause after the current steps."""
        self.store.set_hold(hold)

    def release(self) -> None:
        """Let all runs go on."""
        self.store.set_hold(None)
        for place in self.store.queue():
            if place.admitted:
                self._wake(place.run)

    def _wake(self, run: str) -> None:
        """Ring all cells of a run; one that is gone has none."""
        with suppress(RunGone):
            if awake := self.store.change_run(run, rules.wake):
                self._ring_all(awake)

    def _steer(self, run: str, wish: Wish, what: str, by: str) -> RunRecord | None:
        return self.store.change_run(
            run, lambda record, now: rules.steer(record, wish, what, by, now)
        )

    # -- what is due -------------------------------------------------------------------------------

    def admit(self) -> None:
        """Begin the runs of the queue for which nobody is in the way any more."""
        admitted_before = {place.run for place in self.store.queue() if place.admitted}
        for place in self.store.change_queue(rules.admit):
            if place.admitted and place.run not in admitted_before:
                with suppress(RunGone):  # whoever looks after it lets it leave the queue
                    self._begin(place.run)

    def _begin(self, run: str) -> None:
        begun = self.store.change_run(run, rules.begin_run)
        if begun:
            self._ring_all(begun)
            self.go_on(run)

    def go_on(self, run: str) -> None:
        """Do what is due in a run: the next cell's turn, the next phase, its end."""
        record = self.store.run(run)
        if self._is_foreign(record):
            return
        if record.state is RunState.ENDED:
            self._leave_queue(run)
            return
        if record.state is RunState.WAITING and not self._is_stopping(record):
            return
        if rules.shares_budget(record, self.actions):
            self._next_turn(record)
        if self.store.count_open(run, record.phase) == 0:
            self._end_phase(self.store.run(run))

    def cell_ended(self, view: View) -> None:
        """A cell is done: what follows from it."""
        run = view.run
        is_next = rules.shares_budget(run, self.actions) and view.cell.number == run.turn
        if is_next or self.store.count_open(run.order.id, run.phase) == 0:
            self.go_on(run.order.id)

    def look_after_all(self) -> None:
        """Look after all runs that have not ended."""
        for place in self.store.queue():
            self.look_after(place.run)

    def look_after(self, run: str) -> None:
        """Ring again what was lost, end what is to end, give up what nobody serves. Called every
        few seconds.
        """
        try:
            self._look_after(self.store.run(run))
        except RunGone:
            self._leave_queue(run)
        except self.store.away:
            self.lose_sight()
            raise

    def lose_sight(self) -> None:
        """The store was away or took no writes, so no worker could show life: the grace of cells
        begins anew.
        """
        self._unserved.clear()

    def _look_after(self, record: RunRecord) -> None:
        run = record.order.id
        if self._is_foreign(record):
            return  # its own workers look after it
        if record.state is RunState.ENDED:
            self._leave_queue(run)
            return
        match rules.advice(record, self.store.hold(), self.store.now()):
            case Advice.CANCEL | Advice.CLOSE:
                self._end_unheld(record)
            case Advice.GO_ON if record.state is RunState.WAITING:
                self._begin_if_admitted(run)
            case Advice.GO_ON:
                self._look_after_cells(record)
                self.call_waiting()
        self.go_on(run)

    def _is_foreign(self, record: RunRecord) -> bool:
        """Whether a run is one of another version."""
        return record.order.format != FORMAT or any(
            phase.action not in self.actions for phase in record.order.phases
        )

    def _begin_if_admitted(self, run: str) -> None:
        """Begin a run whose admission came no further than the queue."""
        if any(place.run == run and place.admitted for place in self.store.queue()):
            self._begin(run)
        else:
            self.admit()

    def _end_unheld(self, record: RunRecord) -> None:
        """End the cells that nobody works on right now."""
        for number in self.store.open_cells(record.order.id, record.phase):
            self._finish(record, number, None)

    def _look_after_cells(self, record: RunRecord) -> None:
        """Ring again the cells whose bell may be lost; give up what nobody serves."""
        run = record.order.id
        workers = self._fleet.living() if self._fleet else {"this process": None}
        if None in workers.values() and rules.was_just_woken(
            record, self.store.now(), self.patience
        ):
            self._unserved.pop(run, None)
            return  # all cells are served, and none is rung again yet: none need be read
        is_unserved = not workers
        for number in self.store.silent(run, record.phase, SILENT_AT_ONCE):
            cell = self.store.cell(run, record.phase, number)
            if cell.failure:
                self._finish(record, number, cell.failure)
            elif count_serving(workers, cell.ref.uuid):
                self._ring_silent(record, number)
            else:
                is_unserved = True
        if not is_unserved:
            self._unserved.pop(run, None)
            return
        self.store.try_write()  # where nothing can be written, workers live without a sign
        if self._seconds_unserved(run, time.monotonic()) >= self.patience.grace:
            self._give_up_unserved(record, workers)

    def _seconds_unserved(self, run: str, now: float) -> float:
        """For how long this process has seen cells of a run unserved; a time without a look counts
        for nothing.
        """
        since, looked = self._unserved.get(run, (now, now))
        if now - looked > UNWATCHED:
            since = now
        self._unserved[run] = since, now
        return now - since

    def _give_up_unserved(self, record: RunRecord, workers: Mapping[str, set[str] | None]) -> None:
        """End all cells that no worker serves: those whose turn has not come, too."""
        for cell in self.store.cells(record.order.id, record.phase):
            if cell.stage is not Stage.DONE and not count_serving(workers, cell.ref.uuid):
                failure = Failure(FailureKind.CELL, f"{cell.ref.label}: {NO_WORKER}")
                self._finish(record, cell.number, failure)

    def _ring_silent(self, record: RunRecord, number: int) -> None:
        view = self.store.change_cell(
            record.order.id, record.phase, number,
            lambda view: rules.ring_again(view.cell, view.run, view.now, self.patience),
        )  # fmt: skip
        if isinstance(view, View):
            self.ring(view.run, view.cell)

    def _next_turn(self, record: RunRecord) -> None:
        """Count the turns that are over, and ring the next cell; where nothing is left for it, it
        ends.
        """
        run = record.order.id
        while record.turn < record.cells:
            cell = self.store.cell(run, record.phase, record.turn)
            if cell.failure and cell.stage is not Stage.DONE:
                self._finish(record, cell.number, cell.failure, moving_on=False)
                continue
            if cell.stage in (Stage.LOOK, Stage.WORK):
                return
            if (
                cell.stage is Stage.QUEUED
                and record.budget is not None
                and not self._is_stopping(record)
            ):
                self._ring_turn(record, cell.number)
                return
            if cell.stage is Stage.QUEUED:
                self._finish(record, cell.number, None, moving_on=False)
                continue
            self.store.change_run(run, partial(self._count_turn, phase=record.phase, cell=cell))
            record = self.store.run(run)

    def _count_turn(
        self, run: RunRecord, _now: float, *, phase: int, cell: CellRecord
    ) -> RunRecord | None:
        """Count the turn of a cell; a later phase has turns of its own."""
        return rules.count_turn(run, cell, self.actions) if run.phase == phase else None

    def _ring_turn(self, record: RunRecord, number: int) -> None:
        view = self.store.change_cell(
            record.order.id,
            record.phase,
            number,
            lambda view: rules.take_turn(view.cell, view.now, self.patience),
        )
        if isinstance(view, View):
            self.ring(view.run, view.cell)

    def _is_stopping(self, record: RunRecord) -> bool:
        return rules.is_stopping(record, self.store.hold(), self.store.now())

    def _finish(
        self, record: RunRecord, number: int, failure: Failure | None, *, moving_on: bool = True
    ) -> None:
        """End a cell that nobody works on."""
        view = self.store.change_cell(
            record.order.id, record.phase, number,
            lambda view: rules.finish_cell(view.cell, "", view.now, failure, complete=False),
        )  # fmt: skip
        if isinstance(view, View) and moving_on:
            self.cell_ended(view)

    # -- connections to the servers of the cells ---------------------------------------------------

    def call_waiting(self, freed: Mapping[str, int] | None = None) -> None:
        """Ring the cells that have waited longest for a connection, as many as there is room for.

        :param freed: connections that were just given back, by server; None: look at all servers,
            for connections of workers that were killed
        """
        if self.per_server is None:
            return
        for line in self.store.lines(self.per_server, list(freed or ())):
            room = self.per_server - line.busy
            if freed is not None:
                room = min(room, freed[line.server])
            for cell in line.first[: max(room, 0 if line.busy else 1)]:
                self._call(line.server, cell)

    def ring_or_wait(self, view: View) -> None:
        """Ring a cell that was given back; where others wait for what it had, it goes to the end of
        the line.
        """
        key = view.run.order.id, view.run.phase, view.cell.number
        waits = None
        if view.waiting and self.per_server is not None:
            waits = self.store.change_cell(
                *key, lambda view: rules.stand_in_line(view.cell, view.now)
            )
        if waits is None:
            self.ring(view.run, view.cell)

    def _call(self, server: str, key: CellKey) -> None:
        """Ring a cell that stands in the line of a server."""
        try:
            view = self.store.change_cell(
                *key, lambda view: rules.call_from_line(view.cell, view.now, self.patience)
            )
        except RunGone:
            view = None
        if isinstance(view, View):
            self.ring(view.run, view.cell)
        else:
            self.store.leave_line(server, key)

    # -- bells -------------------------------------------------------------------------------------

    def ring(self, run: RunRecord, cell: CellRecord) -> None:
        """Tell whoever works cells that one is due; those of another version are told by their own
        workers.
        """
        if self._is_foreign(run):
            return
        action = self.actions[run.order.phases[run.phase].action]
        rows = rules.outcome_of(action, cell).rows
        self._ring(
            Bell(
                run.order.id,
                run.phase,
                action.name,
                cell.number,
                cell.ref.uuid,
                cell.ref.label,
                cell.slices,
                rows,
                run.order.format,
            )
        )

    def _ring_all(self, run: RunRecord) -> None:
        """Ring all cells of a run that are due."""
        for cell in self.store.cells(run.order.id, run.phase):
            if cell.stage in (Stage.LOOK, Stage.WORK) and not cell.holder:
                self.ring(run, cell)

    # -- the end -----------------------------------------------------------------------------------

    def _end_phase(self, record: RunRecord) -> None:
        """Begin the next phase if the first one wrote rows; else end the run."""
        run = record.order.id
        if record.state is RunState.ENDED or self.store.count_open(run, record.phase):
            return
        phases = self.results(record)
        following = rules.next_phase(record, phases[0], self.store.now(), self.actions)
        if following is None:
            self._end(record, phases)
            return
        refs = [cell.ref for cell in self.store.cells(run, 0)]
        opening = rules.new_cells(following, refs, self.actions)

        def open_phase(run: RunRecord, now: float) -> RunRecord | None:
            return (
                rules.next_phase(run, phases[0], now, self.actions)
                if run.phase == record.phase
                else None
            )

        opened = self.store.change_run(run, open_phase, opening)
        if opened:
            self._ring_all(opened)
            self.go_on(run)

    def _end(self, record: RunRecord, phases: Sequence[Results]) -> None:
        """End a run; whoever does tells the log."""
        entries: dict[str, float] = {}
        for phase, results in zip(record.order.phases, phases, strict=False):
            if self.actions[phase.action].writes:
                entries |= tally.entries(phase.action, results, self.store.now())
        ended = self.store.change_run(
            record.order.id,
            lambda run, now: rules.end_run(run, phases, now, self.actions),
            entries=entries,
        )
        if ended:
            self._on_end(ended, phases)
        self._leave_queue(record.order.id)

    def results(self, record: RunRecord) -> list[list[CellResult[Any]]]:
        """The results of all phases that a run has come to."""
        phases = record.order.phases[: record.phase + 1]
        return [
            [
                result_of(cell, self.actions, phase.action)
                for cell in self.store.cells(record.order.id, number)
            ]
            for number, phase in enumerate(phases)
        ]

    def _leave_queue(self, run: str) -> None:
        """A run that has ended, or is gone, makes room for others."""
        if any(place.run == run for place in self.store.queue()):
            self.store.change_queue(lambda queue, _: [place for place in queue if place.run != run])
            self.admit()


def result_of(cell: CellRecord, actions: Actions, action: str) -> CellResult[Any]:
    """A cell as a result; of its database nothing but the name is known."""
    named = Cell(cell.ref.uuid, cell.ref.label, frozenset(), DatabaseProblem("known by name only"))
    seconds = (cell.finished or cell.touched) - cell.started if cell.started else 0.0
    return CellResult(
        named, rules.outcome_of(actions[action], cell), cell.failure, cell.complete, seconds
    )


def write_audit(run: RunRecord, phases: Sequence[Results]) -> None:
    """A line for whoever asks later who did what."""
    first = phases[0]
    rows = sum(result.outcome.rows for result in first)
    failed = sum(result.failure is not None for result in first)
    LOG.info(
        "run %s: %s by %s in %d cells: %d rows, %d cells failed, exit code %d; throttle: %s",
        run.order.id,
        run.order.phases[0].action,
        run.order.by,
        run.cells,
        rows,
        failed,
        run.exit_code,
        rules.throttle_in_words(run),
    )
    assert run.finished is not None
    unfinished = [
        result.cell.label for result in first if not result.complete and not result.failure
    ]
    if rules.has_closed(run, run.finished) and unfinished:
        LOG.warning(
            "run %s: its window closed before these were through: %s",
            run.order.id,
            ", ".join(unfinished),
        )
