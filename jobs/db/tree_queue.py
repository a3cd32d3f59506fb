"""The trees of one table that are to be moved, cut into batches by their rows."""

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Self

from sqlalchemy import ColumnElement, Connection, select

from jobs.action import Target
from jobs.db.key_walk import KeyWalk
from jobs.db.statements import KEYS_PER_STATEMENT
from jobs.db.trees import Node, count_rows
from jobs.retry import transactionally
from novadb.prefetch import prefetch

# How many roots without children are read at once; with children it is what one statement takes.
PAGE: Final = 10_000
PAGES_AHEAD: Final = 4


@dataclass(frozen=True)
class Batch:
    """Trees that fit into one transaction.

    :ivar ids: of the root rows
    :ivar rows: that their trees have
    :ivar too_large: rows of the trees that exceed the ceiling, by id of the root; they stay
    :ivar last: the id of the last root looked at; None: there was none
    :ivar full: there is a next tree, and it does not fit
    """

    ids: list[int] = field(default_factory=list)
    rows: int = 0
    too_large: dict[int, int] = field(default_factory=dict)
    last: int | None = None
    full: bool = False


Page = list[tuple[int, int]]
"""Trees: the id of the root, and how many rows."""


class TreeQueue:
    """The trees of one table in order of id, read page by page.

    Of a table with many trees, further pages are read and counted on a second connection while the
    trees of earlier ones are being moved, if the server has one to spare; else on the first one,
    between two transactions. As a context manager it closes the second one at the end.
    """

    def __init__(
        self,
        target: Target,
        cell: Connection,
        root: Node,
        is_root: ColumnElement[bool],
        *,
        after: int,
        page: int,
    ) -> None:
        """:param target: the cell; it grants the second connection
        :param cell: a connection to its database
        :param is_root: the condition that makes a row a root
        :param after: the id to go on behind
        :param page: roots that are read at once, at most
        """
        self._target = target
        self._cell = cell
        self._root = root
        self._is_root = is_root
        self._waiting: deque[tuple[int, int]] = deque()
        self._stack = ExitStack()
        page = min(page, KEYS_PER_STATEMENT if root.branches else PAGE)
        self._pages = self._from_first_to_last(after, page)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def take(self, rows: int, room: int, at_least_one: bool) -> Batch:
        """The next batch.

        :param rows: that it should have at most; its first tree alone may have more
        :param room: rows that it may have
        :param at_least_one: whether its first tree may have even more: a tree is never split
        :returns: a batch without ``last`` when the table has no more trees, or the next one does
            not fit
        """
        ids: list[int] = []
        too_large: dict[int, int] = {}
        taken = 0
        last, left, full = None, min(rows, room), False
        while self._waiting or self._read_page():
            number, size = self._waiting[0]
            is_first = not ids
            if size > self._target.limits.tree_ceiling:
                too_large[number] = size
            elif size <= left or (is_first and (at_least_one or size <= room)):
                ids.append(number)
                taken += size
                left -= size
            else:
                full = True
                break
            last, _ = self._waiting.popleft()
            if left <= 0 or len(too_large) >= PAGE:
                break
        return Batch(ids, taken, too_large, last, full)

    def _read_page(self) -> bool:
        """Read more trees into the queue; False: there are none."""
        self._waiting.extend(next(self._pages, ()))
        return bool(self._waiting)

    def _from_first_to_last(self, after: int, size: int) -> Iterator[Page]:
        """All pages; behind a full one they are read ahead where that can be. SQLite has room for
        one connection.
        """
        for page in self._read(self._cell, after, size):
            yield page
            if len(page) < size or self._cell.dialect.name == "sqlite":
                continue
            with ExitStack() as second:
                if second.enter_context(self._target.second()):
                    pages = second.enter_context(
                        prefetch(self._read_apart(page[-1][0], size), PAGES_AHEAD)
                    )
                    self._stack.push(second.pop_all())
                    yield from pages
                    return

    def _read_apart(self, after: int, size: int) -> Generator[Page]:
        with self._target.database.connect() as connection:
            yield from self._read(connection, after, size)

    def _read(self, connection: Connection, after: int, size: int) -> Generator[Page]:
        walk, name = KeyWalk(self._root.live.c.id, after), str(self._target.database)
        while page := transactionally(
            partial(self._page, connection, walk, size), connection, name=name
        ):
            yield page
            walk.go_behind(page[-1][0])

    def _page(self, connection: Connection, walk: KeyWalk, size: int) -> Page:
        """The trees of the first piece of the table that has any."""
        live = self._root.live
        keys = [live.c[name] for name in self._root.keys]
        while not walk.is_over:
            roots = select(*keys).where(walk.piece(), self._is_root).order_by(live.c.id).limit(size)
            if rows := connection.execute(roots).mappings().all():
                return list(count_rows(connection, self._root, rows).items())
            walk.go_on_by(connection)
        return []
