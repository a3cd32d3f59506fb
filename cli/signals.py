"""Signals: Ctrl-C once to stop after the current batches, twice to leave at once; before the work,
once is enough.

A thread acts on them. Python itself runs a handler in the main thread, between two of its
instructions: a signal that comes right before a call that waits is not seen until that ends, an
exception that a handler raises gets lost in a destructor, and one that sets an event can find it
locked by the thread that it has interrupted.
"""

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from cli.start import INTERRUPTED, leave_at_once

STOPPING: Final = "Stopping after the current batches; interrupt again to leave at once."
SHOW_CURSOR: Final = "\x1b[?25h"
TABLE_ENDS: Final = 1.0
"""Seconds for a live table to be shown for the last time."""


class Stop(threading.Event):
    """Set by the first signal, or when the maintenance window closes.

    :ivar farewell: what to say when the second one ends the process
    """

    farewell = "Left at once."


class SignalWatch:
    """Acts on SIGINT from ``begin`` on, and on SIGTERM from ``begin_work`` on; until then the
    kernel does.

    Python's part of a handler writes the number of a signal into a pipe, at once and in whichever
    thread it finds; the thread at the other end reads it there.
    """

    def __init__(self) -> None:
        # Replaced as a whole, without a lock: the thread does not outlive the interpreter, and
        # might take one along.
        self._work: tuple[Stop | None, str] = None, ""
        self._end_table: Callable[[], None] | None = None
        self._is_watching = False

    def begin(self) -> None:
        """Watch this process; called in the main thread, and once more without effect."""
        if self._is_watching:
            return
        self._is_watching = True
        signal.signal(signal.SIGINT, leave_at_once)
        _open_standard_streams()
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        # A signal that comes in between waits, lest both handlers act on it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        threading.Thread(target=self._obey, args=(reader,), name="signals", daemon=True).start()
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, _leave_it_to_the_thread)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def hand_over(self) -> None:
        """Let signals do what they do in any Python program, for one that sets handlers of its
        own.
        """
        if self._is_watching:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)

    def begin_work(self, stop: Stop, announcement: str) -> None:
        """From now on the first signal sets ``stop``, which is announced."""
        self._work = stop, announcement
        if self._is_watching:
            signal.signal(signal.SIGTERM, _leave_it_to_the_thread)

    @contextmanager
    def below_table(self, end_table: Callable[[], None]) -> Iterator[None]:
        """Meanwhile standard error is a terminal with a live table, which ends before the process
        is left.

        :param end_table: shows it for the last time, and goes to the line below it
        """
        self._end_table = end_table
        try:
            yield
        finally:
            self._end_table = None

    def end_work(self) -> None:
        """From now on the first signal does nothing: what was done is being reported."""
        stop, _ = self._work
        self._work = stop, ""

    def end(self) -> None:
        """From now on no signal does anything: the exit code is settled."""
        self._work = _Over(), ""

    def _obey(self, reader: int) -> None:
        while True:
            for number in os.read(reader, 64):
                if number in (signal.SIGINT, signal.SIGTERM):
                    self._act(number)

    def _act(self, number: int) -> None:
        stop, announcement = self._work
        if stop is None:
            self._leave(number, INTERRUPTED)
        elif stop.is_set():
            self._leave(number, stop.farewell)
        else:
            # Before the work ends of it, and with it the process; on a terminal the live table says
            # it.
            if announcement and not os.isatty(2) and _takes_a_line():
                _write(announcement)
            stop.set()

    def _leave(self, number: int, farewell: str) -> None:
        """End the process, be it in the middle of a transaction: the databases roll it back, and
        nothing is lost.
        """
        if end_table := self._end_table:
            # A terminal may take nothing any more.
            ending = threading.Thread(target=end_table, daemon=True)
            ending.start()
            ending.join(TABLE_ENDS)
        _write(f"{SHOW_CURSOR if os.isatty(2) else ''}{farewell}")
        os._exit(128 + number)


class _Over(Stop):
    """Of a command that has ended: it is never set."""

    def set(self) -> None:
        """Do nothing."""


def _open_standard_streams() -> None:
    """Open those that are closed: their numbers would go to the next files, and a database could
    get our messages.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _leave_it_to_the_thread(*_: object) -> None:
    """Without a handler of Python's, there would be no byte in the pipe."""


def _takes_a_line() -> bool:
    """Whether standard error takes a line at once: whoever does not read it keeps no signal from
    being obeyed.
    """
    with suppress(OSError, ValueError):
        return bool(select.select([], [2], [], 0)[1])
    return False


def _write(line: str) -> None:
    with suppress(OSError):
        os.write(2, f"{line}\n".encode())


watch: Final = SignalWatch()


@contextmanager
def graceful_stop(announcement: str = STOPPING) -> Iterator[Stop]:
    """An event that SIGINT or SIGTERM sets. A second signal ends the process at once.

    In any thread but the main one, whose work the signals are about, nothing sets the event.

    :param announcement: what to say to the first one
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    watch.begin_work(stop, announcement)
    try:
        yield stop
    finally:
        watch.end_work()
