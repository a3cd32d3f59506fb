"""``db purge``: delete rows from the shadow tables."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from functools import partial
from typing import Any, Final, Self

from sqlalchemy import ColumnElement, Connection, TableClause, column, delete, select, table, true

from jobs.action import Action, CellResult, Cursor, Outcome, Step, Target
from jobs.conditions import older_than
from jobs.db.key_walk import KeyWalk, walk_through
from jobs.estimates import Forecast, count_within, estimate, estimated_rows
from jobs.retry import as_large_as_possible, rollback
from jobs.sums import add
from jobs.transaction_size import TransactionSize
from novadb import catalogue
from novadb.catalogue import Catalogue

# The column that tells how old a shadow row is; all others by the first of TIMESTAMPS that they have.
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
    :ivar aged_by: the column that ``before`` was compared with, by shadow table; empty without a date
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


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Purged]]:
    """Delete the rows of one cell's shadow tables, in chunks of their primary key.

    :param cursor: ``table`` and ``after``: go on in this table behind this key; ``rest``: what is left by the forecast
    :raises DatabaseProblem: the cell's database cannot be used
    """
    at = cursor or {"table": "", "after": None}
    with target.database.connect() as cell:
        tables = catalogue.read_catalogue(cell)
        rollback(cell)
        names = [name for name in tables.shadow_tables() if name >= at["table"]]
        behind = names
        count = partial(_count_due, cell, tables, params)
        forecast = Forecast(lambda: estimate(partial(count, behind), cell, str(target.database)), cursor)
        for number, name in enumerate(names):
            behind = names[number:]
            forecast.come_to(behind)
            after = at["after"] if name == at["table"] else None
            aged_by = timestamp_column(name, tables.columns[name]) if params.before else None
            if params.before and aged_by is None:
                yield forecast.step(Purged(ageless=(name,)), {"table": name + " ", "after": None})
                continue
            shadow = table(name, *map(column, tables.columns[name]))
            condition = older_than(shadow.c[aged_by], params.before) if aged_by and params.before else true()
            key = tables.primary_keys[name]
            walk = walk_through(cell, shadow.c[key[0]], after) if len(key) == 1 else None
            more = walk is None or not walk.is_over
            bound = target.limits.purge_chunk if len(key) == 1 else 1
            while more:
                forecast.look()
                end = walk.bounds()[1] if walk else None
                chunk = _Chunk(cell, shadow, key, condition, after, end, target.size)
                rows, after = yield from as_large_as_possible(
                    chunk.delete, target.size, bound, cell, name=str(target.database), ask=Step(Purged(), None)
                )
                if walk:
                    after = _go_on(walk, cell, after)
                more = after is not None
                if rows or more:
                    outcome = Purged({name: rows}, {name: aged_by} if aged_by else {}) if rows else Purged()
                    yield forecast.step(
                        outcome,
                        {"table": name, "after": after} if more else {"table": name + " ", "after": None},
                    )


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


def _count_due(cell: Connection, tables: Catalogue, params: Params, names: Sequence[str]) -> dict[str, int]:
    """About how many rows are to be deleted from some shadow tables: all of them by statistics, old ones counted."""
    if params.before is None:
        return estimated_rows(cell, names)
    wanted = {}
    for name in names:
        if aged_by := timestamp_column(name, tables.columns[name]):
            shadow = table(name, column(aged_by))
            wanted[name] = (shadow, older_than(shadow.c[aged_by], params.before))
    return count_within(cell, wanted)


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
        if len(self.key) != 1:  # of no table of Nova's; another one is deleted from in one statement
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
