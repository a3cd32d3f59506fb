"""The two clocks of a beat: that of its host, and that of the store, which decides."""

from datetime import datetime, timedelta
from typing import Final

MAX_CLOCK_DIFFERENCE: Final = timedelta(seconds=60)
"""How far apart the two may be before neither is trusted."""


def clock_problem(own: datetime, store: datetime) -> str:
    """Why a beat must not start anything while its clocks show this; empty: it may.

    :param own: the time of the beat's host
    :param store: the time of the store
    """
    ahead = own - store
    if abs(ahead) <= MAX_CLOCK_DIFFERENCE:
        return ""
    seconds = abs(ahead).total_seconds()
    relation = "ahead of" if ahead > timedelta() else "behind"
    return f"the clock of its host is {seconds:,.0f} s {relation} that of Redis: set both by NTP"


def seconds_to_next_look(
    following: datetime | None, now: datetime, shortest: float, longest: float
) -> float:
    """Seconds to wait until the next look at the schedule.

    :param following: when something is due next; None: never
    :param shortest: seconds to wait in any case, so that a beat never spins
    :param longest: seconds after which to look in any case, as clocks may be set
    """
    if following is None:
        return longest
    seconds = (following - now).total_seconds()
    return min(max(seconds, shortest), longest)
