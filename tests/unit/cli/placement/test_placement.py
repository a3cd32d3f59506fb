"""The category ``placement``, with a Placement on SQLite: what is printed, and the exit code."""

import json
from collections.abc import Iterator

import pytest

from tests.support.demo_cloud import CELL0, DemoCloud
from tests.support.placement import nova_conf
from tests.support.small_cloud import SMALL, flavor
from tests.support.sqlite_placement import SqlitePlacement

HEAL = "placement heal_allocations --skip-port-allocations --concurrency 1"
AUDIT = "placement audit --concurrency 1"
SYNC = "placement sync_aggregates --concurrency 1"
STRANGER = "99999999-0000-4000-8000-000000000001"
AGGREGATE = "99999999-0000-4000-8000-00000000000a"


@pytest.fixture(scope="module")
def placement_server() -> Iterator[SqlitePlacement]:
    with SqlitePlacement() as server:
        yield server


@pytest.fixture
def placement(placement_server: SqlitePlacement, cloud: DemoCloud) -> SqlitePlacement:
    """A Placement with the nodes of cell1, whose instances have flavors that can be read."""
    placement_server.empty()
    placement_server.know(cloud, "cell1")
    cloud.sql("API", "DELETE FROM host_mappings WHERE cell_id IN (3, 4)")
    cloud.sql("API", "DELETE FROM instance_mappings WHERE cell_id IN (3, 4)")
    cloud.sql("API", "DELETE FROM cell_mappings WHERE name IN ('cell2', 'cell3')")
    cloud.sql("cell1", "UPDATE instance_extra SET flavor = ?", json.dumps(flavor()))
    cloud.configure(nova_conf(placement_server.url))
    return placement_server


def live_instances(cloud: DemoCloud) -> list[tuple[str, str]]:
    """The instances of cell1, each with the UUID of its compute node."""
    return [
        (uuid, node)
        for uuid, node in cloud.sql(
            "cell1",
            "SELECT instances.uuid, compute_nodes.uuid FROM instances JOIN compute_nodes ON "
            "compute_nodes.host = instances.host WHERE instances.deleted = 0 ORDER BY instances.id",
        )
    ]


def hosts_of_cell1(cloud: DemoCloud) -> dict[str, str]:
    """The UUID of the compute node of each host."""
    return dict(cloud.sql("cell1", "SELECT host, uuid FROM compute_nodes WHERE deleted = 0"))


def add_aggregate(cloud: DemoCloud, name: str, *hosts: str) -> None:
    cloud.sql("API", "INSERT INTO aggregates (id, uuid, name) VALUES (1, ?, ?)", AGGREGATE, name)
    for host in hosts:
        cloud.sql("API", "INSERT INTO aggregate_hosts (aggregate_id, host) VALUES (1, ?)", host)


# -- heal_allocations ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--max-count x", "Must supply a positive integer for --max-count.\n"),
        ("--max-count 0", "Must supply a positive integer for --max-count.\n"),
        ("--cell nope", "Cell with uuid nope was not found.\n"),
        (
            "--instance nope --cell nope",
            "The --cell and --instance options are mutually exclusive.\n",
        ),
        ("--force", "The --instance flag is required when using --force flag.\n"),
        ("--instance nope", "Unable to find cell for instance nope, is it mapped? Try running "),
    ],
)
def test_a_healing_that_is_refused(cloud: DemoCloud, options: str, line: str) -> None:
    ended = cloud.call(f"{HEAL} {options}")
    assert (ended.code, ended.out) == (127, "")
    assert ended.err.startswith(line)


def test_an_instance_that_is_not_scheduled_is_not_healed(cloud: DemoCloud) -> None:
    (uuid,) = cloud.sql("API", "SELECT instance_uuid FROM instance_mappings LIMIT 1")[0]
    cloud.sql("API", "UPDATE instance_mappings SET cell_id = NULL WHERE instance_uuid = ?", uuid)
    ended = cloud.call(f"{HEAL} --instance {uuid}")
    assert (ended.code, ended.err) == (
        127,
        f"Instance {uuid} is mapped to no cell: it is not scheduled yet.\n",
    )


def test_without_a_placement_each_cell_is_named_once(cloud: DemoCloud) -> None:
    ended = cloud.call(HEAL)
    assert (ended.code, ended.out) == (255, "")
    assert ended.err.startswith("cell1, cell2, cell3: Placement is not configured: ")
    assert ended.err.endswith("(nothing more is tried: 18 instances were not looked at)\n")


