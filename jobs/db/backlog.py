"""What an archive or a purge would find: rows by table, with the oldest and the newest. Nothing is written."""

from collections.abc import Generator, Mapping, Sequence
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
from jobs.db.trees import Forest
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


Counted = tuple[TableClause, str | None, ColumnElement[bool]]
"""A table, the column that tells the age of its rows, and the condition that a row waits."""


def to_archive(target: Target, params: archive_deleted_rows.Params, cursor: Cursor | None) -> Generator[Step[Backlog]]:
    """Count what an archive that runs until it is complete would move; what may block it is not looked for.

    :raises DatabaseProblem: some tables cannot be archived; what waits in the others is counted
    """
    with target.database.connect() as cell:
        forest = Forest(catalogue.read_catalogue(cell))
        rollback(cell)
        wanted: dict[str, Counted] = {}
        refused = archive_deleted_rows.unsuitable_tables(cell, forest, params)
        for name in forest.roots:
            if name not in refused:
                waits = archive_deleted_rows.moves(forest, name, params)
                wanted[name] = (forest.tree(name).live, "deleted_at", waits)
        yield from _count(cell, cursor, wanted)
    if refused:
        raise DatabaseProblem(f"{target.database}: {archive_deleted_rows.in_words(refused)}")


def to_purge(target: Target, params: purge.Params, cursor: Cursor | None) -> Generator[Step[Backlog]]:
    """Count what a purge would delete."""
    with target.database.connect() as cell:
        tables = catalogue.read_catalogue(cell)
        wanted: dict[str, Counted] = {}
        for name in tables.shadow_tables():
            aged_by = purge.timestamp_column(name, tables.columns[name])
            if aged_by or not params.before:
                shadow = table(name, *map(column, tables.columns[name]))
                old = older_than(shadow.c[aged_by], params.before) if aged_by and params.before else true()
                wanted[name] = (shadow, aged_by, old)
        yield from _count(cell, cursor, wanted)


def _count(
    cell: Connection,
    cursor: Cursor | None,
    wanted: Mapping[str, Counted],
) -> Generator[Step[Backlog]]:
    rollback(cell)
    names = list(wanted)
    for name in names[names.index(cursor["table"]) + 1 if cursor else 0 :]:
        counted, aged_by, condition = wanted[name]
        age = type_coerce(counted.c[aged_by], DateTime) if aged_by else null()
        rows, oldest, newest = cell.execute(
            select(func.count(), func.min(age), func.max(age)).select_from(counted).where(condition)
        ).one()
        rollback(cell)
        yield Step(Backlog({name: Waiting(rows, oldest, newest)} if rows else {}), {"table": name})


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
