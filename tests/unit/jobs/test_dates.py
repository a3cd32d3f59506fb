"""The dates of ``--before``: read as they were meant, or refused in one line; never guessed. And
``--until``.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.dates import closing_time, parse

NOW = datetime(2026, 3, 31, 12, 30, 15, 999)
# The rules of some places, which need no files of time zones.
BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
NEW_YORK = "EST5EDT,M3.2.0,M11.1.0"
SAO_PAULO = "<-03>3"
KATHMANDU = "<+0545>-5:45"
TOKYO = "JST-9"
ZONES = {
    "UTC": "UTC0",
    "Berlin": BERLIN,
    "New York": NEW_YORK,
    "Sao Paulo": SAO_PAULO,
    "Kathmandu": KATHMANDU,
}

Choose = Callable[[str], None]


@pytest.fixture
def zone() -> Iterator[Choose]:
    """Choose the machine's time zone, for the rest of the test."""
    with pytest.MonkeyPatch.context() as patch:

        def choose(name: str) -> None:
            patch.setenv("TZ", name)
            time.tzset()

        choose("UTC0")
        yield choose
    time.tzset()


def refusal(text: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the callers look at the message
        parse(text, NOW)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        pytest.param("2015-10-21", datetime(2015, 10, 21), id="the manual's first example"),
        pytest.param("Oct 21 2015", datetime(2015, 10, 21), id="the manual's second example"),
        pytest.param(
            "2015-10-21 12:00", datetime(2015, 10, 21, 12), id="the manual's third example"
        ),
        pytest.param(
            "2015-10-2112:00:00",
            datetime(2015, 10, 21, 12),
            id="YYYY-MM-DD[HH:mm:ss] to the letter",
        ),
        pytest.param("2015-10-21 12:34:56", datetime(2015, 10, 21, 12, 34, 56), id="with seconds"),
        pytest.param("2015-10-21T12:34:56", datetime(2015, 10, 21, 12, 34, 56), id="ISO 8601"),
        pytest.param(
            "2015-10-21T12:34:56Z", datetime(2015, 10, 21, 12, 34, 56), id="ISO 8601, Zulu"
        ),
        pytest.param("20151021", datetime(2015, 10, 21), id="ISO 8601, basic"),
        pytest.param(
            "20151021T1234", datetime(2015, 10, 21, 12, 34), id="ISO 8601, basic, with time"
        ),
        pytest.param("2015/10/21", datetime(2015, 10, 21), id="slashes, year first"),
        pytest.param(
            "2015-01-02", datetime(2015, 1, 2), id="year, month, day: no other order is meant"
        ),
        pytest.param("2016-02-29", datetime(2016, 2, 29), id="a leap day"),
        pytest.param("21 Oct 2015", datetime(2015, 10, 21), id="day before month"),
        pytest.param("October 21, 2015 5pm", datetime(2015, 10, 21, 17), id="in words"),
        pytest.param("21.10.2015", datetime(2015, 10, 21), id="dots, the day tells the order"),
        pytest.param("10/10/2015", datetime(2015, 10, 10), id="either order is the same day"),
        pytest.param("10/21/15", datetime(2015, 10, 21), id="date +%D"),
        pytest.param(
            "11/05/26", datetime(2026, 11, 5), id="date +%D, on the first twelve days of a month"
        ),
        pytest.param(
            "05/11/26", datetime(2026, 5, 11), id="date +%D is month, day, year and nothing else"
        ),
        pytest.param("02/29/16", datetime(2016, 2, 29), id="date +%D, a leap day"),
        pytest.param("10/10/68", datetime(2068, 10, 10), id="two digits of a year, by POSIX"),
        pytest.param(
            "10/10/69",
            datetime(1969, 10, 10),
            id="two digits of a year, by POSIX, of the other century",
        ),
        pytest.param("  2015-10-21  ", datetime(2015, 10, 21), id="spaces around"),
        pytest.param(
            "Wed Oct 21 12:34:56 UTC 2015", datetime(2015, 10, 21, 12, 34, 56), id="date, LC_ALL=C"
        ),
        pytest.param(
            "Wed Oct 21 12:34:56 PM UTC 2015",
            datetime(2015, 10, 21, 12, 34, 56),
            id="date, en_US of glibc",
        ),
        pytest.param(
            "Wed 21 Oct 2015 12:34:56 AM UTC", datetime(2015, 10, 21, 0, 34, 56), id="date, en_US"
        ),
        pytest.param(
            "Wed, 21 Oct 2015 12:34:56 +0000", datetime(2015, 10, 21, 12, 34, 56), id="date -R"
        ),
    ],
)
@pytest.mark.usefixtures("zone")
def test_a_date_is_read(text: str, moment: datetime) -> None:
    assert parse(text, NOW) == moment


