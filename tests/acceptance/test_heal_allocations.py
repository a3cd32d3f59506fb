"""``cellkeeper placement heal_allocations`` with a real Placement: exit codes, all that is printed,
what is left.
"""

from pathlib import Path
from typing import Any, Final

import pytest

from clients.placement import CONSUMERS_PER_REQUEST
from tests.support.command import Ended, Running, call_here, until
from tests.support.placement import Placement, nova_conf
from tests.support.recorded.cloud import BY_PASSWORD
from tests.support.recorded.stand_ins import PASSWORD as KEYSTONES_PASSWORD
from tests.support.recorded.stand_ins import Keystone
from tests.support.relay import Relay, placement_error
from tests.support.services import free_port
from tests.support.small_cloud import PROJECT, SMALL, USER, SmallCloud, flavor

HEAL: Final = "placement heal_allocations --skip-port-allocations"
HOST1, HOST2 = SmallCloud.node_uuid(1), SmallCloud.node_uuid(2)
ROOM: Final = {"VCPU": 640, "PCPU": 64, "MEMORY_MB": 262144, "DISK_GB": 4000, "CUSTOM_FOO": 9}
NEW_NODE: Final = "cccccccc-0000-4000-8000-000000000099"
CONCURRENT: Final = placement_error(
    409, "placement.concurrent_update", "resource provider generation conflict"
)
CHANGED: Final = placement_error(
    409, "placement.concurrent_update", "consumer generation conflict - expected 1 but got 2"
)


@pytest.fixture
def cloud(placement: Placement, relay: Relay, tmp_path: Path) -> SmallCloud:
    """Two cells with a host each, that Placement knows; no instance."""
    made = SmallCloud(tmp_path)
    made.configure(nova_conf(relay.url))
    placement.provide(HOST1, "host1", ROOM)
    placement.provide(HOST2, "host2", ROOM)
    return made


def heal(cloud: SmallCloud, options: str = "") -> Ended:
    return call_here(f"{HEAL} {options}", config=cloud.config)


def test_0_allocations_are_created_and_again_there_is_nothing_to_do(
    cloud: SmallCloud, placement: Placement
) -> None:
    first, second, third = cloud.add(), cloud.add(), cloud.add(cell=2)
    ended = heal(cloud, "--verbose")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "Running batches of 50 until complete",
        f"Looking for instances in cell: {cloud.cell_uuid(1)}(cell1)",
        "Found 2 candidate instances.",
        f"Successfully created allocations for instance {first}.",
        f"Successfully created allocations for instance {second}.",
        f"Looking for instances in cell: {cloud.cell_uuid(2)}(cell2)",
        "Found 1 candidate instances.",
        f"Successfully created allocations for instance {third}.",
        "Processed 3 instances.",
    ]
    assert placement.held(first) == placement.held(second) == {HOST1: SMALL}
    assert placement.held(third) == {HOST2: SMALL}
    assert placement.owner(first) == (PROJECT, USER)
    again = heal(cloud, "--verbose")
    assert again.code == 4
    assert f"The allocation of instance {first} is up-to-date. Nothing to be healed." in again.out
    assert again.out.endswith("Processed 0 instances.\n")
    quiet = heal(cloud)
    assert (quiet.code, quiet.out, quiet.err) == (4, "", "")


def test_what_is_not_on_a_host_or_in_a_task_is_left_alone(
    cloud: SmallCloud, placement: Placement
) -> None:
    shelved = cloud.add(host=None, node=None)
    rebuilding = cloud.add(task_state="rebuilding")
    others = [
        cloud.add(deleted=7),
        cloud.add(vm_state="soft-delete"),
        cloud.add(hidden=1),
        cloud.add(cell=0, host="host1", node="host1"),
    ]
    ended = heal(cloud, "--verbose")
    assert ended.code == 4
    assert "Found 2 candidate instances." in ended.out
    assert f"Instance {shelved} is not on a host." in ended.out
    assert f"Instance {rebuilding} is undergoing a task state transition: rebuilding" in ended.out
    assert not any(placement.held(uuid) for uuid in (shelved, rebuilding, *others))


