"""Waiting in tests: for what is to come, not for a time."""

from collections.abc import Callable

from tests.support.command import until

PATIENCE = 120.0
"""Seconds; far more than anything takes, on a loaded machine too."""


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait until a condition holds.

    :raises AssertionError: it does not for ``PATIENCE`` seconds
    """
    until(is_so, PATIENCE)
