"""What is done again, and what is not."""

from collections.abc import Generator
from typing import TypeVar

import pytest
from sqlalchemy.exc import OperationalError

from jobs.retry import Contended, as_large_as_possible, transactionally
from jobs.transaction_size import TransactionSize
from novadb.errors import DatabaseProblem

T = TypeVar("T")


def failing_once(number: int) -> list[OperationalError]:
    return [OperationalError("", {}, Exception(number, "words of the server"))]


@pytest.mark.parametrize(
    "number", [1213, 1684], ids=["deadlock", "a table that somebody is altering"]
)
def test_what_passes_by_itself_is_done_again(number: int) -> None:
    errors = failing_once(number)

    def work() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert transactionally(work, name="cell1") == "done"


def test_what_stays_as_it_is_is_raised() -> None:
    errors = failing_once(1146)

    def work() -> None:
        raise errors.pop()

    with pytest.raises(OperationalError):
        transactionally(work, name="cell1")


class Server:
    """Takes only transactions of at most so many rows, and says why.

    :ivar tried: how many rows each transaction had
    """

    def __init__(self, most: int, *error: object) -> None:
        self._most = most
        self._error = error
        self.tried: list[int] = []

    def take(self, rows: int) -> int:
        self.tried.append(rows)
        if rows > self._most:
            raise OperationalError("", {}, Exception(*self._error))
        return rows


CONTENDED = pytest.param((1213, "Deadlock found"), id="deadlock, or lost certification")
LOCKED = pytest.param((1205, "Lock wait timeout exceeded"), id="lock wait")
TOO_LARGE = pytest.param((1105, "Maximum writeset size exceeded"), id="write set too large")
TOO_MANY = pytest.param((1180, "wsrep_max_ws_rows exceeded"), id="too many rows")


def asked(work: Generator[str, None, T]) -> tuple[T, int]:
    """What a work returns, and how often it asked before whether it may still write."""
    asks = 0
    while True:
        try:
            assert next(work) == "may I?"
        except StopIteration as end:
            return end.value, asks
        asks += 1


@pytest.mark.parametrize("error", [CONTENDED, LOCKED, TOO_LARGE, TOO_MANY])
def test_a_transaction_that_does_not_come_through_becomes_smaller_at_once(
    error: tuple[object, ...],
) -> None:
    server, size = Server(3, *error), TransactionSize()
    assert asked(as_large_as_possible(server.take, size, 12, name="cell1", ask="may I?")) == (3, 2)
    assert server.tried == [12, 6, 3]
    assert size.within(12) == 3


def test_a_transaction_is_no_larger_than_its_duration_allows() -> None:
    server = Server(100, 1213, "Deadlock found")
    work = as_large_as_possible(
        server.take, TransactionSize(0.5, rows=5), 12, name="cell1", ask="may I?"
    )
    assert asked(work) == (5, 0)


@pytest.mark.parametrize("error", [CONTENDED, LOCKED])
def test_a_row_that_others_are_at_is_left_to_whoever_knows_how_long_to_wait(
    error: tuple[object, ...],
) -> None:
    server = Server(0, *error)
    with pytest.raises(Contended, match=f"cell1: {error[1]}") as caught:
        asked(as_large_as_possible(server.take, TransactionSize(), 2, name="cell1", ask="may I?"))
    assert isinstance(caught.value.problem, DatabaseProblem)
    assert server.tried == [2, 1]


def test_a_row_that_is_too_large_by_itself_is_told() -> None:
    server = Server(0, 1105, "Maximum writeset size exceeded")
    with pytest.raises(OperationalError, match="writeset"):
        asked(as_large_as_possible(server.take, TransactionSize(), 2, name="cell1", ask="may I?"))
    assert server.tried == [2, 1]