@pytest.mark.parametrize("cells", [[2, 2], [3, 0], [1, 4]])
def test_max_count_is_one_exact_total_and_1_means_that_something_is_left(
    cloud: SmallCloud, placement: Placement, cells: list[int]
) -> None:
    uuids = [
        cloud.add(cell=number)
        for number, instances in enumerate(cells, start=1)
        for _ in range(instances)
    ]
    left = len(uuids)
    while left > 0:
        ended = heal(cloud, "--max-count 2 -f json")
        left -= 2
        assert ended.code == ended.document["exit_code"] == (1 if left > 0 else 0)
        assert sum(bool(placement.held(uuid)) for uuid in uuids) == min(
            len(uuids) - left, len(uuids)
        )
    assert heal(cloud, "--max-count 2").code == 4


def test_max_count_stops_within_a_page(cloud: SmallCloud) -> None:
    """HEAL-1"""
    healthy = cloud.add()
    assert heal(cloud).code == 0
    others = [cloud.add() for _ in range(3)]
    ended = heal(cloud, "--max-count 1 --verbose")
    assert ended.code == 1
    assert f"The allocation of instance {healthy} is up-to-date." in ended.out
    assert others[1] not in ended.out
    assert ended.out.endswith("Max count reached. Processed 1 instances.\n")


def test_50_instances_in_a_cell_are_no_reason_to_stop(
    cloud: SmallCloud, placement: Placement
) -> None:
    """HEAL-1: without --max-count the stock tool ends with 1 there."""
    for _ in range(50):
        cloud.add()
    last = cloud.add(cell=2)
    ended = heal(cloud)
    assert ended.code == 0
    assert placement.held(last)


def test_4_a_dry_run_says_what_would_be_done_and_writes_nothing(
    cloud: SmallCloud, placement: Placement, relay: Relay
) -> None:
    missing, foreign = cloud.add(), cloud.add()
    placement.allocate(foreign, {HOST1: SMALL}, "other", USER)
    ended, verbose, data = (
        heal(cloud, f"--dry-run {more}") for more in ("", "--verbose", "--max-count 1 -f json")
    )
    assert [one.code for one in (ended, verbose, data)] == [4, 4, 4]
    assert ended.out == "Would create allocations of 1 instances and update those of 1.\n"
    assert (
        f'[dry-run] Create allocations for instance {missing}: {{"allocations": {{"{HOST1}": {{"resources": '
        '{"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 10}}}, "project_id": "p1", "user_id": "u1", '
        '"consumer_generation": null}\n'
    ) in verbose.out
    assert f"[dry-run] Update allocations for instance {foreign}: " in verbose.out
    assert verbose.out.endswith("Processed 0 instances.\n")
    cell = data.document["cells"][0]
    assert (cell["created"], cell["updated"], data.document["dry_run"]) == (1, 1, True)
    assert placement.held(missing) == {}
    assert placement.owner(foreign) == ("other", USER)
    assert relay.count("P", "") == 0


@pytest.mark.parametrize("owner", [("other", USER), (PROJECT, "other"), ("0" * 8, "0" * 8)])
def test_0_the_owner_of_allocations_is_corrected_and_all_else_stays(
    cloud: SmallCloud, placement: Placement, owner: tuple[str, str]
) -> None:
    foreign, fine, elsewhere = cloud.add(), cloud.add(), cloud.add(cell=2)
    placement.allocate(foreign, {HOST1: {"VCPU": 7}, HOST2: {"VCPU": 1}}, *owner)
    placement.allocate(fine, {HOST1: SMALL}, PROJECT, USER)
    placement.allocate(elsewhere, {HOST2: SMALL}, PROJECT, USER)
    ended = heal(cloud, "--verbose")
    assert ended.code == 0
    assert f"Successfully updated allocations for instance {foreign}." in ended.out
    assert placement.held(foreign) == {HOST1: {"VCPU": 7}, HOST2: {"VCPU": 1}}
    assert placement.owner(foreign) == (PROJECT, USER)
    assert heal(cloud).code == 4


