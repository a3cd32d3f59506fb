"""Requests in parallel, and answers that several threads need."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from clients.concurrency import SingleFlight, map_bounded, map_per_key


def test_what_several_threads_need_is_asked_once() -> None:
    asked: Counter[int] = Counter()
    threads_are_ready = threading.Barrier(4)
    squares: SingleFlight[int, int] = SingleFlight()

    def ask(number: int) -> int:
        asked[number] += 1
        return number * number

    def get_square(number: int) -> int:
        return squares.get(number, partial(ask, number))

    def get_squares_from(first: int) -> list[int]:
        threads_are_ready.wait()
        return map_bounded(get_square, [*range(first, 40), first], at_once=3)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(get_squares_from, range(4)))
    expected = [[*(n * n for n in range(first, 40)), first * first] for first in range(4)]
    assert answers == expected
    assert asked == Counter(range(40))


def test_a_request_that_fails_fails_for_all_who_wait_and_is_made_again() -> None:
    answers: SingleFlight[str, str] = SingleFlight()
    request_is_in_flight = threading.Event()
    may_fail = threading.Event()

    def fail() -> str:
        request_is_in_flight.set()
        may_fail.wait()
        raise ValueError("no answer")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(answers.get, "key", fail)
        request_is_in_flight.wait()
        second = pool.submit(answers.get, "key", fail)
        may_fail.set()
        for waiting in (first, second):
            with pytest.raises(ValueError, match="no answer"):
                waiting.result()
    assert answers.get("key", lambda: "an answer") == "an answer"


def answer_with(answer: int, asked: list[int]) -> Callable[[], int]:
    def ask() -> int:
        asked.append(answer)
        return answer

    return ask


def test_only_the_latest_answers_are_remembered() -> None:
    asked: list[int] = []
    answers: SingleFlight[int, int] = SingleFlight(max_kept=2)
    for number in (1, 2, 2, 3, 3, 1):
        assert answers.get(number, answer_with(number, asked)) == number
    assert asked == [1, 2, 3, 1]


@pytest.mark.parametrize("at_once", [1, 4])
def test_an_error_of_one_call_is_raised(at_once: int) -> None:
    with pytest.raises(ZeroDivisionError):
        map_bounded(lambda number: 1 // number, [1, 0, 2], at_once)


def test_items_with_one_key_are_processed_one_after_the_other() -> None:
    keys_in_flight: list[str] = []
    meeting = threading.Barrier(2, timeout=30)

    def work(item: str) -> str:
        assert item[0] not in keys_in_flight
        keys_in_flight.append(item[0])
        meeting.wait()  # both keys are in flight, or nobody goes on
        keys_in_flight.remove(item[0])
        meeting.wait()
        return item.upper()

    results = map_per_key(work, ["a1", "b1", "a2", "b2"], lambda item: item[0], 2)
    assert results == ["A1", "B1", "A2", "B2"]
    assert map_per_key(work, [], lambda item: item[0], 2) == []


def test_an_error_for_one_key_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        map_per_key(lambda number: 1 // number, [1, 0, 2], lambda number: number % 2, 2)
