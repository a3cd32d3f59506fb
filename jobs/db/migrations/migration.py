"""What an online data migration is, where it works, and how rows get a value that they lack."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, Self, TypeAlias

from sqlalchemy import (
    Connection,
    DateTime,
    Select,
    TableClause,
    TextClause,
    bindparam,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from jobs.action import Target
from jobs.api_connection import ApiConnection
from jobs.retry import TryAgain, rollback
from novadb import catalogue
from novadb.clock import utc_now
from novadb.engine import Database
from novadb.lazy import lazy_property

# The most rows that one transaction brings up to date.
CHUNK: Final = 1_000
# How many of the rows that are left for one reason are named, per migration; the rest is counted.
NAMED: Final = 20
# The uuid, project and user of the instance that is none: it lends its row to the marker of the
# interfaces' migration.
FAKE: Final = "00000000-0000-0000-0000-000000000000"

IsDone: TypeAlias = Callable[[Connection], bool]
"""Tells whether a transaction is in the database, over a connection that has none."""


@dataclass(frozen=True)
class Left:
    """Rows that cannot be migrated, for one reason.

    :ivar named: the first ``NAMED`` of them
    """

    count: int = 0
    named: tuple[str, ...] = ()

    def __add__(self, other: Self) -> Self:
        return replace(
            self, count=self.count + other.count, named=(self.named + other.named)[:NAMED]
        )


@dataclass(frozen=True)
class Tally:
    """What a migration has come to.

    :ivar found: rows that matched
    :ivar done: those of them that it has brought up to date
    :ivar left: those that cannot be, by the reason
    :ivar unseen: a budget ended it before it had looked at all rows
    :ivar errors: why it failed, by the place; no text: it did not, when it was tried again
    """

    found: int = 0
    done: int = 0
    left: Mapping[str, Left] = field(default_factory=dict)
    unseen: bool = False
    errors: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: Self) -> Self:
        reasons = {**self.left, **other.left}
        return replace(
            self,
            found=self.found + other.found,
            done=self.done + other.done,
            left={why: self.left.get(why, Left()) + other.left.get(why, Left()) for why in reasons},
            unseen=self.unseen or other.unseen,
            errors={**self.errors, **other.errors},
        )

    @property
    def failures(self) -> dict[str, str]:
        """The errors that stand, by the place."""
        return {place: reason for place, reason in self.errors.items() if reason}


def left_for(reason: str, names: Iterable[str]) -> Tally:
    """Rows that matched and stay as they are."""
    every = tuple(names)
    return (
        Tally(found=len(every), left={reason: Left(len(every), every[:NAMED])})
        if every
        else Tally()
    )


@dataclass(frozen=True)
class Batch:
    """One transaction of a migration.

    :ivar tally: what it came to
    :ivar after: the id to go on behind; None: the migration is through
    :ivar looked_at: rows, those included that do not count as found; of a migration that ``looks``
    """

    tally: Tally
    after: int | None
    looked_at: int = 0


@dataclass(frozen=True)
class Defaults:
    """What nova.conf gives to rows without a value of their own.

    :ivar zone: the availability zone of hosts in no aggregate that has one
    :ivar cpu: the allocation ratio; likewise ``ram`` and ``disk``. None: what the cell's release of
        Nova has by default
    """

    zone: str = "nova"
    cpu: float | None = None
    ram: float = 1.0
    disk: float = 1.0


class Place:
    """A cell in which a migration works. Its databases are connected to when they are first needed.

    :ivar size: of the transactions; each is measured from its first statement that locks or writes
    """

    def __init__(self, target: Target, defaults: Defaults) -> None:
        self._target = target
        self._stack = ExitStack()
        self.defaults = defaults
        self.identity = target.cell.identity
        self.mapping_ids = target.cell.mapping_ids
        self.size = target.size

    @property
    def name(self) -> str:
        """What the cell's database is called in messages."""
        return str(self._target.cell.database)

    @property
    def database(self) -> Database:
        """The cell's database.

        :raises DatabaseProblem: its URL cannot be used
        """
        return self._target.database

    def close(self) -> None:
        """Close the connections."""
        self._stack.close()

    @lazy_property
    def cell(self) -> Connection:
        """A connection to the cell's database."""
        return self._stack.enter_context(self._target.database.connect())

    @lazy_property
    def api(self) -> ApiConnection:
        """A connection to the API database.

        :raises ApiDatabaseProblem: it is not configured, or could not be used when the command
            began
        """
        return self._stack.enter_context(ApiConnection(self._target.need_api()))

    @lazy_property
    def cell_columns(self) -> frozenset[str]:
        """What the cell's database has, as ``table.column``."""
        columns = _columns(self.cell)
        rollback(self.cell)
        return columns

    @lazy_property
    def api_columns(self) -> frozenset[str]:
        """What the API database has, as ``table.column``."""
        with self.api.transaction() as api:
            return _columns(api)

    @contextmanager
    def writing(self, rows: int, is_done: IsDone) -> Iterator[Connection]:
        """A transaction in the cell's database, committed at the end, whose time tells how large
        the next one may be.

        :param rows: that it writes
        :param is_done: asked where the line was lost with the answer to the commit; else rows that
            it brought up to date would be counted by nobody
        """
        with self.size.measure() as transaction:
            yield self.cell
            try:
                self.cell.commit()
            except DBAPIError as error:
                rollback(self.cell)
                if not error.connection_invalidated or not is_done(self.cell):
                    raise
                rollback(self.cell)
            transaction.rows = rows

    @contextmanager
    def writing_to_api(self, rows: int, is_done: IsDone) -> Iterator[Connection]:
        """The same in the API database."""
        is_at_commit = False
        with self.size.measure() as transaction:
            try:
                with self.api.transaction() as api:
                    yield api
                    is_at_commit = True
            except TryAgain:
                if not is_at_commit or not self._is_done_in_api(is_done):
                    raise
            transaction.rows = rows

    def _is_done_in_api(self, is_done: IsDone) -> bool:
        with self.api.transaction() as api:
            return is_done(api)

    def rollback(self) -> None:
        """End what transaction there may be in the cell."""
        if "cell" in vars(self):
            rollback(self.cell)


