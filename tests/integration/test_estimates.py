"""What is left of a work that lasts, on a real database: estimated, within limits, and right in the
end.
"""

from collections.abc import Generator
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import column, func, literal, table, text

from jobs import estimates
from jobs.action import Step
from jobs.cell_v2 import map_instances
from jobs.db import archive_deleted_rows, purge
from jobs.estimates import count_within, estimated_rows
from tests.integration.cells import target
from tests.support.realcloud import RealCloud


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any work counts as one that lasts."""
    monkeypatch.setattr(estimates, "AFTER", 0.0)


def rest_of(steps: Generator[Step[Any]]) -> list[tuple[int, int | None]]:
    """After each step that did something: what was really left, and what was told."""
    told = [(step.outcome.rows, step.remaining) for step in steps if step.outcome.rows]
    total = sum(rows for rows, _ in told)
    rest = []
    for rows, remaining in told:
        total -= rows
        rest.append((total, remaining))
    return rest


def test_what_an_archive_has_left_is_estimated(realcloud: RealCloud) -> None:
    params = archive_deleted_rows.Params(max_rows=20, until_complete=True)
    rest = rest_of(archive_deleted_rows.work(target(realcloud, "cell1"), params, None))
    known = [(left, told) for left, told in rest if told is not None]
    assert len(known) > 1
    assert all(
        left / 4 <= told <= left * 4 for left, told in known if told is not None and left > 40
    )
    assert known[-1][0] <= known[0][0]


def test_of_a_total_what_is_left_of_it_is_told(realcloud: RealCloud) -> None:
    params = archive_deleted_rows.Params(max_rows=50)
    steps = archive_deleted_rows.work(target(realcloud, "cell1"), params, None)
    moved = 0
    for step in steps:
        moved += step.outcome.rows
        assert step.remaining == max(50 - moved, 0)
    assert moved


@pytest.mark.parametrize("before", [None, datetime(2030, 1, 1)], ids=["all", "by date"])
def test_what_a_purge_has_left_is_estimated(
    realcloud: RealCloud, before: datetime | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = archive_deleted_rows.Params(until_complete=True)
    list(archive_deleted_rows.work(target(realcloud, "cell1"), everything, None))
    realcloud.rows("nova_cell1", "ANALYZE TABLE shadow_instances")
    cell = target(realcloud, "cell1")
    monkeypatch.setattr(type(cell.limits), "purge_chunk", 5, raising=False)
    rest = rest_of(purge.work(cell, purge.Params(before), None))
    known = [(left, told) for left, told in rest if told is not None]
    assert known
    if before:
        assert all(left == told for left, told in known)


def test_what_a_mapping_of_all_instances_has_left_is_estimated(
    realcloud: RealCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_instances, "BATCH", 7)
    realcloud.rows("nova_cell1", "ANALYZE TABLE instances")
    cell = target(realcloud, "cell1")
    steps = [step for step in map_instances.work(cell, map_instances.Params(), None) if step.cursor]
    (estimate,) = [step.remaining for step in steps[:1]]
    assert estimate is not None
    limited = [
        step
        for step in map_instances.work(cell, map_instances.Params(max_count=10), None)
        if step.cursor
    ]
    assert [step.remaining for step in limited] == [3, 0]


def test_counting_ends_at_its_limit_and_leaves_the_connection_as_it_was(
    realcloud: RealCloud,
) -> None:
    numbers = table("seq_1_to_100000000", column("seq"))
    few = table("seq_1_to_10", column("seq"))
    with target(realcloud, "cell1").database.connect() as cell:
        slow = {
            "few": (few, few.c.seq > literal(2)),
            "many": (numbers, func.sha1(numbers.c.seq) > literal("")),
        }
        assert count_within(cell, slow, 0.2) == {}
        assert (
            cell.execute(
                text("SELECT @@session.max_statement_time = @@global.max_statement_time")
            ).scalar()
            == 1
        )
        assert count_within(cell, {"few": slow["few"]}) == {"few": 8}
        assert count_within(cell, {"few": slow["few"]}, 0.0) == {}
        assert estimated_rows(cell, ["instances", "nobody"]).keys() == {"instances"}