def test_consumers_that_are_no_instances_do_not_hide_a_wrong_owner(
    cloud: SmallCloud, placement: Placement
) -> None:
    foreign = cloud.add()
    fine = [cloud.add(cell=number) for number in (1, 2)]
    placement.allocate(foreign, {HOST1: SMALL}, "other", USER)
    for uuid in fine:
        placement.allocate(uuid, {HOST1: SMALL}, PROJECT, USER)
    # Of the same size, and booked on the right owner: what a migration holds, and what was
    # forgotten.
    placement.allocate(
        "22222222-0000-4000-8000-000000000001", {HOST2: SMALL}, PROJECT, USER, "MIGRATION"
    )
    assert heal(cloud).code == 0
    assert placement.owner(foreign) == (PROJECT, USER)


def test_of_healthy_instances_none_is_asked_for_on_its_own(
    cloud: SmallCloud, placement: Placement, relay: Relay
) -> None:
    for number in range(12):
        cloud.add(cell=1 + number % 2, user_id=f"u{number % 3}")
    assert heal(cloud).code == 0
    relay.heal()
    assert heal(cloud).code == 4
    assert relay.count("GET", "^/allocations/") == 0
    assert relay.count("GET", "^/resource_providers/.*/allocations") == 2
    assert relay.count("GET", "^/usages") == 3
    assert relay.count("P", "") == 0


def test_127_bad_input(cloud: SmallCloud, relay: Relay) -> None:
    unmapped = cloud.add(mapped=False)
    cases = {
        f"--instance {unmapped} --cell "
        f"{cloud.cell_uuid(1)}": "The --cell and --instance options are mutually",
        "--force": "The --instance flag is required when using --force flag.",
        "--max-count 0": "Must supply a positive integer for --max-count.",
        "--max-count -1": "Must supply a positive integer for --max-count.",
        "--max-count abc": "Must supply a positive integer for --max-count.",
        "--max-count ''": "Must supply a positive integer for --max-count.",
        f"--instance {unmapped}": f"Unable to find cell for instance {unmapped}, is it mapped?",
        "--instance foo": "Unable to find cell for instance foo, is it mapped?",
        "--cell foo": "Cell with uuid foo was not found.",
    }
    ended = [heal(cloud, options) for options in cases]
    assert [(one.code, one.out) for one in ended] == [(127, "")] * len(cases)
    for one, beginning in zip(ended, cases.values(), strict=True):
        assert one.line.startswith(beginning)
    assert relay.asked == []


def test_an_instance_alone(cloud: SmallCloud, placement: Placement, relay: Relay) -> None:
    one, other = cloud.add(), cloud.add()
    assert heal(cloud, f"--instance {one} --max-count 0").code == 0
    assert placement.held(one)
    assert not placement.held(other)
    assert relay.count("GET", "^/resource_providers") == 0
    assert heal(cloud, f"--instance {one}").code == 4


def test_force_replaces_what_an_instance_has(cloud: SmallCloud, placement: Placement) -> None:
    wrong, missing = cloud.add(), cloud.add()
    placement.allocate(wrong, {HOST1: {"VCPU": 9}, HOST2: SMALL}, PROJECT, USER)
    for uuid in (wrong, missing, missing):
        ended = heal(cloud, f"--instance {uuid} --force --verbose")
        assert ended.code == 0
        assert (
            f"Force flag passed for instance {uuid}\nSuccessfully updated allocations" in ended.out
        )
        assert placement.held(uuid) == {HOST1: SMALL}


