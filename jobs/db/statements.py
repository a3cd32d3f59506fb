"""Statements on the rows that a list of values names, written once and sent many times.

Moving trees takes a handful of statements for each table and batch. To let SQLAlchemy write each of them anew, with a
parameter for each value, costs several times what it costs to send it.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, CursorResult, Delete, Insert, Select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

# With more values an IN list may be answered by a scan of the table instead of its index.
KEYS_PER_STATEMENT: Final = 200
Statement = Select[Any] | Insert | Delete


class Among(ColumnElement[bool]):
    """The condition that a column has one of the values that a ``Prepared`` statement is sent with."""

    inherit_cache = False

    def __init__(self, column: ColumnElement[Any]) -> None:
        self.column = column


@compiles(Among)
def _among(element: Among, compiler: SQLCompiler, **words: Any) -> str:
    """PyMySQL writes a list as ``(1, 2, 3)``."""
    return f"{compiler.process(element.column, **words)} IN %(values)s"


@compiles(Among, "sqlite")
def _among_in_sqlite(element: Among, compiler: SQLCompiler, **words: Any) -> str:
    return f"{compiler.process(element.column, **words)} IN (SELECT value FROM json_each(:values))"


class Prepared:
    """A statement that is sent with a list of values; see ``Among``."""

    def __init__(self, statement: Statement, in_sqlite: Statement | None = None) -> None:
        """:param statement: without parameters of its own
        :param in_sqlite: the same for SQLite, where that needs other words
        """
        self._statement = statement
        self._in_sqlite = in_sqlite if in_sqlite is not None else statement
        self._text: str | None = None

    def execute(self, connection: Connection, values: list[Any]) -> CursorResult[tuple[Any, ...]]:
        """Send it.

        :param connection: always to a database of the same kind
        :param values: at most ``KEYS_PER_STATEMENT``
        """
        in_sqlite = connection.dialect.name == "sqlite"
        if self._text is None:
            statement = self._in_sqlite if in_sqlite else self._statement
            self._text = str(statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
        return connection.exec_driver_sql(self._text, {"values": json.dumps(values) if in_sqlite else values})


def chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    """The values in lists that one statement can take."""
    chunk: list[Any] = []
    for value in values:
        chunk.append(value)
        if len(chunk) == KEYS_PER_STATEMENT:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
