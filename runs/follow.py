"""Following a run to its end, and telling listeners how it goes."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from jobs.action import CellResult
from novadb.cells import Cell
from runs import rules
from runs.conductor import Conductor, result_of
from runs.pace import Speed
from runs.records import CellRecord, RunRecord, RunState, Stage
from runs.store import RunStore, StoreAway

POLL: Final = 0.1  # seconds between two looks at a run, at most
LOOK_AFTER: Final = 5.0  # seconds between two rounds of a conductor's duties
TELL_SPEED: Final = 1.0  # seconds between two times at which listeners are told how fast it goes
AWAY: Final = 30.0  # seconds without the store before the wait is given up


class Listener(Protocol):
    """Who is told how a run goes."""

    def started(self, cell: Cell) -> None:
        """Work in the cell begins."""

    def stepped(self, cell: Cell, rows: int) -> None:
        """So many rows more were written."""

    def paced(self, cell: Cell | None, speed: Speed) -> None:
        """How fast the work goes in a cell that is worked on; or, without one, in all of them."""

    def throttled(self, cell: Cell, reason: str) -> None:
        """Work in the cell pauses, because of what its server suffers; or, without a reason, goes
        on.
        """

    def finished(self, result: CellResult[Any]) -> None:
        """Nothing more happens in the cell."""


class SilentListener:
    """A listener that does nothing."""

    def started(self, cell: Cell) -> None: ...

    def stepped(self, cell: Cell, rows: int) -> None: ...

    def paced(self, cell: Cell | None, speed: Speed) -> None: ...

    def throttled(self, cell: Cell, reason: str) -> None: ...

    def finished(self, result: CellResult[Any]) -> None: ...


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended.

    :ivar phases: the results of each phase that it came to, in the order of its cells
    """

    run: RunRecord
    phases: list[list[CellResult[Any]]]

    @property
    def code(self) -> int:
        """The exit code."""
        assert self.run.exit_code is not None
        return self.run.exit_code