def test_one_cell(cloud: SmallCloud, placement: Placement) -> None:
    one, other = cloud.add(), cloud.add(cell=2)
    ended = heal(cloud, f"--cell {cloud.cell_uuid(2)}")
    assert ended.code == 0
    assert placement.held(other)
    assert not placement.held(one)
    assert heal(cloud, f"--cell {cloud.cell_uuid(0)}").code == 4


def test_an_instance_without_mapping_is_healed(cloud: SmallCloud, placement: Placement) -> None:
    foreign, missing = cloud.add(mapped=False), cloud.add(mapped=False)
    placement.allocate(foreign, {HOST1: SMALL}, "other", USER)
    assert heal(cloud).code == 0
    assert placement.held(missing)
    assert placement.owner(foreign) == (PROJECT, USER)


def test_no_cells(cloud: SmallCloud) -> None:
    cloud.run("api", "DELETE FROM cell_mappings")
    ended = heal(cloud, "--verbose")
    assert (ended.code, ended.out) == (
        4,
        "Running batches of 50 until complete\nNo cells to process.\n",
    )


# What one of three instances is, the exit code, and words of the line about it.
Broken = tuple[dict[str, Any], int, str]
BROKEN: Final[dict[str, Broken]] = {
    "no compute node": (
        {"host": "ghost", "node": "ghost"},
        2,
        "Compute host ghost could not be found",
    ),
    "another node": (
        {"node": "old"},
        2,
        "has no compute node old on it. It has host1, host9: where the node was renamed",
    ),
    "no provider": (
        {"host": "host9", "node": "host9"},
        3,
        "Failed to update allocations for consumer",
    ),
    "too large": (
        {"stored": flavor(vcpus=9999)},
        3,
        "The requested amount would exceed the capacity",
    ),
    "no flavor": ({"stored": {"cur": None}}, 3, "its flavor in instance_extra cannot be read"),
    "a vGPU": (
        {"stored": flavor({"resources:VGPU": "1"})},
        8,
        "with vGPU resource request is not supported.",
    ),
    "Cyborg": (
        {"stored": flavor({"accel:device_profile": "x"})},
        8,
        "with Cyborg device profile request is not",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_2_3_8_what_cannot_be_healed_costs_itself_and_a_line(
    cloud: SmallCloud, placement: Placement, kind: str
) -> None:
    """HEAL-2"""
    columns, code, words = BROKEN[kind]
    cloud.add_node(1, "host9", "cccccccc-0000-4000-8000-000000000009")
    if kind == "another node":
        cloud.run("cell1", "UPDATE compute_nodes SET host = 'host1' WHERE host = 'host9'")
    before, broken, after, elsewhere = (
        cloud.add(),
        cloud.add(**columns),
        cloud.add(),
        cloud.add(cell=2),
    )
    ended = heal(cloud, "-f json")
    assert ended.code == ended.document["exit_code"] == code
    assert ended.line.startswith("cell1: ")
    assert words in ended.line
    assert broken in ended.line
    assert [problem["code"] for problem in ended.document["cells"][0]["problems"]] == [code]
    assert all(placement.held(uuid) for uuid in (before, after, elsewhere))
    assert not placement.held(broken)


def test_what_needs_no_healing_is_no_reason_for_8(cloud: SmallCloud, placement: Placement) -> None:
    """HEAL-3"""
    fine, foreign = (cloud.add(stored=flavor({"resources:VGPU": "1"})) for _ in range(2))
    placement.allocate(fine, {HOST1: SMALL}, PROJECT, USER)
    placement.allocate(foreign, {HOST1: SMALL}, "other", USER)
    assert heal(cloud).code == 0
    assert placement.owner(foreign) == (PROJECT, USER)


# The exit code, and how many attempts at writing there were.
Fault = tuple[dict[str, Any], int]
WRITES: Final[dict[str, Fault]] = {
    "500": ({"status": 500, "body": placement_error(500)}, 3),
    "500 twice": ({"status": 500, "times": 2}, 0),
    "503 twice": ({"status": 503, "times": 2}, 0),
    "garbage": ({"status": 200, "body": "<html>"}, 3),
    "no answer": ({"status": 0}, 3),
    "no answer twice": ({"status": 0, "times": 2}, 0),
    "done, but answered 500": ({"status": 500, "after": True}, 0),
    "done, but not answered": ({"status": 0, "after": True, "times": 1}, 0),
    "conflict": ({"status": 409, "body": CONCURRENT}, 3),
    "conflict twice": ({"status": 409, "body": CONCURRENT, "times": 2}, 0),
    "changed": ({"status": 409, "body": CHANGED}, 3),
    "changed once": ({"status": 409, "body": CHANGED, "times": 1}, 0),
    "403": ({"status": 403, "body": placement_error(403)}, 3),
}


@pytest.mark.parametrize("kind", WRITES)
def test_a_write_that_fails_is_tried_again_or_told(
    cloud: SmallCloud, placement: Placement, relay: Relay, kind: str
) -> None:
    fault, code = WRITES[kind]
    cloud.configure("timeout = 3\n")
    uuid = cloud.add()
    relay.fail("PUT", "/allocations/", **fault)
    ended = heal(cloud)
    assert ended.code == code
    assert (ended.err == "") is (code == 0)
    assert bool(placement.held(uuid)) is (code == 0)
    if code:
        assert (
            f"Failed to update allocations for consumer {uuid}. Error: Placement ({relay.url}): "
            in ended.err
        )
    relay.heal()
    assert heal(cloud).code == (4 if code == 0 else 0)


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 409, "body": CONCURRENT, "times": 2},
        {"status": 409, "body": CHANGED},
        {"status": 0, "after": True, "times": 1},
        {"status": 500, "after": True},
    ],
)
def test_a_batch_that_fails_is_tried_again_or_written_one_by_one(
    cloud: SmallCloud, placement: Placement, relay: Relay, fault: dict[str, Any]
) -> None:
    new = [cloud.add() for _ in range(4)]
    foreign = [cloud.add() for _ in range(3)]
    for uuid in foreign:
        placement.allocate(uuid, {HOST1: SMALL}, "other", USER)
    relay.fail("POST", "/allocations", **fault)
    ended = heal(cloud, "-f json")
    (cell, _) = ended.document["cells"]
    assert (ended.code, cell["created"], cell["updated"]) == (0, 4, 3)
    assert all(placement.held(uuid) == {HOST1: SMALL} for uuid in new + foreign)
    assert all(placement.owner(uuid) == (PROJECT, USER) for uuid in new + foreign)