def test_allocations_are_created_once(cloud: DemoCloud, placement: SqlitePlacement) -> None:
    dry = cloud.call(f"{HEAL} --dry-run")
    assert (dry.code, dry.out) == (
        4,
        "Would create allocations of 6 instances and update those of 0.\n",
    )
    ended = cloud.call(f"{HEAL} --verbose")
    assert (ended.code, ended.err) == (0, "")
    instances = live_instances(cloud)
    assert ended.out.splitlines() == [
        "Running batches of 50 until complete",
        f"Looking for instances in cell: {cloud.uuid('cell1')}(cell1)",
        "Found 6 candidate instances.",
        *(f"Successfully created allocations for instance {uuid}." for uuid, _ in instances),
        "Processed 6 instances.",
    ]
    assert [placement.held(uuid) for uuid, _ in instances] == [
        {node: SMALL} for _, node in instances
    ]
    again = cloud.call(f"{HEAL} -f json")
    assert again.code == 4
    (cell,) = again.document["cells"]
    assert (cell["looked_at"], cell["created"], cell["updated"], cell["problems"]) == (6, 0, 0, [])


def test_a_healing_ends_at_its_limit(cloud: DemoCloud, placement: SqlitePlacement) -> None:
    ended = cloud.call(f"{HEAL} --verbose --max-count 2")
    assert (ended.code, ended.err) == (1, "")
    assert ended.out.endswith("Max count reached. Processed 2 instances.\n")
    assert sum(bool(placement.held(uuid)) for uuid, _ in live_instances(cloud)) == 2


def test_one_instance_is_healed_by_force(cloud: DemoCloud, placement: SqlitePlacement) -> None:
    uuid, node = live_instances(cloud)[0]
    placement.allocate(uuid, {node: {"VCPU": 9}}, "p1", "u1")
    ended = cloud.call(f"{HEAL} --instance {uuid} --force --verbose")
    assert (ended.code, ended.err) == (0, "")
    assert placement.held(uuid) == {node: SMALL}


def test_an_instance_without_a_node_is_a_problem(
    cloud: DemoCloud, placement: SqlitePlacement
) -> None:
    uuid, _ = live_instances(cloud)[0]
    cloud.sql("cell1", "UPDATE instances SET node = 'gone', host = 'gone' WHERE uuid = ?", uuid)
    ended = cloud.call(HEAL)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("cell1: ")
    assert uuid in ended.err
    (cell,) = cloud.call(f"{HEAL} -f json").document["cells"]
    assert (
        cell["problem_count"],
        cell["problems"][0]["instance"],
        cell["problems"][0]["code"],
    ) == (1, uuid, 2)


def test_a_cell_without_instances_on_hosts_is_passed_over(
    cloud: DemoCloud, placement: SqlitePlacement
) -> None:
    cloud.sql("API", "DELETE FROM cell_mappings WHERE uuid <> ?", CELL0)
    ended = cloud.call(f"{HEAL} --verbose")
    assert (ended.code, ended.err) == (4, "")
    assert ended.out == "Running batches of 50 until complete\nNo cells to process.\n"


def test_a_cell_that_is_away_is_named(cloud: DemoCloud, placement: SqlitePlacement) -> None:
    cloud.lose("cell1")
    ended = cloud.call(f"{HEAL} --verbose")
    assert ended.code == 255
    assert ended.err.startswith("cell1 (")


# -- sync_aggregates -------------------------------------------------------------------------------


def test_without_a_placement_nothing_is_mirrored(cloud: DemoCloud) -> None:
    ended = cloud.call(SYNC)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(
        "Placement is not configured: set auth_type and its options in section [placement]"
    )


def test_aggregates_are_mirrored(cloud: DemoCloud, placement: SqlitePlacement) -> None:
    nodes = hosts_of_cell1(cloud)
    add_aggregate(cloud, "rack1", "cmp-c1-01", "cmp-c1-02")
    ended = cloud.call(f"{SYNC} --verbose")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[:3] == [
        "Filling in missing placement aggregates",
        "Processing aggregate: rack1",
        "Processing host: cmp-c1-01",
    ]
    added = "Successfully added host (cmp-c1-02) and provider ({}) to aggregate ({})."
    assert added.format(nodes["cmp-c1-02"], AGGREGATE) in ended.out.splitlines()
    assert placement.aggregates(nodes["cmp-c1-01"]) == {AGGREGATE}
    again = cloud.call(f"{SYNC} -f json")
    assert (again.code, again.document["added"], again.document["problems"]) == (0, [], [])


def test_hosts_that_cannot_be_mirrored_are_summed_up(
    cloud: DemoCloud, placement: SqlitePlacement
) -> None:
    cloud.sql("API", "DELETE FROM host_mappings WHERE host = 'cmp-c1-02'")
    cloud.sql("cell1", "UPDATE compute_nodes SET deleted = id WHERE host = 'cmp-c1-03'")
    placement.ask("DELETE", f"/resource_providers/{hosts_of_cell1(cloud)['cmp-c1-04']}")
    add_aggregate(cloud, "rack1", *(f"cmp-c1-0{number}" for number in (1, 2, 3, 4)))
    ended = cloud.call(SYNC)
    assert (ended.code, ended.out) == (6, "")
    unmapped, nodeless, unknown = ended.err.splitlines()
    assert unmapped.endswith(
        'Run "cellkeeper cell_v2 discover_hosts" and then retry. Missing: cmp-c1-02'
    )
    assert nodeless.startswith("Unable to find matching compute_nodes record entries")
    assert nodeless.endswith("Missing: cmp-c1-03")
    assert unknown.startswith("Placement has no resource provider")
    document = cloud.call(f"{SYNC} -f json").document
    assert {problem["host"]: problem["code"] for problem in document["problems"]} == {
        "cmp-c1-02": 4, "cmp-c1-03": 5, "cmp-c1-04": 6,
    }  # fmt: skip


