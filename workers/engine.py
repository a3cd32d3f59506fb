"""The Celery engine: a run for workers, and the wait for it."""

import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.exceptions import RedisError

from jobs.action import Action, CellResult
from jobs.codec import encode
from novadb.cells import Cell
from novadb.engine import Database
from runs.caller import caller
from runs.conductor import Conductor, hold_names, results_of, results_of_phases
from runs.exclusion import Busy
from runs.inline import Listener
from runs.records import CellRef, CellState, Order, Phase, RunRecord
from runs.redis_store import RunGone, StoreAway

POLL: Final = 0.1  # seconds between two looks at a run
HOLD: Final = 60.0  # seconds for which a run holds its databases after the last look at it
LOOK_AFTER: Final = 5.0  # seconds between two rounds of a conductor's duties
AWAY: Final = 30.0  # seconds without the store before the wait is given up


def order_of(
    phases: Sequence[tuple[Action[Any, Any], Any]],
    cells: Sequence[Cell],
    *,
    until: float | None = None,
    run: str | None = None,
) -> Order:
    """A run of some actions with their parameters over some cells, whose databases must be known.

    :param until: when its maintenance window closes, in seconds since the epoch
    :param run: its id; None: a new one
    """
    refs = tuple(
        CellRef(cell.uuid or "", cell.label, cell.database.fingerprint)
        for cell in cells
        if isinstance(cell.database, Database)
    )
    by = f"{caller()}@{socket.gethostname()}"
    ordered = tuple(Phase(action.name, encode(params)) for action, params in phases)
    return Order(run or uuid.uuid4().hex[:12], ordered, refs, by, until)


class CeleryEngine:
    """Starts runs for workers and follows them.

    :ivar stop: once set, the run is asked to end after the current steps
    """

    def __init__(self, conductor: Conductor, stop: threading.Event) -> None:
        self._conductor = conductor
        self._store = conductor.store
        self.stop = stop

    def start(self, order: Order, *, wait: bool, on_wait: Callable[[str], None]) -> bool:
        """Start a run as soon as no other one holds its databases; one of this id that is there already stays.

        :param wait: whether to wait for another run; here, in the caller, never in a worker
        :param on_wait: told once about each run that is waited for
        :returns: False: the wait was called off
        :raises Busy: another run holds one of them, and nobody wants to wait
        :raises RedisError: the store does not answer
        """
        told = ""
        while holder := self._store.hold(order.id, hold_names(order), HOLD):
            text = self._describe(holder)
            if not wait:
                raise Busy(text)
            if told != text:
                on_wait(text)
                told = text
            if self.stop.wait(POLL):
                return False
        self._conductor.start(order)
        return True

    def order(self, run: str) -> Order:
        """What a run was started for.

        :raises RunGone: it is not there
        """
        return self._store.load(run).order

    def _describe(self, run: str) -> str:
        try:
            record = self._store.load(run)
        except RunGone:
            return f"run {run}"
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(record.started))
        return f"{record.order.phases[0].action}, run {run} by {record.order.by}, since {since}"

    def follow(
        self, run: str, listeners: Sequence[Listener], on_stop: Callable[[], None] = lambda: None
    ) -> tuple[RunRecord, list[list[CellResult[Any]]]]:
        """Wait until a run has ended, telling the listener of each phase how it goes.

        :param on_stop: told when the run has been asked to end
        :returns: the run, and the results of each phase that it came to
        :raises RunGone: the store was emptied, or the run has expired
        :raises StoreAway: the store has not answered for ``AWAY`` seconds
        """
        watch = _Watch(listeners)
        asked, cared, answered, seen = False, 0.0, time.monotonic(), 0
        while True:
            try:
                if self.stop.is_set() and not asked:
                    asked = True
                    self._conductor.cancel(run)
                    on_stop()
                if time.monotonic() - cared > LOOK_AFTER:
                    cared = time.monotonic()
                    self._conductor.look_after(run, HOLD, leading=False)
                record = self._store.load(run)
                for phase in range(seen, record.phase):  # what came in it after the last look
                    watch.look(self._store.load(run, phase), phase)
                seen = max(record.phase, 0)
                watch.look(record, record.phase)
                answered = time.monotonic()
                if record.exit_code is not None:
                    return record, results_of_phases(self._store, record)
            except RedisError as error:
                if time.monotonic() - answered > AWAY:
                    raise StoreAway(
                        f"the store of runs does not answer; the run goes on, see: runs wait {run}"
                    ) from error
            time.sleep(POLL)


class _Watch:
    """Turns what the store says of a run into calls of listeners."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners
        self._rows: dict[tuple[int, str], int] = {}
        self._ended: set[tuple[int, str]] = set()

    def look(self, record: RunRecord, phase: int) -> None:
        """:param record: with the cells of the phase"""
        if not 0 <= phase < len(self._listeners):
            return
        listener = self._listeners[phase]
        for cell, result in zip(record.cells, results_of(record, phase), strict=True):
            key = phase, cell.ref.uuid
            if key not in self._rows and cell.state in (CellState.WORKING, CellState.DONE):
                self._rows[key] = 0
                listener.started(result.cell)
            if key in self._rows and result.outcome.rows != self._rows[key]:
                listener.stepped(result.cell, _Rows(result.outcome.rows - self._rows[key]))
                self._rows[key] = result.outcome.rows
            if cell.state is CellState.DONE and key not in self._ended:
                self._ended.add(key)
                listener.finished(result)


class _Rows:
    """As much of an outcome as progress needs."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
