"""Which allocations are orphaned, and which aggregates a provider should be in: decisions, without
any service.
"""

import json
from dataclasses import replace
from typing import Final

import pytest

from clients.placement import Provider
from jobs.action import CellResult, Failure, FailureKind
from jobs.codec import decode, encode
from jobs.placement.aggregates import AggregateTarget, SyncProblem
from jobs.placement.audit import CellKnowledge, ComputeNode, Stray
from jobs.placement.orphans import (
    UNKNOWN_CONSUMER,
    Allocation,
    CloudKnowledge,
    UnallocatedInstance,
    find_orphans,
    find_unallocated_instances,
)
from jobs.placement.sync_aggregates import (
    AddedAggregates,
    AggregateMember,
    Exit,
    Params,
    Synced,
    find_targets,
    unmapped_hosts,
)
from novadb.cells import Cell
from novadb.errors import DatabaseProblem

CELL: Final = Cell("uuid", "cell1", frozenset({1}), DatabaseProblem("not looked at"))
COMPUTE: Final = {"VCPU": 1, "MEMORY_MB": 512}

HERE: Final = Provider("node1", "node1", 0, "node1", None)
BRIDGE: Final = Provider("bridge1", "node1:bridge", 0, "node1", "agent1")
GPU: Final = Provider("gpu1", "node1:gpu", 0, "node1", "node1")
THERE: Final = Provider("node2", "node2", 0, "node2", None)
RETIRED: Final = Provider("old", "old", 0, "old", None)
SHARED: Final = Provider("storage", "storage", 0, "storage", None)

CELL1: Final = CellKnowledge(
    nodes={"node1": ComputeNode("host1", "node1"), "node2": ComputeNode("host2", "node2")},
    retired={"old": ComputeNode("host9", "old")},
    instances={"node1": ("vm1", "moving"), "node2": ("vm2",), "": ("offloaded",)},
    moving=("moving", "migration"),
)


def read(*cells: CellKnowledge, unread: int = 0) -> list[CellResult[CellKnowledge]]:
    """The results of cells that were read, and of some that were not."""
    broken = CellResult(CELL, CellKnowledge(), Failure(FailureKind.CELL, "gone"), complete=False)
    return [*(CellResult(CELL, known) for known in cells), *[broken] * unread]


def reasons(held: list[Allocation], cloud: CloudKnowledge) -> list[tuple[str, str, str]]:
    """The orphans: consumer, provider, reason."""
    orphans, _ = find_orphans(held, cloud)
    return [(one.allocation.consumer, one.allocation.provider.uuid, one.reason) for one in orphans]


def holds(consumer: str, provider: Provider, **resources: int) -> Allocation:
    return Allocation(consumer, provider, resources or COMPUTE, 1)


@pytest.mark.parametrize(
    ("consumer", "provider", "reason"),
    [
        pytest.param("vm1", HERE, None, id="an instance where it is"),
        pytest.param(
            "vm1", BRIDGE, None, id="an instance on a child of the compute node's provider"
        ),
        pytest.param("vm1", SHARED, None, id="a live instance on shared storage"),
        pytest.param("offloaded", SHARED, None, id="an instance on no host, on shared storage"),
        pytest.param("moving", THERE, None, id="an instance on its way, on either host"),
        pytest.param(
            "moving", RETIRED, None, id="an instance on its way, on a host that is deleted"
        ),
        pytest.param("migration", HERE, None, id="an open migration"),
        pytest.param("migration", THERE, None, id="an open migration, on the other host"),
        pytest.param("building", THERE, None, id="an instance that is in no cell yet"),
        pytest.param("vm2", HERE, "the instance is on host2", id="what an evacuation left"),
        pytest.param("vm2", BRIDGE, "the instance is on host2", id="what it left on a child"),
        pytest.param(
            "offloaded", HERE, "the instance is on no compute node", id="shelved and offloaded"
        ),
        pytest.param("nobody", HERE, UNKNOWN_CONSUMER, id="nobody"),
        pytest.param("nobody", SHARED, UNKNOWN_CONSUMER, id="nobody, on shared storage"),
        pytest.param(
            "vm1",
            RETIRED,
            "its compute node is deleted; the instance is on host1",
            id="a deleted host",
        ),
        pytest.param(
            "nobody",
            RETIRED,
            f"its compute node is deleted; {UNKNOWN_CONSUMER}",
            id="nobody, on a deleted host",
        ),
    ],
)
def test_who_may_hold_what(consumer: str, provider: Provider, reason: str | None) -> None:
    cloud = CloudKnowledge.of(read(CELL1), building=["building"])
    assert reasons([holds(consumer, provider)], cloud) == (
        [(consumer, provider.uuid, reason)] if reason else []
    )