def test_hosts_of_a_cell_that_is_away_are_named(
    cloud: DemoCloud, placement: SqlitePlacement
) -> None:
    add_aggregate(cloud, "rack1", "cmp-c1-01")
    cloud.lose("cell1")
    ended = cloud.call(SYNC)
    assert (ended.code, ended.out) == (255, "")
    assert "The cells of the following hosts could not be read: cmp-c1-01\n" in ended.err


# -- audit -----------------------------------------------------------------------------------------


def test_without_a_placement_nothing_is_audited(cloud: DemoCloud) -> None:
    ended = cloud.call(AUDIT)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Placement is not configured: ")


@pytest.mark.parametrize(
    ("provider", "line"),
    [
        ("x", "Resource provider with UUID x does not exist: that is no UUID.\n"),
        (STRANGER, f"Resource provider with UUID {STRANGER} does not exist.\n"),
    ],
)
def test_a_provider_that_is_none(
    cloud: DemoCloud, placement: SqlitePlacement, provider: str, line: str
) -> None:
    ended = cloud.call(f"{AUDIT} --resource_provider {provider}")
    assert (ended.code, ended.out, ended.err) == (127, "", line)


def test_all_is_well_when_every_consumer_is_there(
    cloud: DemoCloud, placement: SqlitePlacement
) -> None:
    cloud.call(HEAL)
    ended = cloud.call(AUDIT)
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_orphans_are_found_and_deleted(cloud: DemoCloud, placement: SqlitePlacement) -> None:
    cloud.call(HEAL)
    node = hosts_of_cell1(cloud)["cmp-c1-01"]
    placement.allocate(STRANGER, {node: {"VCPU": 2, "MEMORY_MB": 512}}, "p1", "u1")
    found = cloud.call(AUDIT)
    assert (found.code, found.err) == (3, "")
    assert f"| {STRANGER} | {node} | cmp-c1-01 |" in found.out
    lines = cloud.call(f"{AUDIT} --verbose --resource_provider {node}")
    assert lines.code == 3
    assert (
        f"Allocations for consumer UUID {STRANGER} on Resource Provider {node} can be deleted: "
        in lines.out
    )
    assert lines.out.endswith("Processed 1 allocation.\n")
    (orphan,) = cloud.call(f"{AUDIT} -f json").document["orphans"]
    assert (orphan["consumer"], orphan["host"], orphan["deleted"]) == (STRANGER, "cmp-c1-01", False)
    deleted = cloud.call(f"{AUDIT} --delete --verbose")
    assert deleted.code == 4
    assert (
        f"Deleted allocations for consumer UUID {STRANGER} on Resource Provider {node}: "
        in deleted.out
    )
    assert placement.held(STRANGER) == {}


def test_what_was_deleted_is_shown_in_the_table(
    cloud: DemoCloud, placement: SqlitePlacement
) -> None:
    cloud.call(HEAL)
    node = hosts_of_cell1(cloud)["cmp-c1-01"]
    placement.allocate(STRANGER, {node: {"VCPU": 2}}, "p1", "u1")
    ended = cloud.call(f"{AUDIT} --delete")
    assert (ended.code, ended.err) == (4, "")
    (row,) = [line for line in ended.out.splitlines() if STRANGER in line]
    assert row.rstrip(" |").endswith("deleted")


def test_an_instance_that_holds_nothing_but_an_orphan_is_to_be_healed(
    cloud: DemoCloud, placement: SqlitePlacement
) -> None:
    uuid, node = live_instances(cloud)[0]
    elsewhere = next(other for other in hosts_of_cell1(cloud).values() if other != node)
    placement.allocate(uuid, {elsewhere: {"VCPU": 1}}, "p1", "u1")
    ended = cloud.call(AUDIT)
    assert ended.code == 3
    command = f"cellkeeper placement heal_allocations --instance {uuid}"
    assert f"Instance {uuid} would have no allocation: {command}" in ended.err


def test_a_provider_of_a_cell_that_is_away_is_not_audited(
    cloud: DemoCloud, placement: SqlitePlacement
) -> None:
    node = hosts_of_cell1(cloud)["cmp-c1-01"]
    placement.allocate(STRANGER, {node: {"VCPU": 2}}, "p1", "u1")
    cloud.lose("cell1")
    ended = cloud.call(f"{AUDIT} --delete")
    assert (ended.code, ended.out) == (1, "")
    reason = "a cell could not be read, and the provider may belong to it"
    assert f"Not audited: resource provider {node} (cmp-c1-01): {reason}\n" in ended.err
    assert placement.held(STRANGER) == {node: {"VCPU": 2}}
