"""Ctrl-C: once to stop after the current batches, twice to leave at once."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

STOPPING: Final = "Stopping after the current batches; once more to leave at once."
SHOW_CURSOR: Final = "\x1b[?25h"


class Stop(threading.Event):
    """Set by the first signal, or when the maintenance window closes.

    :ivar farewell: what to say when the second one ends the process
    """

    farewell = "Left at once."


@contextmanager
def graceful_stop(announcement: str = STOPPING) -> Iterator[Stop]:
    """An event that SIGINT or SIGTERM sets. A second signal ends the process at once.

    The databases then roll back what was not committed: nothing is lost. In any thread but the main one, to which all
    signals come, nothing sets the event.

    :param announcement: what to say to the first one
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os.write(2, f"{SHOW_CURSOR if sys.stderr.isatty() else ''}{stop.farewell}\n".encode())
            os._exit(128 + number)
        stop.set()
        if not sys.stderr.isatty():  # there the live table says it
            os.write(2, f"{announcement}\n".encode())

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
