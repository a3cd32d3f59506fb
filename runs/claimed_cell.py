"""A claimed cell: its claim is renewed by a thread, and each change is written only while the claim
lasts.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from jobs.action import Action, Failure, Step
from jobs.retry import Contended
from jobs.transaction_size import TransactionSize
from runs import rules, tally
from runs.records import NEVER, CellRecord, View
from runs.rules import Advice, Claimant, Patience
from runs.store import NO_INCREMENTS, Increments, RunGone, RunStore
from throttle.readings import Reading


class ClaimLost(Exception):
    """Somebody else has the cell now: write no more."""


class ClaimedCell:
    """A claimed cell. The thread that renews the claim is one of the process that works: it stops
    with the process.

    Each change raises ``ClaimLost`` if the claim is somebody else's, and returns what the run is to
    do, or what is so after the last change.

    :ivar view: the cell as this process has left it
    :ivar size: of its transactions
    """

    def __init__(
        self, store: RunStore, view: View, claimant: Claimant, action: Action[Any, Any]
    ) -> None:
        self.view = view
        self.size = TransactionSize()
        self._store = store
        self._claimant = claimant
        self._action = action
        self._changing = threading.Lock()
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._claimant.lease != NEVER:
            self._thread = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        if self._thread:
            self._thread.join()

    def _keep_renewing(self) -> None:
        while not self._is_over.wait(self._claimant.lease / 3):
            with suppress(ClaimLost, RunGone, *self._store.away):
                self.renew()

    def renew(self) -> Advice:
        """Renew the claim."""
        return self._change(lambda view: rules.renew(view.cell, self._claimant, view.now))

    def record_step(self, step: Step[Any], outcome: Any) -> Advice:
        """Record a step. One without a cursor did nothing, and only asks whether the work may go
        on.

        :param outcome: of the work in the cell so far
        """
        if step.cursor is None:
            return self.renew()
        counters = {}
        if self._action.writes and step.outcome.rows:
            counters[tally.entry_name(tally.ROWS, self._action.name, self.view.cell.ref.uuid)] = (
                float(step.outcome.rows)
            )
        increments = Increments(step.outcome.rows, counters, step.outcome.handled)

        def rule(view: View) -> CellRecord | None:
            return self._with_size(
                rules.record_step(view.cell, self._claimant, view.now, step, outcome)
            )

        return self._change(rule, increments)

    def contend(self, contended: Contended) -> Advice:
        """Note that others hold up the next transaction."""
        problem = str(contended)
        return self._change(
            lambda view: self._with_size(
                rules.contend(view.cell, self._claimant, view.now, problem)
            )
        )

    def _with_size(self, cell: CellRecord | None) -> CellRecord | None:
        """A record with the size of the transactions, for the next slice."""
        return cell and replace(cell, transaction_rows=self.size.rows)

    def throttle(self, reading: Reading, seconds: float) -> Advice:
        """Note why the work pauses.

        :param reading: what the server suffers
        :param seconds: for which the work paused because of it, since the last note
        """
        counter = tally.entry_name(tally.THROTTLED, reading.signal, self.view.cell.ref.uuid)
        return self._note_throttle(reading.description, Increments(counters={counter: seconds}))

    def end_throttle(self) -> Advice:
        """Note that the work goes on."""
        return self._note_throttle("", NO_INCREMENTS)

    def _note_throttle(self, reason: str, increments: Increments) -> Advice:
        return self._change(
            lambda view: rules.throttle(view.cell, self._claimant, view.now, reason), increments
        )

    def give_back(self, patience: Patience) -> View:
        """Give the cell back, with more to do.

        :param patience: how long its bell may be on its way
        """
        return self._end(lambda cell, now: rules.give_back(cell, self._claimant, now, patience))

    def queue_up(self) -> View:
        """Let the cell wait for its turn: it has something to do."""
        return self._end(lambda cell, now: rules.queue_up(cell, self._claimant, now))

    def finish(self, failure: Failure | None, *, complete: bool) -> View:
        """End the work in the cell.

        :param complete: whether it was worked to its end
        """
        return self._end(
            lambda cell, now: rules.finish_cell(
                cell, self._claimant.token, now, failure, complete=complete
            )
        )

    def _end(self, rule: Callable[[CellRecord, float], CellRecord | None]) -> View:
        """Make the last change under this claim."""
        self._is_over.set()
        self._change(lambda view: rule(view.cell, view.now))
        return self.view

    def _change(
        self, rule: Callable[[View], CellRecord | None], increments: Increments = NO_INCREMENTS
    ) -> Advice:
        with self._changing:
            run, cell = self.view.run, self.view.cell
            view = self._store.change_cell(
                run.order.id, run.phase, cell.number, rule, self.view, increments
            )
            if not isinstance(view, View):
                raise ClaimLost(cell.ref.label)
            self.view = view
            return rules.advice(view.run, view.hold, view.now)