@pytest.mark.parametrize("instances", [1, 3])
def test_a_consumer_that_placement_made_and_was_killed_is_healed(
    cloud: SmallCloud, placement: Placement, instances: int
) -> None:
    cloud.configure("timeout = 3\n")
    uuids = [cloud.add() for _ in range(instances)]
    placement.allocate(HOST1, {HOST1: {"VCPU": 1}}, "other", "other")  # makes a project and a user
    placement.begin_to_allocate(uuids[0])
    ended = heal(cloud)
    assert (ended.code, ended.err) == (0, "")
    assert all(placement.held(uuid) == {HOST1: SMALL} for uuid in uuids)
    assert all(placement.owner(uuid) == (PROJECT, USER) for uuid in uuids)
    assert heal(cloud).code == 4


def test_a_consumer_that_somebody_is_at_work_on_is_left_to_him(
    cloud: SmallCloud, placement: Placement, relay: Relay
) -> None:
    """If he fails, Placement deletes his consumer, whatever was written to it meanwhile."""
    cloud.configure("timeout = 4\n")
    uuid = cloud.add()
    placement.allocate(HOST1, {HOST1: {"VCPU": 1}}, "other", "other")
    placement.begin_to_allocate(uuid)
    looked = relay.fail("GET", f"/allocations/{uuid}", held=True, times=1)
    running = Running(HEAL, config=cloud.config)
    looked.wait_until_reached()  # it was refused, and looks what the consumer holds
    looked.go_on()
    until(lambda: relay.count("GET", f"/allocations/{uuid}") == 1)
    placement.fail_to_allocate(uuid)
    assert running.end().code == 0
    assert placement.held(uuid) == {HOST1: SMALL}
    assert placement.owner(uuid) == (PROJECT, USER)
    assert [one.body["consumer_generation"] for one in relay.asked if one.method == "PUT"] == [
        None,
        0,
        None,
    ]


