"""Doing a transaction again when what went wrong goes away by itself."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from novadb.attempts import QUORUM_PATIENCE, QUORUM_PAUSE, TRIES, attempts
from novadb.engine import Database, is_contended, is_too_large, is_transient, is_without_quorum, server_message
from novadb.errors import DatabaseProblem, Unreachable

LOG = logging.getLogger("cellkeeper.retry")
T = TypeVar("T")
I = TypeVar("I")  # noqa: E741
# How often a transaction of several rows is tried that meets others at the same rows, before it is made smaller.
CONTENDED_TRIES: Final = 2


class TryAgain(Exception):
    """Raised by the work in a transaction that may succeed when done again.

    :ivar problem: what to report when it does not
    """

    def __init__(self, problem: DatabaseProblem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Contended(Unreachable):
    """A transaction met others at the same rows again and again: a smaller one may succeed."""


def transactionally(
    work: Callable[[], T], *connections: Connection, name: str, tries: int = TRIES, can_shrink: bool = False
) -> T:
    """Run ``work`` until it succeeds, rolling all connections back after each failure.

    :param work: one or more transactions that may be done again from the start; it commits them itself
    :param connections: the connections it works on; they are outside any transaction afterwards
    :param name: the database that is named when nothing helps
    :param tries: how often it is tried at most
    :param can_shrink: whether the caller has a smaller transaction for the same
    :returns: what ``work`` returns
    :raises Contended: the caller should do the smaller one
    :raises DatabaseProblem: it failed ``tries`` times in a way that could have passed: deadlock, lock wait, lost
        certification, lost connection
    :raises DBAPIError: any other error of a database, at once
    """
    begin = time.monotonic()
    for attempt in attempts(tries):
        try:
            return work()
        except DBAPIError as error:
            if not is_transient(error):
                raise
            problem: DatabaseProblem = Unreachable(f"{name}: {server_message(error)}")
            cause: BaseException | None = error
        except TryAgain as error:
            problem, cause = error.problem, error.__cause__
        finally:
            for connection in connections:
                rollback(connection)
        LOG.info("%s", problem)
        if can_shrink and attempt >= CONTENDED_TRIES and isinstance(cause, DBAPIError) and is_contended(cause):
            raise Contended(str(problem)) from cause
        if isinstance(cause, DBAPIError) and is_without_quorum(cause):
            if attempt == tries or time.monotonic() - begin > QUORUM_PATIENCE:
                break
            for connection in connections:
                leave(connection)
            time.sleep(QUORUM_PAUSE)
    raise problem


def as_large_as_possible(work: Callable[[int], T], rows: int, *connections: Connection, name: str) -> T:
    """Do a transaction as ``transactionally``; on half as many rows each time that the server takes none as large, or
    that others are at the same rows again and again.

    :param work: is given how many rows it may have
    :raises DBAPIError: even one row is too large; or any error that ``transactionally`` raises
    """
    while True:
        try:
            return transactionally(partial(work, rows), *connections, name=name, can_shrink=rows > 1)
        except Contended:
            pass
        except DBAPIError as error:
            if rows <= 1 or not is_too_large(error):
                raise
        rows //= 2


def in_pieces(work: Callable[[Sequence[I]], T], items: Sequence[I], *connections: Connection, name: str) -> Iterator[T]:
    """Do a transaction on all items where that can be, else smaller ones on some each, in order.

    :param work: is given the items of a transaction
    :returns: what ``work`` returns, for each transaction
    :raises DBAPIError: as ``as_large_as_possible``
    """

    def do(rows: int) -> tuple[int, T]:
        return rows, work(items[done : done + rows])

    done = 0
    while done < len(items):
        rows, result = as_large_as_possible(do, len(items) - done, *connections, name=name)
        done += rows
        yield result


def one_transaction(
    database: Database,
    work: Callable[[Connection], T],
    came_through: Callable[[Connection, T], bool] = lambda _connection, _result: False,
) -> T:
    """Connect to a database and do one transaction there, again where that helps.

    :param work: what to do in it; it need not commit, and may be called again
    :param came_through: asked where the line was lost at the commit: whether what the work did, and returned, is in the
        database. Where doing it twice makes no difference, it need not be known
    :raises DatabaseProblem: the database cannot be used
    :raises DBAPIError: it refuses a statement
    """
    with database.connect() as connection:
        uncommitted: list[T] = []  # the result of the last try that came to its commit

        def committed() -> T:
            if uncommitted and came_through(connection, uncommitted[0]):
                return uncommitted[0]
            uncommitted[:] = [work(connection)]
            connection.commit()
            return uncommitted[0]

        return transactionally(committed, connection, name=str(database))


def rollback(connection: Connection) -> None:
    """End whatever transaction the connection is in; a lost connection is forgotten and made anew on its next use."""
    try:
        connection.rollback()
    except DBAPIError:
        connection.invalidate()
        connection.rollback()


@contextmanager
def savepoint(connection: Connection) -> Iterator[None]:
    """Undo what was done within if the database refuses a part of it; the transaction goes on.

    At a deadlock, or a write set that is too large, the server undoes the whole transaction, and knows the savepoint no
    more: then that error is raised, not the one about the savepoint.
    """
    nested = connection.begin_nested()
    try:
        yield
    except DBAPIError:
        with suppress(DBAPIError):
            nested.rollback()
        raise
    nested.commit()


def leave(connection: Connection) -> None:
    """Have the next statement sent on a new connection: a proxy may know a node that can do more."""
    connection.invalidate()
    connection.rollback()
