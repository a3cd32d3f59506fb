"""Retries, with growing pauses, of work that may succeed a moment later."""

import random
import time
from collections.abc import Iterator
from typing import Final

TRIES: Final = 6
# Seconds before the second try. Doubled each time, plus up to as much again of jitter.
FIRST_PAUSE: Final = 0.1
# Seconds before another try where a node of Galera must first find the others again,
QUORUM_PAUSE: Final = 5.0
# and seconds after which it is given up.
QUORUM_PATIENCE: Final = 30.0


def attempts(tries: int = TRIES) -> Iterator[int]:
    """Count from 1 to ``tries``, with growing pauses in between.

    To be used as the loop around work that may succeed when it is repeated.
    """
    for attempt in range(1, tries + 1):
        yield attempt
        if attempt < tries:
            pause = FIRST_PAUSE * 2 ** (attempt - 1)
            time.sleep(pause + random.uniform(0, pause))  # noqa: S311 - jitter, not a secret
