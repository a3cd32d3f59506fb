"""The beat: starts what is due. Any number of beats may run, and still each firing starts one run.

docs/architecture.md says why this is not a scheduler of Celery's.

The clock of the store, which all beats share, decides what is due. A beat whose own clock differs
starts nothing until the two agree: one of them is wrong, and nobody knows which.
"""

import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from redis.exceptions import RedisError

from schedules.clocks import clock_problem, seconds_to_next_look
from schedules.entries import Entry
from schedules.firings import MAY_START, FiringClaim, Firings, FiringState, run_id

LOG = logging.getLogger("cellkeeper.beat")

LONGEST_PAUSE: Final = 5.0  # seconds between two looks at the clock, at most
LEAST_PAUSE: Final = 0.2  # seconds between two looks at the clock, at least
RETRY: Final = 20.0  # seconds between two attempts to start a firing
# Seconds after which another beat takes over: longer than an attempt and the pause after it.
LEASE: Final = 120.0
LIFE: Final = 20.0  # seconds without a sign of life after which a beat counts as dead
STARTS_AT_ONCE: Final = 4  # attempts of one beat
# Seconds for which an attempt waits for those before it: after that, their databases do not answer.
HELD_UP: Final = 60.0


@dataclass(frozen=True)
class OrderAttempt:
    """The result of an attempt to start a firing.

    :ivar started: the run was ordered; it begins as soon as its databases are free
    :ivar reason: why it was not
    """

    started: bool
    reason: str = ""


OrderRun = Callable[[Entry, str, datetime, datetime], OrderAttempt]
"""Orders the run of an entry: with an id, for a nominal time, until a time by the store's clock.

It may be called again, and in any thread. An order that arrives after that time has no effect.
"""


def host_time() -> datetime:
    return datetime.now(UTC)


