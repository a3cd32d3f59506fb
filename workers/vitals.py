"""Signs of life of a worker's children, and the end of one that shows none.

Whatever a child waits for has a limit of its own. This one is for what no limit reaches: a call
that does not return, a process that was stopped. The end of a statement, a request or a step is a
sign of life, whatever came of it, so a slice may last as long as it likes. Celery's own limit,
``task_time_limit``, counts from the begin of a slice, and knows no signs of life.
"""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from billiard import current_process

from clients import activity as questions
from novadb import activity as statements

LOG = logging.getLogger("cellkeeper.worker")

CHILDREN: Final = 1024
"""Children of one worker that are watched at most; further ones are not."""
LOOKS: Final = 20
"""Looks at a child within ``limit`` seconds."""


class Vitals:
    """Memory that a worker's main process shares with its children. It is made before they are."""

    def __init__(self) -> None:
        fork = multiprocessing.get_context("fork")
        self._pids = fork.RawArray("q", CHILDREN)
        self._signs = fork.RawArray("Q", CHILDREN)
        self._place: int | None = None

    def take_place(self) -> None:
        """Take the place in memory of this process, a new child of the pool."""
        place: int = current_process().index
        if place >= CHILDREN:
            return
        self._place = place
        self._signs[place] = 0
        self._pids[place] = os.getpid()
        statements.listen_for_statements(self.show_life)
        questions.answer_listeners.append(self.show_life)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The context in which this process must show signs of life."""
        self._set(1)
        try:
            yield
        finally:
            self._set(0)

    def show_life(self, *_: object) -> None:
        """Give a sign of life. Of those that threads give at the same time one may be lost."""
        if self._place is not None and self._signs[self._place]:
            self._signs[self._place] += 1

    def _set(self, number: int) -> None:
        if self._place is not None:
            self._signs[self._place] = number

    def signs_at(self, place: int) -> tuple[int, int]:
        """The process at a place of the pool, and the number of its signs of life; 0: it has
        nothing to do.
        """
        return self._pids[place], self._signs[place]


class ChildWatch:
    """Kills children that have something to do and show no sign of life."""

    def __init__(self, vitals: Vitals, limit: float) -> None:
        """:param limit: seconds without a sign of life"""
        self._vitals = vitals
        self._limit = limit
        self._silent: dict[int, tuple[int, float]] = {}

    def start(self, pool: Any) -> None:
        """Watch until this process ends, also while it waits for its children to end.

        :param pool: of billiard
        """
        threading.Thread(target=self._run, args=(pool,), name="vitals", daemon=True).start()

    def _run(self, pool: Any) -> None:
        pause = self._limit / LOOKS
        while True:
            time.sleep(pause)
            # A private list of billiard's: it has no public one of the children that there are at
            # this moment.
            self.look([(process.pid, process.index) for process in list(pool._pool)], pause)

    def look(self, children: Sequence[tuple[int, int]], seconds: float) -> None:
        """Look at all children, and kill those whose time is over.

        :param children: their processes and places
        :param seconds: since the last look, as planned: where this process stood still, too, with
            its whole machine or container, nobody's silence counts
        """
        silent = {}
        for pid, place in children:
            owner, number = self._vitals.signs_at(place) if place < CHILDREN else (0, 0)
            before, silence = self._silent.get(pid, (0, 0.0))
            if owner != pid or not number or number != before:
                silent[pid] = number, 0.0
            elif silence + seconds < self._limit:
                silent[pid] = number, silence + seconds
            else:
                self._kill(pid)
        self._silent = silent

    def _kill(self, pid: int) -> None:
        LOG.error(
            "child %d has shown no sign of life for %.0f s: it is killed, its cell is taken over",
            pid,
            self._limit,
        )
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
