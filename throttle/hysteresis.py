"""Keeps a pause from flapping: a signal that has paused the work must calm down clearly before the
work goes on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from throttle.readings import Answer, Reading

RESUME_BELOW: Final = 0.8
"""The share of a limit below which a signal counts as calm after it has paused the work."""
CALM_LOOKS: Final = 2
"""Looks in a row at which a signal must be calm before the work goes on."""


def settle(
    readings: Sequence[Reading], calm_looks: Mapping[str, int]
) -> tuple[list[Reading], dict[str, int]]:
    """Keep a signal that pauses the work doing so until it has calmed down.

    :param readings: as they were read
    :param calm_looks: for each signal that pauses, by ``key``: how many looks in a row it was calm
    :returns: the readings that count, and the calm looks after this one
    """
    settled: list[Reading] = []
    still_pausing: dict[str, int] = {}
    for reading in readings:
        key = f"{reading.signal} {reading.source}"
        if reading.answer in (Answer.STOP, Answer.CRITICAL):
            still_pausing[key] = 0
        elif reading.answer is Answer.GO and key in calm_looks:
            calm = calm_looks[key] + 1 if _is_calm(reading) else 0
            if calm < CALM_LOOKS:
                still_pausing[key] = calm
                reading = replace(
                    reading,
                    answer=Answer.STOP,
                    words=f"{reading.words}; waiting for it to stay low",
                )
        settled.append(reading)
    return settled, still_pausing


def _is_calm(reading: Reading) -> bool:
    if reading.value is None or reading.limit is None:
        return True
    return reading.value < reading.limit * RESUME_BELOW