class Beat:
    """Starts entries, each from a thread of its own, so that none waits for another's databases.

    :ivar name: for messages: host and process id
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        firings: Firings,
        order_run: OrderRun,
        deadline: float,
        stop: threading.Event,
        own_time: Callable[[], datetime] = host_time,
    ) -> None:
        """
        :param deadline: seconds after its time within which a firing may be started
        :param stop: ends the beat
        :param own_time: the clock of the host
        """
        self._entries = entries
        self._firings = firings
        self._order_run = order_run
        self._deadline = timedelta(seconds=deadline)
        self._stop = stop
        self._own_time = own_time
        self._slots = threading.BoundedSemaphore(STARTS_AT_ONCE)
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        # Process ids are reused.
        self._token = f"{self.name}:{uuid.uuid4().hex[:8]}"
        self._store_error = ""
        self._store_error_lock = threading.Lock()
        self._clock_problem = ""

    def run(self) -> None:
        """Start what is due until ``stop`` is set; then wait for attempts in progress."""
        threads = [
            threading.Thread(target=self._follow, args=(entry,), name=entry.name)
            for entry in self._entries
        ]
        for thread in threads:
            thread.start()
        while not self._stop.is_set():
            self._attempt_duty(self._show_alive)
            self._stop.wait(LONGEST_PAUSE)
        for thread in threads:
            thread.join()
        self._attempt_duty(lambda: self._firings.sign_off(self.name))

    def _attempt_duty(self, duty: Callable[[], None]) -> None:
        """Do something whose failure must not end the beat. A repeated failure is logged once."""
        try:
            duty()
            self._store_error = ""
        except RedisError as error:
            with self._store_error_lock:
                if str(error) != self._store_error:
                    LOG.warning("the store does not answer, the beat goes on: %s", error)
                self._store_error = str(error)
        except Exception:
            LOG.exception("a duty of the beat failed; it goes on")

    def _show_alive(self) -> None:
        """Show the other beats that this one is alive, and log problems with its clock."""
        problem = clock_problem(self._own_time(), self._firings.now())
        if problem and not self._clock_problem:
            LOG.error("this beat starts nothing: %s", problem)
        if self._clock_problem and not problem:
            LOG.warning(
                "this beat starts what is due again: the clock of its host agrees with that of "
                "Redis"
            )
        self._clock_problem = problem
        self._firings.show_alive(self.name, LIFE, problem)

    def _follow(self, entry: Entry) -> None:
        """Start an entry whenever it is due."""
        seconds = LEAST_PAUSE

        def look() -> None:
            nonlocal seconds
            seconds = LONGEST_PAUSE
            now = self._firings.now()
            if clock_problem(self._own_time(), now):
                return
            self.fire(entry, now)
            now = self._firings.now()
            following = entry.next_due(now)
            seconds = seconds_to_next_look(following, now, LEAST_PAUSE, LONGEST_PAUSE)

        while not self._stop.is_set():
            self._attempt_duty(look)
            self._stop.wait(seconds)

    def fire(self, entry: Entry, now: datetime) -> None:
        """Start the last firing of an entry if it is still to be started.

        An attempt that fails is repeated until the deadline, or the next firing.

        :param now: by the clock of the store
        """
        nominal = entry.last_due(now)
        claim = self._firings.claim(entry, nominal, self._token, LEASE)
        if claim is FiringClaim.FORGOTTEN:
            LOG.warning(
                "%s: its last firing lay in the future, and is forgotten: a clock was wrong",
                entry.name,
            )
        if nominal is None or claim not in MAY_START:
            return
        latest = entry.latest_start(nominal, self._deadline)
        if now > latest:
            self._give_up(entry, nominal, claim)
            return
        following = entry.next_due(now)
        if following:
            latest = min(latest, following)
        if reason := self._keep_trying(entry, nominal, latest):
            self._record_failure(entry, nominal, reason)

    def _give_up(self, entry: Entry, nominal: datetime, claim: FiringClaim) -> None:
        """Record that it is too late to start a firing."""
        if claim is FiringClaim.RESUMED:
            self._record_failure(entry, nominal, "it could not be started in time")
            return
        reason = "no beat took it up in time"
        if self._firings.end(entry, nominal, FiringState.MISSED, reason=reason):
            time = entry.format_time(nominal)
            LOG.warning("%s: the firing of %s was missed, and is skipped", entry.name, time)

    def _record_failure(self, entry: Entry, nominal: datetime, reason: str) -> None:
        if self._firings.end(entry, nominal, FiringState.FAILED, reason=reason):
            time = entry.format_time(nominal)
            LOG.error("%s: the firing of %s could not be started: %s", entry.name, time, reason)

    def _keep_trying(self, entry: Entry, nominal: datetime, latest: datetime) -> str:
        """Try to start a firing until that succeeds or its time is over.

        :returns: why it was not started; empty: it was, or the beat stops, or another one has it
            now
        """
        run = run_id(entry, nominal)
        last_reason = ""
        while not self._stop.is_set():
            attempt = self._attempt(entry, run, nominal, latest)
            if attempt is None:
                return ""
            if attempt.started:
                if self._firings.end(entry, nominal, FiringState.STARTED, run):
                    LOG.info("%s: started run %s", entry.name, run)
                return ""
            if self._stop.is_set():
                break
            if attempt.reason != last_reason:
                LOG.warning(
                    "%s: not started yet, trying again until %s: %s",
                    entry.name,
                    entry.format_time(latest),
                    attempt.reason,
                )
                last_reason = attempt.reason
            remaining = (latest - self._firings.now()).total_seconds()
            self._stop.wait(min(max(remaining, 0), RETRY))
            if self._firings.now() >= latest:
                return attempt.reason
        self._firings.claim(entry, nominal, self._token, 0)  # another beat may continue at once
        return ""

    def _attempt(
        self, entry: Entry, run: str, nominal: datetime, latest: datetime
    ) -> OrderAttempt | None:
        """Try once to start a firing, as soon as a slot is free.

        :returns: None: another beat has the firing now
        """
        with self._slot():
            if self._stop.is_set():
                return OrderAttempt(False)
            if self._firings.now() > latest:
                return OrderAttempt(False, "too many others were started at that time")
            if self._firings.claim(entry, nominal, self._token, LEASE) not in MAY_START:
                return None
            return self._order_run(entry, run, nominal, latest)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """One of a few slots for attempts, or an extra one if none gets free for long."""
        is_granted = self._slots.acquire(timeout=HELD_UP)
        try:
            yield
        finally:
            if is_granted:
                self._slots.release()