def test_what_a_consumer_holds_of_one_tree_belongs_together() -> None:
    held = [
        holds("nobody", HERE),
        holds("nobody", GPU, CUSTOM_GPU=1),
        holds("nobody", SHARED, CUSTOM_SHARE=1),
    ]
    cloud = CloudKnowledge.of(read(CELL1))
    assert [provider for _, provider, _ in reasons(held, cloud)] == ["node1", "gpu1"]


@pytest.mark.parametrize("resources", [{"CUSTOM_BAREMETAL": 1}, {"IPV4_ADDRESS": 1}, {"FPGA": 1}])
def test_what_is_no_compute_allocation_is_not_audited(resources: dict[str, int]) -> None:
    held = [holds("nobody", HERE, **resources), holds("vm2", HERE, **resources)]
    assert find_orphans(held, CloudKnowledge.of(read(CELL1))) == ([], [])


def test_a_cell_that_was_not_read_leaves_its_providers_unknown() -> None:
    other = CellKnowledge(
        nodes={"node2": ComputeNode("host2", "node2")}, instances={"node2": ("vm2",)}
    )
    held = [
        holds(consumer, provider)
        for consumer in ("vm1", "vm2", "nobody")
        for provider in (HERE, THERE, SHARED)
    ]
    orphans, unknown = find_orphans(held, CloudKnowledge.of(read(other, unread=1)))
    assert unknown == [HERE, SHARED]
    assert [(one.allocation.consumer, one.allocation.provider) for one in orphans] == [
        ("vm1", THERE),
        ("nobody", THERE),
    ]


def test_of_a_provider_that_holds_no_compute_allocation_nothing_needs_to_be_known() -> None:
    assert find_orphans(
        [holds("nobody", SHARED, CUSTOM_SHARE=1)], CloudKnowledge.of(read(unread=1))
    ) == ([], [])


def test_a_cell_read_in_part_is_as_good_as_unread() -> None:
    stopped = CellResult(CELL, CELL1, complete=False)
    assert find_orphans([holds("vm1", HERE)], CloudKnowledge.of([stopped])) == ([], [HERE])


def test_without_any_cell_nothing_is_an_orphan() -> None:
    assert find_orphans([holds("vm1", HERE)], CloudKnowledge.of([])) == ([], [HERE])


def test_an_instance_in_two_cells_is_on_its_way_between_them() -> None:
    one = CellKnowledge(
        nodes={"node1": ComputeNode("host1", "node1")}, instances={"node1": ("vm1", "vm3")}
    )
    two = CellKnowledge(
        nodes={"node2": ComputeNode("host2", "node2")}, instances={"node2": ("vm1",)}
    )
    held = [holds(uuid, provider) for uuid in ("vm1", "vm3") for provider in (HERE, THERE)]
    assert reasons(held, CloudKnowledge.of(read(one, two))) == [
        ("vm3", "node2", "the instance is on host1")
    ]


def test_a_compute_node_that_came_back_in_another_cell_is_alive() -> None:
    gone = CellKnowledge(retired={"node1": ComputeNode("host1", "node1")})
    back = CellKnowledge(
        nodes={"node1": ComputeNode("host1", "node1")}, instances={"node1": ("vm1",)}
    )
    assert reasons([holds("vm1", HERE)], CloudKnowledge.of(read(gone, back))) == []


def test_instances_that_hold_nothing_but_orphans_are_told() -> None:
    cloud = CloudKnowledge.of(read(CELL1))
    held = [holds("vm1", THERE), holds("vm2", HERE), holds("vm2", THERE), holds("nobody", HERE)]
    orphans, _ = find_orphans(held, cloud)
    assert [one.allocation.consumer for one in orphans] == ["vm1", "vm2", "nobody"]
    assert find_unallocated_instances(held, orphans, cloud) == [UnallocatedInstance("vm1")]


STRAYS: Final = {
    "renamed": Stray("host1", "old-name", ("node1",)),
    "lost": Stray("host7", "node7"),
}


def test_an_instance_on_the_host_keeps_what_it_holds_there_whatever_its_node_is_called() -> None:
    cloud = CloudKnowledge.of(
        read(CELL1, CellKnowledge(instances={"": ("renamed", "lost")}, strays=STRAYS))
    )
    held = [
        holds("renamed", HERE),
        holds("renamed", BRIDGE),
        holds("renamed", THERE),
        holds("lost", HERE),
    ]
    nowhere = "the instance is on no compute node"
    assert reasons(held, cloud) == [("renamed", "node2", nowhere), ("lost", "node1", nowhere)]
    (doubtful,) = cloud.strays_with(held).items()
    consumer, text = doubtful
    assert consumer == "renamed"
    assert text.startswith(
        "it is on host host1 as node old-name, and the host's compute node is node1: "
    )


