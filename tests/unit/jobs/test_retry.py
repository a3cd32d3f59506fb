"""What is done again, and what is not."""

from collections.abc import Sequence

import pytest
from sqlalchemy.exc import OperationalError

from jobs.retry import as_large_as_possible, in_pieces, transactionally
from novadb.errors import DatabaseProblem


def failing_once(number: int) -> list[OperationalError]:
    return [OperationalError("", {}, Exception(number, "words of the server"))]


@pytest.mark.parametrize("number", [1213, 1684], ids=["deadlock", "a table that somebody is altering"])
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


CONTENDED = pytest.param((1213, "Deadlock found"), 2, id="deadlock, or lost certification")
LOCKED = pytest.param((1205, "Lock wait timeout exceeded"), 2, id="lock wait")
TOO_LARGE = pytest.param((1105, "Maximum writeset size exceeded"), 1, id="write set too large")
TOO_MANY = pytest.param((1180, "wsrep_max_ws_rows exceeded"), 1, id="too many rows")


@pytest.mark.parametrize(("error", "tries"), [CONTENDED, LOCKED, TOO_LARGE, TOO_MANY])
def test_a_transaction_that_does_not_come_through_becomes_smaller(error: tuple[object, ...], tries: int) -> None:
    server = Server(3, *error)
    assert as_large_as_possible(server.take, 12, name="cell1") == 3
    assert server.tried == [12] * tries + [6] * tries + [3]


@pytest.mark.parametrize("error", [pytest.param((1213, "Deadlock found"), id="deadlock")])
def test_a_row_that_others_never_leave_is_told(error: tuple[object, ...]) -> None:
    server = Server(0, *error)
    with pytest.raises(DatabaseProblem, match="cell1: Deadlock found"):
        as_large_as_possible(server.take, 2, name="cell1")
    assert server.tried == [2] * 2 + [1] * 6


def test_a_row_that_is_too_large_by_itself_is_told() -> None:
    server = Server(0, 1105, "Maximum writeset size exceeded")
    with pytest.raises(OperationalError, match="writeset"):
        as_large_as_possible(server.take, 2, name="cell1")
    assert server.tried == [2, 1]


@pytest.mark.parametrize(("error", "_tries"), [CONTENDED, TOO_LARGE])
def test_items_are_all_done_in_order_in_transactions_that_come_through(error: tuple[object, ...], _tries: int) -> None:
    server = Server(3, *error)

    def work(items: Sequence[int]) -> list[int]:
        server.take(len(items))
        return list(items)

    pieces = list(in_pieces(work, range(11), name="cell1"))
    assert [number for piece in pieces for number in piece] == list(range(11))
    assert max(map(len, pieces)) <= 3


def test_no_items_need_no_transaction() -> None:
    assert list(in_pieces(lambda items: items, [], name="cell1")) == []
