"""No child is forked while another thread of the worker is within a library.

Whatever such a thread holds at that moment stays locked in the child, which then waits for ever: a
lock within SQLite, OpenSSL or the resolver, or one of Python's.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

PATIENCE: Final = 10.0
"""Seconds that a fork waits for such a thread. Then a child that may hang, and is killed for it, is
better than none."""


class ForkGuard:
    """Keeps the threads of a process and its forks apart."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_closed = False

    def install(self) -> None:
        """Have each ``os.fork`` of this process wait, from now on."""
        os.register_at_fork(
            before=self._close, after_in_parent=self._open, after_in_child=self._open
        )

    @contextmanager
    def no_fork(self) -> Iterator[None]:
        """What a thread does in this context is over when a child is forked."""
        with self._lock:
            yield

    def _close(self) -> None:
        self._is_closed = self._lock.acquire(timeout=PATIENCE)

    def _open(self) -> None:
        if self._is_closed:
            self._lock.release()


FORKS: Final = ForkGuard()
"""That of the worker."""
