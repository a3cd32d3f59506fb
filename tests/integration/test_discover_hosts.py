"""Discovering the hosts of one cell: each is mapped once, whoever writes beside it, dies in
between, or takes over.
"""

from collections.abc import Generator
from typing import Any

import pytest

from jobs.action import ApiDatabaseProblem, CellResult, Cursor, Step
from jobs.cell_v2 import discover_hosts
from jobs.cell_v2.discover_hosts import Discovered, Params, work
from jobs.codec import decode, encode
from tests.integration.cells import add_nodes, mapped_hosts, marked_nodes, statements, target
from tests.support.realcloud import RealCloud

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


def by_another_worker_after_each_step(cloud: RealCloud) -> Discovered:
    """Work through cell1; each step is carried out by a worker that knows the cursor of the one
    before alone.
    """
    outcomes, cursor = Discovered(), None
    while True:
        steps = work(target(cloud, "cell1"), Params(), cursor)
        step = next((step for step in steps if step.cursor is not None), None)
        steps.close()
        if step is None:
            return outcomes
        outcomes, cursor = outcomes + decode(Discovered, encode(step.outcome)), encode(step.cursor)


@pytest.fixture
def cloud(realcloud: RealCloud) -> RealCloud:
    """The cloud with five new hosts in cell1."""
    add_nodes(realcloud, realcloud.cell1, 5)
    return realcloud


def test_two_thousand_hosts_take_a_handful_of_statements(realcloud: RealCloud) -> None:
    add_nodes(realcloud, realcloud.cell1, HOSTS)
    with statements() as sent:
        found = outcome(work(target(realcloud, "cell1"), Params(), None))
    assert (
        len(found.mapped)
        == len(mapped_hosts(realcloud))
        == marked_nodes(realcloud, realcloud.cell1)
        == HOSTS
    )
    assert len(sent) <= A_HANDFUL


def test_a_host_that_somebody_else_maps_at_the_moment_is_left_to_him_and_the_others_are_mapped(
    cloud: RealCloud,
) -> None:
    steps, _ = begin(cloud)
    cloud.rows(
        cloud.api,
        "INSERT INTO host_mappings (host, cell_id) SELECT 'new-00003', MAX(id) FROM cell_mappings",
    )
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


def test_several_nodes_of_a_host_are_one_mapping_and_the_first_of_them_is_marked(
    realcloud: RealCloud,
) -> None:
    add_nodes(realcloud, realcloud.cell1, 2, nodes=3)
    found = outcome(work(target(realcloud, "cell1"), Params(verbose=True), None))
    assert [node.host for node in found.looked_at] == ["new-00001"] * 3 + ["new-00002"] * 3
    assert found.mapped == ("new-00001", "new-00002")
    assert marked_nodes(realcloud, realcloud.cell1) == 2
    ((first,),) = realcloud.rows(
        realcloud.cell1, "SELECT MIN(id) FROM compute_nodes WHERE host = 'new-00001'"
    )
    assert realcloud.rows(
        realcloud.cell1, f"SELECT mapped FROM compute_nodes WHERE id = {first}"
    ) == [(1,)]


def test_a_host_that_is_mapped_already_stays_where_it_is(realcloud: RealCloud) -> None:
    """Its name is compared as the unique key does, which makes no difference of case."""
    add_nodes(realcloud, realcloud.cell1, 2)
    realcloud.rows(
        realcloud.api,
        "INSERT INTO host_mappings (host, cell_id) SELECT 'NEW-00001', MAX(id) FROM cell_mappings",
    )
    found = outcome(work(target(realcloud, "cell1"), Params(), None))
    assert (found.mapped, found.elsewhere, found.collided) == (("new-00002",), ("new-00001",), ())
    assert marked_nodes(realcloud, realcloud.cell1) == 1


def test_batches_go_on_behind_each_other(
    realcloud: RealCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discover_hosts, "BATCH", 2)
    add_nodes(realcloud, realcloud.cell1, 7)
    done = by_another_worker_after_each_step(realcloud)
    assert (
        len(done.mapped)
        == len(mapped_hosts(realcloud))
        == marked_nodes(realcloud, realcloud.cell1)
        == 7
    )


def test_services_are_looked_at_whether_they_have_nodes_or_not(realcloud: RealCloud) -> None:
    found = outcome(work(target(realcloud, "cell1"), Params(by_service=True, verbose=True), None))
    assert found.mapped == ("irn-c1-01",)
    assert {node.host for node in found.looked_at} >= {"cmp-c1-01", "irn-c1-01"}
    assert all(node.uuid is None for node in found.looked_at)


def test_what_travels_comes_back(cloud: RealCloud) -> None:
    steps: Any = work(target(cloud, "cell1"), Params(verbose=True), None)
    found = outcome(steps)
    assert decode(Discovered, encode(found)) == found


