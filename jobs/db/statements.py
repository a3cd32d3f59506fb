"""Statements on the rows that a list of values names, written once and sent many times.

Moving trees takes a handful of statements for each table and batch. To let SQLAlchemy write each of
them anew, with a parameter for each value, costs several times what it costs to send it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, CursorResult, Delete, Insert, Select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

# Above 200 (eq_range_index_dive_limit) a server estimates by its statistics, without a look at the
# index for each value; with many more, and in a table of not many times more rows, it scans the
# table instead of using the index.
KEYS_PER_STATEMENT: Final = 400
AS_IT_IS: Final[Mapping[str, Any]] = {"no_parameters": True}
Statement = Select[Any] | Insert | Delete


class Among(ColumnElement[bool]):
    """The condition that a column has one of the values that a ``Prepared`` statement is sent
    with.
    """

    inherit_cache = False

    def __init__(self, column: ColumnElement[Any]) -> None:
        self.column = column


@compiles(Among)
def _among(element: Among, compiler: SQLCompiler, **words: Any) -> str:
    """The driver writes a tuple as ``(1, 2, 3)``."""
    return f"{compiler.process(element.column, **words)} IN %(values)s"


@compiles(Among, "sqlite")
def _among_in_sqlite(element: Among, compiler: SQLCompiler, **words: Any) -> str:
    return f"{compiler.process(element.column, **words)} IN (SELECT value FROM json_each(:values))"


class Values(list[Any]):
    """At most ``KEYS_PER_STATEMENT`` values, written out once for all statements that are sent with
    them.
    """

    _written: str | None = None

    def written(self, connection: Connection) -> str:
        """The list as it stands in a statement.

        :param connection: always to the same database
        """
        if self._written is None:
            if connection.dialect.name == "sqlite":
                self._written = json.dumps(self)
            else:
                cursor: Any = connection.connection.cursor()
                self._written = str(cursor.mogrify("%s", (tuple(self),)))
        return self._written


class Prepared:
    """A statement that is sent with a list of values; see ``Among``."""

    def __init__(self, statement: Statement, in_sqlite: Statement | None = None) -> None:
        """:param statement: without parameters of its own
        :param in_sqlite: the same for SQLite, where that needs other words
        """
        self._statement = statement
        self._in_sqlite = in_sqlite if in_sqlite is not None else statement
        self._text: str | None = None

    def execute(self, connection: Connection, values: Values) -> CursorResult[tuple[Any, ...]]:
        """Send it.

        :param connection: always to a database of the same kind
        """
        if connection.dialect.name == "sqlite":
            return connection.exec_driver_sql(
                self._template(connection), {"values": values.written(connection)}
            )
        return connection.exec_driver_sql(
            self.written(connection, values), execution_options=AS_IT_IS
        )

    def written(self, connection: Connection, values: Values) -> str:
        """The statement as MySQL gets it."""
        return self._template(connection) % {"values": values.written(connection)}

    def _template(self, connection: Connection) -> str:
        if self._text is None:
            statement = self._in_sqlite if connection.dialect.name == "sqlite" else self._statement
            self._text = str(
                statement.compile(
                    dialect=connection.dialect, compile_kwargs={"literal_binds": True}
                )
            )
        return self._text


def chunks(values: Iterable[Any]) -> Iterator[Values]:
    """The values in lists that one statement can take."""
    rest = iter(values)
    while chunk := Values(islice(rest, KEYS_PER_STATEMENT)):
        yield chunk
