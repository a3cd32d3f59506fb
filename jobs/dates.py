"""The dates of ``--before``, the times of ``--until``."""

import re
import time
import warnings
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from dateutil import parser, tz
from dateutil.relativedelta import relativedelta

from jobs.wall_clock import LAST, moments_of, reading_of

_AGE: Final = re.compile(r"(\d+)\s*(h|hours?|d|days?|w|weeks?|months?|y|years?)", re.IGNORECASE)
_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks", "m": "months", "y": "years"}
_WEEKDAY: Final = re.compile(r"\b(mon|tue|wed|thu|fri|sat|sun)", re.IGNORECASE)
# POSIX and people disagree about the sign.
_SIGNED_NAME: Final = re.compile(r"\b(UTC|GMT)\s*[+-]\d")
_ISO: Final = re.compile(r"\d{4}[-/]?\d\d[-/]?\d\d")
# What date +%D prints, by POSIX: month, day, year.
_PERCENT_D: Final = re.compile(r"\d\d/\d\d/\d\d")
_CLOCK: Final = re.compile(r"([01]?\d|2[0-3]):[0-5]\d")
_GLUED_TIME: Final = re.compile(r"^(\d{4}-\d\d-\d\d)(?=\d\d:)")
_HINT: Final = "use YYYY-MM-DD, 'YYYY-MM-DD HH:MM', the output of date, or an age such as 90d"


def parse(text: str, now: datetime | None = None) -> datetime:
    """Read a date as an operator wrote it, or refuse it.

    :param text: ``2015-10-21``, ``2015-10-21 12:00``, ``Oct 21 2015``, what the commands ``date``
        and ``date +%D`` print, or an age (``90d``, ``90 days``) that counts back from now. A date
        without zone is UTC; numeric offsets and the machine's own zone abbreviations are converted
    :param now: what ages count back from; naive, in UTC
    :returns: naive, in UTC, as Nova's columns hold time
    :raises ValueError: the text is no date, lacks a part, could mean two dates, or names an unknown
        zone; the message says so and what to write instead
    :source: the manual, ``db archive_deleted_rows --before``
    """
    words = text.strip()
    age = _AGE.fullmatch(words)
    try:
        if age:
            count, unit = int(age[1]), _UNITS[age[2][0].lower()]
            present = now or datetime.now(UTC).replace(tzinfo=None)
            moment = present - relativedelta(**{unit: count})  # type: ignore[arg-type]
            return moment.replace(microsecond=0)
        if _PERCENT_D.fullmatch(words):
            return _month_day_year(words)
        return _to_utc(_one_meaning(_GLUED_TIME.sub(r"\1 ", words)))
    except (ValueError, OverflowError) as error:
        shown = text if len(text) <= 60 else text[:60] + "..."
        raise ValueError(f"{shown!r} cannot be understood for sure ({error}); {_HINT}") from None


def closing_time(text: str, zone: tzinfo, after: datetime) -> datetime:
    """The moment that ``--until`` means.

    :param text: ``HH:MM``: the first time after ``after`` that a clock shows it, or the end of the
        gap where it is put forward over it; or a moment with its offset
    :param zone: of the clock
    :param after: with a time zone
    :raises ValueError: it means none; the message says why
    """
    check_closing_time(text)
    if not _CLOCK.fullmatch(text):
        return datetime.fromisoformat(text)
    hour, minute = map(int, text.split(":"))
    today = reading_of(after, zone).replace(hour=hour, minute=minute, second=0, microsecond=0)
    moments = [*moments_of(today, zone), *moments_of(today + timedelta(days=1), zone)]
    return next(moment for moment in moments if moment > after).astimezone(zone)


def check_closing_time(text: str) -> None:
    """See that ``--until`` means a moment, whatever the zone of the clock and the time.

    :raises ValueError: it means none; the message says why
    """
    if _CLOCK.fullmatch(text):
        return
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(
            f"{text!r} is neither HH:MM nor a moment with an offset such as 2026-11-24T06:00+00:00"
        )
    if moment.timestamp() > LAST:
        raise ValueError(f"{text!r} is later than the year 9998")


def _month_day_year(words: str) -> datetime:
    try:
        return datetime.strptime(words, "%m/%d/%y")
    except ValueError:
        raise ValueError("there is no such month or day in MM/DD/YY") from None


def _one_meaning(words: str) -> datetime:
    """Parse ``words`` in every way that dateutil knows; all must agree."""
    if not words or _SIGNED_NAME.search(words):
        raise ValueError("an offset behind a zone's name has two meanings" if words else "no date")
    # Year, month, day is the one order of a date that begins with its year; dateutil would still
    # swap them.
    orders = (
        [(False, False)] if _ISO.match(words) else [(False, False), (True, False), (False, True)]
    )
    fillers = (datetime(2001, 1, 1), datetime(2002, 2, 2))
    meanings = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error", parser.UnknownTimezoneWarning)
        for filler in fillers:
            for day_first, year_first in orders:
                try:
                    meaning = parser.parse(
                        words,
                        default=filler,
                        dayfirst=day_first,
                        yearfirst=year_first,
                        tzinfos=_own_zone,
                    )
                except parser.UnknownTimezoneWarning:
                    raise ValueError("unknown time zone") from None
                except parser.ParserError:
                    raise ValueError("no date") from None
                meanings.add(meaning)
    if len(meanings) > 1:
        raise ValueError("day, month or year is missing or ambiguous")
    meaning = meanings.pop()
    weekday = _WEEKDAY.search(words)
    if weekday and weekday[1].lower() != meaning.strftime("%a").lower():
        raise ValueError("it is not on that day of the week")
    return meaning


def _own_zone(name: str | None, offset: int | None) -> tzinfo | None:
    """The zone of an abbreviation: the machine's own ones; dateutil knows UTC and numeric offsets
    itself.
    """
    if offset is not None:
        return tz.tzoffset(name, offset)
    if name in ("UTC", "GMT", "Z"):
        return tz.UTC
    if name is not None and name == time.tzname[0]:
        return tz.tzoffset(name, timedelta(seconds=-time.timezone))
    if name is not None and time.daylight and name == time.tzname[1]:
        return tz.tzoffset(name, timedelta(seconds=-time.altzone))
    if name is not None:
        raise ValueError(f"unknown time zone {name}")
    return None


def _to_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)
