"""Readings of clocks that are put forward and back."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from jobs.wall_clock import first_change, last_change, moments_of


@pytest.mark.parametrize(
    ("zone", "reading", "moments"),
    [
        ("UTC", "2026-10-25T02:30", ["2026-10-25T02:30"]),
        ("Europe/Berlin", "2026-10-25T01:59", ["2026-10-24T23:59"]),
        ("Europe/Berlin", "2026-10-25T02:00", ["2026-10-25T00:00", "2026-10-25T01:00"]),
        ("Europe/Berlin", "2026-10-25T02:59:59", ["2026-10-25T00:59:59", "2026-10-25T01:59:59"]),
        ("Europe/Berlin", "2026-10-25T03:00", ["2026-10-25T02:00"]),
        ("Europe/Berlin", "2026-03-29T01:59", ["2026-03-29T00:59"]),
        ("Europe/Berlin", "2026-03-29T02:00", ["2026-03-29T01:00"]),
        ("Europe/Berlin", "2026-03-29T02:30", ["2026-03-29T01:00"]),
        ("Europe/Berlin", "2026-03-29T03:00", ["2026-03-29T01:00"]),
        ("America/New_York", "2026-11-01T01:30", ["2026-11-01T05:30", "2026-11-01T06:30"]),
        ("America/New_York", "2026-03-08T02:30", ["2026-03-08T07:00"]),
        ("Australia/Lord_Howe", "2026-04-05T01:45", ["2026-04-04T14:45", "2026-04-04T15:15"]),
        ("Australia/Lord_Howe", "2026-10-04T02:15", ["2026-10-03T15:30"]),
        ("Africa/Cairo", "2026-04-24T00:30", ["2026-04-23T22:00"]),
        ("Pacific/Apia", "2011-12-30T12:00", ["2011-12-30T10:00"]),
    ],
)
def test_when_a_clock_shows_a_reading(zone: str, reading: str, moments: list[str]) -> None:
    expected = tuple(datetime.fromisoformat(moment).replace(tzinfo=UTC) for moment in moments)
    assert moments_of(datetime.fromisoformat(reading), ZoneInfo(zone)) == expected


def test_the_changes_of_a_clock_are_found_from_both_ends() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    forward, back = datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)
    assert first_change(begin, end, berlin) == forward
    assert first_change(forward, end, berlin) == last_change(begin, end, berlin) == back
    assert first_change(back, end, berlin) is last_change(begin, begin, berlin) is None
    assert first_change(begin, end, UTC) is last_change(begin, end, UTC) is None
