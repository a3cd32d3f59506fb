"""Answering a bell: claim the cell, work it for a slice, give it back or end it."""

import logging
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Final

from clients.errors import ServiceProblem
from jobs.action import Failure, FailureKind, Target, failure_of
from novadb.errors import DatabaseProblem
from runs import rules
from runs.claimed_cell import ClaimedCell, ClaimLost
from runs.conductor import Conductor
from runs.orders import ref_of
from runs.records import Bell, CellRecord, Stage, View
from runs.rules import Advice, Claimant, Conditional, Refusal
from runs.slices import ENDS, Slice, SliceEnd, WorkingProcess
from runs.store import RunGone

LOG = logging.getLogger("cellkeeper.runs")

REFUSED: Final = {
    Refusal.OVER: SliceEnd.OVER,
    Refusal.CLAIMED: SliceEnd.CLAIMED,
    Refusal.PAUSED: SliceEnd.PAUSED,
}


class CellWorker:
    """Answers bells for a process."""

    def __init__(
        self, conductor: Conductor, target_of: Callable[[str, str], Target], process: WorkingProcess
    ) -> None:
        """:param target_of: resolves a cell of a run, by their ids, by this process's own
        configuration
        """
        self._conductor = conductor
        self._store = conductor.store
        self._target_of = target_of
        self._process = process

    def answer(self, bell: Bell) -> SliceEnd:
        """Claim the cell whose bell was heard, and work it for a slice.

        :returns: what became of it
        :raises RedisError: the store went away; the cell is rung again when its lease has lapsed
        """
        lease = self._process.limits.lease
        claimant = Claimant(uuid.uuid4().hex, self._process.name, lease, self._conductor.per_server)
        try:
            view = self._store.change_cell(
                bell.run,
                bell.phase,
                bell.number,
                lambda view: self._claim(view, bell.phase, claimant),
            )
        except RunGone:
            return SliceEnd.OVER
        if not isinstance(view, View):
            return REFUSED[view or Refusal.OVER]
        if view.cell.holder != claimant.token:
            return SliceEnd.IN_LINE
        action = self._conductor.actions[view.run.order.phases[view.run.phase].action]
        try:
            with ClaimedCell(self._store, view, claimant, action) as claimed:
                end, failure = self._work(claimed)
                self._settle(claimed, end, failure)
                return end
        except (ClaimLost, RunGone):
            return SliceEnd.LOST

    def _claim(
        self, view: View, phase: int, claimant: Claimant
    ) -> CellRecord | Conditional | Refusal:
        action = self._conductor.actions.get(view.run.order.phases[view.run.phase].action)
        return rules.claim(
            view, phase, claimant, reads_ahead=action is not None and action.reads_ahead
        )

    def _work(self, claimed: ClaimedCell) -> tuple[SliceEnd, Failure | None]:
        """Do what the run wants now: end the slice at once, look, or work. An error is a failure of
        the cell.
        """
        run, cell, target = claimed.view.run, claimed.view.cell, None
        advice = rules.advice(run, claimed.view.hold, claimed.view.now)
        if advice in ENDS:
            return ENDS[advice], None
        if cell.attempts > rules.ATTEMPTS:
            reason = f"{rules.ATTEMPTS} workers in a row died of it without getting a step done"
            return SliceEnd.FAILED, Failure(FailureKind.UNEXPECTED, reason)
        try:
            target = self._checked_target(claimed.view)
            if cell.stage is Stage.LOOK:
                return self._look(claimed, target), None
            return Slice(self._process, self._conductor, claimed, target).work(), None
        except (ClaimLost, RunGone):
            raise
        except self._store.away:
            raise
        except Exception as error:
            if not isinstance(error, DatabaseProblem | ServiceProblem):
                LOG.debug("%s: the work failed", cell.ref.label, exc_info=True)
            return SliceEnd.FAILED, failure_of(error, target)

    def _look(self, claimed: ClaimedCell, target: Target) -> SliceEnd:
        """Whether the cell has anything to do."""
        action, params = rules.current_action(claimed.view.run, self._conductor.actions)
        assert action.has_work is not None
        return SliceEnd.QUEUED if action.has_work(target, params) else SliceEnd.COMPLETE

    def _settle(self, claimed: ClaimedCell, end: SliceEnd, failure: Failure | None) -> None:
        """Give the cell back, or end it, and see to what follows."""
        connections = rules.connections(claimed.view.cell)
        if end in (SliceEnd.MORE, SliceEnd.PAUSED):
            view = claimed.give_back(self._conductor.patience)
            # It may have been resumed just now.
            if rules.advice(view.run, view.hold, view.now) is not Advice.PAUSE:
                self._conductor.ring_or_wait(view)
        elif end is SliceEnd.QUEUED:
            self._conductor.cell_ended(claimed.queue_up())
        else:
            self._conductor.cell_ended(claimed.finish(failure, complete=end is SliceEnd.COMPLETE))
        if claimed.view.waiting:
            self._conductor.call_waiting(connections)

    def _checked_target(self, view: View) -> Target:
        """The cell by this process's configuration; it must be the database that is meant.

        :raises DatabaseProblem: it is another one
        """
        ref = view.cell.ref
        target = self._target_of(view.run.order.id, ref.uuid)
        if ref_of(target.cell).fingerprint != ref.fingerprint:
            raise DatabaseProblem(
                f"{ref.label}: {self._process.name} has another database configured for it than "
                "the one that is meant"
            )
        if self._conductor.per_server is None:
            return target
        has_second = view.cell.second
        return replace(target, second=lambda: nullcontext(has_second))
