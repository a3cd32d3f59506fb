"""How many rows a transaction may have: by how long those before took, and by what was refused."""

from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.transaction_size import GROWTH, SMALL, UNBOUNDED, TransactionSize

WANTED: Final = 0.5


def test_the_first_transaction_is_small_and_the_first_of_a_later_slice_is_not() -> None:
    assert TransactionSize(WANTED).within(10_000) == SMALL
    assert TransactionSize(WANTED, rows=7_000).within(10_000) == 7_000


@pytest.mark.parametrize(
    ("before", "rows", "seconds", "after"),
    [
        pytest.param(100, 100, 0.001, 200, id="quick: twice as large, not more"),
        pytest.param(
            100, 100, 0.3, 150, id="nearly as long as wanted: so large that it is in time"
        ),
        pytest.param(100, 100, 0.48, 100, id="about as long as wanted: as before"),
        pytest.param(100, 100, 0.6, 75, id="a little too long: a little smaller"),
        pytest.param(1000, 1000, 5.0, 90, id="much too long: much smaller at once"),
        pytest.param(1000, 1000, 3600.0, 1, id="far too long: never none"),
        pytest.param(1000, 10, 0.001, 1000, id="few rows, quick: they tell nothing of many"),
        pytest.param(1000, 10, 0.4, 1000, id="few rows, not quick"),
        pytest.param(1000, 10, 1.0, 4, id="few rows, too long"),
        pytest.param(100, 5000, 0.1, 200, id="a tree larger than wanted, quick"),
        pytest.param(100, 5000, 50.0, 45, id="a tree larger than wanted, too long"),
        pytest.param(1, 1, 0.4, 1, id="a single row that takes its time"),
        pytest.param(100, 100, 0.0, 200, id="too quick to be measured"),
        pytest.param(100, 0, 9.0, 100, id="nothing was written"),
    ],
)
def test_the_next_transaction_takes_about_as_long_as_wanted(
    before: int, rows: int, seconds: float, after: int
) -> None:
    size = TransactionSize(WANTED, rows=before)
    size.took(rows, seconds)
    assert size.rows == after


@pytest.mark.parametrize("rows", [1, 2, 99, 100, 1000])
def test_what_is_refused_is_halved_at_once(rows: int) -> None:
    size = TransactionSize(WANTED, rows=1000)
    size.refused(rows)
    assert size.rows == max(rows // 2, 1)


def test_what_was_refused_is_come_near_in_small_steps() -> None:
    size = TransactionSize(WANTED, rows=1000)
    for _ in range(3):
        size.refused(size.rows)
    sizes = []
    for _ in range(6):
        sizes.append(size.rows)
        size.took(size.rows, 0.001)
    assert sizes == [125, 250, 500, 550, 605, 665]


def test_a_size_grows_again_from_a_single_row() -> None:
    size = TransactionSize(WANTED, rows=1)
    size.refused(1)
    sizes = []
    for _ in range(4):
        sizes.append(size.rows)
        size.took(size.rows, 0.001)
    assert sizes == [1, 2, 3, 4]


def test_without_a_wanted_time_only_a_refusal_makes_it_smaller() -> None:
    size = TransactionSize(0.0)
    assert size.within(10_000) == 10_000
    size.took(10_000, 3600.0)
    size.begin_small()
    assert size.within(10_000) == 10_000
    size.refused(10_000)
    assert size.within(10_000) == 5_000


def test_after_a_pause_of_the_server_it_begins_small_again() -> None:
    size = TransactionSize(WANTED, rows=5000)
    size.begin_small()
    assert size.rows == SMALL


def test_a_bound_is_kept_however_quick_transactions_are() -> None:
    size = TransactionSize(WANTED)
    for _ in range(20):
        rows = size.within(1000)
        assert rows <= 1000
        size.took(rows, 0.001)
    assert size.within(1000) == 1000
    assert size.within(0) == 1


def test_what_is_measured_is_the_transaction_and_not_the_time_between_two() -> None:
    now = [0.0]
    size = TransactionSize(WANTED, rows=100, clock=lambda: now[0])
    with size.measure() as transaction:
        now[0] += 0.3
        transaction.rows = 100
    now[0] += 1000.0
    assert size.rows == 150


def test_a_transaction_that_fails_is_not_measured() -> None:
    now = [0.0]
    size = TransactionSize(WANTED, rows=100, clock=lambda: now[0])

    def fail() -> None:
        with size.measure() as transaction:
            transaction.rows = 100
            now[0] += 60.0
            raise OSError("away")

    with pytest.raises(OSError, match="away"):
        fail()
    assert size.rows == 100


@given(st.lists(st.tuples(st.floats(1, 1e5), st.booleans()), max_size=60), st.integers(1, 100_000))
def test_a_size_lies_within_its_bound_and_never_more_than_doubles(
    transactions: list[tuple[float, bool]], bound: int
) -> None:
    """:param transactions: at what speed the server writes rows, and whether it refuses them"""
    size = TransactionSize(WANTED)
    sizes = [size.rows]
    for speed, is_refused in transactions:
        rows = size.within(bound)
        assert 1 <= rows <= bound
        if is_refused:
            size.refused(rows)
        else:
            size.took(rows, rows / speed)
        sizes.append(size.rows)
    assert all(1 <= later <= GROWTH * earlier < UNBOUNDED for earlier, later in pairwise(sizes))


@pytest.mark.parametrize("speed", [3.0, 200.0, 50_000.0])
def test_a_steady_server_is_soon_given_what_it_does_in_time(speed: float) -> None:
    size = TransactionSize(WANTED)
    for _ in range(12):
        rows = size.within(100_000)
        size.took(rows, rows / speed)
    assert 0.8 * WANTED * speed - 1 <= size.rows <= WANTED * speed
