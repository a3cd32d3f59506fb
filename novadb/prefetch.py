"""Reads ahead: a thread makes the next items of an iterator while the caller uses the current."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def prefetch(items: Generator[T], count: int) -> Iterator[Iterator[T]]:
    """Let a generator run some items ahead of its consumer.

    :param items: runs on a thread of its own, from its first statement until it is closed; None is
        not among the items
    :param count: how many items may be ready before they are taken
    :returns: the same items. What ``items`` raises is raised where the item would have been taken
    """
    ready: deque[Future[T | None]] = deque()
    # One worker, so that the generator never runs on two threads.
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:

        def take_items() -> Iterator[T]:
            while (item := ready.popleft().result()) is not None:
                ready.append(thread.submit(next, items, None))
                yield item

        try:
            ready.extend(thread.submit(next, items, None) for _ in range(count))
            yield take_items()
        finally:
            for future in ready:
                future.cancel()
            thread.submit(items.close)
