"""A slice: the work under one claim of a cell, step by step, until something ends it."""

import logging
import random
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from jobs.action import Target
from jobs.retry import Contended
from jobs.transaction_size import TransactionSize
from runs import rules
from runs.claimed_cell import ClaimedCell
from runs.conductor import Conductor
from runs.records import Phase
from runs.rules import Advice
from runs.throttles import Throttles
from throttle.readings import Answer, Reading

LOG = logging.getLogger("cellkeeper.runs")

GLANCE: Final = 0.5
"""Seconds between two looks whether a run is to end, while a cell pauses between two steps."""


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
    CLAIMED = "somebody works on it"
    OVER = "nothing to do any more"
    LOST = "claim lost"
    IN_LINE = "its server has no connection to spare"


ENDS: Final = {
    Advice.CANCEL: SliceEnd.CANCELLED,
    Advice.CLOSE: SliceEnd.CLOSED,
    Advice.PAUSE: SliceEnd.PAUSED,
}


@dataclass(frozen=True)
class SliceLimits:
    """How long things may take, in seconds.

    :ivar work: after which a cell is given back, for others to have their turn
    :ivar lease: without a sign of life, after which a claim lapses
    """

    work: float = 20.0
    lease: float = 30.0


@dataclass(frozen=True)
class WorkingProcess:
    """What the work in cells must know of the process that does it.

    :ivar name: for people
    :ivar is_draining: whether the process is to end: then a cell is given back after its current
        step
    :ivar show_life: called whenever the work has come further, or pauses as it should
    :ivar throttles: say whether a database server lets the work go on; None: it always does
    """

    name: str
    limits: SliceLimits
    is_draining: Callable[[], bool] = lambda: False
    show_life: Callable[[], None] = lambda: None
    throttles: Throttles | None = None


class Slice:
    """The work in a cell, until it is through, the slice is over, or the run is to do something
    else.
    """

    def __init__(
        self, process: WorkingProcess, conductor: Conductor, claimed: ClaimedCell, target: Target
    ) -> None:
        self._process = process
        self._conductor = conductor
        self._claimed = claimed
        claimed.size = TransactionSize(
            target.limits.transaction_seconds, claimed.view.cell.transaction_rows
        )
        self._target = replace(target, size=claimed.size)
        self._begun_at = deepcopy(claimed.view.cell.cursor)
        self._until = time.monotonic() + process.limits.work

    def work(self) -> SliceEnd:
        """Work behind the last recorded step; again, while others are at the next rows.

        :returns: what ends the slice
        :raises DatabaseProblem: others have been at the next row for minutes; or what the work
            itself raises
        :raises ClaimLost: the claim is somebody else's
        """
        if end := self._wait_for_server():
            return end
        while True:
            try:
                return self._work_on()
            except Contended as contended:
                if end := self._wait_for_others(contended):
                    return end

    def _work_on(self) -> SliceEnd:
        """Begin the work behind the last step, and record what it does.

        :raises Contended: others are at the next row
        """
        run, cell = self._claimed.view.run, self._claimed.view.cell
        action, params = rules.current_action(run, self._conductor.actions)
        outcome = rules.outcome_of(action, cell)
        phases = run.order.phases
        is_further = cell.cursor != self._begun_at
        steps = action.work(self._target, params, deepcopy(cell.cursor))
        try:
            for step in steps:
                self._process.show_life()
                outcome += step.outcome
                is_further = is_further or step.is_behind(self._begun_at)
                advice = self._claimed.record_step(step, outcome)
                if advice is Advice.GO_ON and step.ends_batch:
                    advice = self._rest(action.pause(params), phases)
                if end := ENDS.get(advice) or self._wait_for_server():
                    return end
                if self._claimed.view.run.order.phases != phases:
                    return SliceEnd.MORE  # with what was set meanwhile
                # A slice that got no further would be followed by one that does the same, and so on
                # for ever.
                if (is_further and time.monotonic() > self._until) or self._process.is_draining():
                    return SliceEnd.MORE
        finally:
            steps.close()
        if action.in_turn(params) and action.next_params(params, outcome) is None:
            return SliceEnd.BUDGET  # whether there would have been more is not known
        return SliceEnd.COMPLETE

    def _is_over(self) -> bool:
        """Whether the time of the slice is over, or the process is to end. The next slice goes on
        from here.
        """
        return time.monotonic() > self._until or self._process.is_draining()

    def _wait_for_others(self, contended: Contended) -> SliceEnd | None:
        """Wait a moment, as others are at the next row or tree of rows. The claim is kept.

        :returns: what ends the slice meanwhile; None: the work may be tried again
        :raises DatabaseProblem: they have been for minutes
        """
        advice = self._claimed.contend(contended)
        run, cell = self._claimed.view.run, self._claimed.view.cell
        if rules.gives_up(cell):
            minutes = rules.CONTENDED_PATIENCE / 60
            raise type(contended.problem)(
                f"{contended}; it was tried again for {minutes:g} minutes"
            ) from contended
        if end := ENDS.get(advice):
            return end
        pause = rules.pause_of_contended(cell)
        LOG.info(
            "%s: others are at the same rows, which is tried again: %s", cell.ref.label, contended
        )
        seconds = pause + random.uniform(0, pause)  # noqa: S311 - jitter, no secret
        if end := ENDS.get(self._rest(seconds, run.order.phases)):
            return end
        return SliceEnd.MORE if self._is_over() else None

    def _wait_for_server(self) -> SliceEnd | None:
        """Wait while the cell's server suffers. The claim is kept, and nothing is written.

        :returns: what ends the slice meanwhile; None: the work may go on
        """
        run, label = self._claimed.view.run, self._claimed.view.cell.ref.label
        while reading := self._verdict():
            if not self._claimed.view.cell.throttled:
                LOG.info("%s: the work pauses: %s", label, reading.description)
            if reading.answer is Answer.CRITICAL:
                self._conductor.cancel(run.order.id, f"the throttle: {reading.description}")
            elif self._is_over():
                return SliceEnd.MORE
            else:
                time.sleep(GLANCE)
                self._process.show_life()
            if end := ENDS.get(self._claimed.throttle(reading, GLANCE)):
                return end
        if self._claimed.view.cell.throttled:
            LOG.info("%s: the work goes on", label)
            self._claimed.size.begin_small()
            return ENDS.get(self._claimed.end_throttle())
        return None

    def _verdict(self) -> Reading | None:
        """What keeps the work in the cell from going on; None: nothing."""
        run, throttles = self._claimed.view.run, self._process.throttles
        if throttles is None or not run.order.throttle:
            return None
        verdict = throttles.verdict(self._target.database)
        signals = throttles.signals(self._target.database)
        if rules.note_guards(run, signals):
            self._conductor.store.change_run(
                run.order.id, lambda run, _: rules.note_guards(run, signals)
            )
        return verdict

    def _rest(self, seconds: float, phases: tuple[Phase, ...]) -> Advice:
        """Wait between two steps, unless something is to be done sooner.

        :param phases: of the run as the work knows them: once others were set, they hold at once
        """
        until = time.monotonic() + seconds
        advice = Advice.GO_ON
        while advice is Advice.GO_ON and not self._process.is_draining():
            remaining = until - time.monotonic()
            if remaining <= 0 or self._claimed.view.run.order.phases != phases:
                break
            time.sleep(min(remaining, GLANCE))
            self._process.show_life()
            advice = self._claimed.renew()
        return advice
