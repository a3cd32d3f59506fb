"""``db purge``: delete rows from the shadow tables."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from typing import Any, Final, Self

from sqlalchemy import ColumnElement, Connection, TableClause, column, delete, select, table, true

from jobs.action import Action, CellResult, Cursor, Outcome, Step, Target
from jobs.codec import decode, encode
from jobs.conditions import older_than
from jobs.db.key_walk import KeyWalk, walk_through
from jobs.estimates import Forecast, count_within, estimate, estimated_rows
from jobs.retry import as_large_as_possible, rollback
from jobs.sums import add
from jobs.transaction_size import TransactionSize
from novadb import catalogue

# The column that tells how old a shadow row is; all others by the first of TIMESTAMPS that they
# have.
AGED_BY: Final = {
    "shadow_instance_actions": "created_at",
    "shadow_instance_actions_events": "created_at",
    "shadow_task_log": "updated_at",
}
TIMESTAMPS: Final = ("deleted_at", "updated_at", "created_at")


class Exit(IntEnum):
    """The manual's return codes."""

    PURGED = 0
    MISSING_ARGUMENTS = 1
    INVALID_BEFORE = 2
    NOTHING_PURGED = 3
    NO_API_DATABASE = 4
    ERROR = 255


@dataclass(frozen=True)
class Params:
    """The options of the command.

    :ivar before: delete only what is older; naive, in UTC. None: everything
    """

    before: datetime | None = None


@dataclass(frozen=True)
class Purged(Outcome):
    """What was done in a cell.

    :ivar deleted: rows by shadow table
    :ivar aged_by: the column that ``before`` was compared with, by shadow table; empty without a
        date
    :ivar ageless: shadow tables that were passed over, because they have no such column
    """

    deleted: Mapping[str, int] = field(default_factory=dict)
    aged_by: Mapping[str, str] = field(default_factory=dict)
    ageless: tuple[str, ...] = ()

    def __add__(self, other: Self) -> Self:
        return replace(
            self,
            deleted=add(self.deleted, other.deleted),
            aged_by={**self.aged_by, **other.aged_by},
            ageless=self.ageless + other.ageless,
        )

    @property
    def by_table(self) -> Mapping[str, int]:
        """Rows that are gone."""
        return self.deleted

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.deleted.values())


@dataclass(frozen=True)
class Position:
    """Where a purge has come to. It travels as the cursor.

    :ivar table: the shadow table that it is in; those before it in the alphabet are through
    :ivar after: the key behind which it goes on; None: it begins with the first row
    :ivar is_through: whether this table is through, too
    """

    table: str = ""
    after: Any = None
    is_through: bool = False

    def is_done_with(self, table: str) -> bool:
        """Whether all of a table is purged."""
        return table < self.table or (self.is_through and table == self.table)


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Purged]]:
    """Delete the rows of one cell's shadow tables, in chunks of their primary key.

    :param cursor: the ``Position``, and the ``Forecast``'s part
    :raises DatabaseProblem: the cell's database cannot be used
    """
    with target.database.connect() as cell:
        yield from _CellPurge(target, params, cell, cursor).purge_tables()


class _CellPurge:
    """A purge of one cell's shadow tables."""

    def __init__(
        self, target: Target, params: Params, cell: Connection, cursor: Cursor | None
    ) -> None:
        self._target = target
        self._params = params
        self._cell = cell
        self._name = str(target.database)
        self._position = decode(Position, cursor or {})
        self._catalogue = catalogue.read_catalogue(cell)
        rollback(cell)
        names = self._catalogue.shadow_tables()
        self._remaining_tables = [name for name in names if not self._position.is_done_with(name)]
        self._forecast = Forecast(self._estimate_due_rows, cursor)

    def purge_tables(self) -> Generator[Step[Purged]]:
        """Purge one table after the other."""
        while self._remaining_tables:
            self._forecast.come_to(self._remaining_tables)
            name = self._remaining_tables[0]
            aged_by = timestamp_column(name, self._catalogue.columns[name])
            if self._params.before is None:
                yield from self._purge_table(name, true(), {})
            elif aged_by is None:
                yield self._step(Purged(ageless=(name,)), Position(name, is_through=True))
            else:
                is_old = older_than(column(aged_by), self._params.before)
                yield from self._purge_table(name, is_old, {name: aged_by})
            del self._remaining_tables[0]

    def _purge_table(
        self, name: str, condition: ColumnElement[bool], aged_by: Mapping[str, str]
    ) -> Generator[Step[Purged]]:
        """Delete the rows of a table that meet a condition."""
        key = self._catalogue.primary_keys[name]
        after = self._position.after if name == self._position.table else None
        shadow = table(name, *map(column, self._catalogue.columns[name]))
        walk = walk_through(self._cell, shadow.c[key[0]], after) if len(key) == 1 else None
        largest_chunk = self._target.limits.purge_chunk if len(key) == 1 else 1
        has_more = walk is None or not walk.is_over
        while has_more:
            self._forecast.look()
            end = walk.bounds()[1] if walk else None
            chunk = _Chunk(self._cell, shadow, key, condition, after, end, self._target.size)
            rows, after = yield from as_large_as_possible(
                chunk.delete,
                self._target.size,
                largest_chunk,
                self._cell,
                name=self._name,
                ask=Step(Purged(), None),
            )
            if walk:
                after = _go_on(walk, self._cell, after)
            has_more = after is not None
            if rows or has_more:
                outcome = Purged({name: rows}, aged_by) if rows else Purged()
                yield self._step(outcome, Position(name, after, is_through=not has_more))

    def _step(self, outcome: Purged, position: Position) -> Step[Purged]:
        return self._forecast.step(outcome, encode(position))

    def _estimate_due_rows(self) -> dict[str, int]:
        """About how many rows are to be deleted, by table."""
        return estimate(self._count_due_rows, self._cell, self._name)

    def _count_due_rows(self) -> dict[str, int]:
        """Rows to be deleted: all of a table by statistics, old ones counted."""
        if self._params.before is None:
            return estimated_rows(self._cell, self._remaining_tables)
        due = {}
        for name in self._remaining_tables:
            if aged_by := timestamp_column(name, self._catalogue.columns[name]):
                due[name] = table(name), older_than(column(aged_by), self._params.before)
        return count_within(self._cell, due)


