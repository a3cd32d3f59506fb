"""Adding mappings of hosts or instances while others may add them, too: the unique key decides who was first."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Self, TypeVar

from sqlalchemy import Connection, TableClause, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from jobs.action import ApiDatabaseProblem
from jobs.retry import TryAgain, rollback, transactionally
from novadb.engine import Database, reason
from novadb.errors import Unreachable
from novadb.mappings import now
from novadb.names import fold

# Rows of one statement and transaction.
BATCH: Final = 1_000
# How often in a row others may be first with one of a batch.
RACES: Final = 20

Row = dict[str, Any]
T = TypeVar("T")


class Mapper:
    """A connection to the API database for the rows of one table of mappings. Each method is a transaction."""

    def __init__(self, database: Database, mappings: TableClause, key: str) -> None:
        """:param key: the column with the unique key"""
        self._database = database
        self._mappings = mappings
        self._key = mappings.c[key]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._api = self._stack.enter_context(self._database.connect())
        except Unreachable as error:
            raise ApiDatabaseProblem(str(error)) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def do(self, work: Callable[[Connection], T]) -> T:
        """Do a transaction, again where that helps.

        :param work: need not commit, and may be called again
        :raises ApiDatabaseProblem: it failed
        """

        def committed() -> T:
            result = work(self._api)
            self._api.commit()
            return result

        with self._problems():
            return transactionally(committed, self._api, name=str(self._database))

    def cells_of(self, names: Collection[str]) -> dict[str, int | None]:
        """Those that are mapped, with the id of the cell; at most ``BATCH`` are asked for."""
        return self.do(lambda api: self._cells_of(api, names))

    def _cells_of(self, api: Connection, names: Collection[str]) -> dict[str, int | None]:
        if not names:
            return {}
        rows = select(self._key, self._mappings.c.cell_id).where(self._key.in_(sorted(names)))
        found = {fold(name): cell for name, cell in api.execute(rows)}
        return {name: found[fold(name)] for name in names if fold(name) in found}

    def add(self, rows: Sequence[Row], also: Callable[[Connection], None] = lambda _: None) -> set[str]:
        """Add mappings that were not there a moment ago.

        :param rows: at most ``BATCH``
        :param also: is done in the same transaction
        :returns: the names that somebody else was first with; their mappings stay as they are
        :raises ApiDatabaseProblem: nothing was added, as far as can be told
        """
        tries = iter(range(RACES))

        def attempt(api: Connection) -> set[str]:
            lost = self._insert(api, rows, is_retry=next(tries) > 0)
            also(api)
            return lost

        return self.do(attempt)

    def _insert(self, api: Connection, rows: Sequence[Row], *, is_retry: bool) -> set[str]:
        """Insert what is not there. After a broken connection it may be there, by the attempt before."""
        own = self._own(api, rows) if is_retry else set()
        lost: set[str] = set()
        for _ in range(RACES):
            left = [row for row in rows if row[self._key.name] not in own | lost]
            if not left:
                return lost
            try:
                with api.begin_nested():
                    api.execute(insert(self._mappings), [{"created_at": now(), **row} for row in left])
            except IntegrityError:
                found = self._cells_of(api, [row[self._key.name] for row in left]).keys()
                if not found:
                    raise
                lost |= found
            else:
                return lost
        raise TryAgain(ApiDatabaseProblem(f"{self._database}: others keep adding the same rows"))

    def _own(self, api: Connection, rows: Sequence[Row]) -> set[str]:
        found = self._cells_of(api, [row[self._key.name] for row in rows])
        return {row[self._key.name] for row in rows if found.get(row[self._key.name]) == row["cell_id"]}

    @contextmanager
    def _problems(self) -> Iterator[None]:
        try:
            yield
        except Unreachable as error:
            raise ApiDatabaseProblem(str(error)) from error
        except DBAPIError as error:
            raise ApiDatabaseProblem(f"{self._database}: {reason(error)}") from error
        finally:
            rollback(self._api)
