"""When a cron expression is due by the clock of a time zone. Pure functions.

CronSim parses the expressions. What happens when clocks change is decided here, as in Debian's
cron:

- An entry with fixed times is due once at each of them: if the clock is put back over a time, when
  it is first shown; if the clock is put forward over it, at the end of the gap.
- An entry whose minute or hour begins with ``*`` follows the hours as they pass: it is due twice in
  an hour that comes twice, and not at all in an hour that is skipped.
"""

from datetime import datetime, timedelta, tzinfo
from typing import Final

from cronsim import CronSim

from jobs.wall_clock import first_change, last_change, moments_of, offset_at, reading_of

SECOND: Final = timedelta(seconds=1)


def last_time(cron: str, zone: tzinfo, now: datetime) -> datetime | None:
    """The last time up to ``now``, in UTC; None: there was none in fifty years.

    :raises CronSimError: the expression is invalid
    """
    now = now.replace(microsecond=0)
    if has_fixed_times(cron):
        return _last_fixed(cron, zone, now)
    return _last_as_hours_pass(cron, zone, now)


def next_time(cron: str, zone: tzinfo, now: datetime) -> datetime | None:
    """The next time after ``now``, in UTC; None: there will be none in fifty years.

    :raises CronSimError: the expression is invalid
    """
    now = now.replace(microsecond=0)
    if has_fixed_times(cron):
        return _next_fixed(cron, zone, now)
    return _next_as_hours_pass(cron, zone, now)


def has_fixed_times(cron: str) -> bool:
    """Whether an expression has fixed minutes and hours."""
    minute, hour = cron.split()[-5:-3]
    return not minute.startswith("*") and not hour.startswith("*")


def _last_fixed(cron: str, zone: tzinfo, now: datetime) -> datetime | None:
    reading = reading_of(now, zone)
    # In the second of two equal hours, the readings up to its end have been shown before.
    shown_before = now - moments_of(reading, zone)[0]
    for due_reading in CronSim(cron, reading + shown_before + SECOND, reverse=True):
        moment = moments_of(due_reading, zone)[0]
        if moment <= now:
            return moment
    return None


def _next_fixed(cron: str, zone: tzinfo, now: datetime) -> datetime | None:
    for due_reading in CronSim(cron, reading_of(now, zone)):
        moment = moments_of(due_reading, zone)[0]
        if moment > now:
            return moment
    return None


def _last_as_hours_pass(cron: str, zone: tzinfo, now: datetime) -> datetime | None:
    """Search back from one change of the clock to the next; between them it runs like UTC."""
    end = now
    while True:
        offset = offset_at(end, zone)
        due_reading = next(CronSim(cron, reading_of(end, zone) + SECOND, reverse=True), None)
        if due_reading is None:
            return None
        moment = due_reading.replace(tzinfo=end.tzinfo) - offset
        change = last_change(moment, end, zone)
        if change is None:
            return moment
        end = change - SECOND


def _next_as_hours_pass(cron: str, zone: tzinfo, now: datetime) -> datetime | None:
    begin = now + SECOND
    while True:
        offset = offset_at(begin, zone)
        due_reading = next(CronSim(cron, reading_of(begin, zone) - SECOND), None)
        if due_reading is None:
            return None
        moment = due_reading.replace(tzinfo=begin.tzinfo) - offset
        change = first_change(begin, moment, zone)
        if change is None:
            return moment
        begin = change
