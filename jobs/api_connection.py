"""A connection to the API database that is opened when it is first needed."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from jobs.action import ApiDatabaseProblem
from jobs.retry import TryAgain, leave, rollback
from novadb.engine import Database, is_transient, is_without_quorum, server_message
from novadb.errors import Unreachable


class ApiConnection:
    """Transactions in the API database. As a context manager it closes the connection at the
    end.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._stack = ExitStack()
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction that is committed at the end.

        :raises TryAgain: a passing error
        :raises ApiDatabaseProblem: any other error of the database
        """
        try:
            if self._connection is None:
                self._connection = self._stack.enter_context(self.database.connect())
            try:
                yield self._connection
                self._connection.commit()
            except BaseException as error:
                rollback(self._connection)
                if isinstance(error, DBAPIError) and is_without_quorum(error):
                    leave(self._connection)
                raise
        except Unreachable as error:
            raise TryAgain(ApiDatabaseProblem(str(error))) from error
        except DBAPIError as error:
            problem = ApiDatabaseProblem(f"{self.database}: {server_message(error)}")
            raise (TryAgain(problem) if is_transient(error) else problem) from error
