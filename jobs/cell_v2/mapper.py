"""Adding mappings of hosts or instances. If others add the same, the unique key decides."""

from collections.abc import (
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Set,
)
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self, TypeVar

from sqlalchemy import Connection, TableClause, insert, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from jobs.action import ApiDatabaseProblem
from jobs.retry import (
    Contended,
    TryAgain,
    as_large_as_possible,
    rollback,
    run_through,
    savepoint,
    transactionally,
)
from jobs.transaction_size import TransactionSize
from novadb.clock import utc_now
from novadb.engine import Database, error_number, server_message
from novadb.errors import Unreachable
from novadb.names import fold_name

BATCH: Final = 1_000  # rows of a statement and transaction at most
MAX_LOST_RACES: Final = 20  # how often in a row others may be first with one of a batch

# Errors of the server that concern a row and not the statement.
DUPLICATE_KEY: Final = 1062
REFUSED_BY_TRIGGER: Final = 1644

Row = dict[str, Any]
T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class Unadded:
    """Rows that were not added, by the name that is their key.

    :ivar taken: somebody else was first; their row stays as it is
    :ivar refused: why the database refuses the row
    """

    taken: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> Set[str]:
        """The names of all of them."""
        return self.taken | self.refused.keys()

    def __add__(self, other: Self) -> Self:
        return replace(
            self, taken=self.taken | other.taken, refused={**self.refused, **other.refused}
        )


class Mapper:
    """A connection to the API database that adds rows to one table of mappings.

    Each method is a transaction.
    """

    def __init__(
        self, database: Database, mappings: TableClause, key: str, size: TransactionSize
    ) -> None:
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

    def run(self, work: Callable[[Connection], T]) -> T:
        """Run a transaction, and repeat it where that helps.

        :param work: it does not commit, and may be called again
        :raises Contended: others are at the same rows
        :raises ApiDatabaseProblem: it failed
        """

        def run_and_commit() -> T:
            result = work(self._api)
            self._api.commit()
            return result

        with self._problems():
            return transactionally(
                run_and_commit, self._api, name=str(self._database), gives_way=True
            )

    def cells_of(self, names: Collection[str]) -> dict[str, int | None]:
        """The names that are mapped, with the ids of their cells.

        :param names: at most ``BATCH``
        """
        return self.run(lambda api: self._cells_of(api, names))

    def _cells_of(self, api: Connection, names: Collection[str]) -> dict[str, int | None]:
        if not names:
            return {}
        query = select(self._key, self._mappings.c.cell_id).where(self._key.in_(sorted(names)))
        cell_ids = {fold_name(name): cell_id for name, cell_id in api.execute(query)}
        return {name: cell_ids[fold_name(name)] for name in names if fold_name(name) in cell_ids}

    def add(self, rows: Sequence[Row]) -> Unadded:
        """Add mappings that were not there a moment ago, in as many transactions as it takes.

        :param rows: at most ``BATCH``
        :returns: those that were not added
        :raises Contended: others are at one of the rows; some may have been added
        :raises ApiDatabaseProblem: some were not added, as far as can be told
        """
        unadded = Unadded()
        while rows:
            number, unadded_of_these = run_through(self.add_some(rows, ask=None))
            rows = rows[number:]
            unadded += unadded_of_these
        return unadded

    def add_some(
        self,
        rows: Sequence[Row],
        ask: S,
        also: Callable[[Connection, int], None] = lambda *_: None,
    ) -> Generator[S, None, tuple[int, Unadded]]:
        """Add the first of some mappings, in one transaction; refused rows are left out.

        :param rows: as in ``add``
        :param ask: yielded where the transaction has to be smaller: may it still write?
        :param also: runs in the same transaction, with the number of rows in it
        :returns: how many of the rows were in it, and which of these were not added
        :raises Contended: others are at the first row
        :raises ApiDatabaseProblem: they were not added, as far as can be told
        """
        tried: set[str] = set()

        def attempt(number: int) -> tuple[int, Unadded]:
            first_rows = rows[:number]
            names = {row[self._key.name] for row in first_rows}
            is_retry = not names.isdisjoint(tried)
            tried.update(names)
            with self._size.measure() as transaction:
                unadded = self._insert(self._api, first_rows, is_retry=is_retry)
                also(self._api, number)
                self._api.commit()
                transaction.rows = number
            return number, unadded

        with self._problems():
            if not rows:
                self.run(lambda api: also(api, 0))
                return 0, Unadded()
            name = str(self._database)
            return (
                yield from as_large_as_possible(
                    attempt, self._size, len(rows), self._api, name=name, ask=ask
                )
            )

    def _insert(self, api: Connection, rows: Sequence[Row], *, is_retry: bool) -> Unadded:
        """Insert the rows that are not there yet.

        :param is_retry: the connection may have broken after an earlier attempt was committed
        """
        own = self._names_in_same_cell(api, rows) if is_retry else set()
        taken: set[str] = set()
        for _ in range(MAX_LOST_RACES):
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

    def _names_in_same_cell(self, api: Connection, rows: Sequence[Row]) -> set[str]:
        """The names that are mapped to the cell that their rows name."""
        wanted_cells = {row[self._key.name]: row["cell_id"] for row in rows}
        cell_ids = self._cells_of(api, wanted_cells.keys())
        return {name for name, cell_id in cell_ids.items() if cell_id == wanted_cells[name]}

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
    api.execute(insert(mappings), [{"created_at": utc_now(), **row} for row in rows])


def insert_one_by_one(
    api: Connection, mappings: TableClause, key: str, rows: Iterable[Row]
) -> Unadded:
    """Insert mappings of which the database refuses some.

    A row may be refused as a duplicate although the other row cannot be seen: somebody else has
    added that at this moment.
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
            if error_number(error) == DUPLICATE_KEY:
                taken.add(row[key])
            else:
                refused[row[key]] = server_message(error)
    return Unadded(frozenset(taken), refused)


def concerns_a_row(error: DBAPIError) -> bool:
    """Whether a database refuses one row of a statement, and may well accept the others."""
    return (
        isinstance(error, IntegrityError | DataError) or error_number(error) == REFUSED_BY_TRIGGER
    )
