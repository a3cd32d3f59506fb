"""How fast it goes: by what was handled in the last minute, and not before a pause."""

from collections.abc import Mapping

import pytest

from runs import pace
from runs.pace import Speed

NOW = 1_000_005.0
CURRENT = 100_000  # the bucket of NOW, which is half over


@pytest.mark.parametrize(
    ("handled", "since", "rate"),
    [
        pytest.param({}, 0.0, 0.0, id="nothing for a minute"),
        pytest.param({CURRENT: 65}, 0.0, 1.0, id="all of it a moment ago"),
        pytest.param(
            dict.fromkeys(range(CURRENT - 6, CURRENT + 1), 65), 0.0, 7.0, id="all the time"
        ),
        pytest.param({CURRENT - 7: 1000, CURRENT - 6: 65}, 0.0, 1.0, id="more than a minute ago"),
        pytest.param({CURRENT + 1: 1000, CURRENT: 65}, 0.0, 1.0, id="from a clock that is ahead"),
        pytest.param({CURRENT: 40}, NOW - 4, 10.0, id="it began four seconds ago"),
        pytest.param({CURRENT - 2: 900, CURRENT: 40}, NOW - 4, 10.0, id="it paused before"),
        pytest.param({CURRENT - 1: 150}, NOW - 15, 10.0, id="it went on at the begin of a bucket"),
        pytest.param({CURRENT: 40}, NOW - 0.5, None, id="it went on a moment ago"),
        pytest.param({CURRENT: 40}, NOW + 3, None, id="it goes on in the future"),
    ],
)
def test_a_rate_is_that_of_the_last_minute(
    handled: Mapping[int, int], since: float, rate: float | None
) -> None:
    assert pace.rate(handled, since, NOW) == rate


@pytest.mark.parametrize(
    ("before", "handled", "after"),
    [
        ({}, 5, {CURRENT: 5}),
        ({CURRENT: 5}, 7, {CURRENT: 12}),
        ({CURRENT - 6: 1, CURRENT - 3: 2}, 7, {CURRENT - 6: 1, CURRENT - 3: 2, CURRENT: 7}),
        ({CURRENT - 7: 9, CURRENT: 1}, 0, {CURRENT: 1}),
        ({}, 0, {}),
    ],
)
def test_a_step_is_added_and_what_is_old_is_dropped(
    before: Mapping[int, int], handled: int, after: Mapping[int, int]
) -> None:
    assert pace.add(before, NOW, handled) == after


@pytest.mark.parametrize(
    ("speed", "seconds"),
    [
        (Speed(10.0, 250), 25.0),
        (Speed(0.0, 250), None),
        (Speed(None, 250), None),
        (Speed(10.0, None), None),
        (Speed(10.0, 0), None),
        (Speed(0.02, 10_000_000_000), None),
    ],
)
def test_nobody_tells_an_end_without_a_rate_and_a_rest(speed: Speed, seconds: float | None) -> None:
    assert speed.seconds_left == seconds
