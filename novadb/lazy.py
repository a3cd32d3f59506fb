"""Properties that are found when they are first needed, and then kept: without a lock.

``functools.cached_property`` takes one before Python 3.12, the same for all objects of a class. A
cell whose database does not answer would hold up the other cells. A child that a worker forks while
another thread holds the lock would wait for ever.
"""

from typing import Final

from sqlalchemy.util import memoized_property

lazy_property: Final = memoized_property
"""Threads that share an object may find its value more than once."""