@pytest.mark.usefixtures("zone")
def test_what_date_prints_for_percent_d_is_read_on_every_day_of_a_year() -> None:
    """As the cron jobs of puppet-nova pass it."""
    days = [f"2026-01-01 + {number} days" for number in range(365)]
    printed = subprocess.check_output(
        ["date", "-f", "-", "+%D %F"], input="\n".join(days), text=True
    )
    for by_percent_d, day in (line.split() for line in printed.splitlines()):
        assert parse(by_percent_d, NOW) == datetime.fromisoformat(day)


@pytest.mark.parametrize("place", ZONES)
@pytest.mark.parametrize(
    "moment", ["2026-07-22 08:30:00", "2026-11-22 23:59:59", "2015-10-21 00:00:00"]
)
def test_what_the_command_date_prints_is_read_in_the_zone_of_the_machine(
    zone: Choose, place: str, moment: str
) -> None:
    zone(ZONES[place])
    printed = subprocess.check_output(
        ["date", "-d", f"{moment} UTC"],
        text=True,
        env=os.environ | {"LC_ALL": "C", "TZ": ZONES[place]},
    )
    assert parse(printed, NOW) == datetime.fromisoformat(moment)


@pytest.mark.parametrize(
    ("machine", "text", "moment"),
    [
        pytest.param(
            BERLIN,
            "2015-10-21 12:00",
            datetime(2015, 10, 21, 12),
            id="no zone is UTC, wherever we are",
        ),
        pytest.param(BERLIN, "2015-10-21 12:00 UTC", datetime(2015, 10, 21, 12), id="UTC is UTC"),
        pytest.param(BERLIN, "2015-10-21 12:00 GMT", datetime(2015, 10, 21, 12), id="GMT is UTC"),
        pytest.param(BERLIN, "2015-10-21 12:00 CEST", datetime(2015, 10, 21, 10), id="summer"),
        pytest.param(BERLIN, "2015-12-21 12:00 CET", datetime(2015, 12, 21, 11), id="winter"),
        pytest.param(
            BERLIN,
            "2015-10-25 02:30 CEST",
            datetime(2015, 10, 25, 0, 30),
            id="the hour that comes twice",
        ),
        pytest.param(
            BERLIN, "2015-10-25 02:30 CET", datetime(2015, 10, 25, 1, 30), id="and its second time"
        ),
        pytest.param(
            NEW_YORK, "Oct 21 2015 08:00 PM EDT", datetime(2015, 10, 22, 0), id="over midnight"
        ),
        pytest.param(
            TOKYO, "2016-01-01 03:00 JST", datetime(2015, 12, 31, 18), id="over the end of the year"
        ),
        pytest.param("UTC0", "2015-10-21 12:00+02:00", datetime(2015, 10, 21, 10), id="offset"),
        pytest.param(
            "UTC0",
            "2015-10-21 12:00 -0230",
            datetime(2015, 10, 21, 14, 30),
            id="offset of half an hour",
        ),
        pytest.param(
            BERLIN,
            "2015-10-21T12:00:00-05:00",
            datetime(2015, 10, 21, 17),
            id="offset of somewhere else",
        ),
    ],
)
def test_zones_are_converted_to_utc(
    zone: Choose, machine: str, text: str, moment: datetime
) -> None:
    """DATE-1"""
    zone(machine)
    assert parse(text, NOW) == moment


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        ("UTC0", "2015-10-21 12:00 CET"),
        ("UTC0", "2015-10-21 12:00 CEST"),
        (TOKYO, "2015-10-21 12:00 CEST"),
        (BERLIN, "2015-10-21 12:00 EST"),
        (BERLIN, "2015-10-21 12:00 IST"),
        (BERLIN, "2015-10-21 12:00 UTC+2"),
        (BERLIN, "2015-10-21 12:00 GMT-3"),
        (BERLIN, "2015-10-21 12:00 Europe/Berlin"),
    ],
)
def test_a_zone_that_could_be_several_is_refused(zone: Choose, machine: str, text: str) -> None:
    """DATE-2"""
    zone(machine)
    assert text in refusal(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90d", datetime(2025, 12, 31, 12, 30, 15)),
        ("90 days", datetime(2025, 12, 31, 12, 30, 15)),
        ("1 DAY", datetime(2026, 3, 30, 12, 30, 15)),
        ("0d", datetime(2026, 3, 31, 12, 30, 15)),
        ("12h", datetime(2026, 3, 31, 0, 30, 15)),
        ("1 hour", datetime(2026, 3, 31, 11, 30, 15)),
        ("2 weeks", datetime(2026, 3, 17, 12, 30, 15)),
        ("3w", datetime(2026, 3, 10, 12, 30, 15)),
        ("1 month", datetime(2026, 2, 28, 12, 30, 15)),
        ("3 months", datetime(2025, 12, 31, 12, 30, 15)),
        ("1 year", datetime(2025, 3, 31, 12, 30, 15)),
        ("2y", datetime(2024, 3, 31, 12, 30, 15)),
        (" 90d ", datetime(2025, 12, 31, 12, 30, 15)),
    ],
)
def test_an_age_counts_back_to_the_second(text: str, moment: datetime) -> None:
    """DATE-4"""
    assert parse(text, NOW) == moment


