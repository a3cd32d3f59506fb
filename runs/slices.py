"""One slice of work in one cell, by a worker: claim, steps, and what follows."""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from redis.exceptions import RedisError

from jobs.action import Failure, FailureKind, Target, failure_of
from jobs.actions import ACTIONS
from jobs.codec import decode, encode
from novadb.errors import DatabaseProblem
from runs import tally
from runs.conductor import Conductor, Message, outcome_of, params_for
from runs.records import RunRecord
from runs.redis_store import Claim, RedisStore, RunGone

LOG = logging.getLogger("cellkeeper.slices")

# How often a slice may be begun without getting a step done: a tree that kills its worker must not do so for ever.
ATTEMPTS: Final = 3


@dataclass(frozen=True)
class SliceLimits:
    """How long things may take, in seconds.

    :ivar work: after which a slice gives way to the next
    :ivar lease: without a sign of life, after which a claim lapses
    """

    work: float = 20.0
    lease: float = 30.0


class Lease:
    """Keeps a claim alive while its owner works, in a thread of the same process: it stops when the process stops."""

    def __init__(self, store: RedisStore, message: Message, claim: Claim, seconds: float) -> None:
        self._store = store
        self._message = message
        self._token = claim.token
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._over.wait(self._seconds / 3):
            with suppress(RedisError):
                self.record(None)

    def record(self, progress: tuple[dict[str, Any], dict[str, Any]] | None, rows: int = 0) -> str:
        """Renew the claim and keep what was done; what the store says of it."""
        message = self._message
        counted = tally.name(tally.ROWS, message.action, message.cell), rows
        return self._store.record(
            message.run, message.phase, message.cell, self._token, self._seconds, progress, counted
        )


class SliceWorker:
    """Works slices for a process.

    :ivar conductor: moves the run on afterwards
    """

    def __init__(
        self,
        conductor: Conductor,
        send: Callable[[Message], None],
        target_of: Callable[[str], Target],
        limits: SliceLimits,
        draining: Callable[[], bool],
        name: str,
    ) -> None:
        """:param target_of: resolves a cell's uuid by this process's own configuration
        :param draining: whether the worker is to end: then a slice gives way after its current step
        :param name: of the worker, for people
        """
        self._conductor = conductor
        self._store = conductor.store
        self._send = send
        self._target_of = target_of
        self._limits = limits
        self._draining = draining
        self._name = name

    def work(self, message: Message, redelivered: bool) -> str:
        """Work one slice.

        :returns: what became of it, in a word
        :raises RedisError: the store went away; the message should come back
        """
        claim = self._store.claim(
            message.run, message.phase, message.cell,
            sequence=message.sequence, redelivered=redelivered, token=uuid.uuid4().hex,
            lease=self._limits.lease, worker=self._name,
        )  # fmt: skip
        if isinstance(claim, str):
            return claim
        try:
            record = self._store.load(message.run, message.phase)
        except RunGone:
            return "over"
        if claim.stopping:
            return self._finish(record, message, claim, None, complete=False)
        if claim.attempts > ATTEMPTS:
            reason = f"{ATTEMPTS} workers in a row died of it without getting a step done"
            return self._finish(record, message, claim, Failure(FailureKind.UNEXPECTED, reason), complete=False)
        with Lease(self._store, message, claim, self._limits.lease) as lease:
            verdict, failure = self._steps(record, message, claim, lease)
        if verdict == "lost":
            return verdict
        if verdict == "more":
            return self._go_on(message, claim)
        return self._finish(record, message, claim, failure, complete=verdict == "complete")

    def _steps(self, record: RunRecord, message: Message, claim: Claim, lease: Lease) -> tuple[str, Failure | None]:
        """Do the work until it is through, the time is over, the run is to end, or the claim is lost."""
        action = ACTIONS[message.action]
        target = None
        until = time.monotonic() + self._limits.work
        try:
            target = self._checked_target(message)
            params = params_for(record, message.cell)
            if params is None:
                return self._look(record, message, target), None
            outcome = outcome_of(action, next(cell for cell in record.cells if cell.ref.uuid == message.cell))
            steps = action.work(target, params, claim.cursor)
            try:
                for step in steps:
                    outcome += step.outcome
                    rows = step.outcome.rows if action.writes else 0
                    kept = lease.record((step.cursor, encode(outcome)) if step.cursor is not None else None, rows)
                    if kept == "kept" and step.outcome.rows:
                        kept = self._pause(action.pause(params), lease)
                    if kept != "kept":
                        return kept, None
                    if time.monotonic() > until or self._draining():
                        return "more", None
            finally:
                steps.close()
        except RedisError:
            raise
        except Exception as error:
            LOG.debug("%s: the work failed", message.label, exc_info=True)
            return "failed", failure_of(error, target)
        if action.in_turn(params) and action.next_params(params, outcome) is None:
            return "left", None  # whether there would have been more is not known
        return "complete", None

    def _look(self, record: RunRecord, message: Message, target: Target) -> str:
        """Whether a cell has anything to do, for which the budget is gone."""
        action, phase = ACTIONS[message.action], record.order.phases[message.phase]
        is_idle = action.has_work is not None and not action.has_work(target, decode(action.params, phase.params))
        return "complete" if is_idle else "left"

    def _pause(self, seconds: float, lease: Lease) -> str:
        """Wait, unless the claim is lost, the run is to end, or the worker; what the store says."""
        until = time.monotonic() + seconds
        kept = "kept"
        while kept == "kept" and not self._draining() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
            kept = lease.record(None)
        return kept

    def _checked_target(self, message: Message) -> Target:
        """The cell by this worker's configuration; it must be the database that is meant."""
        target = self._target_of(message.cell)
        if target.database.fingerprint != message.fingerprint:
            raise DatabaseProblem(
                f"{message.label}: {self._name} has another database configured for it than the one that is meant"
            )
        return target

    def _go_on(self, message: Message, claim: Claim) -> str:
        sequence = self._store.advance(message.run, message.phase, message.cell, claim.token)
        if sequence is None:
            return "lost"
        self._send(replace(message, sequence=sequence))
        return "more"

    def _finish(
        self, record: RunRecord, message: Message, claim: Claim, failure: Failure | None, *, complete: bool
    ) -> str:
        self._conductor.finish_cell(record.order, message.phase, message.cell, claim.token, failure, complete)
        return "failed" if failure else "complete" if complete else "cancelled"
