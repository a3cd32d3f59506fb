"""Trying again, with growing pauses, what may succeed a moment later."""

import random
import time
from collections.abc import Iterator
from typing import Final

TRIES: Final = 6
FIRST_PAUSE: Final = 0.1  # seconds; doubled each time, with as much jitter again
QUORUM_PAUSE: Final = 5.0  # seconds; more where a node of Galera must first find the others again
QUORUM_PATIENCE: Final = 30.0  # seconds for that, all in all


def attempts(tries: int = TRIES) -> Iterator[int]:
    """Count from 1 to ``tries``, with growing pauses in between: for what may succeed when it is done again."""
    for attempt in range(1, tries + 1):
        yield attempt
        if attempt < tries:
            pause = FIRST_PAUSE * 2 ** (attempt - 1)
            time.sleep(pause + random.uniform(0, pause))  # noqa: S311 - jitter, no secret