class Follower:
    """Waits for the end of a run; meanwhile it looks after it, as every worker does.

    :ivar stop: once set, the run is asked to end after the current steps
    """

    def __init__(
        self,
        conductor: Conductor,
        stop: threading.Event,
        listeners: Sequence[Listener] = (),
        *,
        on_stop: Callable[[], None] = lambda: None,
        on_wait: Callable[[str], None] = lambda _: None,
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        """:param listeners: of each phase
        :param on_stop: told when the run has been asked to end
        :param on_wait: told once about each run that this one waits for
        :param on_look: called at each look; what it raises ends the wait
        """
        self._conductor = conductor
        self._store = conductor.store
        self.stop = stop
        self._listeners = listeners
        self._on_stop = on_stop
        self._on_wait = on_wait
        self._on_look = on_look
        self._has_asked = False
        self._blocker = ""
        self._looked_after = time.monotonic()
        self._told_speed = time.monotonic()
        self._tellers: list[_PhaseTeller] = []

    def follow(self, run: str) -> FinishedRun:
        """Wait until a run has ended.

        :raises RunGone: the store was emptied, or the run has expired
        :raises StoreAway: the store has not answered for ``AWAY`` seconds
        """
        answered = time.monotonic()
        while True:
            try:
                record = self._look(run)
                if record.state is RunState.ENDED:
                    return FinishedRun(record, self._conductor.results(record))
                answered = time.monotonic()
            except self._store.away as error:
                self._conductor.lose_sight()
                if time.monotonic() - answered > AWAY:
                    raise StoreAway(
                        f"the store of runs does not answer; the run goes on, see: runs wait {run}"
                    ) from error
                time.sleep(POLL)
            else:
                self._store.wait(POLL)

    def _look(self, run: str) -> RunRecord:
        """Do what is due, and tell what has changed."""
        self._on_look()
        record = self._store.run(run)
        if self.stop.is_set() and not self._has_asked:
            self._conductor.cancel(run, record.order.by)
            self._has_asked = True
            self._on_stop()
            record = self._store.run(run)
        if self._is_round_due(record):
            self._conductor.look_after(run)
            record = self._store.run(run)
        if record.state is RunState.WAITING:
            self._tell_blocker(run)
        for phase in range(min(record.phase + 1, len(self._listeners))):
            self._teller_of(phase).look(self._store, record)
        self._tell_speed(record)
        return record

    def _tell_speed(self, record: RunRecord) -> None:
        """Tell, every second, how fast the current phase goes. What is read does not grow with its
        cells.
        """
        now = time.monotonic()
        if record.phase < len(self._tellers) and now - self._told_speed >= TELL_SPEED:
            self._told_speed = now
            self._tellers[record.phase].tell_speed(self._store, record)

    def _is_round_due(self, record: RunRecord) -> bool:
        """Whether to look after the run now: every few seconds, and as soon as its window
        closes.
        """
        now = time.monotonic()
        has_closed = record.until is not None and rules.has_closed(record, self._store.now())
        if now - self._looked_after < (POLL if has_closed else LOOK_AFTER):
            return False
        self._looked_after = now
        return True

    def _tell_blocker(self, run: str) -> None:
        blocker = self._conductor.waits_for(run)
        if blocker and blocker != self._blocker:
            self._on_wait(self._conductor.describe(blocker))
            self._blocker = blocker

    def _teller_of(self, phase: int) -> "_PhaseTeller":
        while len(self._tellers) <= phase:
            number = len(self._tellers)
            self._tellers.append(_PhaseTeller(self._conductor, number, self._listeners[number]))
        return self._tellers[phase]


class _PhaseTeller:
    """Turns what the store says of a phase into calls of a listener."""

    def __init__(self, conductor: Conductor, phase: int, listener: Listener) -> None:
        self._actions = conductor.actions
        self._phase = phase
        self._listener = listener
        self._mark = 0
        self._rows: dict[int, int] = {}
        self._throttled: dict[int, str] = {}
        self._under_way: dict[int, CellRecord] = {}
        self._is_over = False

    def look(self, store: RunStore, run: RunRecord) -> None:
        """Tell what has changed since the last look."""
        if self._is_over:
            return
        self._mark, cells = store.changes(run.order.id, self._phase, self._mark)
        for cell in cells:
            self._tell(cell, run)
        # What came in it before the next one began was told just now.
        self._is_over = run.phase > self._phase

    def tell_speed(self, store: RunStore, run: RunRecord) -> None:
        """Tell how fast it goes."""
        hold, now = store.hold(), store.now()
        for cell in self._under_way.values():
            named = result_of(cell, self._actions, run.order.phases[self._phase].action).cell
            self._listener.paced(named, rules.speed_of_cell(cell, run, hold, now))
        progress = store.progress(run.order.id, self._phase)
        self._listener.paced(None, rules.speed_of_run(progress, run, hold, now, self._actions))

    def _tell(self, cell: CellRecord, run: RunRecord) -> None:
        result = result_of(cell, self._actions, run.order.phases[self._phase].action)
        is_new = cell.number not in self._rows
        if is_new and cell.started is not None and cell.stage in (Stage.WORK, Stage.DONE):
            self._rows[cell.number] = 0
            self._listener.started(result.cell)
        rows = result.outcome.rows - self._rows.get(cell.number, 0)
        if rows:
            self._rows[cell.number] = result.outcome.rows
            self._listener.stepped(result.cell, rows)
        reason = rules.reason_of_pause(cell)
        if cell.started is not None and reason != self._throttled.get(cell.number, ""):
            self._throttled[cell.number] = reason
            self._listener.throttled(result.cell, reason)
        if cell.stage is Stage.DONE:
            self._under_way.pop(cell.number, None)
            self._listener.finished(result)
        elif cell.started is not None:
            # What may be large.
            self._under_way[cell.number] = replace(cell, outcome=None, cursor=None)
