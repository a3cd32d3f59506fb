"""What an archive or a purge would find: rows by table, with the oldest and the newest. Nothing is
written.

Large tables are read piece by piece: no snapshot is held for long, and no limit of time ends the
count.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from typing import ClassVar, Final, Self

from sqlalchemy import (
    ColumnElement,
    Connection,
    DateTime,
    TableClause,
    column,
    func,
    null,
    select,
    table,
    true,
    type_coerce,
)

from jobs.action import Action, CellResult, Cursor, Outcome, Step, Target, Unit
from jobs.conditions import older_than
from jobs.db import archive_deleted_rows, purge
from jobs.db.key_walk import walk_through
from jobs.db.trees import read_forest
from jobs.retry import rollback
from novadb import catalogue
from novadb.errors import DatabaseProblem


@dataclass(frozen=True)
class Waiting:
    """Rows of one table that would be moved or deleted.

    :ivar oldest: their oldest time of deletion, naive and in UTC; None where they have none
    :ivar newest: their newest
    """

    rows: int
    oldest: datetime | None
    newest: datetime | None

    def __add__(self, other: Self) -> Self:
        oldest = [age for age in (self.oldest, other.oldest) if age]
        newest = [age for age in (self.newest, other.newest) if age]
        return replace(
            self,
            rows=self.rows + other.rows,
            oldest=min(oldest, default=None),
            newest=max(newest, default=None),
        )


@dataclass(frozen=True)
class Backlog(Outcome):
    """What waits in a cell, by table."""

    counts: ClassVar[Unit] = Unit.WAITING

    tables: Mapping[str, Waiting] = field(default_factory=dict)

    def __add__(self, other: Self) -> Self:
        return replace(self, tables={**self.tables, **other.tables})

    @property
    def by_table(self) -> Mapping[str, int]:
        """Rows that wait."""
        return {name: waiting.rows for name, waiting in self.tables.items()}

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(waiting.rows for waiting in self.tables.values())


@dataclass(frozen=True)
class Counted:
    """What is counted of a table.

    :ivar aged_by: the column that tells the age of its rows; None: they have none
    :ivar condition: that a row waits
    :ivar key: by which it is read piece by piece; None: it is read at once
    """

    table: TableClause
    aged_by: str | None
    condition: ColumnElement[bool]
    key: str | None


def to_archive(
    target: Target, params: archive_deleted_rows.Params, cursor: Cursor | None
) -> Generator[Step[Backlog]]:
    """Count what an archive that runs until it is complete would move; what may block it is not
    looked for.

    :raises DatabaseProblem: some tables cannot be archived; what waits in the others is counted
    """
    with target.database.connect() as cell:
        forest = read_forest(cell)
        due_rows = archive_deleted_rows.due_rows(forest, params)
        wanted: dict[str, Counted] = {}
        refused = archive_deleted_rows.unsuitable_tables(cell, forest, params)
        for name in forest.roots:
            if name not in refused:
                live = forest.tree(name).live
                wanted[name] = Counted(live, "deleted_at", due_rows.moves(name), "id")
        yield from _count(cell, cursor, wanted)
    if refused:
        raise DatabaseProblem(f"{target.database}: {archive_deleted_rows.in_words(refused)}")


def to_purge(
    target: Target, params: purge.Params, cursor: Cursor | None
) -> Generator[Step[Backlog]]:
    """Count what a purge would delete."""
    with target.database.connect() as cell:
        tables = catalogue.read_catalogue(cell)
        wanted: dict[str, Counted] = {}
        for name in tables.shadow_tables():
            aged_by = purge.timestamp_column(name, tables.columns[name])
            if aged_by or not params.before:
                shadow = table(name, *map(column, tables.columns[name]))
                old = (
                    older_than(shadow.c[aged_by], params.before)
                    if aged_by and params.before
                    else true()
                )
                key = tables.primary_keys[name]
                wanted[name] = Counted(shadow, aged_by, old, key[0] if len(key) == 1 else None)
        yield from _count(cell, cursor, wanted)


def _count(
    cell: Connection,
    cursor: Cursor | None,
    wanted: Mapping[str, Counted],
) -> Generator[Step[Backlog]]:
    rollback(cell)
    names = list(wanted)
    for name in names[names.index(cursor["table"]) + 1 if cursor else 0 :]:
        waiting = Waiting(0, None, None)
        for piece in _count_table(cell, wanted[name]):
            waiting += piece
            yield Step(Backlog(), None)
        yield Step(Backlog({name: waiting} if waiting.rows else {}), {"table": name})


def _count_table(cell: Connection, counted: Counted) -> Iterator[Waiting]:
    """Count one table, piece by piece."""
    age = type_coerce(counted.table.c[counted.aged_by], DateTime) if counted.aged_by else null()
    numbers = (
        select(func.count(), func.min(age), func.max(age))
        .select_from(counted.table)
        .where(counted.condition)
    )
    walk = walk_through(cell, counted.table.c[counted.key]) if counted.key else None
    if walk is None:
        yield Waiting(*cell.execute(numbers).one())
        rollback(cell)
        return
    while not walk.is_over:
        rows, oldest, newest, following = cell.execute(
            numbers.where(walk.piece()).add_columns(walk.following())
        ).one()
        rollback(cell)
        walk.go_on(following)
        yield Waiting(rows, oldest, newest)


def _collapse(worst: IntEnum, nothing: IntEnum, results: Sequence[CellResult[Backlog]]) -> IntEnum:
    """Nothing was archived or purged, or a cell failed."""
    return worst if any(result.failure for result in results) else nothing


ARCHIVE: Final = Action(
    name="db.archive_deleted_rows.dry_run",
    params=archive_deleted_rows.Params,
    work=to_archive,
    nothing=Backlog(),
    writes=False,
    collapse=lambda results, _: _collapse(
        archive_deleted_rows.Exit.ERROR, archive_deleted_rows.Exit.NOTHING_ARCHIVED, results
    ),
)
PURGE: Final = Action(
    name="db.purge.dry_run",
    params=purge.Params,
    work=to_purge,
    nothing=Backlog(),
    writes=False,
    collapse=lambda results, _: _collapse(purge.Exit.ERROR, purge.Exit.NOTHING_PURGED, results),
    good_codes=frozenset({purge.Exit.NOTHING_PURGED}),
)
