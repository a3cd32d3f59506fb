"""Large tables are read piece by piece: nothing is overlooked, and no statement reads a whole
table.
"""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest

from jobs.action import Target
from jobs.db import archive_deleted_rows, backlog, deleted_rows, key_walk, purge
from tests.integration.cells import statements, target
from tests.support.realcloud import RealCloud

EVERYTHING = archive_deleted_rows.Params(until_complete=True)
OLD = purge.Params(datetime(2030, 1, 1))
FAR = 2_000_000_000
"""An id behind a gap of many."""


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any table has many pieces."""
    monkeypatch.setattr(key_walk, "FIRST_WIDTH", 3)
    monkeypatch.setattr(key_walk, "LEAST_WIDTH", 3)
    monkeypatch.setattr(key_walk, "GROWTH", 1.0)


def rows_of(work: Callable[..., Any], cell: Target, params: Any) -> dict[str, int]:
    """Rows by table, as told by an action."""
    total: dict[str, int] = {}
    for step in work(cell, params, None):
        for name, rows in step.outcome.by_table.items():
            total[name] = total.get(name, 0) + rows
    return total


def add_far_fault(cloud: RealCloud) -> None:
    """A deleted row behind a gap of ids."""
    columns = "(id, code, instance_uuid, deleted, deleted_at)"
    cloud.rows(
        "nova_cell1",
        f"INSERT INTO instance_faults {columns} VALUES ({FAR}, 500, NULL, 1, '2020-01-01')",
    )


@pytest.mark.usefixtures("narrow")
def test_all_that_is_deleted_is_found_piece_by_piece(realcloud: RealCloud) -> None:
    add_far_fault(realcloud)
    cell = target(realcloud, "cell1")
    waiting = rows_of(backlog.to_archive, cell, EVERYTHING)
    marked = rows_of(deleted_rows.work, cell, deleted_rows.Params())
    assert marked["instances"] == waiting["instances"] == 53
    assert marked["instance_faults"] >= 1
    assert archive_deleted_rows.has_work(cell, EVERYTHING)
    moved = rows_of(archive_deleted_rows.work, cell, EVERYTHING)
    assert moved == waiting
    assert rows_of(backlog.to_archive, cell, EVERYTHING) == {}
    assert not archive_deleted_rows.has_work(cell, EVERYTHING)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("params", [OLD, purge.Params()], ids=["by date", "all"])
def test_all_that_is_old_is_purged_piece_by_piece(
    realcloud: RealCloud, params: purge.Params
) -> None:
    add_far_fault(realcloud)
    cell = target(realcloud, "cell1")
    moved = rows_of(archive_deleted_rows.work, cell, EVERYTHING)
    waiting = rows_of(backlog.to_purge, cell, params)
    assert waiting["shadow_instances"] >= moved["instances"]
    assert rows_of(purge.work, cell, params) == waiting
    assert rows_of(backlog.to_purge, cell, params) == {}


@pytest.mark.usefixtures("narrow")
def test_a_purge_goes_on_behind_any_of_its_steps(realcloud: RealCloud) -> None:
    cell = target(realcloud, "cell1")
    rows_of(archive_deleted_rows.work, cell, EVERYTHING)
    waiting = sum(rows_of(backlog.to_purge, cell, OLD).values())
    deleted, cursor, is_over = 0, None, False
    while not is_over:
        is_over = True
        for step in purge.work(cell, OLD, cursor):
            deleted, cursor, is_over = deleted + step.outcome.rows, step.cursor, False
            break
    assert deleted == waiting


@pytest.mark.usefixtures("narrow")
def test_counting_in_pieces_tells_the_same_ages(
    realcloud: RealCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = target(realcloud, "cell1")
    by_pieces = [step.outcome for step in backlog.to_archive(cell, EVERYTHING, None) if step.cursor]
    monkeypatch.setattr(key_walk, "FIRST_WIDTH", 10**9)
    at_once = [step.outcome for step in backlog.to_archive(cell, EVERYTHING, None) if step.cursor]
    assert by_pieces == at_once
    assert any(outcome.rows for outcome in at_once)


def test_a_gap_of_ids_costs_no_statements(realcloud: RealCloud) -> None:
    add_far_fault(realcloud)
    with statements() as sent:
        rows_of(deleted_rows.work, target(realcloud, "cell1"), deleted_rows.Params())
    assert len(sent) < 1000


@pytest.mark.parametrize(
    ("work", "params"),
    [
        (backlog.to_archive, EVERYTHING),
        (deleted_rows.work, deleted_rows.Params()),
        (archive_deleted_rows.work, EVERYTHING),
    ],
)
def test_no_statement_looks_for_deleted_rows_in_a_whole_table(
    realcloud: RealCloud, work: Callable[..., Any], params: Any
) -> None:
    with statements() as sent:
        rows_of(work, target(realcloud, "cell1"), params)
    assert whole_tables(sent, r"deleted (!=|<>) ") == []


@pytest.mark.parametrize("work", [purge.work, backlog.to_purge])
def test_no_statement_looks_for_old_rows_in_a_whole_table(
    realcloud: RealCloud, work: Callable[..., Any]
) -> None:
    cell = target(realcloud, "cell1")
    rows_of(archive_deleted_rows.work, cell, EVERYTHING)
    with statements() as sent:
        rows_of(work, cell, OLD)
    assert whole_tables(sent, "_at < ") == []


def whole_tables(sent: Sequence[str], condition: str) -> list[str]:
    """The statements with a condition that bound no range of a key, and name no rows."""
    looking = [statement for statement in sent if re.search(condition, statement)]
    assert looking
    return [
        statement for statement in looking if not re.search(r" BETWEEN | IN |id <= ", statement)
    ]
