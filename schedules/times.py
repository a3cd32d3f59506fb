"""When a cron expression is due by the clock of a time zone. Pure functions.

CronSim knows the expressions; how the clock goes is decided here, as Debian's cron does:

- An entry at fixed times is due once at each of them. Where the clock is put back over a time, when
  it is shown first; where it is put forward over it, at the end of the gap.
- An entry whose minute or hour begins with ``*`` follows the hours as they come: in one that comes
  twice it is due twice, in one that is left out it is not.
"""

from datetime import datetime, timedelta, tzinfo
from typing import Final

from cronsim import CronSim

from jobs.wall_clock import first_change, last_change, moments_of, offset_at, reading_of

SECOND: Final = timedelta(seconds=1)


def last_time(cron: str, zone: tzinfo, now: datetime) -> datetime | None:
    """The last time up to ``now``, in UTC; None: there was none in fifty years.

    :raises CronSimError: the expression is none
    """
    now = now.replace(microsecond=0)
    if has_fixed_times(cron):
        return _last_fixed(cron, zone, now)
    return _last_as_hours_come(cron, zone, now)


def next_time(cron: str, zone: tzinfo, now: datetime) -> datetime | None:
    """The next time after ``now``, in UTC; None: there will be none in fifty years.

    :raises CronSimError: the expression is none
    """
    now = now.replace(microsecond=0)
    if has_fixed_times(cron):
        return _next_fixed(cron, zone, now)
    return _next_as_hours_come(cron, zone, now)


def has_fixed_times(cron: str) -> bool:
    """Whether an expression names minutes and hours."""
    minute, hour = cron.split()[-5:-3]
    return not minute.startswith("*") and not hour.startswith("*")


def _last_fixed(cron: str, zone: tzinfo, now: datetime) -> datetime | None:
    reading = reading_of(now, zone)
    # In an hour that comes twice, what is left of it has been shown already.
    shown_before = now - moments_of(reading, zone)[0]
    for time in CronSim(cron, reading + shown_before + SECOND, reverse=True):
        moment = moments_of(time, zone)[0]
        if moment <= now:
            return moment
    return None


def _next_fixed(cron: str, zone: tzinfo, now: datetime) -> datetime | None:
    for time in CronSim(cron, reading_of(now, zone)):
        moment = moments_of(time, zone)[0]
        if moment > now:
            return moment
    return None


def _last_as_hours_come(cron: str, zone: tzinfo, now: datetime) -> datetime | None:
    """Back from one change of the clock to the other: between two of them it goes like UTC."""
    end = now
    while True:
        offset = offset_at(end, zone)
        time = next(CronSim(cron, reading_of(end, zone) + SECOND, reverse=True), None)
        if time is None:
            return None
        moment = time.replace(tzinfo=end.tzinfo) - offset
        change = last_change(moment, end, zone)
        if change is None:
            return moment
        end = change - SECOND


def _next_as_hours_come(cron: str, zone: tzinfo, now: datetime) -> datetime | None:
    begin = now + SECOND
    while True:
        offset = offset_at(begin, zone)
        time = next(CronSim(cron, reading_of(begin, zone) - SECOND), None)
        if time is None:
            return None
        moment = time.replace(tzinfo=begin.tzinfo) - offset
        change = first_change(begin, moment, zone)
        if change is None:
            return moment
        begin = change
