"""When the clock of a zone shows a reading, when it is put forward or back. Pure functions."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

DAY: Final = timedelta(days=1)
SECOND: Final = timedelta(seconds=1)
LAST: Final = 253_370_764_800.0
"""The last moment that every time zone can show, in seconds since the epoch: the beginning of the
year 9999.
"""


def moments_of(reading: datetime, zone: tzinfo) -> tuple[datetime, ...]:
    """When a clock shows a reading.

    :param reading: what it shows, naive
    :returns: in UTC. Two where the clock is put back over the reading; where it is put forward over
        it, so that it is never shown, the end of the gap
    """
    first = reading.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = reading.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if first == second:
        return (first,)
    if first < second:
        return first, second
    return (_find_change(second, first, zone),)  # PEP 495: fold=0 takes the offset before the gap


def reading_of(moment: datetime, zone: tzinfo) -> datetime:
    """What a clock shows at a moment, naive."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def offset_at(moment: datetime, zone: tzinfo) -> timedelta:
    """How far a clock is ahead of UTC."""
    return moment.astimezone(zone).utcoffset() or timedelta()


def first_change(begin: datetime, end: datetime, zone: tzinfo) -> datetime | None:
    """When a clock is first put forward or back after ``begin``, up to ``end``; None: it is not."""
    while begin < end:
        later = min(begin + DAY, end)
        if offset_at(later, zone) != offset_at(begin, zone):
            return _find_change(begin, later, zone)
        begin = later
    return None


def last_change(begin: datetime, end: datetime, zone: tzinfo) -> datetime | None:
    """When a clock is last put forward or back after ``begin``, up to ``end``; None: it is not."""
    while begin < end:
        sooner = max(end - DAY, begin)
        if offset_at(sooner, zone) != offset_at(end, zone):
            return _find_change(sooner, end, zone)
        end = sooner
    return None


def _find_change(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """The second in which a clock is put forward or back, which it is once between two moments.

    :param before: in UTC, as ``after``; both of whole seconds
    """
    while after - before > SECOND:
        middle = before + (after - before) // 2 // SECOND * SECOND
        if offset_at(middle, zone) == offset_at(after, zone):
            after = middle
        else:
            before = middle
    return after