def test_the_wait_for_a_consumer_can_be_stopped_and_what_was_healed_before_is_told(
    cloud: SmallCloud, placement: Placement, relay: Relay
) -> None:
    cloud.configure("timeout = 600\n")
    refused, healthy = cloud.add(), cloud.add()
    placement.allocate(HOST1, {HOST1: {"VCPU": 1}}, "other", "other")
    placement.begin_to_allocate(refused)
    running = Running(f"{HEAL} -f json", config=cloud.config)
    until(
        lambda: relay.count("GET", f"/allocations/{refused}") == 1 and bool(placement.held(healthy))
    )
    running.interrupt()
    ended = running.end()
    (cell, _) = ended.document["cells"]
    assert (ended.code, cell["created"], cell["looked_at"]) == (1, 1, 0)
    assert placement.held(refused) == {}


def test_a_consumer_that_is_never_settled_is_told(
    cloud: SmallCloud, placement: Placement, relay: Relay
) -> None:
    cloud.configure("timeout = 2\n")
    uuid = cloud.add()
    relay.fail("PUT", "/allocations/", status=409, body=CHANGED)
    ended = heal(cloud)
    assert ended.code == 3
    assert f"Failed to update allocations for consumer {uuid}. Error: " in ended.err
    assert placement.held(uuid) == {}


def test_of_instances_that_do_not_fit_as_many_are_healed_as_do(
    cloud: SmallCloud, placement: Placement
) -> None:
    """Placement books too much where two consumers of one provider are written at the same time."""
    placement.provide(NEW_NODE, "full", ROOM | {"VCPU": 5})
    cloud.add_node(1, "full", NEW_NODE)
    uuids = [cloud.add(host="full", node="full") for _ in range(12)]
    ended = heal(cloud, "--concurrency 8")
    assert ended.code == 3
    held = placement.all_allocations()
    assert len(held.keys() & set(uuids)) == 5
    assert "Unable to allocate inventory" in ended.err


def test_batches_are_written_one_after_the_other(
    cloud: SmallCloud, placement: Placement, relay: Relay
) -> None:
    uuids = [cloud.add(cell=cell) for cell in (1, 2) for _ in range(CONSUMERS_PER_REQUEST + 2)]
    assert heal(cloud).code == 0
    assert placement.all_allocations().keys() == set(uuids)
    assert relay.count("POST", "/allocations") == 4
    assert relay.at_once["POST", "/allocations"] == 1
    cloud.run("cell1", "UPDATE instances SET user_id = 'other'")
    relay.heal()
    assert heal(cloud).code == 0
    assert all(
        placement.owner(uuid) == (PROJECT, "other") for uuid in uuids[: CONSUMERS_PER_REQUEST + 2]
    )
    assert (relay.count("POST", "/allocations"), relay.count("PUT", "/allocations")) == (2, 0)


def test_somebody_else_heals_at_the_same_time(
    cloud: SmallCloud, placement: Placement, relay: Relay
) -> None:
    uuid = cloud.add()
    held = relay.fail("PUT", "/allocations/", held=True, times=1)
    running = Running(HEAL, config=cloud.config)
    held.wait_until_reached()
    placement.allocate(uuid, {HOST1: {"VCPU": 3}}, "other", USER)
    held.go_on()
    assert running.end().code == 0
    assert placement.held(uuid) == {HOST1: {"VCPU": 3}}
    assert placement.owner(uuid) == (PROJECT, USER)


