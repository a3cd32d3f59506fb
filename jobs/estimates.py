"""How much work is left in a cell, as far as that can be told without counting for long."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from sqlalchemy import ColumnElement, Connection, TableClause, bindparam, func, select, text
from sqlalchemy.exc import DBAPIError

from jobs.action import Cursor, O, Step
from jobs.retry import rollback, transactionally
from novadb.engine import error_number, is_mariadb, server_message
from novadb.error_numbers import OVER_TIME

LOG = logging.getLogger("cellkeeper.estimates")

AFTER: Final = 10.0
"""Seconds of work in a cell after which what is left is counted: shorter work is done by then."""
SECONDS: Final = 2.0
"""Seconds at most that the counting in a cell takes."""
LEAST: Final = 0.001  # seconds; to the servers 0 means: no limit

ESTIMATES: Final = text(
    "SELECT table_name AS name, table_rows AS number FROM information_schema.tables "
    "WHERE table_schema = DATABASE() AND table_name IN :names"
).bindparams(bindparam("names", expanding=True))

Counted = Mapping[str, tuple[TableClause, ColumnElement[bool]]]
"""Tables by name, with the condition that a row counts."""


def limit_statements(connection: Connection, seconds: float | None) -> None:
    """Have the server itself end a statement that takes longer: it would go on with it if only the
    client gave up.

    :param seconds: for each statement of the session; None: what the server lets all sessions do
    """
    if connection.dialect.name == "sqlite":
        return
    name, unit = (
        ("max_statement_time", 1) if is_mariadb(connection) else ("max_execution_time", 1000)
    )
    value = (
        "DEFAULT" if seconds is None else f"{max(seconds, LEAST) * unit:.{3 if unit == 1 else 0}f}"
    )
    connection.execute(text(f"SET SESSION {name} = {value}"))


def is_over_limit(error: DBAPIError) -> bool:
    """Whether the server ended a statement at its limit."""
    return error_number(error) in OVER_TIME


def estimated_rows(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """About how many rows tables have, by the server's statistics; nothing is read from the tables
    themselves.
    """
    if connection.dialect.name == "sqlite":
        return {}
    rows = connection.execute(ESTIMATES, {"names": list(names)}).all()
    rollback(connection)
    return {row.name: int(row.number) for row in rows if row.number is not None}


def count_within(
    connection: Connection, wanted: Counted, seconds: float = SECONDS
) -> dict[str, int]:
    """Count rows as long as there is time; where it is not enough for all of them, nothing is
    known.

    :param connection: without a transaction
    """
    if connection.dialect.name == "sqlite":  # which knows no limit
        return {}
    until = time.monotonic() + seconds
    counted = {}
    try:
        for name, (rows, condition) in wanted.items():
            if time.monotonic() >= until:
                return {}
            limit_statements(connection, until - time.monotonic())
            counted[name] = connection.execute(
                select(func.count()).select_from(rows).where(condition)
            ).scalar_one()
    except DBAPIError as error:
        if not is_over_limit(error):
            raise
        return {}
    finally:
        rollback(connection)
        limit_statements(connection, None)
        rollback(connection)
    return counted


def estimate(
    ask: Callable[[], dict[str, int]], connection: Connection, name: str
) -> dict[str, int]:
    """What ``ask`` returns; nothing where the database refuses the question: no work fails because
    of an estimate.

    :param name: of the database
    :raises DatabaseProblem: the database is away
    """
    try:
        return transactionally(ask, connection, name=name)
    except DBAPIError as error:
        LOG.debug("%s: what is left cannot be estimated: %s", name, server_message(error))
        return {}


@dataclass(frozen=True)
class Rest:
    """What is left of what was counted, as the work goes on.

    Where a counted row brings along others that were not, as an instance its actions, the rest
    grows in the proportion in which it did so far.

    :ivar due: rows that were counted and are still there, by table
    :ivar rows: that went since
    :ivar counted: those of them that had been counted
    """

    due: Mapping[str, int] = field(default_factory=dict)
    rows: int = 0
    counted: int = 0

    def after(self, by_table: Mapping[str, int]) -> Self:
        """The rest after so many rows went."""
        due = dict(self.due)
        counted = 0
        for name, rows in by_table.items():
            went = min(rows, due.get(name, 0))
            counted += went
            if went:
                due[name] -= went
        return replace(
            self, due=due, rows=self.rows + sum(by_table.values()), counted=self.counted + counted
        )

    def from_table(self, names: Sequence[str]) -> Self:
        """The rest once the work has come to a table: what is still counted in those before stays
        there.

        :param names: that table and all behind it
        """
        return replace(self, due={name: rows for name, rows in self.due.items() if name in names})

    @property
    def remaining(self) -> int | None:
        """About how many rows are left; None: not known."""
        left = sum(self.due.values())
        return round(left * self.rows / self.counted) if left and self.counted else None


class Forecast:
    """What is left of long work. It is counted once in a cell, and is kept in the cursor from then
    on.
    """

    def __init__(self, count: Callable[[], Mapping[str, int]], cursor: Cursor | None) -> None:
        """
        :param count: returns the rows that are due, by table; nothing where there was no time for
            all of them
        :param cursor: of the step before
        """
        self._count = count
        self._begin = time.monotonic()
        self._rest = Rest(**cursor["rest"]) if cursor and "rest" in cursor else None

    def look(self) -> None:
        """Count what is left, if the work lasts. To be called between two transactions."""
        if self._rest is None and time.monotonic() - self._begin >= AFTER:
            self._rest = Rest(self._count())

    def come_to(self, names: Sequence[str]) -> None:
        """The work has come to a table.

        :param names: that table and all behind it
        """
        if self._rest:
            self._rest = self._rest.from_table(names)

    def step(self, outcome: O, cursor: dict[str, Any]) -> Step[O]:
        """A step with what is left after it."""
        if self._rest is None:
            return Step(outcome, cursor)
        self._rest = self._rest.after(outcome.by_table)
        return Step(outcome, cursor | {"rest": vars(self._rest)}, self._rest.remaining)