def _go_on(walk: KeyWalk, cell: Connection, last: int | None) -> int | None:
    """Go on behind a chunk.

    :param last: its last key; None: it came to the end of the current piece
    :returns: the key to go on behind; None: the table is through
    """
    if last is not None:
        walk.go_behind(last)
    else:
        walk.go_on_by(cell)
    return None if walk.is_over else walk.after


@dataclass
class _Chunk:
    """The next rows of a shadow table that are old enough.

    :ivar after: the key behind which they begin
    :ivar end: the last key of the piece of the table that is read; None: it is read to its end
    :ivar size: is told how long it takes
    """

    cell: Connection
    shadow: TableClause
    key: Sequence[str]
    condition: ColumnElement[bool]
    after: Any
    end: int | None
    size: TransactionSize
    _uncommitted: tuple[int, Any] | None = None

    def delete(self, size: int) -> tuple[int, Any]:
        """Delete them, at most so many; may be tried again.

        :returns: how many, and the last key of the chunk; None when the piece is through
        """
        earlier = self._uncommitted
        if earlier and not self._are_there(last=earlier[1]):
            return earlier  # the answer to its commit was lost
        with self.size.measure() as transaction:
            last = self._last(size)
            rows = self.cell.execute(delete(self.shadow).where(*self._bounds(last))).rowcount
            self._uncommitted = rows, last
            self.cell.commit()
            transaction.rows = rows
        return rows, last

    def _last(self, size: int) -> Any:
        if (
            len(self.key) != 1
        ):  # of no table of Nova's; another one is deleted from in one statement
            return None
        by = self.shadow.c[self.key[0]]
        return self.cell.execute(
            select(by).where(*self._bounds(None)).order_by(by).offset(size - 1).limit(1)
        ).scalar()  # fmt: skip

    def _are_there(self, last: Any) -> bool:
        rows = select(self.shadow.c[self.key[0]]).where(*self._bounds(last))
        return self.cell.execute(rows.limit(1)).first() is not None

    def _bounds(self, last: Any) -> list[ColumnElement[bool]]:
        bounds = [self.condition]
        if self.after is not None:
            bounds.append(self.shadow.c[self.key[0]] > self.after)
        end = self.end if last is None else last
        if end is not None:
            bounds.append(self.shadow.c[self.key[0]] <= end)
        return bounds


def timestamp_column(name: str, columns: Sequence[str]) -> str | None:
    """The column that tells the age of a shadow table's rows, or None."""
    if name in AGED_BY:
        return AGED_BY[name]
    return next((stamp for stamp in TIMESTAMPS if stamp in columns), None)


def collapse(results: Sequence[CellResult[Purged]], _params: Params) -> Exit:
    """The exit code of the whole.

    From worst to best: a cell failed (255); rows were deleted (0); there were none (3).
    """
    if any(result.failure for result in results):
        return Exit.ERROR
    return Exit.PURGED if any(result.outcome.rows for result in results) else Exit.NOTHING_PURGED


ACTION: Final = Action(
    name="db.purge",
    params=Params,
    work=work,
    nothing=Purged(),
    collapse=collapse,
    good_codes=frozenset({Exit.PURGED, Exit.NOTHING_PURGED}),
)
