"""How many requests of one cell may be under way at the same time."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from clients.concurrency import map_bounded, map_per_key

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class RequestPool:
    """Sends requests at the same time, but not too many.

    :ivar limit: requests under way at most
    """

    limit: int

    def map(self, request: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
        """One request for each item.

        :returns: the answers, in the order of the items
        """
        return map_bounded(request, items, self.limit)

    def map_per_key(
        self,
        request: Callable[[Item], Answer],
        items: Iterable[Item],
        key: Callable[[Item], Key],
    ) -> list[Answer]:
        """One request for each item; those with the same key one after the other.

        :returns: the answers, in the order of the items
        """
        return map_per_key(request, items, key, self.limit)
