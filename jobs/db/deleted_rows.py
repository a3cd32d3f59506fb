"""The backlog of a cell for whoever watches it: rows that are marked as deleted, and how old they
are.

Bounded in rows and in time: unlike ``--dry-run``, which counts what would move, it may be asked
every few minutes. Large tables are read piece by piece, so that no snapshot is held meanwhile.
"""

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from functools import partial
from typing import ClassVar, Final, Self

from sqlalchemy import Connection, DateTime, column, func, select, table, type_coerce
from sqlalchemy.exc import DBAPIError

from jobs.action import Action, CellResult, Cursor, Outcome, Step, Target, Unit
from jobs.db.key_walk import KeyWalk
from jobs.db.trees import INSTANCES, read_forest
from jobs.estimates import is_over_limit, limit_statements
from jobs.retry import rollback, transactionally
from novadb.engine import Database


class Exit(IntEnum):
    """Whether all cells could be looked at."""

    LOOKED_AT = 0
    ERROR = 255


@dataclass(frozen=True)
class Params:
    """The limits.

    :ivar bound: rows of a table that are counted at most
    :ivar seconds: that the statements of a cell may take in all
    """

    bound: int = 100_000
    seconds: float = 10.0


@dataclass(frozen=True)
class DeletedRows(Outcome):
    """What was found in a cell.

    :ivar tables: rows that are marked as deleted, by table; those of instances first
    :ivar oldest: their oldest time of deletion, naive and in UTC; None where they have none
    :ivar uncounted: tables with more rows than were counted, or that there was no time for
    """

    counts: ClassVar[Unit] = Unit.WAITING

    tables: Mapping[str, int] = field(default_factory=dict)
    oldest: datetime | None = None
    uncounted: tuple[str, ...] = ()

    def __add__(self, other: Self) -> Self:
        ages = [age for age in (self.oldest, other.oldest) if age]
        return replace(
            self,
            tables={**self.tables, **other.tables},
            oldest=min(ages, default=None),
            uncounted=self.uncounted + other.uncounted,
        )

    @property
    def by_table(self) -> Mapping[str, int]:
        """Rows by table."""
        return self.tables

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.tables.values())


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[DeletedRows]]:
    """Count the deleted rows of one cell, table by table.

    :raises DatabaseProblem: the cell's database cannot be used
    """
    with target.database.connect() as cell:
        yield from count(cell, target.database, params)


def count(cell: Connection, database: Database, params: Params) -> Generator[Step[DeletedRows]]:
    """Count the deleted rows of the cell that is connected."""
    until = time.monotonic() + params.seconds
    forest = read_forest(cell)
    for name in sorted(forest.roots, key=lambda name: (name != INSTANCES, name)):
        look = partial(_look, cell, name, params.bound, until)
        yield Step(transactionally(look, cell, name=str(database)), {"table": name})


def _look(cell: Connection, name: str, bound: int, until: float) -> DeletedRows:
    """Look into one table; what was counted when the time is over stands.

    :param until: when all is over, by ``time.monotonic``
    """
    found = table(name, column("id"), column("deleted"), column("deleted_at"))
    walk, rows, ages = KeyWalk(found.c.id), 0, set[datetime]()
    while not walk.is_over and rows < bound:
        seconds = until - time.monotonic()
        if seconds <= 0:
            break
        some = (
            select(found.c.deleted_at)
            .where(walk.piece(), found.c.deleted != 0)
            .limit(bound - rows)
            .subquery()
        )
        oldest = type_coerce(func.min(some.c.deleted_at), DateTime)
        try:
            limit_statements(cell, seconds)
            more, age, following = cell.execute(
                select(func.count(), oldest, walk.following()).select_from(some)
            ).one()
        except DBAPIError as error:
            if not is_over_limit(error):
                raise
            break
        rollback(cell)
        rows += more
        ages |= {age} if age else set()
        walk.go_on(following)
    is_whole = walk.is_over and rows < bound
    return DeletedRows(
        {name: rows} if rows else {}, min(ages, default=None), () if is_whole else (name,)
    )


def collapse(results: Sequence[CellResult[DeletedRows]], _params: Params) -> Exit:
    """A cell that could not be looked at is an error."""
    return Exit.ERROR if any(result.failure for result in results) else Exit.LOOKED_AT


LOOK: Final = Action(
    name="db.deleted_rows",
    params=Params,
    work=work,
    nothing=DeletedRows(),
    collapse=collapse,
    writes=False,
)
