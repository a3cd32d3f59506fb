"""How wide the pieces are by which a table is read."""

import pytest
from sqlalchemy import column

from jobs.db import key_walk
from jobs.db.key_walk import FIRST_WIDTH, LEAST_WIDTH, PIECE_SECONDS, KeyWalk


class Clock:
    """The time, as a test sets it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(key_walk, "time", clock)
    return clock


def width_after(clock: Clock, *seconds: float) -> int:
    """How wide the next piece is after pieces that took so long."""
    walk = KeyWalk(column("id"))
    for taken in seconds:
        first, last = walk.bounds()
        clock.now += taken
        walk.go_on(last + 1)
        clock.now += 60  # a pause between two pieces, in which nothing is read
    first, last = walk.bounds()
    return last - first + 1


@pytest.mark.parametrize(
    ("seconds", "width"),
    [
        ((), FIRST_WIDTH),
        ((PIECE_SECONDS,), FIRST_WIDTH),
        ((PIECE_SECONDS / 2,), 2 * FIRST_WIDTH),
        ((0.0,), 4 * FIRST_WIDTH),
        ((0.0, 0.0), 16 * FIRST_WIDTH),
        ((2 * PIECE_SECONDS,), FIRST_WIDTH // 2),
        ((1000 * PIECE_SECONDS,), LEAST_WIDTH),
    ],
)
def test_a_piece_is_as_wide_as_can_be_read_in_a_moment(
    clock: Clock, seconds: tuple[float, ...], width: int
) -> None:
    assert width_after(clock, *seconds) == width


def test_pieces_follow_each_other_and_pass_over_what_is_empty() -> None:
    walk = KeyWalk(column("id"), after=10)
    assert walk.bounds() == (11, 10 + FIRST_WIDTH)
    walk.go_behind(50)
    assert walk.bounds()[0] == 51
    walk.go_on(2_000_000_000)
    assert walk.bounds()[0] == 2_000_000_000
    walk.go_on(None)
    assert walk.is_over