SUMS: Final = [
    "^/resource_providers$",
    "^/resource_providers/.*/allocations",
    "^/usages",
    f"^/allocations/{NEW_NODE}",
]


@pytest.mark.parametrize("path", SUMS)
@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 200, "body": "garbage"}])
def test_where_what_is_asked_for_all_at_once_cannot_be_read_each_instance_is_asked_for(
    cloud: SmallCloud, placement: Placement, relay: Relay, path: str, fault: dict[str, Any]
) -> None:
    """Of the same size, and in the other's place: without a migration's owner the sums would prove
    what is wrong.
    """
    foreign, missing, fine = cloud.add(), cloud.add(), cloud.add(cell=2)
    placement.allocate(foreign, {HOST1: SMALL}, "other", USER)
    placement.allocate(fine, {HOST2: SMALL}, PROJECT, USER)
    placement.allocate(NEW_NODE, {HOST2: SMALL}, PROJECT, USER, "MIGRATION")
    relay.fail("GET", path, **fault)
    ended = heal(cloud, "-f json")
    assert (ended.code, ended.err) == (0, "")
    cells = ended.document["cells"]
    assert [(cell["created"], cell["updated"], cell["not_looked_at"]) for cell in cells] == [
        (1, 1, 0),
        (0, 0, 0),
    ]
    assert placement.held(missing) == {HOST1: SMALL}
    assert placement.owner(foreign) == (PROJECT, USER)


@pytest.mark.parametrize("path", SUMS)
@pytest.mark.parametrize("fault", [{"status": 0}, {"status": 403}, {"status": 401}])
def test_3_placement_that_is_gone_is_told_once_for_all_cells(
    cloud: SmallCloud, placement: Placement, relay: Relay, path: str, fault: dict[str, Any]
) -> None:
    uuid = cloud.add()
    placement.allocate(uuid, {HOST1: SMALL}, PROJECT, USER)
    placement.allocate(NEW_NODE, {HOST1: SMALL}, PROJECT, USER, "MIGRATION")
    cloud.add()
    relay.fail("GET", path, **fault)
    ended = heal(cloud)
    assert (ended.code, ended.out) == (3, "")
    assert ended.line.startswith("cell1")
    assert f": Placement ({relay.url}): GET /" in ended.line


def test_3_one_instance_that_cannot_be_read_costs_itself(
    cloud: SmallCloud, placement: Placement, relay: Relay
) -> None:
    unread, *others = [cloud.add() for _ in range(3)]
    for uuid in (unread, *others):
        placement.allocate(uuid, {HOST1: SMALL}, "other", USER)
    relay.fail("GET", f"^/allocations/{unread}", status=502, body="<html>")
    ended = heal(cloud)
    assert ended.code == 3
    assert ended.line == (
        f"cell1: Failed to update allocations for consumer {unread}. Error: Placement "
        f"({relay.url}): "
        f"GET /allocations/{unread}: answered 502: Bad Gateway"
    )
    assert [placement.owner(uuid) for uuid in others] == [(PROJECT, USER)] * 2


def test_3_a_refusal_that_ends_a_cell_says_how_many_instances_were_not_looked_at(
    cloud: SmallCloud, placement: Placement, relay: Relay
) -> None:
    for _ in range(160):  # more than are looked at together
        cloud.add()
    cloud.add(host=None, node=None)
    relay.fail("PUT", "", status=403, body=placement_error(403))
    relay.fail("POST", "", status=403, body=placement_error(403))
    ended = heal(cloud, "-f json")
    assert ended.code == 3
    assert ended.line.startswith("cell1: Failed to update allocations for consumer ")
    assert (
        "answered 403: injected: the user of section [placement] lacks a role (nothing more is "
        "tried: " in ended.line
    )
    assert ended.line.endswith("159 instances were not looked at)")
    assert [cell["not_looked_at"] for cell in ended.document["cells"]] == [159, 0]


