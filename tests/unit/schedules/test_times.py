"""When entries are due in nights in which clocks change: each fixed time once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from schedules.beat import LEAST_PAUSE, LONGEST_PAUSE
from schedules.clocks import clock_problem, seconds_to_next_look
from schedules.times import has_fixed_times, last_time, next_time

MINUTE: Final = timedelta(minutes=1)
HOURS: Final = timedelta(hours=6)
# The zone, and in UTC the begin of six hours of a night.
NIGHTS: Final = {
    "back in Berlin": ("Europe/Berlin", "2026-10-24T22:00"),
    "forward in Berlin": ("Europe/Berlin", "2026-03-28T22:00"),
    "back in New York": ("America/New_York", "2026-11-01T03:00"),
    "forward in New York": ("America/New_York", "2026-03-08T04:00"),
    "back on Lord Howe": ("Australia/Lord_Howe", "2026-04-04T12:00"),
    "forward on Lord Howe": ("Australia/Lord_Howe", "2026-10-03T12:00"),
}


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def shown(moments: list[datetime], zone: ZoneInfo) -> list[str]:
    """Moments as the clock shows them, with its offset."""
    return [moment.astimezone(zone).strftime("%H:%M %z") for moment in moments]


def follow(cron: str, zone: ZoneInfo, begin: datetime, end: datetime) -> tuple[list[datetime], int]:
    """What a beat does, with a simulated clock: it fires what was due last, then waits.

    :returns: the nominal times that it fires, and how often it looks
    """
    now, fired, looks = begin, [], 0
    last_fired = last_time(cron, zone, begin)
    while now < end:
        looks += 1
        due = last_time(cron, zone, now)
        assert last_fired is not None
        assert due is not None
        if due > last_fired:
            fired.append(due)
            last_fired = due
        now += timedelta(
            seconds=seconds_to_next_look(
                next_time(cron, zone, now), now, LEAST_PAUSE, LONGEST_PAUSE
            )
        )
    return fired, looks


@pytest.mark.parametrize(
    ("night", "cron", "times"),
    [
        ("back in Berlin", "30 2 * * *", ["02:30 +0200"]),
        ("back in Berlin", "0 2 * * *", ["02:00 +0200"]),
        ("back in Berlin", "59 2 * * *", ["02:59 +0200"]),
        ("back in Berlin", "0,30 1,2,3 * * *", [
            "01:00 +0200", "01:30 +0200", "02:00 +0200", "02:30 +0200",
            "03:00 +0100", "03:30 +0100",
        ]),
        ("back in Berlin", "15 30 2 * * *", ["02:30 +0200"]),
        ("back in Berlin", "*/30 2 * * *", [
            "02:00 +0200",
            "02:30 +0200",
            "02:00 +0100",
            "02:30 +0100",
        ]),
        ("forward in Berlin", "30 2 * * *", ["03:00 +0200"]),
        ("forward in Berlin", "0,30 1,2,3 * * *", [
            "01:00 +0100",
            "01:30 +0100",
            "03:00 +0200",
            "03:30 +0200",
        ]),
        ("forward in Berlin", "15 30 2 * * *", ["03:00 +0200"]),
        ("forward in Berlin", "*/30 2 * * *", []),
        ("back in New York", "30 1 * * *", ["01:30 -0400"]),
        ("back in New York", "0,30 0-2 * * *", [
            "00:00 -0400", "00:30 -0400", "01:00 -0400", "01:30 -0400",
            "02:00 -0500", "02:30 -0500",
        ]),
        ("forward in New York", "30 2 * * *", ["03:00 -0400"]),
        ("back on Lord Howe", "45 1 * * *", ["01:45 +1100"]),
        ("back on Lord Howe", "15 1 * * *", ["01:15 +1100"]),
        ("forward on Lord Howe", "15 2 * * *", ["02:30 +1100"]),
        ("forward on Lord Howe", "45 2 * * *", ["02:45 +1100"]),
    ],
)  # fmt: skip
def test_a_beat_fires_each_time_of_the_night_once(night: str, cron: str, times: list[str]) -> None:
    name, evening = NIGHTS[night]
    zone, begin = ZoneInfo(name), moment(evening)
    fired, looks = follow(cron, zone, begin, begin + HOURS)
    assert shown(fired, zone) == times
    assert looks <= HOURS.total_seconds() / LONGEST_PAUSE + len(times) + 1


@pytest.mark.parametrize("night", NIGHTS)
@pytest.mark.parametrize(
    "cron", ["*/15 * * * *", "5 * * * *", "*/20 2 * * *", "*/7 1,0 * * *", "10 */2 * * *"]
)
def test_an_entry_with_a_star_follows_the_hours_as_they_come(night: str, cron: str) -> None:
    name, evening = NIGHTS[night]
    zone, begin = ZoneInfo(name), moment(evening)
    minutes = [begin + number * MINUTE for number in range(1, HOURS // MINUTE)]
    expected = [minute for minute in minutes if matches(cron, minute.astimezone(zone))]
    assert list(times_after(cron, zone, begin, begin + HOURS)) == expected
    for sooner, later in pairwise(expected):
        assert last_time(cron, zone, later - timedelta(seconds=1)) == sooner
        assert last_time(cron, zone, later) == later


def times_after(cron: str, zone: ZoneInfo, begin: datetime, end: datetime) -> Iterator[datetime]:
    following = next_time(cron, zone, begin)
    while following and following < end:
        yield following
        following = next_time(cron, zone, following)


def matches(cron: str, reading: datetime) -> bool:
    """Whether an expression of minutes and hours names what a clock shows."""
    fields = CronSim(cron, datetime(2026, 1, 1))
    return reading.minute in fields.minutes and reading.hour in fields.hours


@pytest.mark.parametrize(
    ("cron", "zone", "now", "last"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:29", "2026-10-24T00:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30", "2026-10-25T00:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10", "2026-10-25T00:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:30", "2026-10-25T00:30"),
        ("30 1 * * *", "America/New_York", "2026-11-01T06:10", "2026-11-01T05:30"),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T15:05", "2026-04-04T14:45"),
    ],
)
def test_what_was_due_is_known_in_the_hour_that_comes_again(
    cron: str, zone: str, now: str, last: str
) -> None:
    assert last_time(cron, ZoneInfo(zone), moment(now)) == moment(last)


@pytest.mark.parametrize(
    ("cron", "fixed"),
    [
        ("30 2 * * *", True),
        ("0-59 0-23 * * *", True),
        ("*/5 30 2 * * *", True),
        ("* 2 * * *", False),
        ("0 */2 * * *", False),
        ("0 0 * * * *", False),
    ],
)
def test_which_expressions_name_fixed_times(cron: str, fixed: bool) -> None:
    assert has_fixed_times(cron) is fixed


@pytest.mark.parametrize(
    ("following", "seconds"),
    [(None, 5.0), (-1800.0, 0.2), (0.0, 0.2), (0.1, 0.2), (3.0, 3.0), (4000.0, 5.0)],
)
def test_a_beat_pauses_between_two_looks_whatever_comes(
    following: float | None, seconds: float
) -> None:
    now = moment("2026-10-25T01:00")
    assert (
        seconds_to_next_look(
            None if following is None else now + timedelta(seconds=following), now, 0.2, 5.0
        )
        == seconds
    )


@pytest.mark.parametrize(
    ("ahead", "problem"),
    [
        (0, ""),
        (60, ""),
        (-60, ""),
        (61, "the clock of its host is 61 s ahead of that of Redis: set both by NTP"),
        (-7200, "the clock of its host is 7,200 s behind that of Redis: set both by NTP"),
    ],
)
def test_clocks_that_differ_are_a_problem(ahead: int, problem: str) -> None:
    store = moment("2026-11-24T02:00")
    assert clock_problem(store + timedelta(seconds=ahead), store) == problem
