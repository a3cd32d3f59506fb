"""Work in one cell for a slice of time: claim it, drive its action step by step, give it back or end it."""

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, Self

from clients.errors import ServiceProblem
from jobs.action import Action, Cursor, Failure, FailureKind, Step, Target, failure_of
from jobs.codec import decode
from jobs.retry import Contended
from jobs.transaction_size import TransactionSize
from novadb.errors import DatabaseProblem
from runs import rules, tally
from runs.conductor import Conductor
from runs.orders import ref_of
from runs.records import NEVER, Bell, CellRecord, Phase, RunRecord, Stage
from runs.rules import Advice, Claimant, Provided, Refusal
from runs.store import NO_BOOKS, Books, RunGone, RunStore, View
from runs.throttles import Throttles
from throttle.readings import Answer, Reading

LOG = logging.getLogger("cellkeeper.runs")

GLANCE: Final = 0.5
"""Seconds between two looks whether a run is to end, while a cell pauses between two steps."""


@dataclass(frozen=True)
class SliceLimits:
    """How long things may take, in seconds.

    :ivar work: after which a cell is given back, for others to have their turn
    :ivar lease: without a sign of life, after which a claim lapses
    """

    work: float = 20.0
    lease: float = 30.0


class SliceEnd(StrEnum):
    """What became of a bell."""

    MORE = "more"
    COMPLETE = "complete"
    BUDGET = "budget used up"
    FAILED = "failed"
    CANCELLED = "cancelled"
    CLOSED = "window closed"
    PAUSED = "paused"
    QUEUED = "has work, waits for its turn"
    HELD = "somebody works on it"
    OVER = "nothing to do any more"
    LOST = "claim lost"
    IN_LINE = "its server has no connection to spare"


REFUSED: Final = {
    Refusal.OVER: SliceEnd.OVER,
    Refusal.HELD: SliceEnd.HELD,
    Refusal.PAUSED: SliceEnd.PAUSED,
}
ENDS: Final = {
    Advice.CANCEL: SliceEnd.CANCELLED,
    Advice.CLOSE: SliceEnd.CLOSED,
    Advice.PAUSE: SliceEnd.PAUSED,
}


class ClaimLost(Exception):
    """Somebody else has the cell now: write no more."""


class HeldCell:
    """A claimed cell. A thread of the process that works renews the claim: it stops when the process stops.

    :ivar view: the cell as this process has left it
    :ivar size: of its transactions
    """

    def __init__(self, store: RunStore, view: View, who: Claimant, action: Action[Any, Any]) -> None:
        self.view = view
        self._store = store
        self._action = action
        self._who = who
        self._changing = threading.Lock()
        self.size = TransactionSize()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._who.lease != NEVER:
            self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()

    def _renew(self) -> None:
        while not self._over.wait(self._who.lease / 3):
            with suppress(ClaimLost, RunGone, *self._store.away):
                self.keep()

    def keep(self) -> Advice:
        """Renew the claim.

        :returns: what the run is to do
        :raises ClaimLost: the claim is somebody else's
        """
        return self._change(lambda view: rules.keep(view.cell, self._who, view.now))

    def record(self, step: Step[Any], outcome: Any) -> Advice:
        """Record a step.

        :param outcome: of the work in the cell so far
        :returns: what the run is to do
        :raises ClaimLost: the claim is somebody else's
        """
        handled = step.outcome.handled
        counters = {}
        if self._action.writes and step.outcome.rows:
            counters[tally.name(tally.ROWS, self._action.name, self.view.cell.ref.uuid)] = float(step.outcome.rows)
        books = Books(step.outcome.rows, counters, handled)

        def rule(view: View) -> CellRecord | None:
            return rules.record_step(
                view.cell, self._who, view.now, step.cursor, outcome, handled, remaining=step.remaining
            )

        return self._change(lambda view: self._sized(rule(view)), books)

    def contend(self, contended: Contended) -> Advice:
        """Note that others hold up the next transaction.

        :returns: what the run is to do
        :raises ClaimLost: the claim is somebody else's
        """
        problem = str(contended)
        return self._change(lambda view: self._sized(rules.contend(view.cell, self._who, view.now, problem)))

    def _sized(self, cell: CellRecord | None) -> CellRecord | None:
        """A record with the size of the transactions, for the next slice."""
        return cell and replace(cell, transaction_rows=self.size.rows)

    def throttle(self, reading: Reading | None, seconds: float) -> Advice:
        """Note why the work pauses, or that it goes on.

        :param reading: what the server suffers
        :param seconds: for which the work paused because of it, since the last note
        :returns: what the run is to do
        :raises ClaimLost: the claim is somebody else's
        """
        reason = _in_words(reading) if reading else ""
        counters = {tally.name(tally.THROTTLED, reading.signal, self.view.cell.ref.uuid): seconds} if reading else {}
        return self._change(
            lambda view: rules.throttle(view.cell, self._who, view.now, reason), Books(counters=counters)
        )

    def end(self, rule: Callable[[CellRecord, float], CellRecord | None]) -> View:
        """Do the last change under this claim.

        :raises ClaimLost: the claim is somebody else's
        """
        self._over.set()
        self._change(lambda view: rule(view.cell, view.now))
        return self.view

    def _change(self, rule: Callable[[View], CellRecord | None], books: Books = NO_BOOKS) -> Advice:
        with self._changing:
            run, cell = self.view.run, self.view.cell
            view = self._store.change_cell(run.order.id, run.phase, cell.number, rule, self.view, books)
            if not isinstance(view, View):
                raise ClaimLost(cell.ref.label)
            self.view = view
            return rules.advice(view.run, view.hold, view.now)


