"""Adding mappings of hosts or instances while others may add them, too: the unique key decides who was first."""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self, TypeVar

from sqlalchemy import Connection, TableClause, insert, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from jobs.action import ApiDatabaseProblem
from jobs.retry import Contended, TryAgain, as_large_as_possible, rollback, run_through, savepoint, transactionally
from jobs.transaction_size import TransactionSize
from novadb.engine import Database, error_number, server_message
from novadb.errors import Unreachable
from novadb.mappings import now
from novadb.names import fold_name

# Rows of one statement and transaction.
BATCH: Final = 1_000
# How often in a row others may be first with one of a batch.
RACES: Final = 20

# Errors that concern a row and not the statement: a key that is there, a value that does not fit, a trigger's refusal.
DUPLICATE: Final = 1062
TRIGGER: Final = 1644

Row = dict[str, Any]
T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class Unadded:
    """Rows that were not added, by the name that is their key.

    :ivar taken: somebody else was first; that row stays as it is
    :ivar refused: why the database refuses the row
    """

    taken: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> Set[str]:
        """Of all of them."""
        return self.taken | self.refused.keys()

    def __add__(self, other: Self) -> Self:
        return replace(self, taken=self.taken | other.taken, refused={**self.refused, **other.refused})


class Mapper:
    """A connection to the API database for the rows of one table of mappings. Each method is a transaction."""

    def __init__(self, database: Database, mappings: TableClause, key: str, size: TransactionSize) -> None:
        """:param key: the column with the unique key
        :param size: of the transactions that add mappings
        """
        self._database = database
        self._mappings = mappings
        self._key = mappings.c[key]
        self._size = size
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
        :raises Contended: others are at the same rows
        :raises ApiDatabaseProblem: it failed
        """

        def committed() -> T:
            result = work(self._api)
            self._api.commit()
            return result

        with self._problems():
            return transactionally(committed, self._api, name=str(self._database), gives_way=True)

    def cells_of(self, names: Collection[str]) -> dict[str, int | None]:
        """Those that are mapped, with the id of the cell; at most ``BATCH`` are asked for."""
        return self.do(lambda api: self._cells_of(api, names))

    def _cells_of(self, api: Connection, names: Collection[str]) -> dict[str, int | None]:
        if not names:
            return {}
        rows = select(self._key, self._mappings.c.cell_id).where(self._key.in_(sorted(names)))
        found = {fold_name(name): cell for name, cell in api.execute(rows)}
        return {name: found[fold_name(name)] for name in names if fold_name(name) in found}

    def add(self, rows: Sequence[Row]) -> Unadded:
        """Add mappings that were not there a moment ago, in as many transactions as it takes.

        :param rows: at most ``BATCH``
        :returns: those that were not added
        :raises Contended: others are at one of the rows; some may have been added
        :raises ApiDatabaseProblem: some were not added, as far as can be told
        """
        unadded = Unadded()
        while rows:
            number, of_these = run_through(self.add_some(rows, ask=None))
            rows, unadded = rows[number:], unadded + of_these
        return unadded

    def add_some(
        self, rows: Sequence[Row], ask: S, also: Callable[[Connection, int], None] = lambda *_: None
    ) -> Generator[S, None, tuple[int, Unadded]]:
        """Add the first of some mappings, in one transaction. What is refused for one of them costs that one.

        :param rows: as in ``add``
        :param ask: is yielded where the transaction is to be smaller: whether it may still write
        :param also: is done in the same transaction; is given how many of the rows it is about
        :returns: how many of the rows it was about, and which of these were not added
        :raises Contended: others are at the first row
        :raises ApiDatabaseProblem: they were not added, as far as can be told
        """
        tried: set[str] = set()

        def attempt(number: int) -> tuple[int, Unadded]:
            some = rows[:number]
            names = {row[self._key.name] for row in some}
            is_retry = not names.isdisjoint(tried)
            tried.update(names)
            with self._size.measure() as transaction:
                unadded = self._insert(self._api, some, is_retry=is_retry)
                also(self._api, number)
                self._api.commit()
                transaction.rows = number
            return number, unadded

        with self._problems():
            if not rows:
                self.do(lambda api: also(api, 0))
                return 0, Unadded()
            name = str(self._database)
            return (yield from as_large_as_possible(attempt, self._size, len(rows), self._api, name=name, ask=ask))

    def _insert(self, api: Connection, rows: Sequence[Row], *, is_retry: bool) -> Unadded:
        """Insert what is not there. After a broken connection it may be there, by the attempt before."""
        own = self._own(api, rows) if is_retry else set()
        taken: set[str] = set()
        for _ in range(RACES):
            waiting = [row for row in rows if row[self._key.name] not in own | taken]
            if not waiting:
                return Unadded(frozenset(taken))
            try:
                with savepoint(api):
                    insert_rows(api, self._mappings, waiting)
            except DBAPIError as error:
                if not concerns_a_row(error):
                    raise
                newly_taken = self._cells_of(api, [row[self._key.name] for row in waiting]).keys()
                if not newly_taken:
                    unadded = insert_one_by_one(api, self._mappings, self._key.name, waiting)
                    return Unadded(unadded.taken | taken, unadded.refused)
                taken |= newly_taken
            else:
                return Unadded(frozenset(taken))
        raise TryAgain(ApiDatabaseProblem(f"{self._database}: others keep adding the same rows"))

    def _own(self, api: Connection, rows: Sequence[Row]) -> set[str]:
        found = self._cells_of(api, [row[self._key.name] for row in rows])
        return {row[self._key.name] for row in rows if found.get(row[self._key.name]) == row["cell_id"]}

    @contextmanager
    def _problems(self) -> Iterator[None]:
        try:
            yield
        except Contended as contended:
            raise Contended(ApiDatabaseProblem(str(contended))) from contended
        except Unreachable as error:
            raise ApiDatabaseProblem(str(error)) from error
        except DBAPIError as error:
            raise ApiDatabaseProblem(f"{self._database}: {server_message(error)}") from error
        finally:
            rollback(self._api)


def insert_rows(api: Connection, mappings: TableClause, rows: Iterable[Row]) -> None:
    """Insert mappings in one statement."""
    api.execute(insert(mappings), [{"created_at": now(), **row} for row in rows])


def insert_one_by_one(api: Connection, mappings: TableClause, key: str, rows: Iterable[Row]) -> Unadded:
    """Insert mappings of which the database refuses some; the others are inserted.

    A row that is refused as a duplicate although its twin cannot be seen was somebody else's for a moment.
    """
    taken: set[str] = set()
    refused: dict[str, str] = {}
    for row in rows:
        try:
            with savepoint(api):
                insert_rows(api, mappings, [row])
        except DBAPIError as error:
            if not concerns_a_row(error):
                raise
            if error_number(error) == DUPLICATE:
                taken.add(row[key])
            else:
                refused[row[key]] = server_message(error)
    return Unadded(frozenset(taken), refused)


def concerns_a_row(error: DBAPIError) -> bool:
    """Whether a database refuses a row of a statement, and may well take the others."""
    return isinstance(error, IntegrityError | DataError) or error_number(error) == TRIGGER