def test_healing_is_advised_only_where_it_can_help() -> None:
    """Whoever is on no host, or waits to be reclaimed, needs no allocations."""
    others = CellKnowledge(
        instances={"": ("renamed", "lost", "shelved"), "node1": ("resting", "gpu")},
        strays=STRAYS,
        resting=("resting",),
    )
    cloud = CloudKnowledge.of(read(CELL1, others))
    held = [holds(uuid, THERE) for uuid in ("vm1", "renamed", "lost", "shelved", "resting")]
    held.append(holds("gpu", THERE, VCPU=1, VGPU=1))
    orphans, _ = find_orphans(held, cloud)
    assert len(orphans) == len(held)
    advice = {
        one.instance: one.hindrance for one in find_unallocated_instances(held, orphans, cloud)
    }
    assert advice == {
        "vm1": "",
        "renamed": "heal_allocations can make none, its host host1 has no compute node old-name",
        "lost": "heal_allocations can make none, its host host7 has no compute node node7",
        "gpu": (
            "it has a vGPU, which heal_allocations does not support; migrating it makes its "
            "allocation"
        ),
    }


def test_why_a_consumer_is_gone_is_said_instead_of_that_nobody_knows_it() -> None:
    cloud = replace(CloudKnowledge.of(read(CELL1)), fates={"gone": "the instance is deleted"})
    held = [holds("GONE", HERE), holds("gone", RETIRED), holds("vm1", HERE)]
    assert cloud.unknown_consumers(held) == {"GONE", "gone"}
    assert [reason for _, _, reason in reasons(held, cloud)] == [
        "the instance is deleted",
        "its compute node is deleted; the instance is deleted",
    ]


def test_what_is_known_adds_up_and_travels() -> None:
    more = CellKnowledge(
        instances={"node1": ("vm4",), "node3": ("vm5",)},
        moving=("vm5",),
        strays=STRAYS,
        resting=("vm4",),
    )
    both = CELL1 + more
    assert both.instances == {
        **CELL1.instances,
        "node1": ("vm1", "moving", "vm4"),
        "node3": ("vm5",),
    }
    assert both.moving == ("moving", "migration", "vm5")
    assert (both.nodes, both.retired) == (CELL1.nodes, CELL1.retired)
    assert decode(CellKnowledge, json.loads(json.dumps(encode(both)))) == both


MEMBERS: Final = [
    AggregateMember("agg1", "first", "host1", 1),
    AggregateMember("agg1", "first", "HOST2", 1),
    AggregateMember("agg2", "second", "host1", 1),
    AggregateMember("agg2", "second", "unmapped", None),
    AggregateMember("agg2", "second", "ghost", 1),
    AggregateMember("agg2", "second", "bare-metal", 1),
    AggregateMember("agg2", "second", "far", 2),
    AggregateMember("agg3", "empty", None, None),
]


def test_the_aggregates_of_all_hosts_are_gathered_by_provider() -> None:
    nodes = {
        "host1": ("node1",),
        "host2": ("node2",),
        "bare-metal": ("n3", "n4"),
        "stranger": ("n5",),
    }
    wishes, problems = find_targets([member for member in MEMBERS if member.cell_id == 1], nodes)
    assert wishes == [
        AggregateTarget("HOST2", "node2", frozenset({"agg1"})),
        AggregateTarget("host1", "node1", frozenset({"agg1", "agg2"})),
    ]
    assert [(problem.host, problem.code) for problem in problems] == [
        ("bare-metal", Exit.SEVERAL_NODES),
        ("ghost", Exit.NO_COMPUTE_NODE),
    ]
    assert problems[0].text.startswith(
        "Unexpected number of compute node records (2) found for host bare-metal."
    )
    assert unmapped_hosts(MEMBERS, {1, 2}) == ("unmapped",)
    assert unmapped_hosts(MEMBERS, {1}) == ("unmapped", "far")


def test_what_a_cell_mirrored_adds_up_and_travels() -> None:
    first = Synced(
        2, (AddedAggregates("host1", "node1", ("agg1", "agg2")),), (SyncProblem("ghost", 5, "why"),)
    )
    both = first + Synced(1, (AddedAggregates("host2", "node2", ("agg1",)),))
    assert (both.hosts, both.rows, both.by_table, len(both.problems)) == (3, 3, {"added": 3}, 1)
    assert decode(Synced, json.loads(json.dumps(encode(both)))) == both
    params = Params(("unmapped",), 3)
    assert decode(Params, json.loads(json.dumps(encode(params)))) == params
