"""Requests in parallel, within a bound; and each of them only once, whoever needs its answer."""

import threading
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

I = TypeVar("I")  # noqa: E741
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def map_bounded(work: Callable[[I], T], items: Iterable[I], at_once: int) -> list[T]:
    """Call ``work`` for each item on threads.

    :param at_once: how many calls may be in flight at the same time
    :returns: the results, in the order of the items
    :raises Exception: the first error in that order; calls that have not begun by then are skipped
    """
    pending_items = list(items)
    if len(pending_items) < 2 or at_once < 2:
        return [work(item) for item in pending_items]
    threads = min(at_once, len(pending_items))
    pool = ThreadPoolExecutor(threads, thread_name_prefix="request")
    try:
        futures = [pool.submit(work, item) for item in pending_items]
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def map_per_key(
    work: Callable[[I], T], items: Iterable[I], key_of: Callable[[I], K], at_once: int
) -> list[T]:
    """Call ``work`` for each item; items with the same key are processed one after the other.

    :param at_once: how many keys may be processed at the same time
    :returns: the results, in the order of the items
    """
    numbered_items = list(enumerate(items))
    items_by_key: dict[K, list[tuple[int, I]]] = {}
    for number, item in numbered_items:
        items_by_key.setdefault(key_of(item), []).append((number, item))

    def process_key(items_of_key: list[tuple[int, I]]) -> dict[int, T]:
        return {number: work(item) for number, item in items_of_key}

    results: dict[int, T] = {}
    for results_of_key in map_bounded(process_key, items_by_key.values(), at_once):
        results |= results_of_key
    return [results[number] for number, _ in numbered_items]


class SingleFlight(Generic[K, T]):
    """Answers that several threads need: the first thread asks, the others wait for its answer."""

    def __init__(self, max_kept: int | None = None) -> None:
        """
        :param max_kept: how many answers are remembered, the latest ones; None: all
        """
        self._max_kept = max_kept
        self._answers: dict[K, Future[T]] = {}
        self._lock = threading.Lock()

    def get(self, key: K, ask: Callable[[], T]) -> T:
        """The answer for a key, as ``ask`` gave it to the first thread that wanted it.

        :raises Exception: it failed, for all who waited; the next caller asks again
        """
        with self._lock:
            is_first = key not in self._answers
            answer = self._answers.setdefault(key, Future())
            self._forget_oldest()
        if is_first:
            self._fill(key, answer, ask)
        return answer.result()

    def _forget_oldest(self) -> None:
        if self._max_kept is not None:
            for key in list(self._answers)[: -self._max_kept]:
                del self._answers[key]

    def _fill(self, key: K, answer: "Future[Any]", ask: Callable[[], T]) -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # whoever waits must not wait for ever
            with self._lock:
                self._answers.pop(key, None)
            answer.set_exception(error)