# -- hosts that were deleted and added again: their nodes are marked, and they are mapped to no cell


def come_back(cloud: RealCloud, hosts: int, nodes: int = 1) -> None:
    """Add hosts that were deleted while Nova left the mark on their nodes, and that have come
    back.
    """
    add_nodes(cloud, cloud.cell1, hosts, nodes=nodes)
    cloud.rows(cloud.cell1, "UPDATE compute_nodes SET mapped = 1 WHERE host LIKE 'new-%'")


def test_a_host_that_was_deleted_and_added_again_is_mapped(realcloud: RealCloud) -> None:
    come_back(realcloud, 3, nodes=2)
    realcloud.rows(
        realcloud.cell1, "UPDATE compute_nodes SET mapped = NULL WHERE host = 'new-00003'"
    )
    realcloud.rows(
        realcloud.api,
        "INSERT INTO host_mappings (host, cell_id) SELECT 'NEW-00002', MIN(id) FROM cell_mappings",
    )
    found = outcome(work(target(realcloud, "cell1"), Params(verbose=True), None))
    assert found.mapped == ("new-00001", "new-00003")
    assert [node.host for node in found.looked_at] == ["new-00001", "new-00003"]
    assert outcome(work(target(realcloud, "cell1"), Params(verbose=True), None)) == Discovered()


def test_marked_nodes_are_read_by_the_names_of_their_hosts_alone(realcloud: RealCloud) -> None:
    """Two thousand hosts, one of which has three thousand nodes, as with Ironic: two statements per
    thousand hosts.
    """
    add_nodes(realcloud, realcloud.cell1, HOSTS)
    add_nodes(realcloud, realcloud.cell1, 1, prefix="ironic", nodes=3_000)
    outcome(work(target(realcloud, "cell1"), Params(), None))
    realcloud.rows(realcloud.cell1, "UPDATE compute_nodes SET mapped = 1")
    with statements() as sent:
        assert outcome(work(target(realcloud, "cell1"), Params(), None)) == Discovered()
    assert len([line for line in sent if "FROM compute_nodes" in line]) <= 5
    assert len([line for line in sent if "FROM host_mappings" in line]) <= 3
    assert not any("compute_nodes.uuid" in line and "GROUP BY" in line for line in sent)


def test_batches_of_marked_hosts_go_on_behind_each_other(
    realcloud: RealCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discover_hosts, "BATCH", 2)
    come_back(realcloud, 7)
    done = by_another_worker_after_each_step(realcloud)
    assert len(done.mapped) == len(mapped_hosts(realcloud)) == 7


# -- hosts that the API database refuses -----------------------------------------------------------


def refuse(cloud: RealCloud, table: str, condition: str, error: int) -> None:
    """Have the API database refuse some rows with an error of this number."""
    state = "23000" if error in (1062, 1452) else "45000"
    cloud.rows(
        cloud.api,
        f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW IF NEW.{condition} THEN "
        f"SIGNAL SQLSTATE '{state}' SET MYSQL_ERRNO = {error}, MESSAGE_TEXT = 'not this one'; END "
        "IF",
    )


@pytest.mark.parametrize(
    ("error", "collided", "refused", "code"),
    [
        (1062, ("new-00003",), (), discover_hosts.Exit.DUPLICATE),
        (1452, (), ("new-00003",), discover_hosts.Exit.NOTHING_OR_ERROR),
        (1644, (), ("new-00003",), discover_hosts.Exit.NOTHING_OR_ERROR),
    ],
)
def test_what_is_refused_for_one_host_costs_that_host(
    cloud: RealCloud, error: int, collided: tuple[str, ...], refused: tuple[str, ...], code: int
) -> None:
    """A duplicate whose row is gone again when it is looked for was somebody else's for a
    moment.
    """
    refuse(cloud, "host_mappings", "host = 'new-00003'", error)
    steps = work(target(cloud, "cell1"), Params(), None)
    found = outcome(steps)
    assert found.collided == collided
    assert tuple(one.host for one in found.refused) == refused
    assert all("not this one" in one.reason for one in found.refused)
    assert mapped_hosts(cloud).keys() == {f"new-0000{number}" for number in (1, 2, 4, 5)}
    assert marked_nodes(cloud, cloud.cell1) == 4
    result = CellResult(target(cloud, "cell1").cell, decode(Discovered, encode(found)))
    assert discover_hosts.collapse([result], Params()) == code


def test_an_error_that_is_no_row_s_ends_the_cell(cloud: RealCloud) -> None:
    cloud.rows(cloud.api, "ALTER TABLE host_mappings MODIFY created_at DATE, DROP COLUMN host")
    with pytest.raises(ApiDatabaseProblem, match="Unknown column"):
        outcome(work(target(cloud, "cell1"), Params(), None))
