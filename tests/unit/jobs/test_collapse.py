"""What the outcomes of the cells add up to: the exit code, and what is left of a total for the next
cell.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import permutations
from typing import Any

import pytest

from jobs.action import CellResult, Failure, FailureKind, Outcome
from jobs.db import archive_deleted_rows as archive
from jobs.db import backlog, purge, sync
from jobs.db.archive_deleted_rows import Archived, Blocked
from jobs.db.backlog import Backlog, Waiting
from jobs.db.purge import Purged
from jobs.db.sync import Synced
from jobs.placement import heal_allocations as heal
from jobs.placement.heal_allocations import Healed
from novadb.cells import CELL0, Cell
from novadb.errors import DatabaseProblem

CELL = Cell("uuid", "cell1", frozenset({1}), DatabaseProblem("not looked at"))
BROKEN, API_BROKEN, SURPRISE = FailureKind.CELL, FailureKind.API_DATABASE, FailureKind.UNEXPECTED

NOTHING = Archived()
MOVED = Archived(moved={"instances": 2, "instance_extra": 2}, api={"request_specs": 2})
LEFT = Archived(blocked=(Blocked("instances", 7, "a share"),), blocked_count=1)
FULL = Archived(full=True)
REPAIRED = Archived(repaired={"API_DB.request_specs": 3})
NO_ROWS = Archived(moved={"instances": 0}, api={"request_specs": 0})

DELETED = Purged(deleted={"shadow_instances": 3})
AGELESS = Purged(ageless=("shadow_alembic_version",))

DUE = Backlog({"instances": Waiting(3, datetime(2015, 10, 21), datetime(2015, 10, 22))})


def results(*ends: Outcome | tuple[Outcome, FailureKind]) -> list[CellResult[Any]]:
    """Results of cells that ended with these outcomes, and with a failure where its kind is
    given.
    """
    found = []
    for end in ends:
        outcome, kind = end if isinstance(end, tuple) else (end, None)
        found.append(
            CellResult(CELL, outcome, Failure(kind, "why") if kind else None, complete=kind is None)
        )
    return found


def in_any_order(cells: Sequence[CellResult[Any]]) -> list[list[CellResult[Any]]]:
    return [list(order) for order in permutations(cells)]


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        pytest.param(results(), 0, id="no cell"),
        pytest.param(results(NOTHING), 0, id="nothing"),
        pytest.param(results(NOTHING, NOTHING), 0, id="nothing anywhere"),
        pytest.param(results(NO_ROWS), 0, id="tables looked at, no row moved"),
        pytest.param(results(MOVED), 1, id="rows"),
        pytest.param(results(MOVED, NOTHING, NOTHING), 1, id="rows in one cell"),
        pytest.param(results(LEFT), 0, id="only rows that stay: a loop on 1 must end"),
        pytest.param(results(LEFT + MOVED), 1, id="rows, and some that stay"),
        pytest.param(results(FULL), 0, id="the next tree does not fit"),
        pytest.param(results(REPAIRED), 0, id="only repaired: nothing was archived"),
        pytest.param(results((NOTHING, API_BROKEN)), 3, id="the API database"),
        pytest.param(results((MOVED, API_BROKEN), MOVED), 3, id="the API database, after rows"),
        pytest.param(results((NOTHING, BROKEN)), 255, id="a cell"),
        pytest.param(results((NOTHING, BROKEN), MOVED), 255, id="a cell, rows in another"),
        pytest.param(results((MOVED, BROKEN)), 255, id="a cell, after rows"),
        pytest.param(results((NOTHING, SURPRISE), MOVED), 255, id="a surprise"),
        pytest.param(
            results((NOTHING, BROKEN), (NOTHING, API_BROKEN), MOVED),
            255,
            id="a cell and the API database",
        ),
        pytest.param(
            results((NOTHING, SURPRISE), (NOTHING, API_BROKEN), NOTHING),
            255,
            id="a surprise and the API",
        ),
    ],
)
@pytest.mark.parametrize(
    "params", [archive.Params(), archive.Params(until_complete=True, max_rows=5)]
)
def test_archive(cells: list[CellResult[Archived]], code: int, params: archive.Params) -> None:
    assert {archive.ACTION.collapse(order, params) for order in in_any_order(cells)} == {code}


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        pytest.param(results(), 3, id="no cell"),
        pytest.param(results(Purged()), 3, id="nothing"),
        pytest.param(results(AGELESS, AGELESS), 3, id="only a table without a time"),
        pytest.param(
            results(Purged(deleted={"shadow_instances": 0})),
            3,
            id="a table looked at, no row deleted",
        ),
        pytest.param(results(DELETED), 0, id="rows"),
        pytest.param(results(DELETED, Purged(), AGELESS), 0, id="rows in one cell"),
        pytest.param(results((Purged(), BROKEN)), 255, id="a cell"),
        pytest.param(results((Purged(), BROKEN), DELETED), 255, id="a cell, rows in another"),
        pytest.param(results((DELETED, BROKEN)), 255, id="a cell, after rows"),
        pytest.param(results((Purged(), SURPRISE), DELETED, Purged()), 255, id="a surprise"),
    ],
)
@pytest.mark.parametrize("params", [purge.Params(), purge.Params(datetime(2015, 10, 21))])
def test_purge(cells: list[CellResult[Purged]], code: int, params: purge.Params) -> None:
    assert {purge.ACTION.collapse(order, params) for order in in_any_order(cells)} == {code}


@pytest.mark.parametrize(
    ("cells", "archived", "purged"),
    [
        pytest.param(results(), 0, 3, id="no cell"),
        pytest.param(results(Backlog()), 0, 3, id="nothing waits"),
        pytest.param(results(DUE, Backlog()), 0, 3, id="rows wait: still nothing was done"),
        pytest.param(results((Backlog(), BROKEN), DUE), 255, 255, id="a cell"),
        pytest.param(results((DUE, SURPRISE), DUE), 255, 255, id="a surprise"),
    ],
)
def test_dry_runs(cells: list[CellResult[Backlog]], archived: int, purged: int) -> None:
    for order in in_any_order(cells):
        assert backlog.ARCHIVE.collapse(order, archive.Params()) == archived
        assert backlog.PURGE.collapse(order, purge.Params()) == purged


@pytest.mark.parametrize(
    ("params", "done", "left", "begun"),
    [
        pytest.param(archive.Params(max_rows=10), NOTHING, 10, False, id="nothing done"),
        pytest.param(
            archive.Params(max_rows=10), MOVED, 6, True, id="4 rows done: API rows do not count"
        ),
        pytest.param(
            archive.Params(max_rows=10, begun=True), NOTHING, 10, True, id="an earlier cell began"
        ),
        pytest.param(
            archive.Params(max_rows=10), LEFT, 10, False, id="rows that stay cost nothing"
        ),
        pytest.param(
            archive.Params(max_rows=10), REPAIRED, 10, False, id="repaired rows cost nothing"
        ),
        pytest.param(archive.Params(max_rows=5), MOVED, 1, True, id="one row left"),
    ],
)
def test_the_next_cell_gets_what_is_left_of_the_total(
    params: archive.Params, done: Archived, left: int, begun: bool
) -> None:
    following = archive.ACTION.next_params(params, done)
    assert following is not None
    assert (following.max_rows, following.begun) == (left, begun)


def test_the_next_cell_gets_all_other_options_as_they_are() -> None:
    params = archive.Params(
        max_rows=5, before=datetime(2015, 10, 21), task_log=True, sleep=1.5, repair=True
    )
    assert archive.ACTION.next_params(params, NOTHING) == params


@pytest.mark.parametrize(
    ("params", "done"),
    [
        pytest.param(archive.Params(max_rows=4), MOVED, id="to the row"),
        pytest.param(archive.Params(max_rows=3), MOVED, id="a first tree larger than the total"),
        pytest.param(archive.Params(max_rows=10), MOVED + FULL, id="the next tree does not fit"),
        pytest.param(archive.Params(max_rows=0), NOTHING, id="no total"),
    ],
)
def test_the_total_is_used_up(params: archive.Params, done: Archived) -> None:
    assert archive.ACTION.next_params(params, done) is None


@pytest.mark.parametrize(
    ("params", "in_turn", "pause"),
    [
        (archive.Params(sleep=2.5), True, 0.0),
        (archive.Params(sleep=2.5, until_complete=True), False, 2.5),
    ],
)
def test_only_until_complete_are_cells_worked_at_once_and_pauses_made(
    params: archive.Params, in_turn: bool, pause: float
) -> None:
    assert archive.ACTION.in_turn(params) is in_turn
    assert archive.ACTION.pause(params) == pause
    assert purge.ACTION.in_turn(purge.Params()) is False


def test_outcomes_of_archive_add_up() -> None:
    one = Archived({"a": 1}, {"x": 0}, (Blocked("t", 1, "why"),), 1, False, {"s": 1})
    two = Archived({"a": 2, "b": 3}, {"x": 2}, (Blocked("t", 2, "why"),), 5, True, {"s": 1})
    assert one + two == Archived(
        {"a": 3, "b": 3},
        {"x": 2},
        (Blocked("t", 1, "why"), Blocked("t", 2, "why")),
        6,
        True,
        {"s": 2},
    )
    assert (one + two).rows == 6
    assert one + Archived() == Archived() + one == one


def test_no_more_blocked_rows_are_named_than_can_be_read_while_all_are_counted() -> None:
    many = Archived(
        blocked=tuple(Blocked("t", n, "why") for n in range(archive.NAMED)),
        blocked_count=archive.NAMED,
    )
    total = many + LEFT + many
    assert total.blocked == many.blocked
    assert total.blocked_count == 2 * archive.NAMED + 1


def test_outcomes_of_purge_add_up() -> None:
    one = Purged({"a": 1}, {"a": "deleted_at"}, ("x",))
    two = Purged({"a": 2, "b": 3}, {"b": "created_at"}, ("y",))
    assert one + two == Purged({"a": 3, "b": 3}, {"a": "deleted_at", "b": "created_at"}, ("x", "y"))
    assert (one + two).rows == 6


MADE = Healed(looked_at=2, created=1, updated=1)
MORE = Healed(looked_at=2, created=1, left=True)
WOULD = Healed(looked_at=2, created=2, dry_run=True)
PLACEMENT, NEUTRON, NO_WAY = FailureKind.PLACEMENT, FailureKind.NEUTRON, FailureKind.MISCONFIGURED


def hurt(*codes: int) -> Healed:
    """A cell in which instances could not be healed."""
    return Healed(looked_at=len(codes), created=1, codes={str(code): 1 for code in codes})


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        pytest.param(results(), 4, id="no cell"),
        pytest.param(results(Healed(), Healed(looked_at=5)), 4, id="nothing"),
        pytest.param(results(WOULD, WOULD), 4, id="a dry run"),
        pytest.param(results(MADE, Healed()), 0, id="healed in one cell"),
        pytest.param(results(MADE, MORE), 1, id="something is left"),
        pytest.param(
            [CellResult(CELL, MADE, complete=False)],
            1,
            id="stopped: whether something is left is not known",
        ),
        pytest.param(results(hurt(8), MORE), 8, id="not supported"),
        pytest.param(results(hurt(8), hurt(2), MADE), 2, id="no compute node"),
        pytest.param(results(hurt(2, 8), hurt(3)), 3, id="not written"),
        pytest.param(results((MADE, PLACEMENT), hurt(2)), 3, id="no Placement"),
        pytest.param(results((MADE, NEUTRON), hurt(3)), 5, id="no Neutron"),
        pytest.param(results(hurt(6), (MADE, NEUTRON)), 6, id="ports not written"),
        pytest.param(results((MADE, BROKEN), hurt(6)), 255, id="a cell"),
        pytest.param(results((MADE, API_BROKEN), hurt(3)), 255, id="the API database"),
        pytest.param(results((MADE, NO_WAY), MADE), 255, id="no way to a service"),
        pytest.param(
            results((hurt(7), SURPRISE), (MADE, BROKEN), hurt(6)), 7, id="ports not set back"
        ),
    ],
)
@pytest.mark.parametrize("params", [heal.Params(), heal.Params(max_count=3)])
def test_heal_allocations(cells: list[CellResult[Healed]], code: int, params: heal.Params) -> None:
    for action in (heal.ACTION, heal.DRY_RUN):
        assert {action.collapse(order, params) for order in in_any_order(cells)} == {code}


def test_of_max_count_the_next_cell_gets_what_is_left_and_with_nothing_left_is_looked_at() -> None:
    params = heal.Params(max_count=3)
    following = heal.ACTION.next_params(params, MADE)
    assert following == heal.Params(max_count=1)
    assert heal.ACTION.next_params(following, MADE) == heal.Params(max_count=0)
    assert heal.ACTION.next_params(params, MORE) is None
    assert heal.ACTION.in_turn(params)
    assert not heal.ACTION.in_turn(heal.Params())
    assert not heal.DRY_RUN.in_turn(heal.Params(max_count=3, dry_run=True))


def test_outcomes_of_heal_allocations_add_up() -> None:
    total = MADE + hurt(2, 8) + hurt(2) + MORE
    assert (total.rows, total.looked_at, total.left) == (5, 7, True)
    assert total.codes == {"2": 2, "8": 1}
    assert (WOULD + Healed()).rows == 0


def test_the_published_codes_are_those_of_the_manual() -> None:
    assert {code.name: code.value for code in archive.Exit} == {
        "NOTHING_ARCHIVED": 0,
        "ARCHIVED": 1,
        "INVALID_MAX_ROWS": 2,
        "NO_API_DATABASE": 3,
        "INVALID_BEFORE": 4,
        "ERROR": 255,
    }
    assert {code.name: code.value for code in purge.Exit} == {
        "PURGED": 0,
        "MISSING_ARGUMENTS": 1,
        "INVALID_BEFORE": 2,
        "NOTHING_PURGED": 3,
        "NO_API_DATABASE": 4,
        "ERROR": 255,
    }


@pytest.mark.parametrize(
    ("failing", "code"),
    [
        pytest.param("", 0, id="none"),
        pytest.param("0", 1, id="cell0"),
        pytest.param("1", 255, id="a cell"),
        pytest.param("01", 255, id="cell0 and a cell"),
        pytest.param("D", 255, id="the configured database"),
    ],
)
def test_sync(failing: str, code: int) -> None:
    away = DatabaseProblem("not looked at")
    uuids = {"0": CELL0, "1": "uuid", "D": None}
    cells = [
        CellResult(
            Cell(uuid, None, frozenset(), away),
            Synced(),
            Failure(BROKEN, "why") if number in failing else None,
        )
        for number, uuid in uuids.items()
    ]
    assert {sync.collapse(order, sync.Params()) for order in in_any_order(cells)} == {code}
