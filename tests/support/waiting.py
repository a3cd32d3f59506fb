"""Waiting in tests: for what is to come, not for a time."""

import time
from collections.abc import Callable

PATIENCE = 120.0
"""Seconds; far more than anything takes, on a loaded machine too."""


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait until a condition holds.

    :raises AssertionError: it does not for ``PATIENCE`` seconds
    """
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.05)
