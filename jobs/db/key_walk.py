"""Reading a large table piece by piece, by ranges of its key.

A statement that finds nothing in a table without an index reads all of it. Of many million rows
that takes minutes: so long the server keeps old row versions for its snapshot, and in the end a
limit of time breaks the connection. A piece is read within a moment, however large the table is.
"""

import time
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, func, select

from jobs.retry import rollback

PIECE_SECONDS: Final = 0.5
"""That reading a piece is to take."""
FIRST_WIDTH: Final = 20_000
"""Keys of the first piece: what any server reads within a fraction of that."""
LEAST_WIDTH: Final = 1_000
GROWTH: Final = 4.0
"""How much wider the next piece is at most: what one piece of a table costs says little of another
one.
"""


class KeyWalk:
    """Goes through a table by ranges of a key of whole numbers. Ranges that are empty are passed
    over.
    """

    def __init__(self, key: ColumnElement[Any], after: int = 0) -> None:
        """:param key: a column with an index
        :param after: the key behind which the walk begins
        """
        self.is_over = False
        self._key = key
        self._first = after + 1
        self._width = FIRST_WIDTH
        self._begin = 0.0

    @property
    def after(self) -> int:
        """The key behind which the current piece begins."""
        return self._first - 1

    @property
    def last(self) -> int:
        """The last key of the current piece."""
        return self._first + self._width - 1

    def bounds(self) -> tuple[int, int]:
        """The first and the last key of the current piece, which is read now."""
        self._begin = time.monotonic()
        return self._first, self.last

    def piece(self) -> ColumnElement[bool]:
        """The condition that a row is in the current piece, which is read now."""
        return self._key.between(*self.bounds())

    def following(self) -> ColumnElement[Any]:
        """The first key behind the current piece; to be selected along with what is read, and given
        to ``go_on``.
        """
        return select(func.min(self._key)).where(self._key > self.last).scalar_subquery()

    def go_on(self, following: int | None) -> None:
        """The current piece has been read as a whole: come to the next one.

        :param following: the first key behind it; None: there is none
        """
        if following is None:
            self.is_over = True
            return
        seconds = max(time.monotonic() - self._begin, PIECE_SECONDS / GROWTH)
        self._width = max(int(self._width * PIECE_SECONDS / seconds), LEAST_WIDTH)
        self._first = following

    def go_on_by(self, connection: Connection) -> None:
        """The same, where the first key behind the piece has not been selected along; ends the
        transaction.
        """
        following = connection.execute(select(self.following())).scalar()
        self.go_on(following)
        rollback(connection)

    def go_behind(self, key: int) -> None:
        """Go on behind a key of the current piece: it has more than could be taken."""
        self._first = key + 1


def walk_through(
    connection: Connection, key: ColumnElement[Any], after: Any = None
) -> KeyWalk | None:
    """A walk through a table whose key may be anything.

    :param after: the key behind which it begins; None: at the first one
    :returns: None: its key is no whole number
    """
    least = select(func.min(key))
    first = connection.execute(least if after is None else least.where(key > after)).scalar()
    rollback(connection)
    if first is None:
        empty = KeyWalk(key)
        empty.go_on(None)
        return empty
    return KeyWalk(key, first - 1) if isinstance(first, int) else None
