"""How fast the work goes, by the steps recorded in the last minute, and how long the rest takes at
that rate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

BUCKET: Final = 10
"""Seconds that one bucket covers."""
BUCKETS: Final = 6
"""Full buckets that a rate looks back at, besides the current one: the last minute."""
LEAST: Final = 1.0
"""Seconds that must have passed before there is a rate."""

FARTHEST: Final = 366 * 86_400.0
"""Seconds; an end that is farther away is not told."""

Pace = Mapping[int, int]
"""How much was handled lately, by the number of the bucket, counted since the epoch."""


@dataclass(frozen=True)
class Speed:
    """How fast the work goes right now.

    :ivar rate: how much is handled in a second; None: it does not go on, or began a moment ago
    :ivar remaining: how much is still to be handled, as far as that is known; None: it is not
    """

    rate: float | None = None
    remaining: int | None = None

    @property
    def seconds_left(self) -> float | None:
        """Until the rest is done at this rate; None where either is not known, or next to nothing
        moves.
        """
        if not self.remaining or not self.rate:
            return None
        seconds = self.remaining / self.rate
        return seconds if seconds < FARTHEST else None


def recent(now: float) -> range:
    """The numbers of the buckets at which a rate looks.

    :param now: in seconds since the epoch
    """
    current = int(now // BUCKET)
    return range(current - BUCKETS, current + 1)


def add(pace: Pace, now: float, handled: int) -> dict[int, int]:
    """A pace after a step; what is no longer recent is dropped."""
    kept = {number: pace[number] for number in recent(now) if number in pace}
    if handled:
        current = recent(now)[-1]
        kept[current] = kept.get(current, 0) + handled
    return kept


def rate(pace: Pace, since: float, now: float) -> float | None:
    """How much was handled in a second, in the last minute or since a moment that lies closer.

    :param since: when the work began, or went on after a pause, in seconds since the epoch. What
        was handled before it in the same ten seconds counts
    :returns: None: less than ``LEAST`` seconds have passed since
    """
    looked_at = recent(now)
    first = max(int(since // BUCKET), looked_at[0])
    seconds = now - max(since, first * BUCKET)
    if seconds < LEAST:
        return None
    return sum(pace.get(number, 0) for number in looked_at if number >= first) / seconds
