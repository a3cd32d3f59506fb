"""What is done again, and what is not."""

import pytest
from sqlalchemy.exc import OperationalError

from jobs.retry import transactionally


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
