"""Doing several requests at the same time, within a bound; and each only once, whoever needs its answer."""

import threading
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

I = TypeVar("I")  # noqa: E741
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def map_bounded(work: Callable[[I], T], items: Iterable[I], at_once: int) -> list[T]:
    """Call ``work`` for each item on threads.

    :param at_once: how many calls may be under way at the same time
    :returns: the results, in the order of the items
    :raises Exception: the first error in that order; calls that have not begun by then are left out
    """
    waiting = list(items)
    if len(waiting) < 2 or at_once < 2:
        return [work(item) for item in waiting]
    pool = ThreadPoolExecutor(min(at_once, len(waiting)), thread_name_prefix="request")
    try:
        return [future.result() for future in [pool.submit(work, item) for item in waiting]]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def map_per_key(work: Callable[[I], T], items: Iterable[I], lane: Callable[[I], K], at_once: int) -> list[T]:
    """Call ``work`` for each item, for those of one lane one after the other.

    :param lane: tells the lane of an item
    :param at_once: how many lanes may be worked at the same time
    :returns: the results, in the order of the items
    """
    numbered = list(enumerate(items))
    lanes: dict[K, list[tuple[int, I]]] = {}
    for number, item in numbered:
        lanes.setdefault(lane(item), []).append((number, item))
    done = map_bounded(lambda some: [(number, work(item)) for number, item in some], lanes.values(), at_once)
    results = dict(pair for some in done for pair in some)
    return [results[number] for number, _ in numbered]


class Once(Generic[K, T]):
    """Answers that several threads need: who needs one first asks for it, the others wait."""

    def __init__(self, ask: Callable[[K], T]) -> None:
        """:param ask: one request"""
        self._ask = ask
        self._found: dict[K, Future[T]] = {}
        self._lock = threading.Lock()

    def of(self, items: Iterable[K], at_once: int) -> list[T]:
        """The answers, in the order of the items.

        :param at_once: how many requests of this call may be under way at the same time
        :raises Exception: a request failed; whoever needs its answer next asks again
        """
        wanted = list(items)
        with self._lock:
            mine = [item for item in dict.fromkeys(wanted) if item not in self._found]
            self._found |= {item: Future() for item in mine}
            found = {item: self._found[item] for item in wanted}
        try:
            map_bounded(lambda item: self._answer(item, found[item]), mine, at_once)
        finally:
            for item in mine:
                if found[item].cancel():  # only what was left without an answer
                    with self._lock:
                        self._found.pop(item, None)
        return [found[item].result() for item in wanted]

    def _answer(self, item: K, future: "Future[T]") -> None:
        try:
            future.set_result(self._ask(item))
        except Exception as error:
            with self._lock:
                del self._found[item]
            future.set_exception(error)
