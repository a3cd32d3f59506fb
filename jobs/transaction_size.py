"""How many rows a transaction may have, so that it takes about as long as wanted."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

SMALL: Final = 100
"""Rows of the first transaction: how long one takes is not known yet."""
UNBOUNDED: Final = 1 << 31
"""More rows than any command asks for."""
AIM: Final = 0.9
"""Part of the wanted time that is aimed at: what is a little slower than expected is still in
time.
"""
GROWTH: Final = 2.0
"""How much larger the next transaction may be at most."""
CAREFUL_GROWTH: Final = 1.1
"""The same from the size on that was refused last."""


@dataclass
class Measured:
    """A transaction that is under way.

    :ivar rows: that it has; whoever carries it out sets it
    """

    rows: int = 0


class TransactionSize:
    """The rows of the next transaction, by how long those before took, and by those that were
    refused.

    Each transaction is at most twice as large as the one before, and is no longer than wanted by
    the speed of the one before. One that took longer than wanted is followed by a smaller one at
    once, however much smaller that has to be. One that was refused, as it met others at the same
    rows or was too large for the server, is followed by one of half its rows; above these the size
    then grows by a tenth each time.
    """

    def __init__(
        self,
        seconds: float = 0.0,
        rows: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param seconds: that a transaction may take; 0: its rows are bounded by the caller, and
        by refusals alone
        :param rows: of the next transaction, as an earlier slice of the work has left it; None: it
            is the first one
        """
        self._seconds = seconds
        self._clock = clock
        self._refused_at = UNBOUNDED
        self._was_refused = False
        self._rows = UNBOUNDED
        if rows is None:
            self.begin_small()
        else:
            self._rows = rows

    @property
    def rows(self) -> int:
        """Of the next transaction, if nothing else bounds it."""
        return self._rows

    def within(self, bound: int) -> int:
        """The rows of the next transaction, at least 1.

        :param bound: more than so many it must not have, whatever its time
        """
        return max(1, min(self._rows, bound))

    def begin_small(self) -> None:
        """Forget how large a transaction may be: the server was busy in between."""
        if self._seconds:
            self._rows = min(self._rows, SMALL)

    @contextmanager
    def measure(self) -> Iterator[Measured]:
        """A transaction, from before its first statement until after its commit. One that fails
        tells nothing.
        """
        transaction = Measured()
        begin = self._clock()
        yield transaction
        self.took(transaction.rows, self._clock() - begin)

    def took(self, rows: int, seconds: float) -> None:
        """A transaction came through.

        :param rows: that it had
        :param seconds: that it took, pauses between transactions not included
        """
        if rows < 1:
            return
        self._was_refused = False
        in_time = self._rows_in_time(rows, seconds)
        if self._seconds and seconds > self._seconds:
            self._rows = max(1, min(self._rows, in_time))
        else:
            self._grow(rows, in_time)

    def refused(self, rows: int) -> None:
        """A transaction did not come through: it met others at the same rows, or the server takes
        none as large.

        :param rows: that it had
        """
        self._rows = max(1, min(self._rows, rows) // 2)
        if not self._was_refused:  # of several in a row, the first says what was too much
            self._refused_at = self._rows
        self._was_refused = True

    def _rows_in_time(self, rows: int, seconds: float) -> int:
        """How many rows a transaction has that takes as long as is aimed at, at the speed of one
        that is through.
        """
        if not self._seconds or seconds <= 0:
            return UNBOUNDED
        return min(int(rows * AIM * self._seconds / seconds), UNBOUNDED)

    def _grow(self, rows: int, in_time: int) -> None:
        """Let the next transaction be larger, as far as a transaction of so many rows tells."""
        if self._rows < self._refused_at:
            larger = min(self._grown(rows, GROWTH), self._refused_at)
        else:
            larger = self._grown(rows, CAREFUL_GROWTH)
        self._rows = max(self._rows, min(larger, in_time))

    def _grown(self, rows: int, factor: float) -> int:
        """So many rows, or those the transaction was allowed, times a factor, and at least one
        more.
        """
        allowed = min(rows, self._rows)
        return max(int(allowed * factor), allowed + 1)