def test_255_a_login_that_is_not_accepted_is_one_line_for_all_cells(cloud: SmallCloud) -> None:
    cloud.add()
    cloud.add(cell=2)
    with Keystone({}) as keystone:
        section = BY_PASSWORD.format(keystone=keystone.url).replace(KEYSTONES_PASSWORD, "wrong")
        cloud.config.write_text(
            cloud.config.read_text().partition("[placement]")[0] + "[placement]\n" + section
        )
        ended = heal(cloud)
    assert ended.code == 255
    assert ended.line.startswith(
        "cell1, cell2: Placement: Keystone does not accept the login of section [placement] "
    )
    assert ended.line.endswith(" (nothing more is tried: 2 instances were not looked at)")


def test_3_placement_that_is_down(cloud: SmallCloud) -> None:
    cloud.add()
    url = f"http://127.0.0.1:{free_port()}"
    cloud.config.write_text(cloud.config.read_text().partition("[placement]")[0] + nova_conf(url))
    ended = heal(cloud)
    assert ended.code == 3
    assert f"Placement ({url}): GET /resource_providers: no connection" in ended.err


def test_3_placement_that_loses_its_database_is_not_asked_for_each_instance(
    cloud: SmallCloud, placement: Placement, relay: Relay
) -> None:
    uuids = [cloud.add() for _ in range(9)]
    for method, path in (
        ("POST", "/allocations$"),
        ("PUT", "/allocations/"),
        ("GET", "^/allocations/|in_tree="),
    ):
        relay.fail(method, path, status=500)
    ended = heal(cloud, "--concurrency 2")
    assert ended.code == 3
    assert ended.line.startswith("cell1: Failed to update allocations for consumer ")
    assert "(nothing more is tried: " in ended.line
    asked = {one.path for one in relay.asked if one.method == "PUT"}
    assert 1 <= len(asked) < len(uuids)
    relay.heal()
    assert heal(cloud).code == 0
    assert placement.all_allocations().keys() == set(uuids)


def test_3_one_instance_that_placement_can_do_nothing_about_costs_itself(
    cloud: SmallCloud, placement: Placement, relay: Relay
) -> None:
    uuids = [cloud.add() for _ in range(4)]
    for method, path in (
        ("POST", "/allocations$"),
        ("PUT", uuids[0]),
        ("GET", f"^/allocations/{uuids[0]}"),
    ):
        relay.fail(method, path, status=500)
    ended = heal(cloud)
    assert (ended.code, ended.err.count("\n")) == (3, 1)
    assert placement.all_allocations().keys() == set(uuids[1:])


def test_255_no_way_to_placement(cloud: SmallCloud) -> None:
    cloud.config.write_text(cloud.config.read_text().partition("[placement]")[0])
    ended = heal(cloud)
    assert ended.code == 255
    assert "cell1, cell2: Placement is not configured: set auth_type and its options" in ended.err


def test_255_a_cell_that_cannot_be_read_costs_itself(
    cloud: SmallCloud, placement: Placement
) -> None:
    uuid = cloud.add()
    cloud.run(
        "api",
        "UPDATE cell_mappings SET database_connection = 'sqlite:////nowhere' WHERE name = 'cell2'",
    )
    ended = heal(cloud)
    assert ended.code == 255
    assert ended.line.startswith("cell2 (/nowhere): ")
    assert placement.held(uuid)


def test_255_no_api_database(cloud: SmallCloud, tmp_path: Path) -> None:
    (tmp_path / "api.sqlite").unlink()
    ended = heal(cloud)
    assert (ended.code, ended.out) == (255, "")
    assert ended.line.startswith("the API database")


def test_an_instance_that_is_not_scheduled_yet(cloud: SmallCloud) -> None:
    uuid = cloud.add()
    cloud.run("api", "UPDATE instance_mappings SET cell_id = NULL")
    ended = heal(cloud, f"--instance {uuid}")
    assert (ended.code, ended.line) == (
        127,
        f"Instance {uuid} is mapped to no cell: it is not scheduled yet.",
    )
