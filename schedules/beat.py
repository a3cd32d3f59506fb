"""The beat: starts what is due. Any number of beats may run; each firing starts one run all the same.

Why it is no scheduler of Celery's stands in docs/architecture.md.

What is due is decided by the clock of the store, which all beats share. A beat whose own clock differs starts nothing
until the two agree: one of them is wrong, and nobody knows which.
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

WAKE: Final = 5.0  # seconds between two looks at the clock, at most
LEAST_PAUSE: Final = 0.2  # seconds between two looks at the clock, at least
RETRY: Final = 20.0  # seconds between two attempts to start a firing
LEASE: Final = 120.0  # seconds after which another beat takes over: more than an attempt and the pause behind it
LIFE: Final = 20.0  # seconds without a sign of life after which a beat counts as dead
STARTS_AT_ONCE: Final = 4  # attempts of one beat
HELD_UP: Final = 60.0  # seconds for which an attempt may be kept waiting by those before it: what they ask is silent


@dataclass(frozen=True)
class OrderAttempt:
    """What became of an attempt to start a firing.

    :ivar started: the run is ordered: it begins as soon as its databases are free
    :ivar reason: why not
    """

    started: bool
    reason: str = ""


OrderRun = Callable[[Entry, str, datetime, datetime], OrderAttempt]
"""Orders the run of an entry, of this id, for this nominal time, until a latest time by the clock of the store.

It may be called again, and in any thread. What comes through later than that orders nothing.
"""


def host_time() -> datetime:
    """The time of this host, in UTC."""
    return datetime.now(UTC)


class Beat:
    """A thread per entry; none waits for another's databases.

    :ivar name: for people
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
        """:param deadline: seconds after its time within which a firing may be started
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
        self._token = f"{self.name}:{uuid.uuid4().hex[:8]}"  # a pid may come back
        self._store_error = ""
        self._store_error_lock = threading.Lock()
        self._clock_problem = ""

    def run(self) -> None:
        """Start what is due until ``stop`` is set; then wait for the attempts that are under way."""
        threads = [threading.Thread(target=self._follow, args=(entry,), name=entry.name) for entry in self._entries]
        for thread in threads:
            thread.start()
        while not self._stop.is_set():
            self._try(self._show_life)
            self._stop.wait(WAKE)
        for thread in threads:
            thread.join()
        self._try(lambda: self._firings.rest(self.name))

    def _try(self, duty: Callable[[], None]) -> None:
        """Do something; that it fails now ends no beat. What keeps failing is logged once."""
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

    def _show_life(self) -> None:
        """Tell the others of this beat, and people of its clock."""
        problem = clock_problem(self._own_time(), self._firings.now())
        if problem and not self._clock_problem:
            LOG.error("this beat starts nothing: %s", problem)
        if self._clock_problem and not problem:
            LOG.warning("this beat starts what is due again: the clock of its host agrees with that of Redis")
        self._clock_problem = problem
        self._firings.live(self.name, LIFE, problem)

    def _follow(self, entry: Entry) -> None:
        """Fire an entry whenever it is due."""
        seconds = LEAST_PAUSE

        def look() -> None:
            nonlocal seconds
            seconds = WAKE
            now = self._firings.now()
            if clock_problem(self._own_time(), now):
                return
            self.fire(entry, now)
            now = self._firings.now()
            seconds = seconds_to_next_look(entry.next(now), now, LEAST_PAUSE, WAKE)

        while not self._stop.is_set():
            self._try(look)
            self._stop.wait(seconds)

    def fire(self, entry: Entry, now: datetime) -> None:
        """Start the last firing of an entry, unless that is done; try again until its deadline or the next one.

        :param now: by the clock of the store
        """
        nominal = entry.last(now)
        claim = self._firings.claim(entry, nominal, self._token, LEASE)
        if claim is FiringClaim.FORGOTTEN:
            LOG.warning("%s: its last firing lay in the future, and is forgotten: a clock was wrong", entry.name)
        if nominal is None or claim not in MAY_START:
            return
        latest = entry.latest(nominal, self._deadline)
        if now > latest:
            self._give_up(entry, nominal, claim)
            return
        following = entry.next(now)
        if following:
            latest = min(latest, following)
        if reason := self._keep_trying(entry, nominal, latest):
            self._note_failure(entry, nominal, reason)

    def _give_up(self, entry: Entry, nominal: datetime, claim: FiringClaim) -> None:
        """Note that a firing is too old to be started."""
        if claim is FiringClaim.RESUMED:
            self._note_failure(entry, nominal, "it could not be started in time")
        elif self._firings.end(entry, nominal, FiringState.MISSED, reason="no beat took it up in time"):
            LOG.warning("%s: the firing of %s was missed, and is not made up", entry.name, entry.shown(nominal))

    def _note_failure(self, entry: Entry, nominal: datetime, reason: str) -> None:
        if self._firings.end(entry, nominal, FiringState.FAILED, reason=reason):
            shown = entry.shown(nominal)
            LOG.error("%s: the firing of %s could not be started: %s", entry.name, shown, reason)

    def _keep_trying(self, entry: Entry, nominal: datetime, latest: datetime) -> str:
        """Try to start a firing, again and again.

        :returns: why it is given up; empty: it is started, or somebody else's now
        """
        run, last_reason = run_id(entry, nominal), ""
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
                until = entry.shown(latest)
                LOG.warning("%s: not started yet, trying again until %s: %s", entry.name, until, attempt.reason)
                last_reason = attempt.reason
            remaining = (latest - self._firings.now()).total_seconds()
            self._stop.wait(min(max(remaining, 0), RETRY))
            if self._firings.now() >= latest:
                return attempt.reason
        self._firings.claim(entry, nominal, self._token, 0)  # whoever comes may go on at once
        return ""

    def _attempt(self, entry: Entry, run: str, nominal: datetime, latest: datetime) -> OrderAttempt | None:
        """Try once to start a firing, as soon as few enough others are tried.

        :returns: None: somebody else has the firing now
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
        """One of the few attempts at a time; or one more, where those have been silent for long."""
        is_granted = self._slots.acquire(timeout=HELD_UP)
        try:
            yield
        finally:
            if is_granted:
                self._slots.release()
