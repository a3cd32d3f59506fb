"""The beat: starts what is due. Any number of beats may run; each firing starts one run all the same.

It is no Celery beat: what it starts is a command line, which becomes messages only after it has waited for other runs,
and its memory must outlive its host. Celery's scheduler keeps that memory in a file, and knows one beat alone.
"""

import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from redis.exceptions import RedisError

from schedules.entries import Entry
from schedules.firings import Firings, FiringState, run_id

LOG = logging.getLogger("cellkeeper.beat")

WAKE: Final = 5.0  # seconds between two looks at the clock, at most
RETRY: Final = 20.0  # seconds between two attempts to start a firing
START: Final = 60.0  # seconds that one attempt may take
LEASE: Final = 120.0  # seconds after which another beat takes over: more than an attempt and the pause behind it
LIFE: Final = 20.0  # seconds without a sign of life after which a beat counts as dead


@dataclass(frozen=True)
class Attempt:
    """What became of an attempt to start a firing.

    :ivar started: the run is there
    :ivar reason: why not
    """

    started: bool
    reason: str = ""


Launch = Callable[[Entry, str, datetime, float], Attempt]
"""Starts the run of an entry: its id, the nominal time, and the seconds that it may take. It may be called again."""


class Beat:
    """A thread per entry; none waits for another's databases.

    :ivar name: for people
    """

    def __init__(
        self, entries: Sequence[Entry], firings: Firings, launch: Launch, deadline: float, stop: threading.Event
    ) -> None:
        """:param deadline: seconds after its time within which a firing may be started
        :param stop: ends the beat
        """
        self._entries = entries
        self._firings = firings
        self._launch = launch
        self._deadline = timedelta(seconds=deadline)
        self._stop = stop
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._token = f"{self.name}:{uuid.uuid4().hex[:8]}"  # a pid may come back
        self._told = ""
        self._telling = threading.Lock()

    def run(self) -> None:
        """Start what is due until ``stop`` is set; then wait for the attempts that are under way."""
        threads = [threading.Thread(target=self._keep, args=(entry,), name=entry.name) for entry in self._entries]
        for thread in threads:
            thread.start()
        while not self._stop.is_set():
            self._try(lambda: self._firings.live(self.name, LIFE))
            self._stop.wait(WAKE)
        for thread in threads:
            thread.join()
        self._try(lambda: self._firings.rest(self.name))

    def _try(self, duty: Callable[[], None]) -> None:
        """Do something; that it fails now ends no beat. What keeps failing is told once."""
        try:
            duty()
            self._told = ""
        except RedisError as error:
            with self._telling:
                if str(error) != self._told:
                    LOG.warning("the store does not answer, the beat goes on: %s", error)
                self._told = str(error)
        except Exception:
            LOG.exception("a duty of the beat failed; it goes on")

    def _keep(self, entry: Entry) -> None:
        """Fire an entry whenever it is due."""
        known = False

        def look() -> None:
            nonlocal known
            now = datetime.now(UTC)
            if not known:
                self._firings.know(entry, entry.last(now))
                known = True
            self.fire(entry, now)

        while not self._stop.is_set():
            self._try(look)
            now = datetime.now(UTC)
            following = entry.next(now)
            self._stop.wait(min((following - now).total_seconds(), WAKE) if following else WAKE)

    def fire(self, entry: Entry, now: datetime) -> None:
        """Start the last firing of an entry, unless that is done; try again until its deadline or the next one."""
        nominal = entry.last(now)
        if nominal is None or self._firings.claim(entry, nominal, self._token, LEASE) != "granted":
            return
        latest = entry.latest(nominal, self._deadline)
        if now > latest:
            if self._firings.end(entry, nominal, FiringState.MISSED, reason="no beat was running in time"):
                LOG.warning("%s: the firing of %s was missed, and is not made up", entry.name, entry.shown(nominal))
            return
        following = entry.next(now)
        reason = self._attempt(entry, nominal, min(latest, following) if following else latest)
        if reason and self._firings.end(entry, nominal, FiringState.FAILED, reason=reason):
            LOG.error("%s: the firing of %s could not be started: %s", entry.name, entry.shown(nominal), reason)

    def _attempt(self, entry: Entry, nominal: datetime, latest: datetime) -> str:
        """Try to start a firing, again and again.

        :returns: why it is given up; empty: it is started, or somebody else's now
        """
        run, told = run_id(entry, nominal), ""
        while not self._stop.is_set():
            attempt = self._launch(entry, run, nominal, START)
            if attempt.started:
                if self._firings.end(entry, nominal, FiringState.STARTED, run):
                    LOG.info("%s: started run %s", entry.name, run)
                return ""
            if attempt.reason != told:
                until = entry.shown(latest)
                LOG.warning("%s: not started yet, trying again until %s: %s", entry.name, until, attempt.reason)
                told = attempt.reason
            left = (latest - datetime.now(UTC)).total_seconds()
            self._stop.wait(min(max(left, 0), RETRY))
            if datetime.now(UTC) >= latest:
                return attempt.reason
            if self._firings.claim(entry, nominal, self._token, LEASE) != "granted":
                return ""
        self._firings.claim(entry, nominal, self._token, 0)  # whoever comes may go on at once
        return ""
