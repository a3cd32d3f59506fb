"""What the outcomes of the cells add up to, for the actions of ``cell_v2`` that walk over cells."""

from itertools import permutations
from typing import Any

import pytest

from jobs.action import CellResult, Failure, FailureKind
from jobs.cell_v2 import discover_hosts, map_instances
from jobs.cell_v2.discover_hosts import CheckedNode, Discovered
from jobs.cell_v2.map_instances import Mapped
from novadb.cells import Cell
from novadb.errors import DatabaseProblem

CELL = Cell("uuid", "cell1", frozenset({1}), DatabaseProblem("not looked at"))
BROKEN = Failure(FailureKind.CELL, "why")
NOTHING, FOUND, OTHER = Discovered(), Discovered(mapped=("h1",)), Discovered(mapped=("h2",))
FOREIGN = Discovered(mapped=("h3",), collided=("h4",))
TWICE = Discovered(collided=("h1",))


def done(outcome: Any) -> CellResult[Any]:
    return CellResult(CELL, outcome)


def failed(outcome: Any) -> CellResult[Any]:
    return CellResult(CELL, outcome, BROKEN, complete=False)


def stopped(outcome: Any) -> CellResult[Any]:
    return CellResult(CELL, outcome, complete=False)


@pytest.mark.parametrize(
    ("cells", "code", "strict_code"),
    [
        pytest.param([], 0, 1, id="no cell"),
        pytest.param([done(NOTHING), done(NOTHING)], 0, 1, id="nothing anywhere"),
        pytest.param([done(FOUND), done(NOTHING)], 0, 0, id="a host"),
        pytest.param([done(FOUND), done(OTHER)], 0, 0, id="hosts"),
        pytest.param(
            [failed(NOTHING), done(FOUND)], 1, 1, id="a cell failed, another one had hosts"
        ),
        pytest.param([failed(FOUND), done(NOTHING)], 1, 1, id="a cell failed after a host"),
        pytest.param([stopped(FOUND), done(FOUND)], 1, 1, id="stopped"),
        pytest.param([done(FOREIGN), done(NOTHING)], 2, 2, id="somebody else was first"),
        pytest.param(
            [done(FOREIGN), failed(NOTHING), stopped(OTHER)], 2, 2, id="and a cell failed"
        ),
        pytest.param(
            [done(FOUND), done(TWICE)],
            0,
            0,
            id="a host that stands in two cells is no foreign writer",
        ),
        pytest.param([done(OTHER), done(TWICE)], 2, 2, id="unless none of them mapped it"),
    ],
)
def test_discover_hosts(cells: list[CellResult[Any]], code: int, strict_code: int) -> None:
    for results in permutations(cells):
        assert discover_hosts.collapse(results, discover_hosts.Params()) == code
        assert discover_hosts.collapse(results, discover_hosts.Params(strict=True)) == strict_code


@pytest.mark.parametrize(
    ("result", "code"),
    [
        pytest.param(done(Mapped()), 0, id="no instances"),
        pytest.param(done(Mapped(3, 5)), 0, id="all mapped"),
        pytest.param(done(Mapped(0, 5)), 0, id="all mapped before"),
        pytest.param(done(Mapped(5, 5, left=True)), 1, id="more behind the limit"),
        pytest.param(stopped(Mapped(5, 5)), 1, id="stopped"),
        pytest.param(failed(Mapped(5, 5)), 255, id="failed"),
        pytest.param(failed(Mapped(5, 5, left=True)), 255, id="failed with more behind the limit"),
    ],
)
def test_map_instances(result: CellResult[Any], code: int) -> None:
    assert map_instances.collapse([result], map_instances.Params()) == code


def test_what_was_discovered_adds_up_in_order_and_names_each_host_of_another_cell_once() -> None:
    one = Discovered((CheckedNode("h1", "n1"),), ("h1",), (), ("h9",))
    two = Discovered((CheckedNode("h2", "n2"),), (), ("h2",), ("h9", "h8"))
    assert one + two == Discovered(
        (CheckedNode("h1", "n1"), CheckedNode("h2", "n2")), ("h1",), ("h2",), ("h9", "h8")
    )
    assert ((one + two).rows, (one + two).by_table) == (1, {"host_mappings": 1})


def test_what_was_mapped_adds_up() -> None:
    assert Mapped(1, 2) + Mapped(3, 4, left=True) + Mapped() == Mapped(4, 6, left=True)