def test_an_age_counts_back_from_now_in_utc_wherever_we_are(zone: Choose) -> None:
    zone("XXX-14")
    before = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    found = parse("0d")
    assert before <= found <= datetime.now(UTC).replace(tzinfo=None)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="DATE-3: empty"),
        pytest.param("   ", id="DATE-3: blank"),
        *(
            "yesterday",
            "now",
            "10 days ago",
            "tuesday-ish",
            "before 2015-10-21",
            "2015-10-21 12:00 or so",
            "nova",
        ),
        *("2015", "12", "Oct 2015", "October", "2015-10", "12:00", "Oct 21", "Wednesday"),
        *(
            "01/02/2015",
            "10.11.2015",
            "15-10-21",
            "2015-1-2",
            "13/11/26",
            "00/05/26",
            "02/30/26",
            "1/2/26",
            "01.02.26",
        ),
        *(
            "2015-02-30",
            "2015-13-01",
            "2015-02-29",
            "2015-21-10",
            "2015-10-21 25:00",
            "2015-10-21 12:61",
        ),
        *("Tue Oct 21 12:00:00 UTC 2015", "Monday, Oct 21 2015"),
        *("1445385600", "@1445385600", "2015-W43", "2015-294", "NaN"),
        *("-5d", "1.5d", "90", "90x", "2m", "5 minutes", "d", "90d 12h"),
        *(
            "999999d",
            "99999999999999999999d",
            "9999y",
            "9999-12-31 23:59 -0500",
            "0001-01-01 00:00 +0500",
        ),
    ],
)
@pytest.mark.usefixtures("zone")
def test_what_has_more_or_less_than_one_meaning_is_refused(text: str) -> None:
    """DATE-2"""
    message = refusal(text)
    assert repr(text) in message
    assert "use YYYY-MM-DD" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("01/02/2015", "ambiguous"),
        ("Oct 2015", "missing"),
        ("2015-10-21 12:00 CEST", "unknown time zone"),
        ("2015-10-21 12:00 UTC+2", "two meanings"),
        ("Tue Oct 21 2015", "day of the week"),
        ("", "no date"),
    ],
)
@pytest.mark.usefixtures("zone")
def test_the_refusal_says_why(text: str, reason: str) -> None:
    assert reason in refusal(text)


def test_a_refusal_stays_one_short_line_whatever_was_given() -> None:
    message = refusal("yesterday\nor\r\nso " * 1000)
    assert len(message.splitlines()) == 1
    assert len(message) < 400


