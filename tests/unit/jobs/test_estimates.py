"""What is left of a work: from a count of what is due, by what went since."""

from collections.abc import Mapping

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from jobs import estimates
from jobs.estimates import Forecast, Rest
from tests.support.run_records import moved


@pytest.mark.parametrize(
    ("due", "went", "remaining"),
    [
        pytest.param({}, {"instances": 5}, None, id="it was not counted"),
        pytest.param({"instances": 100}, {}, None, id="nothing went yet"),
        pytest.param({"instances": 100}, {"instances": 10}, 90, id="rows that come alone"),
        pytest.param(
            {"instances": 100},
            {"instances": 10, "instance_actions": 40},
            450,
            id="rows that bring others",
        ),
        pytest.param({"instances": 100, "volumes": 50}, {"instances": 10}, 140, id="of two tables"),
        pytest.param({"instances": 10}, {"instances": 10}, None, id="all that was counted"),
        pytest.param(
            {"instances": 10, "volumes": 2}, {"instances": 30}, 6, id="more than were counted"
        ),
        pytest.param({"instances": 10}, {"instance_actions": 30}, None, id="only others"),
    ],
)
def test_what_is_left_grows_as_it_did_so_far(
    due: Mapping[str, int], went: Mapping[str, int], remaining: int | None
) -> None:
    assert Rest(due).after(went).remaining == remaining


def test_what_stays_in_tables_that_are_through_is_not_left_to_do() -> None:
    rest = Rest({"a": 100, "b": 50}).after({"a": 10})
    assert rest.remaining == 140
    assert rest.from_table(["b", "c"]).remaining == 50


def test_a_question_that_is_refused_ends_no_work() -> None:
    def ask() -> dict[str, int]:
        connection.exec_driver_sql("SELECT number FROM nowhere")
        raise AssertionError("it is refused")

    with create_engine("sqlite://", poolclass=NullPool).connect() as connection:
        assert estimates.estimate(ask, connection, "cell1") == {}


@pytest.fixture
def counts() -> list[dict[str, int]]:
    """What is counted, as often as it is."""
    return []


def forecast(counts: list[dict[str, int]], cursor: dict[str, object] | None = None) -> Forecast:
    def count() -> dict[str, int]:
        counts.append({"instances": 100})
        return counts[-1]

    return Forecast(count, cursor)


def test_a_short_work_is_not_counted(counts: list[dict[str, int]]) -> None:
    short = forecast(counts)
    short.look()
    assert (short.step(moved(10), {"at": 1}).remaining, counts) == (None, [])


def test_a_long_work_is_counted_once_whoever_goes_on(
    counts: list[dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "AFTER", 0.0)
    long = forecast(counts)
    for rows, remaining in ((10, 90), (20, 70)):
        long.look()
        step = long.step(moved(rows), {"at": rows})
        assert step.remaining == remaining
    later = forecast(counts, step.cursor)
    later.look()
    assert later.step(moved(5), {"at": 3}).remaining == 65
    assert len(counts) == 1
