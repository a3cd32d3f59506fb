"""Requests that several threads need."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from clients.together import Once


def test_what_several_threads_need_is_asked_once() -> None:
    asked: Counter[int] = Counter()
    all_there = threading.Barrier(4)

    def ask(number: int) -> int:
        asked[number] += 1
        return number * number

    once = Once(ask)

    def need(first: int) -> list[int]:
        all_there.wait()
        return once.of([*range(first, 40), first], at_once=3)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(need, range(4)))
    assert found == [[*(n * n for n in range(first, 40)), first * first] for first in range(4)]
    assert asked == Counter(range(40))


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_request_that_fails_fails_for_all_who_wait_and_is_made_again(at_once: int) -> None:
    broken = {3}

    def ask(number: int) -> int:
        if number in broken:
            raise ValueError(f"no {number}")
        return number

    once = Once(ask)
    with pytest.raises(ValueError, match="no 3"):
        once.of(range(5), at_once)
    broken.clear()
    assert once.of(range(5), at_once) == [0, 1, 2, 3, 4]
