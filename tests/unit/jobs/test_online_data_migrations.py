"""Online data migrations without a database: their order, what outcomes add up to, the exit
code.
"""

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.action import CellResult, Failure, FailureKind
from jobs.codec import decode, encode
from jobs.db.migrations.interfaces import Port, ports_of
from jobs.db.migrations.migration import NAMED, Defaults, Left, Tally
from jobs.db.migrations.order import MIGRATIONS
from jobs.db.online_data_migrations import ACTION, Migrated, Params
from novadb.cells import Cell
from novadb.errors import DatabaseProblem

CELL: Final = Cell("uuid", "cell1", frozenset({1}), DatabaseProblem("not looked at"))
NAME: Final = "populate_uuids"

NOTHING: Final = Migrated({NAME: Tally()})
DONE: Final = Migrated({NAME: Tally(found=2, done=2)})
LEFT: Final = Migrated({NAME: Tally(found=2, left={"no host": Left(2, ("a", "b"))})})
UNSEEN: Final = Migrated({NAME: Tally(found=2, unseen=True)})
ERROR: Final = Migrated({NAME: Tally(errors={"cell1": "refused"})})
HELPED: Final = Migrated({NAME: Tally(errors={"cell1": ""})})


def test_all_eleven_are_there_in_their_order() -> None:
    assert list(MIGRATIONS) == [
        "migrate_quota_limits_to_api_db",
        "migrate_quota_classes_to_api_db",
        "migration_migrate_to_uuid",
        "populate_uuids",
        "populate_missing_availability_zones",
        "populate_queued_for_delete",
        "migrate_empty_ratio",
        "fill_virtual_interface_list",
        "populate_user_id",
        "populate_dev_uuids",
        "populate_instance_compute_id",
    ]


def result(outcome: Migrated, end: str = "") -> CellResult[Any]:
    """The result of a cell that ended with this outcome: completely, or as ``end`` says."""
    failure = Failure(FailureKind.CELL, "away") if end == "failed" else None
    return CellResult(CELL, outcome, failure, complete=not end)


@pytest.mark.parametrize(
    ("results", "unlimited", "with_budget"),
    [
        pytest.param([], 0, 0, id="no cell"),
        pytest.param([result(NOTHING)], 0, 0, id="nothing"),
        pytest.param([result(LEFT)], 0, 0, id="only rows that cannot be migrated"),
        pytest.param([result(DONE)], 0, 1, id="rows"),
        pytest.param([result(DONE), result(NOTHING)], 0, 1, id="rows in one cell"),
        pytest.param([result(ERROR)], 2, 2, id="an error"),
        pytest.param([result(ERROR + DONE)], 2, 1, id="an error, and rows"),
        pytest.param(
            [result(ERROR), result(DONE)], 2, 1, id="an error in one cell, rows in another"
        ),
        pytest.param([result(ERROR + HELPED)], 0, 0, id="an error that went away"),
        pytest.param([result(NOTHING, "failed"), result(NOTHING)], 2, 2, id="a cell that is away"),
        pytest.param(
            [result(NOTHING, "failed"), result(DONE)],
            2,
            1,
            id="a cell that is away, rows in another",
        ),
        pytest.param([result(DONE, "stopped")], 1, 1, id="stopped"),
        pytest.param([result(NOTHING, "stopped")], 1, 1, id="stopped before anything was done"),
        pytest.param([result(ERROR, "stopped")], 2, 2, id="stopped after an error"),
        pytest.param([result(UNSEEN), result(NOTHING)], 1, 1, id="not all was looked at"),
    ],
)
def test_exit_code(results: list[CellResult[Any]], unlimited: int, with_budget: int) -> None:
    for ordered in (results, results[::-1]):
        assert ACTION.collapse(ordered, Params()) == unlimited
        assert ACTION.collapse(ordered, Params(max_count=10)) == with_budget


def test_cells_share_a_budget() -> None:
    assert ACTION.in_turn(Params(max_count=3))
    assert not ACTION.in_turn(Params())
    assert ACTION.next_params(Params(max_count=3), DONE) == Params(max_count=1)
    assert ACTION.next_params(Params(max_count=2), DONE) is None
    assert ACTION.next_params(Params(), DONE) == Params()


names = st.lists(st.text("ab", min_size=1), max_size=4)
left = st.builds(
    lambda named, more: Left(len(named) + more, tuple(named)), names, st.integers(0, 3)
)
tallies = st.builds(
    Tally,
    found=st.integers(0, 9),
    done=st.integers(0, 9),
    left=st.dictionaries(st.sampled_from(["one reason", "another"]), left),
    unseen=st.booleans(),
    errors=st.dictionaries(st.sampled_from(["cell1", "cell2"]), st.sampled_from(["", "refused"])),
)
outcomes = st.builds(
    Migrated,
    tallies=st.dictionaries(st.sampled_from(list(MIGRATIONS)[:3]), tallies),
    not_there=st.dictionaries(
        st.sampled_from(list(MIGRATIONS)[3:]), st.just("instances.compute_id")
    ),
)


@given(outcomes, outcomes, outcomes)
def test_outcomes_add_up_in_whatever_slices_the_work_is_done(
    one: Migrated, two: Migrated, three: Migrated
) -> None:
    assert (one + two) + three == one + (two + three)
    assert (one + two).rows == one.rows + two.rows
    assert Migrated() + one == one


@given(outcomes)
def test_an_outcome_and_its_parameters_survive_the_way_to_a_worker(outcome: Migrated) -> None:
    assert decode(Migrated, encode(outcome)) == outcome
    params = Params(7, Defaults("somewhere", 1.5, 2.0, 3.0))
    assert decode(Params, encode(params)) == params


def test_only_so_many_rows_that_are_left_are_named() -> None:
    many = Left(NAMED, tuple("x" * NAMED)) + Left(2, ("y", "z"))
    assert (many.count, len(many.named)) == (NAMED + 2, NAMED)


@pytest.mark.parametrize(
    ("cache", "ports"),
    [
        (None, []),
        ("", []),
        ("null", []),
        ("[]", []),
        ('[{"id": "p", "address": "fa:16"}]', [Port("p", "fa:16/p")]),
        ('[{"id": "p", "address": null}]', [Port("p", "None/p")]),
        (
            '[{"id": "b", "address": "1"}, {"id": "a", "address": "2"}]',
            [Port("b", "1/b"), Port("a", "2/a")],
        ),
    ],
)
def test_the_ports_of_a_cache(cache: str | None, ports: list[Port]) -> None:
    assert ports_of(cache) == ports


@pytest.mark.parametrize("cache", ["{", '"text"', "7", "[7]", '[{"address": "1"}]', '{"id": "p"}'])
def test_a_cache_that_is_none(cache: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        ports_of(cache)
