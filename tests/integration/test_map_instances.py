"""Mapping the instances of one cell: batches, the marker, and what is left of them by a death in
the middle.
"""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest

from jobs.action import Step
from jobs.cell_v2 import map_instances
from jobs.cell_v2.map_instances import MARKER, Mapped, Params, work
from jobs.codec import encode
from jobs.transaction_size import TransactionSize
from tests.integration.cells import statements, target
from tests.support.realcloud import RealCloud

VISIBLE = "SELECT uuid FROM instances WHERE NOT COALESCE(hidden, 0) ORDER BY created_at, id"


@pytest.fixture
def cloud(realcloud: RealCloud) -> RealCloud:
    """The cloud with no instance mapped."""
    realcloud.rows(realcloud.api, "DELETE FROM instance_mappings")
    return realcloud


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are small."""
    monkeypatch.setattr(map_instances, "BATCH", 7)


def outcome(steps: Generator[Step[Mapped]]) -> Mapped:
    return sum((step.outcome for step in steps), start=Mapped())


def run(cloud: RealCloud, cell: str = "cell3", **params: Any) -> Mapped:
    return outcome(work(target(cloud, cell), Params(**params), None))


def instances(cloud: RealCloud, database: str) -> list[str]:
    """Those to be mapped, the oldest first."""
    return [uuid for (uuid,) in cloud.rows(database, VISIBLE)]


def mapped(cloud: RealCloud) -> set[str]:
    sql = f"SELECT instance_uuid FROM instance_mappings WHERE project_id != '{MARKER}'"
    return {uuid for (uuid,) in cloud.rows(cloud.api, sql)}


def markers(cloud: RealCloud) -> list[str]:
    sql = f"SELECT instance_uuid FROM instance_mappings WHERE project_id = '{MARKER}' ORDER BY id"
    return [uuid for (uuid,) in cloud.rows(cloud.api, sql)]


def set_marker(cloud: RealCloud, uuid: str) -> None:
    """As the stock tool does."""
    cloud.rows(
        cloud.api,
        "INSERT INTO instance_mappings (created_at, instance_uuid, project_id, user_id, "
        "queued_for_delete) "
        f"VALUES ('2026-01-01', '{uuid.replace('-', ' ')}', '{MARKER}', '{MARKER}', 0)",
    )


@pytest.mark.usefixtures("small")
def test_all_are_mapped_deleted_ones_included_and_hidden_ones_not(cloud: RealCloud) -> None:
    cloud.rows(cloud.cell3, "UPDATE instances SET hidden = 1 ORDER BY id LIMIT 2")
    wanted = instances(cloud, cloud.cell3)
    assert run(cloud) == Mapped(len(wanted), len(wanted))
    assert mapped(cloud) == set(wanted)
    rows = (
        "SELECT DISTINCT c.name, m.queued_for_delete FROM instance_mappings m JOIN "
        "cell_mappings c ON c.id = cell_id"
    )
    assert cloud.rows(cloud.api, rows) == [("cell3", 0)]
    assert run(cloud) == Mapped(0, len(wanted))


def test_many_take_few_statements(cloud: RealCloud) -> None:
    with statements() as sent:
        run(cloud, "cell1")
    assert len(sent) < 20 < len(mapped(cloud))


def test_a_mapping_to_another_cell_stays(cloud: RealCloud) -> None:
    first, *others = instances(cloud, cloud.cell3)
    cloud.rows(
        cloud.api,
        "INSERT INTO instance_mappings (instance_uuid, cell_id, project_id) "
        f"SELECT '{first}', id, 'p' FROM cell_mappings WHERE name = 'cell1'",
    )
    assert run(cloud).mapped == len(others)
    assert cloud.rows(
        cloud.api, f"SELECT project_id FROM instance_mappings WHERE instance_uuid = '{first}'"
    ) == [("p",)]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("limit", [1, 5, 7, 12])
def test_runs_with_a_limit_end_when_nothing_is_left_not_one_run_later(
    cloud: RealCloud, limit: int
) -> None:
    wanted = instances(cloud, cloud.cell3)[: 3 * limit]
    cloud.rows(cloud.cell3, f"UPDATE instances SET hidden = 1 WHERE uuid NOT IN {(*wanted, '')}")
    for number in range(1, 3):
        assert run(cloud, max_count=limit) == Mapped(limit, limit, left=True)
        assert mapped(cloud) == set(wanted[: number * limit])
        assert markers(cloud) == [wanted[number * limit - 1].replace("-", " ")]
    assert run(cloud, max_count=limit) == Mapped(limit, limit, left=False)
    assert (mapped(cloud), markers(cloud)) == (set(wanted), [])


@pytest.mark.parametrize("limit", [None, 1_000])
def test_a_marker_of_the_stock_tool_is_gone_on_behind(cloud: RealCloud, limit: int | None) -> None:
    wanted = instances(cloud, cloud.cell3)
    set_marker(cloud, wanted[9])
    assert run(cloud, max_count=limit).mapped == len(wanted) - 10
    assert (mapped(cloud), markers(cloud)) == (set(wanted[10:]), [])


def test_reset_begins_with_the_oldest(cloud: RealCloud) -> None:
    wanted = instances(cloud, cloud.cell3)
    set_marker(cloud, wanted[9])
    assert run(cloud, max_count=3, reset=True) == Mapped(3, 3, left=True)
    assert mapped(cloud) == set(wanted[:3])
    assert markers(cloud) == [wanted[2].replace("-", " ")]


def test_the_marker_of_another_cell_is_left_alone(cloud: RealCloud) -> None:
    run(cloud, "cell1", max_count=2)
    (other,) = markers(cloud)
    run(cloud, "cell3", max_count=2)
    assert markers(cloud)[0] == other
    run(cloud, "cell3")
    assert markers(cloud) == [other]


def test_a_marker_whose_instance_is_gone_means_from_the_oldest_on(cloud: RealCloud) -> None:
    set_marker(cloud, "5b1c3d5e-0000-4000-8000-000000000001")
    wanted = instances(cloud, cloud.cell3)
    assert run(cloud, max_count=4) == Mapped(4, 4, left=True)
    assert markers(cloud) == [wanted[3].replace("-", " ")]


@pytest.mark.usefixtures("small")
def test_a_death_in_the_middle_of_a_limit_leaves_the_marker_where_it_was(cloud: RealCloud) -> None:
    wanted = instances(cloud, cloud.cell3)
    steps = work(target(cloud, "cell3"), Params(max_count=1_000), None)
    while not mapped(cloud):
        next(steps)
    steps.close()
    assert (mapped(cloud), markers(cloud)) == (set(wanted[:7]), [wanted[6].replace("-", " ")])
    assert run(cloud, max_count=1_000).looked_at == len(wanted) - 7
    assert (mapped(cloud), markers(cloud)) == (set(wanted), [])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("limit", [None, 25])
def test_each_step_may_be_done_by_another_worker(cloud: RealCloud, limit: int | None) -> None:
    done, at = Mapped(), None
    while True:
        steps = work(target(cloud, "cell3"), Params(limit), at)
        step = next((step for step in steps if step.cursor is not None), None)
        steps.close()
        if step is None or step.cursor == at:
            break
        done, at = done + step.outcome, encode(step.cursor)
    wanted = instances(cloud, cloud.cell3)
    assert mapped(cloud) == set(wanted[:limit])
    assert done.mapped == len(wanted[:limit])
    assert done.left is (limit is not None)


@pytest.mark.usefixtures("small")
def test_instances_that_nova_maps_meanwhile_are_left_to_it(cloud: RealCloud) -> None:
    wanted = instances(cloud, cloud.cell3)
    steps = work(target(cloud, "cell3"), Params(), None)
    next(steps)
    ids = cloud.rows(cloud.cell3, "SELECT uuid FROM instances ORDER BY id LIMIT 3")
    for (uuid,) in ids:
        values = f"SELECT '{uuid}', id, 'p' FROM cell_mappings WHERE name = 'cell3'"
        cloud.rows(
            cloud.api,
            f"INSERT INTO instance_mappings (instance_uuid, cell_id, project_id) {values}",
        )
    assert outcome(steps).mapped == len(wanted) - 3
    assert mapped(cloud) == set(wanted)


def test_a_limit_is_the_same_however_small_transactions_are(cloud: RealCloud) -> None:
    """Each call looks at so many instances, and the marker stands at the last of them."""
    in_order = instances(cloud, cloud.cell3)
    size = TransactionSize(seconds=0.000001, rows=3)
    done = 0
    is_left = True
    while is_left:
        steps = list(work(replace(target(cloud, "cell3"), size=size), Params(max_count=10), None))
        assert len([step for step in steps if step.outcome.looked_at]) > 1
        call = sum((step.outcome for step in steps), start=Mapped())
        assert call.looked_at == call.mapped == min(10, len(in_order) - done)
        done += call.looked_at
        is_left = call.left
        assert mapped(cloud) == set(in_order[:done])
        assert [uuid.replace(" ", "-") for uuid in markers(cloud)] == (
            [in_order[done - 1]] if is_left else []
        )
    assert done == len(in_order)
