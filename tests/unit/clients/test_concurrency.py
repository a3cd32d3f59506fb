"""Requests that several threads need."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from clients.concurrency import Once, map_per_key


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


def test_in_lanes_those_of_one_lane_come_one_after_the_other() -> None:
    lanes_at_work: list[str] = []
    meeting = threading.Barrier(2, timeout=30)

    def work(item: str) -> str:
        assert item[0] not in lanes_at_work
        lanes_at_work.append(item[0])
        meeting.wait()  # both lanes are at work, or nobody goes on
        lanes_at_work.remove(item[0])
        meeting.wait()
        return item.upper()

    assert map_per_key(work, ["a1", "b1", "a2", "b2"], lambda item: item[0], 2) == ["A1", "B1", "A2", "B2"]
    assert map_per_key(work, [], lambda item: item[0], 2) == []


def test_in_lanes_an_error_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        map_per_key(lambda item: 1 // item, [1, 0, 2], lambda item: item % 2, 2)
