"""Reading ahead: what an iterator yields is made on a thread, while whoever takes it is busy with what came before."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def prefetch(items: Generator[T], number: int) -> Iterator[Iterator[T]]:
    """Let a generator run up to some items ahead.

    :param items: runs on a thread of its own, from its first statement to its closing
    :param number: how many items may wait to be taken
    :returns: the same items. What ``items`` raises is raised where the item would have been taken
    """
    waiting: deque[Future[T | None]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:

        def taken() -> Iterator[T]:
            while (item := waiting.popleft().result()) is not None:
                waiting.append(thread.submit(next, items, None))
                yield item

        try:
            waiting.extend(thread.submit(next, items, None) for _ in range(number))
            yield taken()
        finally:
            for future in waiting:
                future.cancel()
            thread.submit(items.close)
