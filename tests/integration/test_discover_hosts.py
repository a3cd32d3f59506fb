"""Discovering the hosts of one cell: each is mapped once, whoever writes beside it, dies in between, or takes over."""

from collections.abc import Generator
from typing import Any

import pytest

from jobs.action import Cursor, Step
from jobs.cell_v2 import discover_hosts
from jobs.cell_v2.discover_hosts import Discovered, Params, work
from jobs.codec import decode, encode
from tests.integration.cells import add_nodes, mapped_hosts, marked_nodes, statements, target
from tests.realcloud import RealCloud

HOSTS = 2_000
A_HANDFUL = 20


def outcome(steps: Generator[Step[Discovered]]) -> Discovered:
    return sum((step.outcome for step in steps), start=Discovered())


def begin(cloud: RealCloud) -> tuple[Generator[Step[Discovered]], Cursor]:
    """Work until it asks whether it may write; the work, and the cursor of that step."""
    steps = work(target(cloud, "cell1"), Params(), None)
    step = next(steps)
    assert (step.outcome, mapped_hosts(cloud)) == (Discovered(), {})
    assert step.cursor is not None
    return steps, encode(step.cursor)


@pytest.fixture
def cloud(realcloud: RealCloud) -> RealCloud:
    """The cloud with five new hosts in cell1."""
    add_nodes(realcloud, realcloud.cell1, 5)
    return realcloud


def test_two_thousand_hosts_take_a_handful_of_statements(realcloud: RealCloud) -> None:
    add_nodes(realcloud, realcloud.cell1, HOSTS)
    with statements() as sent:
        found = outcome(work(target(realcloud, "cell1"), Params(), None))
    assert len(found.mapped) == len(mapped_hosts(realcloud)) == marked_nodes(realcloud, realcloud.cell1) == HOSTS
    assert len(sent) <= A_HANDFUL


def test_a_host_that_somebody_else_maps_at_the_moment_is_left_to_him_and_the_others_are_mapped(
    cloud: RealCloud,
) -> None:
    steps, _ = begin(cloud)
    cloud.rows(cloud.api, "INSERT INTO host_mappings (host, cell_id) SELECT 'new-00003', MAX(id) FROM cell_mappings")
    found = outcome(steps)
    assert (found.collided, len(found.mapped)) == (("new-00003",), 4)
    cells = mapped_hosts(cloud)
    assert len(cells) == 5
    assert cells["new-00003"] != cells["new-00001"]
    assert marked_nodes(cloud, cloud.cell1) == 4


def test_work_that_is_stopped_before_it_writes_has_written_nothing(cloud: RealCloud) -> None:
    before = cloud.checksums()
    steps, _ = begin(cloud)
    steps.close()
    assert cloud.checksums() == before


def test_work_that_lost_its_right_between_its_two_writes_stops_and_its_successor_counts_it_all(
    cloud: RealCloud,
) -> None:
    steps, cursor = begin(cloud)
    assert next(steps).cursor is None
    steps.close()
    assert len(mapped_hosts(cloud)) == 5
    assert marked_nodes(cloud, cloud.cell1) == 0
    found = outcome(work(target(cloud, "cell1"), Params(strict=True), cursor))
    assert len(found.mapped) == 5
    assert marked_nodes(cloud, cloud.cell1) == 5


def test_a_successor_writes_what_was_only_begun(cloud: RealCloud) -> None:
    steps, cursor = begin(cloud)
    steps.close()
    found = outcome(work(target(cloud, "cell1"), Params(), cursor))
    assert len(found.mapped) == len(mapped_hosts(cloud)) == marked_nodes(cloud, cloud.cell1) == 5


def test_a_late_predecessor_meets_the_unique_key(cloud: RealCloud) -> None:
    """It was stopped while it wrote, and goes on after its successor has done everything."""
    steps, cursor = begin(cloud)
    outcome(work(target(cloud, "cell1"), Params(), cursor))
    assert len(outcome(steps).collided) == 5
    assert len(mapped_hosts(cloud)) == 5


def test_several_nodes_of_a_host_are_one_mapping_and_the_first_of_them_is_marked(realcloud: RealCloud) -> None:
    add_nodes(realcloud, realcloud.cell1, 2, nodes=3)
    found = outcome(work(target(realcloud, "cell1"), Params(verbose=True), None))
    assert [node.host for node in found.looked_at] == ["new-00001"] * 3 + ["new-00002"] * 3
    assert found.mapped == ("new-00001", "new-00002")
    assert marked_nodes(realcloud, realcloud.cell1) == 2
    ((first,),) = realcloud.rows(realcloud.cell1, "SELECT MIN(id) FROM compute_nodes WHERE host = 'new-00001'")
    assert realcloud.rows(realcloud.cell1, f"SELECT mapped FROM compute_nodes WHERE id = {first}") == [(1,)]


def test_a_host_that_is_mapped_already_stays_where_it_is(realcloud: RealCloud) -> None:
    """Its name is compared as the unique key does, which makes no difference of case."""
    add_nodes(realcloud, realcloud.cell1, 2)
    realcloud.rows(
        realcloud.api, "INSERT INTO host_mappings (host, cell_id) SELECT 'NEW-00001', MAX(id) FROM cell_mappings"
    )
    found = outcome(work(target(realcloud, "cell1"), Params(), None))
    assert (found.mapped, found.elsewhere, found.collided) == (("new-00002",), ("new-00001",), ())
    assert marked_nodes(realcloud, realcloud.cell1) == 1


def test_batches_go_on_behind_each_other(realcloud: RealCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discover_hosts, "BATCH", 2)
    add_nodes(realcloud, realcloud.cell1, 7)
    done, at = Discovered(), None
    while True:  # each step by another worker
        steps = work(target(realcloud, "cell1"), Params(), at)
        step = next((step for step in steps if step.cursor is not None), None)
        steps.close()
        if step is None:
            break
        done, at = done + decode(Discovered, encode(step.outcome)), encode(step.cursor)
    assert len(done.mapped) == len(mapped_hosts(realcloud)) == marked_nodes(realcloud, realcloud.cell1) == 7


def test_services_are_looked_at_whether_they_have_nodes_or_not(realcloud: RealCloud) -> None:
    found = outcome(work(target(realcloud, "cell1"), Params(by_service=True, verbose=True), None))
    assert found.mapped == ("irn-c1-01",)
    assert {node.host for node in found.looked_at} >= {"cmp-c1-01", "irn-c1-01"}
    assert all(node.uuid is None for node in found.looked_at)


def test_what_travels_comes_back(cloud: RealCloud) -> None:
    steps: Any = work(target(cloud, "cell1"), Params(verbose=True), None)
    found = outcome(steps)
    assert decode(Discovered, encode(found)) == found
