"""Doing a transaction again when what went wrong goes away by itself."""

import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from jobs.transaction_size import TransactionSize
from novadb.attempts import QUORUM_PATIENCE, QUORUM_PAUSE, TRIES, attempts
from novadb.engine import (
    Database,
    is_contended,
    is_too_large,
    is_transient,
    is_without_quorum,
    server_message,
)
from novadb.errors import DatabaseProblem, Unreachable

LOG = logging.getLogger("cellkeeper.retry")
T = TypeVar("T")
S = TypeVar("S")


class TryAgain(Exception):
    """Raised by the work in a transaction that may succeed when done again.

    :ivar problem: what to report when it does not
    """

    def __init__(self, problem: DatabaseProblem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Contended(Exception):
    """A transaction met others at the same rows: deadlock, lock wait, lost certification. It was
    rolled back.

    Where it had several rows, a smaller one may succeed. Where it had one, or one tree of rows,
    ``work`` of an action lets it through, and whoever carries the action out begins it again a
    moment later, where it stood.

    :ivar problem: what to report if that is so for minutes
    """

    def __init__(self, problem: DatabaseProblem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def transactionally(
    work: Callable[[], T],
    *connections: Connection,
    name: str,
    tries: int = TRIES,
    gives_way: bool = False,
) -> T:
    """Run ``work`` until it succeeds, rolling all connections back after each failure.

    :param work: one or more transactions that may be done again from the start; it commits them
        itself
    :param connections: the connections it works on; they are outside any transaction afterwards
    :param name: the database that is named when nothing helps
    :param tries: how often it is tried at most
    :param gives_way: whether the caller knows better than to do the same again where others are at
        the same rows
    :returns: what ``work`` returns
    :raises Contended: others are at the same rows, and ``gives_way``
    :raises DatabaseProblem: it failed ``tries`` times in a way that could have passed: deadlock,
        lock wait, lost certification, lost connection
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
        if gives_way and isinstance(cause, DBAPIError) and is_contended(cause):
            raise Contended(problem) from cause
        if isinstance(cause, DBAPIError) and is_without_quorum(cause):
            if attempt == tries or time.monotonic() - begin > QUORUM_PATIENCE:
                break
            for connection in connections:
                leave(connection)
            time.sleep(QUORUM_PAUSE)
    raise problem


def as_large_as_possible(
    work: Callable[[int], T],
    size: TransactionSize,
    bound: int,
    *connections: Connection,
    name: str,
    ask: S,
) -> Generator[S, None, T]:
    """Do a transaction as ``transactionally``; on half as many rows each time that others are at
    the same rows, or that the server takes none as large.

    :param work: is given how many rows it may have
    :param size: says how many; it is told of refusals
    :param bound: more rows it may not have
    :param ask: is yielded before each smaller try: whether it may still write
    :returns: what ``work`` returns
    :raises Contended: others are at a single row
    :raises DBAPIError: even one row is too large; or any error that ``transactionally`` raises
    """
    rows = size.within(bound)
    while True:
        try:
            return transactionally(partial(work, rows), *connections, name=name, gives_way=True)
        except Contended:
            size.refused(rows)
            if rows == 1:
                raise
        except DBAPIError as error:
            if rows == 1 or not is_too_large(error):
                raise
            size.refused(rows)
            LOG.info(
                "%s: the server takes no transaction of %d rows: %s",
                name,
                rows,
                server_message(error),
            )
        rows //= 2
        yield ask


def run_through(work: Generator[object, None, T]) -> T:
    """Let a generator come to its end, whatever it yields.

    :returns: what it returns
    """
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


def one_transaction(
    database: Database,
    work: Callable[[Connection], T],
    came_through: Callable[[Connection, T], bool] = lambda _connection, _result: False,
) -> T:
    """Connect to a database and do one transaction there, again where that helps.

    :param work: what to do in it; it need not commit, and may be called again
    :param came_through: asked where the line was lost at the commit: whether what the work did, and
        returned, is in the database. Where doing it twice makes no difference, it need not be known
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
    """End whatever transaction the connection is in; a lost connection is forgotten and made anew
    on its next use.
    """
    try:
        connection.rollback()
    except DBAPIError:
        connection.invalidate()
        connection.rollback()


@contextmanager
def savepoint(connection: Connection) -> Iterator[None]:
    """Undo what was done within if the database refuses a part of it; the transaction goes on.

    At a deadlock, or a write set that is too large, the server undoes the whole transaction, and
    knows the savepoint no more: then that error is raised, not the one about the savepoint.
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
    """Have the next statement sent on a new connection: a proxy may know a node that can do
    more.
    """
    connection.invalidate()
    connection.rollback()
