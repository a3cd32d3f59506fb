"""Properties that are found when they are first needed, and then kept: without a lock.

``functools.cached_property`` takes one before Python 3.12, the same for all objects of a class. A
cell whose database does not answer would hold up the other cells. A child that a worker forks while
another thread holds the lock would wait for ever.
"""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class lazy_property(Generic[T]):  # noqa: N801 - used as a decorator, like ``property``
    """Threads that share an object may look for a value more than once; all have the first one.

    Parts of statements are told apart by identity: two tables of one name would become a product.
    """

    def __init__(self, find: Callable[[Any], T]) -> None:
        self._find = find
        self._name = find.__name__
        self.__doc__ = find.__doc__

    @overload
    def __get__(self, owner: None, kind: type[Any]) -> Self: ...

    @overload
    def __get__(self, owner: object, kind: type[Any]) -> T: ...

    def __get__(self, owner: object | None, kind: type[Any]) -> Self | T:
        if owner is None:
            return self
        values: dict[str, T] = vars(owner)
        return values.setdefault(self._name, self._find(owner))
