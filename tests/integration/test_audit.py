"""``placement audit`` on real cells and a real Placement: who holds what, what is deleted, and what
gets in its way.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from cli.main import run
from clients.placement import CONSUMERS_PER_REQUEST
from jobs.placement import allocations, audit
from jobs.placement.failures import MAX_FAILURES_IN_A_ROW
from tests.support import moments
from tests.support.placement import Placement, nova_conf
from tests.support.program import Ended, Program
from tests.support.realcloud import RealCloud
from tests.support.relay import Fault, Relay, placement_error
from tests.support.services import free_port
from tests.support.small_cloud import SMALL, flavor
from tests.support.two_cells import TwoCells

NODE1, NODE2 = "cccccccc-0000-4000-8000-000000000001", "cccccccc-0000-4000-8000-000000000002"
VM, OTHER_VM = "11111111-0000-4000-8000-000000000001", "11111111-0000-4000-8000-000000000002"
NOBODY, NOBODY_ELSE = "ffffffff-0000-4000-8000-000000000001", "ffffffff-0000-4000-8000-000000000002"
COMPUTE: Final = {"VCPU": 1, "MEMORY_MB": 512}
INVENTORY: Final = {"VCPU": 640, "MEMORY_MB": 65536, "DISK_GB": 1000, "CUSTOM_GPU": 4}


Audit = Callable[..., Ended]


@pytest.fixture
def config(two_cells: TwoCells, relay: Relay, tmp_path: Path) -> Path:
    return two_cells.config(tmp_path, nova_conf(relay.url))


@pytest.fixture
def audited(config: Path, capsys: pytest.CaptureFixture[str]) -> Audit:
    """Runs an audit in this process, with these words; in JSON unless others are given."""

    def audited(*words: str, form: str = "json", command: str = "audit") -> Ended:
        code = run(["--config-file", str(config), "placement", command, *words, "-f", form])
        return Ended(code, *capsys.readouterr())

    return audited


@pytest.fixture
def two_hosts(two_cells: TwoCells, placement: Placement) -> TwoCells:
    """A host in each of two cells; an instance on each, which holds what it should."""
    for number, (cell, node, vm) in enumerate(
        (("cell1", NODE1, VM), ("cell2", NODE2, OTHER_VM)), 1
    ):
        two_cells.node(cell, node, f"host{number}")
        two_cells.map_host(f"host{number}", cell)
        two_cells.instance(cell, vm, f"host{number}")
        placement.provide(node, f"host{number}", INVENTORY)
        placement.allocate(vm, {node: COMPUTE}, "p1", "u1")
    return two_cells


def orphans(ended: Ended) -> list[tuple[str, str]]:
    """Consumer and host of each orphan that was found."""
    return [(one["consumer"], one["host"]) for one in ended.data["orphans"]]


def orphan(placement: Placement, *providers: str, consumer: str = NOBODY) -> None:
    placement.allocate(consumer, dict.fromkeys(providers, COMPUTE), "p1", "u1")


def uuid(number: int) -> str:
    return f"aaaaaaaa-0000-4000-8000-{number:012}"


def test_every_orphan_is_told_with_the_reason(
    two_hosts: TwoCells, placement: Placement, audited: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "INSTANCES_PER_STATEMENT", 3)
    monkeypatch.setattr(audit, "UUIDS_PER_CONDITION", 2)
    for number in range(1, 21):
        orphan(placement, NODE1, consumer=uuid(number))
    cell = "cell1"
    # These are fine.
    two_hosts.instance(cell, uuid(1), "HOST1", "Host1")
    two_hosts.instance(cell, uuid(2), "host1", vm_state="soft-delete")
    two_hosts.instance(cell, uuid(3), "host9", task_state="migrating")
    two_hosts.instance(cell, uuid(4), None, vm_state="building")
    two_hosts.migration(cell, uuid(5), uuid(3), "host1", "host9", "migrating")
    two_hosts.migration(cell, uuid(6), uuid(7), "host9", None, "accepted")
    two_hosts.instance(cell, uuid(7), "host9")
    two_hosts.migration(cell, uuid(8), uuid(9), "host1", "host9", "reverted")
    two_hosts.instance(cell, uuid(9), "host9", task_state="resize_reverting")
    two_hosts.migration(cell, uuid(10), VM, "host1", "host9", None)
    two_hosts.build(uuid(11))
    two_hosts.instance("cell1", uuid(12), "host9", hidden=1)
    two_hosts.instance("cell2", uuid(12), "host2")
    # These are not.
    two_hosts.instance("cell2", uuid(13), "host2")
    two_hosts.instance(cell, uuid(14), None, vm_state="shelved_offloaded")
    two_hosts.instance(cell, uuid(15), "host1", deleted=15)
    two_hosts.map_instance(uuid(15), cell, queued_for_delete=True)
    two_hosts.instance("cell0", uuid(16), None, vm_state="error")
    two_hosts.map_instance(uuid(16), "cell0")
    two_hosts.migration(cell, uuid(17), OTHER_VM, "host1", "host9", "done")
    two_hosts.migration(cell, uuid(18), OTHER_VM, "host1", "host9", "migrating", deleted=18)
    two_hosts.instance(cell, uuid(19), "host8", "another-node")
    nobody = "no live instance and no open migration has this uuid"
    wanted = {
        13: "the instance is on host2",
        14: "the instance is on no compute node",
        15: "the instance is deleted",
        16: "the instance never came to a host",
        17: nobody,
        18: nobody,
        19: "the instance is on no compute node",
        20: nobody,
    }
    ended = audited()
    assert ended.code == 3
    found = {one["consumer"]: one for one in ended.data["orphans"]}
    assert {key: one["reason"] for key, one in found.items()} == {
        uuid(n): reason for n, reason in wanted.items()
    }
    assert found[uuid(20)] == {
        "consumer": uuid(20), "resource_provider": NODE1, "resource_provider_name": "host1", "host": "host1",
        "resources": COMPUTE, "reason": nobody, "deleted": False, "failure": None,
    }  # fmt: skip
    assert ended.data["instances_to_heal"] == [uuid(13)]
    assert [one["instance"] for one in ended.data["instances_without_remedy"]] == [uuid(19)]
    assert placement.held(uuid(20)) == {NODE1: COMPUTE}
    assert [audited("--delete").code, audited().code] == [4, 0]
    assert [number for number in range(1, 21) if placement.held(uuid(number))] == list(range(1, 13))
    assert placement.held(VM) == {NODE1: COMPUTE}


def test_an_instance_whose_node_was_renamed_keeps_its_allocation_and_is_named(
    two_hosts: TwoCells, placement: Placement, audited: Audit
) -> None:
    """AUD-12: what it held would be free for others, and heal_allocations could not bring it
    back.
    """
    two_hosts.instance("cell1", uuid(1), "HOST1", "host1.old.example.org")
    placement.allocate(uuid(1), {NODE1: COMPUTE}, "p1", "u1")
    ended = audited("--delete", form="table")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == (
        f"Instance {uuid(1)} keeps its allocation: it is on host HOST1 as node "
        "host1.old.example.org, and the host's "
        "compute node is host1: where the node was renamed, correct instances.node in its cell\n"
    )
    assert placement.held(uuid(1)) == {NODE1: COMPUTE}
    assert [one["instance"] for one in audited().data["instances_in_doubt"]] == [uuid(1)]


def test_what_audit_advises_works(
    two_hosts: TwoCells, placement: Placement, audited: Audit, config: Path
) -> None:
    two_hosts.instance("cell1", uuid(1), "host1", project_id="p1", user_id="u1")
    two_hosts.equip("cell1", uuid(1), flavor())
    two_hosts.map_instance(uuid(1), "cell1")
    two_hosts.instance("cell1", uuid(2), "host9")
    two_hosts.instance("cell1", uuid(3), None, vm_state="shelved_offloaded")
    for number in (1, 2, 3):
        orphan(placement, NODE2, consumer=uuid(number))
    ended = audited("--delete", form="table")
    assert ended.code == 4
    advice, no_remedy = ended.err.splitlines()
    command = f"cellkeeper placement heal_allocations --instance {uuid(1)}"
    assert advice == f"Instance {uuid(1)} has no allocation: {command}"
    assert no_remedy == (
        f"Instance {uuid(2)} has no allocation: heal_allocations can make none, its host host9 has "
        "no compute node "
        "host9"
    )
    assert run(["--config-file", str(config), *command.split()[1:], "--skip-port-allocations"]) == 0
    assert placement.held(uuid(1)) == {NODE1: SMALL}


def test_a_deleted_host_holds_nobody(
    two_hosts: TwoCells, placement: Placement, audited: Audit
) -> None:
    for number, name in ((3, "deleted"), (4, "archived"), (5, "unknown")):
        placement.provide(uuid(number), name, INVENTORY)
    two_hosts.node("cell2", uuid(3), "host3", deleted=3)
    two_hosts.archived_node("cell1", uuid(4), "host4")
    for provider in (uuid(3), uuid(4), uuid(5)):
        orphan(placement, provider, consumer=provider.replace("a", "b"))
    two_hosts.instance("cell1", uuid(9), "host1")
    orphan(placement, NODE1, uuid(3), uuid(4), uuid(5), consumer=uuid(9))
    nobody = "no live instance and no open migration has this uuid"
    assert {(one["host"], one["reason"]) for one in audited().data["orphans"]} == {
        ("host3", f"its compute node is deleted; {nobody}"),
        ("host3", "its compute node is deleted; the instance is on host1"),
        ("host4", f"its compute node is deleted; {nobody}"),
        ("host4", "its compute node is deleted; the instance is on host1"),
        (None, nobody),
    }
    assert audited("--delete").code == 4
    assert placement.held(uuid(9)) == {NODE1: COMPUTE, uuid(5): COMPUTE}


def test_children_of_a_compute_node_and_shared_storage(
    two_hosts: TwoCells, placement: Placement, audited: Audit
) -> None:
    gpu, storage = uuid(1), uuid(2)
    placement.provide(gpu, "host1:gpu", INVENTORY, parent=NODE1)
    placement.provide(storage, "storage", INVENTORY, traits=("MISC_SHARES_VIA_AGGREGATE",))
    everything = {NODE1: COMPUTE, gpu: {"CUSTOM_GPU": 1}, storage: {"DISK_GB": 5}}
    two_hosts.instance("cell1", uuid(3), "host1")
    placement.allocate(uuid(3), everything, "p1", "u1")
    placement.allocate(NOBODY, everything, "p1", "u1")
    two_hosts.instance("cell2", uuid(4), "host2")
    placement.allocate(uuid(4), everything | {NODE2: COMPUTE}, "p1", "u1")
    one = audited("--resource_provider", gpu.upper())
    assert (one.code, orphans(one)) == (3, [(NOBODY, "host1"), (uuid(4), "host1")])
    assert audited("--delete").code == 4
    assert placement.held(uuid(3)) == everything
    assert placement.held(NOBODY) == {}
    assert placement.held(uuid(4)) == {NODE2: COMPUTE, storage: {"DISK_GB": 5}}


def test_the_other_providers_of_a_consumer_stay_as_they_are(
    two_hosts: TwoCells, placement: Placement, relay: Relay, audited: Audit
) -> None:
    orphan(placement, NODE1, NODE2)
    assert audited("--delete", "--resource_provider", NODE1).code == 4
    assert placement.held(NOBODY) == {NODE2: COMPUTE}
    assert placement.owner(NOBODY) == ("p1", "u1")
    orphan(placement, NODE1, NODE2, consumer=NOBODY_ELSE)
    relay.heal()
    assert audited("-delete").code == 4
    assert placement.held(NOBODY) == placement.held(NOBODY_ELSE) == {}
    writes = [one.body for one in relay.asked if one.method == "POST"]
    assert writes  # for both providers at once; a busy server may have to be asked again
    assert not any(one[NOBODY_ELSE]["allocations"] for one in writes)


def test_a_table_for_people(two_hosts: TwoCells, placement: Placement, audited: Audit) -> None:
    assert audited(form="table") == (0, "", "")
    orphan(placement, NODE1)
    listed, deleted = audited(form="table"), audited("--delete", form="table")
    assert (listed.code, listed.err, deleted.code, deleted.err) == (3, "", 4, "")
    reason = "no live instance and no open migration has this uuid"
    row = f"| {NOBODY} | {NODE1} | host1 | VCPU=1, MEMORY_MB=512 | {reason} |"
    assert row in listed.out.splitlines()
    assert f"{row} deleted |" in deleted.out.splitlines()
    assert audited(form="table") == (0, "", "")


@pytest.mark.parametrize("words", ["foo", "cccccccc-0000-4000-8000-000000000077", ""])
def test_127_for_a_provider_that_is_not_there(
    two_hosts: TwoCells, audited: Audit, words: str
) -> None:
    ended = audited("--resource_provider", words, form="table")
    assert (ended.code, ended.out) == (127, "")
    assert ended.err.startswith(f"Resource provider with UUID {words} does not exist")
    assert len(ended.err.splitlines()) == 1


def test_a_cell_that_does_not_answer_loses_nothing(
    two_hosts: TwoCells, placement: Placement, audited: Audit
) -> None:
    storage = uuid(2)
    placement.provide(storage, "storage", INVENTORY)
    placement.allocate(uuid(3), {storage: {"DISK_GB": 5}}, "p1", "u1")
    orphan(placement, NODE1, NODE2)
    two_hosts.lose("cell2", free_port())
    ended = audited("--delete")
    assert ended.code == 1
    assert orphans(ended) == [(NOBODY, "host1")]
    assert placement.held(NOBODY) == {NODE2: COMPUTE}
    assert placement.held(OTHER_VM) == {NODE2: COMPUTE}
    assert placement.held(uuid(3)) == {storage: {"DISK_GB": 5}}
    assert {one["resource_provider"] for one in ended.data["not_audited"]} == {NODE2, storage}
    assert [(cell["cell"], cell["state"]) for cell in ended.data["cells"]] == [
        ("cell1", "complete"),
        ("cell2", "failed"),
    ]
    assert f"Not audited: resource provider {NODE2} (host2): a cell could not be read" in ended.err
    assert "cell2 (127.0.0.1" in ended.err


def test_without_a_mapped_cell_nothing_is_deleted(
    two_hosts: TwoCells, placement: Placement, audited: Audit
) -> None:
    two_hosts.forget_cells()
    ended = audited("--delete")
    assert (ended.code, orphans(ended)) == (1, [])
    assert placement.held(VM) == {NODE1: COMPUTE}


def in_the_meantime(fault: Fault, work: Callable[[], None]) -> threading.Thread:
    """Do something as soon as a request is held up, then let it go on."""

    def wait_and_work() -> None:
        fault.wait_until_reached()
        work()
        fault.go_on()

    thread = threading.Thread(target=wait_and_work)
    thread.start()
    return thread


def written_in_the_meantime(fault: Fault, placement: Placement) -> threading.Thread:
    """Somebody gives the orphan another processor while a request is held up."""
    known = placement.ask("GET", f"/allocations/{NOBODY}")
    known["allocations"][NODE1]["resources"]["VCPU"] = 2
    return in_the_meantime(fault, lambda: placement.ask("PUT", f"/allocations/{NOBODY}", known))


@pytest.mark.parametrize("request_", ["GET", "PUT"])
def test_a_consumer_that_was_written_meanwhile_is_left(
    two_hosts: TwoCells, placement: Placement, relay: Relay, audited: Audit, request_: str
) -> None:
    """It may have become somebody: an instance that moves to a host where something was left of
    it.
    """
    orphan(placement, NODE1)
    held = relay.fail(request_, f"/allocations/{NOBODY}", held=True)
    thread = written_in_the_meantime(held, placement)
    ended = audited("--delete")
    thread.join()
    assert ended.code == 1
    assert placement.held(NOBODY)[NODE1]["VCPU"] == 2
    assert "it has changed meanwhile: audit it again" in ended.err
    assert [one["deleted"] for one in ended.data["orphans"]] == [False]


def test_what_is_gone_meanwhile_is_deleted_too(
    two_hosts: TwoCells, placement: Placement, relay: Relay, audited: Audit
) -> None:
    orphan(placement, NODE1)
    held = relay.fail("PUT", f"/allocations/{NOBODY}", held=True)
    thread = in_the_meantime(held, lambda: placement.ask("DELETE", f"/allocations/{NOBODY}"))
    ended = audited("--delete")
    thread.join()
    assert (ended.code, ended.err) == (4, "")


def test_many_are_deleted_in_one_request(
    two_hosts: TwoCells, placement: Placement, relay: Relay, audited: Audit
) -> None:
    consumers = [uuid(number) for number in range(1, 5)]
    for consumer in consumers:
        orphan(placement, NODE1, NODE2, consumer=consumer)
    assert audited("--delete", "--resource_provider", NODE1).code == 4
    assert all(placement.held(consumer) == {NODE2: COMPUTE} for consumer in consumers)
    assert all(placement.owner(consumer) == ("p1", "u1") for consumer in consumers)
    assert audited("--delete").code == 4
    assert not any(placement.held(consumer) for consumer in consumers)
    assert (relay.count("POST", "/allocations"), relay.count("PUT", "/allocations/")) == (2, 0)


@pytest.mark.parametrize(
    "how",
    [
        {"status": 500},
        {
            "status": 409,
            "body": placement_error(409, "placement.concurrent_update", "another process"),
        },
        {"status": 0, "after": True},
        {"status": 500, "after": True},
    ],
)
def test_of_many_each_is_deleted_where_a_request_fails(
    two_hosts: TwoCells, placement: Placement, relay: Relay, audited: Audit, how: dict[str, Any]
) -> None:
    consumers = [uuid(number) for number in range(1, 5)]
    for consumer in consumers:
        orphan(placement, NODE1, consumer=consumer)
    relay.fail("POST", "/allocations", **how)
    ended = audited("--delete")
    assert (ended.code, ended.err) == (4, "")
    assert not any(placement.held(consumer) for consumer in consumers)
    assert placement.held(VM) == {NODE1: COMPUTE}


def test_where_nothing_can_be_read_or_deleted_not_everything_is_tried(
    two_hosts: TwoCells, placement: Placement, relay: Relay, audited: Audit
) -> None:
    consumers = [uuid(number) for number in range(1, 3 * MAX_FAILURES_IN_A_ROW)]
    placement.allocate_all({one: ({NODE1: COMPUTE}, "p1", "u1") for one in consumers})
    relay.fail("GET", "^/allocations/", status=500)
    ended = audited("--delete")
    assert ended.code == 1
    assert {one["deleted"] for one in ended.data["orphans"]} == {False}
    asked = {one.path for one in relay.asked if one.path.startswith("/allocations/")}
    assert MAX_FAILURES_IN_A_ROW <= len(asked) < len(consumers)
    assert ended.data["orphans"][-1]["failure"] == allocations.GIVEN_UP
    relay.heal()
    for number in range(100, 100 + 3 * MAX_FAILURES_IN_A_ROW):
        placement.provide(uuid(number), f"bare{number}", INVENTORY)
    relay.fail("GET", "/allocations$", status=500)
    ended = audited("--delete")
    assert ended.code == 1
    asked = {one.path for one in relay.asked if one.path.endswith("/allocations")}
    assert MAX_FAILURES_IN_A_ROW <= len(asked) < 3 * MAX_FAILURES_IN_A_ROW
    assert ended.data["not_audited"][-1]["reason"] == allocations.GIVEN_UP
    relay.heal()
    assert audited("--delete").code == 4
    assert not any(placement.held(consumer) for consumer in consumers)


def test_orphans_that_placement_refuses_do_not_keep_others_from_being_deleted(
    two_hosts: TwoCells, placement: Placement, relay: Relay, audited: Audit
) -> None:
    refused = [uuid(number) for number in range(1, MAX_FAILURES_IN_A_ROW + 3)]
    placement.allocate_all({one: ({NODE1: COMPUTE}, "p1", "u1") for one in [*refused, NOBODY]})
    relay.fail("POST", "/allocations$", status=409, body=placement_error(409))
    relay.fail("PUT", f"/allocations/{uuid(0)[:-3]}", status=409, body=placement_error(409))
    ended = audited("--delete")
    assert ended.code == 1
    assert [one["consumer"] for one in ended.data["orphans"] if one["deleted"]] == [NOBODY]
    assert placement.held(NOBODY) == {}


def test_a_live_instance_is_written_on_its_own(
    two_hosts: TwoCells, placement: Placement, relay: Relay, audited: Audit
) -> None:
    for consumer in (NOBODY, NOBODY_ELSE):
        orphan(placement, NODE1, consumer=consumer)
    known = placement.ask("GET", f"/allocations/{VM}")
    known["allocations"][NODE2] = {"resources": COMPUTE}
    placement.ask("PUT", f"/allocations/{VM}", known)
    assert audited("--delete").code == 4
    assert placement.held(VM) == {NODE1: COMPUTE}
    assert [one.path for one in relay.asked if one.method == "PUT"] == [f"/allocations/{VM}"]
    assert [sorted(one.body) for one in relay.asked if one.method == "POST"] == [
        [NOBODY, NOBODY_ELSE]
    ]


@pytest.mark.parametrize("request_", ["GET", "POST"])
def test_of_many_one_that_was_written_meanwhile_is_left(
    two_hosts: TwoCells, placement: Placement, relay: Relay, audited: Audit, request_: str
) -> None:
    consumers = [NOBODY, *(uuid(number) for number in range(1, 4))]
    for consumer in consumers:
        orphan(placement, NODE1, consumer=consumer)
    path = f"/allocations/{NOBODY}" if request_ == "GET" else "/allocations$"
    held = relay.fail(request_, path, held=True, times=1)
    thread = written_in_the_meantime(held, placement)
    ended = audited("--delete")
    thread.join()
    assert ended.code == 1
    assert {one["consumer"]: one["deleted"] for one in ended.data["orphans"]} == {
        consumer: consumer != NOBODY for consumer in consumers
    }
    assert placement.held(NOBODY)[NODE1]["VCPU"] == 2
    assert not any(placement.held(consumer) for consumer in consumers[1:])


def test_an_instance_that_comes_while_the_cells_are_read_is_not_seen_as_an_orphan(
    two_hosts: TwoCells, placement: Placement, relay: Relay, audited: Audit
) -> None:
    """What it holds is read before the cells are: it is there by then."""
    held = relay.fail("GET", f"/resource_providers/{NODE1}/allocations", held=True)

    def build() -> None:
        orphan(placement, NODE1, consumer=uuid(1))
        two_hosts.build(uuid(1))

    thread = in_the_meantime(held, build)
    assert audited("--delete").code == 0
    thread.join()
    assert placement.held(uuid(1)) == {NODE1: COMPUTE}


class Trouble(NamedTuple):
    """What goes wrong, the exit code of an audit that deletes, whether the orphan is gone, words of
    the message.
    """

    method: str
    path: str
    how: dict[str, Any]
    code: int
    gone: bool
    words: str


ONE: Final = f"/allocations/{NOBODY}"
LIST: Final = "/resource_providers$"
HELD: Final = f"/resource_providers/{NODE1}/allocations"
CONCURRENT: Final = placement_error(409, "placement.concurrent_update", "another process")
TROUBLES: Final = {
    "the list: 500": Trouble(
        "GET", LIST, {"status": 500}, 1, False, "/resource_providers: answered 500"
    ),
    "the list: garbage": Trouble(
        "GET", LIST, {"status": 200, "body": "<html>"}, 1, False, "a body that is not JSON"
    ),
    "the list: 403": Trouble(
        "GET", LIST, {"status": 403, "body": placement_error(403)}, 1, False, "lacks a role"
    ),
    "the list: no answer": Trouble(
        "GET", LIST, {"silent": True}, 1, False, "it does not answer in time"
    ),
    "the list: cut off": Trouble("GET", LIST, {"status": 0}, 1, False, "no connection"),
    "the list: 503 twice": Trouble("GET", LIST, {"status": 503, "times": 2}, 4, True, ""),
    "allocations: 500": Trouble(
        "GET", HELD, {"status": 500}, 1, False, f"Not audited: resource provider {NODE1}"
    ),
    "allocations: gone": Trouble(
        "GET", HELD, {"status": 404, "body": placement_error(404)}, 0, False, ""
    ),
    "consumer: 500": Trouble(
        "GET", ONE, {"status": 500}, 1, False, "Not able to delete allocations for consumer"
    ),
    "write: 409": Trouble(
        "PUT",
        ONE,
        {"status": 409, "body": placement_error(409)},
        1,
        False,
        "answered 409: injected",
    ),
    "write: 409 concurrent": Trouble(
        "PUT", ONE, {"status": 409, "body": CONCURRENT, "times": 3}, 4, True, ""
    ),
    "write: 500 three times": Trouble("PUT", ONE, {"status": 500, "times": 3}, 4, True, ""),
    "write: answer lost": Trouble(
        "PUT", ONE, {"status": 0, "after": True, "times": 1}, 4, True, ""
    ),
    "write: done, but 500": Trouble(
        "PUT", ONE, {"status": 500, "after": True, "times": 1}, 4, True, ""
    ),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_troubles_with_placement(
    two_hosts: TwoCells,
    placement: Placement,
    relay: Relay,
    config: Path,
    audited: Audit,
    trouble: Trouble,
) -> None:
    patience = 4 if "silent" in trouble.how else 60
    config.write_text(config.read_text() + f"timeout = {patience}\nconnect_retries = 0\n")
    orphan(placement, NODE1)
    relay.fail(trouble.method, trouble.path, **trouble.how)
    ended = audited("--delete", form="table")
    assert ended.code == trouble.code, ended.err
    assert placement.held(NOBODY) == ({} if trouble.gone else {NODE1: COMPUTE})
    assert placement.held(VM) == {NODE1: COMPUTE}
    said = [line for line in ended.err.splitlines() if "Retriable status code" not in line]
    assert trouble.words in "\n".join(said)
    assert bool(said) == bool(trouble.words)
    assert all(len(line) < 500 for line in said)


OLD: Final = {
    "versions": [
        {"id": "v1.0", "min_version": "1.0", "max_version": "1.14", "status": "CURRENT",
         "links": [{"rel": "self", "href": ""}]},
    ]
}  # fmt: skip


def test_a_placement_of_the_manuals_version_is_audited_and_not_written_to(
    two_hosts: TwoCells, placement: Placement, relay: Relay, audited: Audit
) -> None:
    orphan(placement, NODE1)
    relay.fail("GET", "^/$", status=200, body=OLD)
    assert orphans(audited()) == [(NOBODY, "host1")]
    ended = audited("--delete")
    assert ended.code == 1
    assert "is too old" in ended.err
    assert "1.28" in ended.err
    assert placement.held(NOBODY) == {NODE1: COMPUTE}


def test_nothing_is_begun_where_the_configuration_does_not_do(
    two_hosts: TwoCells, config: Path, audited: Audit
) -> None:
    text = config.read_text()
    config.write_text(text.partition("[placement]")[0])
    ended = audited()
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "section [placement]" in ended.err
    config.write_text(text.replace("[api_database]", "[elsewhere]"))
    ended = audited()
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "The API database is not configured" in ended.err or "api_database" in ended.err


def test_killed_while_it_deletes(
    two_hosts: TwoCells, placement: Placement, relay: Relay, config: Path, audited: Audit
) -> None:
    """What is deleted is deleted, what is not is found again: a request is done wholly or not at
    all.
    """
    consumers = [uuid(number) for number in range(1, 2 * CONSUMERS_PER_REQUEST + 9)]
    placement.allocate_all(
        {one: ({NODE1: COMPUTE, NODE2: COMPUTE}, "p1", "u1") for one in consumers}
    )
    fault = relay.fail("POST", "/allocations", silent=True, skip=1)
    program = Program(config, "two_cells_api")
    with program.start("placement", "audit", "--delete") as running:
        fault.wait_until_reached()
        running.process.kill()
        running.process.wait()
    relay.heal()
    left = [consumer for consumer in consumers if placement.held(consumer)]
    assert len(left) == len(consumers) - CONSUMERS_PER_REQUEST
    assert all(set(placement.held(consumer)) == {NODE1, NODE2} for consumer in left)
    ended = audited("--delete")
    assert ended.code == 4
    assert {one["consumer"] for one in ended.data["orphans"]} == {*left}
    assert not any(placement.held(consumer) for consumer in consumers)
    assert placement.held(VM) == {NODE1: COMPUTE}


# What Nova left behind, and what was damaged on purpose, by consumer: its host, and why it is an
# orphan.
REALCLOUD: Final = {
    "ba2b948a-ac80-47f2-b97f-1c9096510b67": ("cmp-c1-01", "the instance is on cmp-c1-02"),
    "deadbeef-0000-4000-8000-00000000a001": (
        "cmp-c1-02",
        "no live instance and no open migration has this uuid",
    ),
    "498898ea-3164-4220-9b4c-c767c632afc8": ("cmp-c2-01", "the instance is deleted"),
    "d7985790-1559-4165-866b-114c0e2663f8": ("cmp-c2-01", "the instance is on cmp-c2-03"),
    "a2406afb-4bd8-4642-8cef-19554388a0b0": ("cmp-c2-03", "the instance is on cmp-c2-01"),
    "7e7f89da-50a4-4c1a-81f5-e1d29888c00f": ("cmp-c2-03", "the instance is on cmp-c2-01"),
    "e20c7e49-063c-4c5b-a28c-eaff988924d5": (
        "cmp-c2-03",
        "no live instance and no open migration has this uuid",
    ),
    "fffd63ae-a43b-4a34-89af-24a217117ac7": (
        "cmp-c3-02",
        "no live instance and no open migration has this uuid",
    ),
    "4f48c565-089b-4d53-8a1d-37ef43891766": ("cmp-c2-04", "the instance never came to a host"),
    "079de78a-48c3-4f1c-8bdb-aee8efd0373d": ("cmp-c2-04", "the instance never came to a host"),
}


def test_the_orphans_of_the_real_cloud(
    placed_cloud: RealCloud,
    cloud_placement: Placement,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = placed_cloud.config(tmp_path)
    config.write_text(config.read_text() + nova_conf(cloud_placement.url))
    command = ["--config-file", str(config), "placement", "audit", "--delete", "-f", "json"]
    held = "SELECT consumer_id, resource_provider_id, resource_class_id, used FROM allocations"
    before = {*placed_cloud.rows("placement", held)}
    assert run(command) == 4
    found = moments.parse(capsys.readouterr().out)
    assert {one["consumer"]: (one["host"], one["reason"]) for one in found["orphans"]} == REALCLOUD
    assert found["instances_to_heal"] == ["d7985790-1559-4165-866b-114c0e2663f8"]
    gone = before - {*placed_cloud.rows("placement", held)}
    assert {(row[0], row[3]) for row in gone} == {
        (one["consumer"], amount)
        for one in found["orphans"]
        for amount in one["resources"].values()
    }
    assert run(command) == 0
