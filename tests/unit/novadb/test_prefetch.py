"""Reading ahead on a thread."""

import threading
from collections.abc import Generator

import pytest

from novadb.prefetch import prefetch


class Source:
    """Yields numbers from 1 on, and knows on which threads it ran."""

    def __init__(self, number: int, *, fails: bool = False) -> None:
        self.number = number
        self.fails = fails
        self.made: list[int] = []
        self.threads: set[int] = set()
        self.closed = False
        self.ran_ahead = threading.Semaphore(0)

    def items(self) -> Generator[int]:
        try:
            for item in range(1, self.number + 1):
                self.threads.add(threading.get_ident())
                self.made.append(item)
                self.ran_ahead.release()
                yield item
            if self.fails:
                raise ValueError(self.number)
        finally:
            self.threads.add(threading.get_ident())
            self.closed = True


@pytest.mark.parametrize("number", [0, 1, 2, 3, 10])
def test_all_items_come_in_their_order(number: int) -> None:
    source = Source(number)
    with prefetch(source.items(), 2) as items:
        assert list(items) == list(range(1, number + 1))
    assert source.closed


def test_so_many_items_and_no_more_are_made_ahead() -> None:
    source = Source(10)
    with prefetch(source.items(), 3) as items:
        for _ in range(3):
            source.ran_ahead.acquire()
        assert source.made == [1, 2, 3]
        assert next(items) == 1
        source.ran_ahead.acquire()
        assert source.made == [1, 2, 3, 4]


def test_the_source_runs_and_is_closed_on_one_thread_that_is_not_ours() -> None:
    source = Source(10)
    with prefetch(source.items(), 3) as items:
        next(items)
    assert source.closed
    assert len(source.threads) == 1
    assert threading.get_ident() not in source.threads


def test_an_error_comes_where_the_item_would_have_come() -> None:
    source = Source(2, fails=True)
    with prefetch(source.items(), 5) as items:
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(ValueError, match="2"):
            next(items)
    assert source.closed