@settings(max_examples=300)
@given(st.text(max_size=40) | st.text("0123456789-/:.+ TZdwmhyOctUA\n", max_size=25))
@example("0" * 30)
@example("2015-10-21 12:00:00+99:99")
@example("\x00")
def test_any_text_is_a_naive_date_or_a_refusal_in_one_line(text: str) -> None:
    try:
        assert parse(text, NOW).tzinfo is None
    except ValueError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - both ends are right


@pytest.mark.parametrize(
    ("text", "zone", "now", "closing"),
    [
        pytest.param("06:00", "UTC", "2026-11-24T02:00", "2026-11-24T06:00", id="later today"),
        pytest.param("6:00", "UTC", "2026-11-24T02:00", "2026-11-24T06:00", id="one digit"),
        pytest.param(
            "06:00", "UTC", "2026-11-24T06:00", "2026-11-25T06:00", id="right now is over: tomorrow"
        ),
        pytest.param("06:00", "UTC", "2026-11-24T22:00", "2026-11-25T06:00", id="beyond midnight"),
        pytest.param("00:00", "UTC", "2026-12-31T22:00", "2027-01-01T00:00", id="midnight"),
        pytest.param(
            "06:00", "Europe/Berlin", "2026-11-24T02:00", "2026-11-24T05:00", id="in a zone"
        ),
        pytest.param(
            "00:30",
            "Europe/Berlin",
            "2026-11-24T22:00",
            "2026-11-24T23:30",
            id="tomorrow there, today here",
        ),
        pytest.param(
            "06:00",
            "Europe/Berlin",
            "2026-03-28T20:00",
            "2026-03-29T04:00",
            id="over a night of 23 hours",
        ),
        pytest.param(
            "06:00",
            "Europe/Berlin",
            "2026-10-24T20:00",
            "2026-10-25T05:00",
            id="over a night of 25 hours",
        ),
        pytest.param(
            "02:30",
            "Europe/Berlin",
            "2026-10-25T00:00",
            "2026-10-25T00:30",
            id="a time that comes twice",
        ),
        pytest.param(
            "02:30",
            "Europe/Berlin",
            "2026-10-25T00:30",
            "2026-10-25T01:30",
            id="a time that comes again",
        ),
        pytest.param(
            "02:30",
            "Europe/Berlin",
            "2026-10-25T01:10",
            "2026-10-25T01:30",
            id="in the hour that comes again",
        ),
        pytest.param(
            "02:30",
            "Europe/Berlin",
            "2026-10-25T01:30",
            "2026-10-26T01:30",
            id="after it came twice",
        ),
        pytest.param(
            "02:30",
            "Europe/Berlin",
            "2026-03-29T00:50",
            "2026-03-29T01:00",
            id="a time that is left out",
        ),
        pytest.param(
            "02:30",
            "Europe/Berlin",
            "2026-03-29T01:00",
            "2026-03-30T00:30",
            id="after it was left out",
        ),
        pytest.param(
            "02:10",
            "Australia/Lord_Howe",
            "2026-10-03T15:00",
            "2026-10-03T15:30",
            id="half an hour left out",
        ),
        pytest.param(
            "2026-11-24T06:00+01:00", "UTC", "2026-11-24T22:00", "2026-11-24T05:00", id="a moment"
        ),
    ],
)
def test_the_window_closes_when_the_clock_next_shows_the_time(
    text: str, zone: str, now: str, closing: str
) -> None:
    found = closing_time(text, ZoneInfo(zone), datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert found.astimezone(UTC) == datetime.fromisoformat(closing).replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["24:00", "6", "", "2026-11-24T06:00", "2026-11-24", "tomorrow"])
def test_a_closing_time_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is neither HH:MM nor a moment with an offset"):
        closing_time(text, UTC, datetime(2026, 11, 24, tzinfo=UTC))


@pytest.mark.parametrize("text", ["9999-01-01T00:00:01+00:00", "9999-12-31T23:59:59-14:00"])
def test_a_closing_time_that_no_clock_can_show(text: str) -> None:
    with pytest.raises(ValueError, match="is later than the year 9998"):
        closing_time(text, UTC, datetime(2026, 11, 24, tzinfo=UTC))
