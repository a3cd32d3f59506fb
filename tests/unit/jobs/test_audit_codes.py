"""The exit codes of ``placement audit`` and ``placement sync_aggregates``: their tables of
cases.
"""

from itertools import combinations

import pytest

from jobs.action import CellResult, Failure, FailureKind
from jobs.placement import audit, sync_aggregates
from jobs.placement.aggregates import SyncProblem
from jobs.placement.audit import AuditCounts, CellKnowledge
from jobs.placement.sync_aggregates import BADNESS, Exit, Params, Synced
from novadb.cells import Cell
from novadb.errors import DatabaseProblem

CELL = Cell("uuid", "cell1", frozenset({1}), DatabaseProblem("not looked at"))
READ, STOPPED = CellResult(CELL, CellKnowledge()), CellResult(CELL, CellKnowledge(), complete=False)
GONE = CellResult(CELL, CellKnowledge(), Failure(FailureKind.CELL, "gone"), complete=False)


@pytest.mark.parametrize(
    ("cells", "counts", "listed", "deleted"),
    [
        pytest.param([], AuditCounts(), 0, 0, id="no cell, nothing"),
        pytest.param([READ], AuditCounts(), 0, 0, id="nothing"),
        pytest.param([READ, READ], AuditCounts(orphans=2), 3, 4, id="orphans"),
        pytest.param([READ], AuditCounts(orphans=2, left=1), 1, 1, id="one could not be deleted"),
        pytest.param([READ], AuditCounts(unknown=1), 1, 1, id="a provider not audited"),
        pytest.param(
            [READ],
            AuditCounts(orphans=1, unknown=1),
            1,
            1,
            id="a provider not audited, orphans on others",
        ),
        pytest.param([READ, GONE], AuditCounts(), 1, 1, id="a cell not read"),
        pytest.param(
            [READ, GONE], AuditCounts(orphans=3), 1, 1, id="a cell not read, orphans in others"
        ),
        pytest.param([STOPPED], AuditCounts(), 1, 1, id="stopped"),
    ],
)
def test_audit(
    cells: list[CellResult[CellKnowledge]], counts: AuditCounts, listed: int, deleted: int
) -> None:
    assert audit.collapse(cells, audit.Params(), counts) == listed
    assert audit.collapse(cells, audit.Params(delete=True), counts) == deleted
    assert audit.collapse(cells[::-1], audit.Params(), counts) == listed


def test_the_worst_problem_of_a_host_is_the_code_of_the_whole() -> None:
    assert [int(code) for code in BADNESS] == [255, 2, 3, 1, 6, 5, 4, 0]
    assert set(BADNESS) == set(Exit)
    problems = {code: SyncProblem("host", code, "why") for code in Exit if code}
    for first, second in combinations(problems, 2):
        worse = min(first, second, key=BADNESS.index)
        for several in ((problems[first], problems[second]), (problems[second], problems[first])):
            assert (
                sync_aggregates.collapse([CellResult(CELL, Synced(problems=several))], Params())
                == worse
            )
            cells = [CellResult(CELL, Synced(problems=(one,))) for one in several]
            assert sync_aggregates.collapse(cells, Params()) == worse


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        ([], 0),
        ([CellResult(CELL, Synced())], 0),
        (
            [
                CellResult(CELL, Synced()),
                CellResult(CELL, Synced(), Failure(FailureKind.CELL, "gone")),
            ],
            255,
        ),
        (
            [CellResult(CELL, Synced(), Failure(FailureKind.API_DATABASE, "gone"), complete=False)],
            255,
        ),
        ([CellResult(CELL, Synced(), Failure(FailureKind.PLACEMENT, "gone"), complete=False)], 2),
        (
            [
                CellResult(
                    CELL, Synced(), Failure(FailureKind.MISCONFIGURED, "no way"), complete=False
                )
            ],
            2,
        ),
        ([CellResult(CELL, Synced(), complete=False)], 255),
    ],
)
def test_sync_aggregates_where_no_host_has_a_problem(
    cells: list[CellResult[Synced]], code: int
) -> None:
    assert sync_aggregates.collapse(cells, Params()) == code
    assert sync_aggregates.collapse(cells, Params(unmapped=("host1",))) == (code or 4)


def test_the_published_codes_are_those_of_the_manual() -> None:
    assert {code.name: code.value for code in audit.Exit} == {
        "NO_ORPHANS": 0, "ERROR": 1, "ORPHANS": 3, "ALL_DELETED": 4, "INVALID_INPUT": 127,
    }  # fmt: skip
    assert {code.name: code.value for code in sync_aggregates.Exit} == {
        "SYNCED": 0, "SEVERAL_NODES": 1, "PLACEMENT_ERROR": 2, "UPDATE_FAILED": 3, "NO_HOST_MAPPING": 4,
        "NO_COMPUTE_NODE": 5, "NO_PROVIDER": 6, "ERROR": 255,
    }  # fmt: skip
