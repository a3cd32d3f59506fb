"""The two clocks of a beat: its host's, and the store's, which decides. Pure functions."""

from datetime import datetime, timedelta
from typing import Final

MAX_CLOCK_DIFFERENCE: Final = timedelta(seconds=60)
"""How far the two may be apart before neither is believed."""


def clock_problem(own: datetime, store: datetime) -> str:
    """Why a beat must not start anything by these clocks; empty: it may.

    :param own: the time of the beat's host
    :param store: the time of the store
    """
    ahead = own - store
    if abs(ahead) <= MAX_CLOCK_DIFFERENCE:
        return ""
    way = "ahead of" if ahead > timedelta() else "behind"
    seconds = abs(ahead).total_seconds()
    return f"the clock of its host is {seconds:,.0f} s {way} that of Redis: set both by NTP"


def seconds_to_next_look(following: datetime | None, now: datetime, shortest: float, longest: float) -> float:
    """Seconds to wait until the next look.

    :param following: when something is due next; None: never
    :param shortest: seconds that are waited in any case: nothing makes a beat spin
    :param longest: seconds after which it looks in any case: a clock may be set
    """
    if following is None:
        return longest
    return min(max((following - now).total_seconds(), shortest), longest)
