"""Doing several requests at the same time, within a bound."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

I = TypeVar("I")  # noqa: E741
T = TypeVar("T")


def together(work: Callable[[I], T], items: Iterable[I], at_once: int) -> list[T]:
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