def _in_words(reading: Reading) -> str:
    return f"{reading.words} on {reading.source}" if reading.source else reading.words


class CellWorker:
    """Answers bells for a process."""

    def __init__(
        self,
        conductor: Conductor,
        target_of: Callable[[str, str], Target],
        limits: SliceLimits,
        draining: Callable[[], bool],
        name: str,
        show_life: Callable[[], None] = lambda: None,
        throttles: Throttles | None = None,
    ) -> None:
        """:param target_of: resolves a cell of a run, by their ids, by this process's own configuration
        :param draining: whether the process is to end: then a cell is given back after its current step
        :param name: of the worker, for people
        :param show_life: called whenever the work has come further, or pauses as it should
        :param throttles: say whether a database server lets the work go on; None: it always does
        """
        self._conductor = conductor
        self._store = conductor.store
        self._target_of = target_of
        self._limits = limits
        self._draining = draining
        self._name = name
        self._show_life = show_life
        self._throttles = throttles

    def answer(self, bell: Bell) -> SliceEnd:
        """Claim the cell whose bell was heard, and work it for a slice.

        :returns: what became of it
        :raises RedisError: the store went away; the cell is rung again when its lease has lapsed
        """
        who = Claimant(uuid.uuid4().hex, self._name, self._limits.lease, self._conductor.per_server)
        try:
            view = self._store.change_cell(
                bell.run, bell.phase, bell.number, lambda view: self._claim(view, bell.phase, who)
            )
        except RunGone:
            return SliceEnd.OVER
        if not isinstance(view, View):
            return REFUSED[view or Refusal.OVER]
        if view.cell.holder != who.token:
            return SliceEnd.IN_LINE
        try:
            with HeldCell(self._store, view, who, self._action_of(view.run)[0]) as held:
                return self._work(held, who)
        except (ClaimLost, RunGone):
            return SliceEnd.LOST

    def _claim(self, view: View, phase: int, who: Claimant) -> CellRecord | Provided | Refusal:
        action = self._conductor.actions.get(view.run.order.phases[view.run.phase].action)
        return rules.claim(
            view.cell, view.run, phase, view.hold, view.now, who,
            busy=view.busy, reads_ahead=action is not None and action.reads_ahead,
        )  # fmt: skip

    def _work(self, held: HeldCell, who: Claimant) -> SliceEnd:
        """Work a claimed cell until something ends the slice, and settle what follows."""
        run, cell = held.view.run, held.view.cell
        advice = rules.advice(run, held.view.hold, held.view.now)
        failure: Failure | None = None
        if advice in ENDS:
            end = ENDS[advice]
        elif cell.attempts > rules.ATTEMPTS:
            reason = f"{rules.ATTEMPTS} workers in a row died of it without getting a step done"
            end, failure = SliceEnd.FAILED, Failure(FailureKind.UNEXPECTED, reason)
        else:
            end, failure = self._attempt(held)
        return self._settle(held, who, end, failure)

    def _attempt(self, held: HeldCell) -> tuple[SliceEnd, Failure | None]:
        """Look or step; an error is a failure of the cell."""
        cell, target = held.view.cell, None
        try:
            target = self._checked_target(held.view)
            if cell.stage is Stage.LOOK:
                return self._look(held, target), None
            return self._steps(held, target), None
        except (ClaimLost, RunGone):
            raise
        except self._store.away:
            raise
        except Exception as error:
            if not isinstance(error, DatabaseProblem | ServiceProblem):
                LOG.debug("%s: the work failed", cell.ref.label, exc_info=True)
            return SliceEnd.FAILED, failure_of(error, target)

    def _look(self, held: HeldCell, target: Target) -> SliceEnd:
        """Whether the cell has anything to do."""
        action, params = self._action_of(held.view.run)
        assert action.has_work is not None
        return SliceEnd.QUEUED if action.has_work(target, params) else SliceEnd.COMPLETE

    def _steps(self, held: HeldCell, target: Target) -> SliceEnd:
        """Step until the work is through, the slice is over, or the run is to do something else."""
        until = time.monotonic() + self._limits.work
        held.size = TransactionSize(target.limits.transaction_seconds, held.view.cell.transaction_rows)
        target = replace(target, size=held.size)
        begun_at = deepcopy(held.view.cell.cursor)
        if end := self._wait_for_server(held, target, until):
            return end
        while True:
            try:
                return self._work_on(held, target, begun_at, until)
            except Contended as contended:
                if end := self._wait_for_others(held, contended, until):
                    return end

    def _work_on(self, held: HeldCell, target: Target, begun_at: Cursor | None, until: float) -> SliceEnd:
        """Begin the work behind the last step, and go on as ``_steps``.

        :param begun_at: the cursor with which the slice began
        :raises Contended: others are at the next row
        """
        action, params = self._action_of(held.view.run)
        outcome = rules.outcome_of(action, held.view.cell)
        phases = held.view.run.order.phases
        is_further = held.view.cell.cursor != begun_at
        steps = action.work(target, params, deepcopy(held.view.cell.cursor))
        try:
            for step in steps:
                self._show_life()
                outcome += step.outcome
                is_further = is_further or step.is_behind(begun_at)
                advice = self._record(held, step, outcome)
                if advice is Advice.GO_ON and step.ends_batch:
                    advice = self._rest(action.pause(params), held, phases)
                if end := ENDS.get(advice) or self._wait_for_server(held, target, until):
                    return end
                if held.view.run.order.phases != phases:
                    return SliceEnd.MORE  # with what was set meanwhile
                # A slice that got no further would be followed by one that does the same, and so on for ever.
                if (is_further and time.monotonic() > until) or self._draining():
                    return SliceEnd.MORE
        finally:
            steps.close()
        if action.in_turn(params) and action.next_params(params, outcome) is None:
            return SliceEnd.BUDGET  # whether there would have been more is not known
        return SliceEnd.COMPLETE

    def _wait_for_others(self, held: HeldCell, contended: Contended, until: float) -> SliceEnd | None:
        """Wait a moment, as others are at the next row or tree of rows. The claim is kept.

        :param until: when the slice is over, by ``time.monotonic``; the next one goes on trying
        :returns: what ends the slice meanwhile; None: the work may be tried again
        :raises DatabaseProblem: they have been for minutes
        """
        advice = held.contend(contended)
        cell = held.view.cell
        if rules.gives_up(cell):
            minutes = rules.CONTENDED_PATIENCE / 60
            raise type(contended.problem)(f"{contended}; it was tried again for {minutes:g} minutes") from contended
        if end := ENDS.get(advice):
            return end
        pause = rules.pause_of_contended(cell)
        LOG.info("%s: others are at the same rows, which is tried again: %s", cell.ref.label, contended)
        seconds = pause + random.uniform(0, pause)  # noqa: S311 - jitter, no secret
        advice = self._rest(seconds, held, held.view.run.order.phases)
        if end := ENDS.get(advice):
            return end
        return SliceEnd.MORE if time.monotonic() > until or self._draining() else None

    def _wait_for_server(self, held: HeldCell, target: Target, until: float) -> SliceEnd | None:
        """Wait while the cell's server suffers. The claim is kept, and nothing is written.

        :param until: when the slice is over, by ``time.monotonic``; the next one begins by waiting on
        :returns: what ends the slice meanwhile; None: the work may go on
        """
        run, label = held.view.run, held.view.cell.ref.label
        while reading := self._verdict(held.view.run, target):
            if not held.view.cell.throttled:
                LOG.info("%s: the work pauses: %s", label, _in_words(reading))
            if reading.answer is Answer.CRITICAL:
                self._conductor.cancel(run.order.id, f"the throttle: {_in_words(reading)}")
            elif time.monotonic() > until or self._draining():
                return SliceEnd.MORE
            else:
                time.sleep(GLANCE)
                self._show_life()
            if end := ENDS.get(held.throttle(reading, GLANCE)):
                return end
        if held.view.cell.throttled:
            LOG.info("%s: the work goes on", label)
            held.size.begin_small()
            return ENDS.get(held.throttle(None, 0.0))
        return None

    def _verdict(self, run: RunRecord, target: Target) -> Reading | None:
        """What keeps the work in a cell from going on; None: nothing."""
        if self._throttles is None or not run.order.throttle:
            return None
        verdict = self._throttles.verdict(target.database)
        signals = self._throttles.signals(target.database)
        if rules.guard(run, signals):
            self._store.change_run(run.order.id, lambda run, _: rules.guard(run, signals))
        return verdict

    @staticmethod
    def _record(held: HeldCell, step: Step[Any], outcome: Any) -> Advice:
        """Keep what a step did."""
        if step.cursor is None:
            return held.keep()
        return held.record(step, outcome)

    def _rest(self, seconds: float, held: HeldCell, phases: tuple[Phase, ...]) -> Advice:
        """Wait between two steps, unless something is to be done sooner.

        :param phases: of the run as the work knows them: once others were set, they hold at once
        """
        until = time.monotonic() + seconds
        advice = Advice.GO_ON
        while advice is Advice.GO_ON and not self._draining() and (rest := until - time.monotonic()) > 0:
            if held.view.run.order.phases != phases:
                break
            time.sleep(min(rest, GLANCE))
            self._show_life()
            advice = held.keep()
        return advice

    def _settle(self, held: HeldCell, who: Claimant, end: SliceEnd, failure: Failure | None) -> SliceEnd:
        """Give the cell back, or end it, and see to what follows."""
        patience, connections = self._conductor.patience, rules.connections(held.view.cell)
        if end in (SliceEnd.MORE, SliceEnd.PAUSED):
            view = held.end(lambda cell, now: rules.give_back(cell, who, now, patience))
            if rules.advice(view.run, view.hold, view.now) is not Advice.PAUSE:  # it may have been resumed just now
                self._conductor.ring_or_wait(view)
        elif end is SliceEnd.QUEUED:
            self._conductor.cell_ended(held.end(lambda cell, now: rules.queue_up(cell, who, now)))
        else:
            complete = end is SliceEnd.COMPLETE
            self._conductor.cell_ended(
                held.end(lambda cell, now: rules.finish(cell, who.token, now, failure, complete=complete))
            )
        if held.view.waiting:
            self._conductor.call_waiting(connections)
        return end

    def _action_of(self, run: RunRecord) -> tuple[Action[Any, Any], Any]:
        """The action of the current phase, with the parameters for the cell that works now."""
        phase = run.order.phases[run.phase]
        action = self._conductor.actions[phase.action]
        return action, decode(action.params, phase.params if run.budget is None else run.budget)

    def _checked_target(self, view: View) -> Target:
        """The cell by this process's configuration; it must be the database that is meant.

        :raises DatabaseProblem: it is another one
        """
        ref = view.cell.ref
        target = self._target_of(view.run.order.id, ref.uuid)
        if ref_of(target.cell).fingerprint != ref.fingerprint:
            raise DatabaseProblem(
                f"{ref.label}: {self._name} has another database configured for it than the one that is meant"
            )
        if self._conductor.per_server is None:
            return target
        has_second = view.cell.second
        return replace(target, second=lambda: nullcontext(has_second))