def _columns(connection: Connection) -> frozenset[str]:
    tables = catalogue.read_catalogue(connection).columns
    return frozenset(f"{name}.{column}" for name, columns in tables.items() for column in columns)


@dataclass(frozen=True)
class Migration:
    """One online data migration.

    :ivar name: the stock tool's name for it
    :ivar step: brings at most so many rows up to date, the next ones behind an id, and commits; may
        be called again after any failure
    :ivar cell_columns: the columns of the cell's database without which there is nothing to migrate
    :ivar api_columns: likewise of the API database
    :ivar walks: whether the stock tool walks all cells with it, and not only the configured
        database
    :ivar looks: whether a budget bounds what it looks at, and not what it changes
    """

    name: str
    step: Callable[[Place, int, int], Batch]
    cell_columns: tuple[str, ...] = ()
    api_columns: tuple[str, ...] = ()
    walks: bool = False
    looks: bool = False

    def lacks(self, place: Place) -> str:
        """The first column that the databases do not have; empty: they have all."""
        lacking = [name for name in self.cell_columns if name not in place.cell_columns]
        lacking += [name for name in self.api_columns if name not in place.api_columns]
        return lacking[0] if lacking else ""


def pairs(connection: Connection, statement: Select[Any]) -> dict[Any, Any]:
    """The rows of a statement that selects two columns, by the first."""
    return {first: second for first, second in connection.execute(statement)}  # noqa: C416 - rows are no tuples to mypy


def without_value(
    connection: Connection, rows: TableClause, name: str, after: int, size: int, *more: Any
) -> list[int]:
    """The ids of the next rows that lack a value.

    :param more: further conditions
    """
    lacking = select(rows.c.id).where(rows.c.id > after, rows.c[name].is_(None), *more)
    return list(connection.execute(lacking.order_by(rows.c.id).limit(size)).scalars())


def fill(connection: Connection, rows: TableClause, name: str, values: Mapping[int, Any]) -> int:
    """Give rows the values that they lack, in one statement. A row that has got one meanwhile keeps
    it.

    :param values: by id
    :returns: how many rows got theirs
    """
    if not values:
        return 0
    ordered = sorted(values.items())
    bound: dict[str, Any] = {"now": utc_now()}
    for number, (key, value) in enumerate(ordered):
        bound |= {f"k{number}": key, f"v{number}": value}
    return connection.execute(_filling(rows.name, name, len(ordered)), bound).rowcount


def all_have(rows: TableClause, name: str, ids: Iterable[int]) -> IsDone:
    """Whether none of these rows lacks a value any more."""
    return none_is_left(select(rows.c.id).where(rows.c.id.in_(list(ids)), rows.c[name].is_(None)))


def none_is_left(due: Select[Any]) -> IsDone:
    """Whether a statement that finds what a transaction changes finds nothing any more."""
    return lambda connection: connection.execute(due.limit(1)).first() is None


@lru_cache(maxsize=32)
def _filling(table: str, name: str, size: int) -> TextClause:
    """The statement that fills so many rows. As text it is compiled once for all batches of a
    size.
    """
    values = " ".join(f"WHEN :k{number} THEN :v{number}" for number in range(size))
    keys = ", ".join(f":k{number}" for number in range(size))
    return text(
        f"UPDATE {table} SET {name} = CASE id {values} END, updated_at = :now "
        f"WHERE id IN ({keys}) AND {name} IS NULL"
    ).bindparams(bindparam("now", type_=DateTime))


def next_after(ids: list[int], size: int) -> int | None:
    """Where to go on behind a full batch; a smaller one was the last."""
    return ids[-1] if len(ids) == size else None
