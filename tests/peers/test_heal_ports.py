"""``placement heal_allocations`` with ports that have guaranteed bandwidth: real Keystone,
Placement, Neutron.
"""

from typing import Any, Final

import pytest

from tests.peers.conftest import sections
from tests.peers.servers import PASSWORD, Keystone, Neutron
from tests.support.command import Ended, Running, call_here
from tests.support.placement import Placement
from tests.support.relay import Relay, placement_error
from tests.support.services import free_port
from tests.support.small_cloud import PROJECT, SMALL, USER, SmallCloud, flavor

HEAL: Final = "placement heal_allocations"
HOST1, AGENT, BRIDGE, BRIDGE2 = (
    SmallCloud.node_uuid(1), *(f"dddddddd-0000-4000-8000-00000000001{number}" for number in range(3))
)  # fmt: skip
TRAITS: Final = ("CUSTOM_PHYSNET_PHYSNET0", "CUSTOM_VNIC_TYPE_NORMAL")
EGRESS, INGRESS = "NET_BW_EGR_KILOBIT_PER_SEC", "NET_BW_IGR_KILOBIT_PER_SEC"
PUT_PORT: Final = "/v2.0/ports/"


def both(kilobits: int) -> dict[str, int]:
    return {EGRESS: kilobits, INGRESS: kilobits}


def provide(
    placement: Placement, bridges: int = 1, kilobits: int = 10_000, room: int = 262_144
) -> None:
    """Providers as Nova and the agents of Neutron make them."""
    placement.provide(HOST1, "host1", {"VCPU": 64, "MEMORY_MB": room, "DISK_GB": 4000})
    placement.provide(AGENT, "agent1", {}, HOST1)
    for uuid in (BRIDGE, BRIDGE2)[:bridges]:
        placement.provide(uuid, f"bridge {uuid}", both(kilobits), AGENT, TRAITS)


@pytest.fixture(scope="session")
def policy(network: str, neutron: Neutron) -> str:
    """A policy that guarantees 1,000 kbit/s."""
    return neutron.make_policy(1000)


def heal(cloud: SmallCloud, options: str = "") -> Ended:
    ended = call_here(f"{HEAL} {options}", config=cloud.config)
    assert PASSWORD not in ended.out + ended.err
    return ended


def named(neutron: Neutron, port: str) -> list[str]:
    """The providers that a port's profile names."""
    return list(neutron.profile(port).get("allocation", {}).values())


def is_right(placement: Placement, neutron: Neutron, instance: str, ports: list[str]) -> bool:
    """Whether an instance holds what its flavor and its ports need, and the ports say so."""
    return placement.held(instance) == {HOST1: SMALL, BRIDGE: both(1000 * len(ports))} and all(
        named(neutron, port) == [BRIDGE] for port in ports
    )


def test_ports_get_what_they_need_and_again_there_is_nothing_to_do(
    cloud: SmallCloud,
    placement: Placement,
    neutron: Neutron,
    neutron_relay: Relay,
    network: str,
    policy: str,
) -> None:
    provide(placement)
    instance = cloud.add()
    ports = [neutron.make_port(network, instance, policy) for _ in range(2)]
    other = neutron.make_port(network, instance)
    dry = heal(cloud, "--dry-run --verbose")
    assert dry.code == 4
    assert "Found a request group : resource provider mapping {" in dry.out
    assert neutron_relay.count("PUT", "") == 0
    assert heal(cloud).code == 0
    assert is_right(placement, neutron, instance, ports)
    assert neutron.profile(other) == {}
    neutron_relay.heal()
    assert heal(cloud).code == 4
    assert [(one.method, one.path.partition("?")[0]) for one in neutron_relay.asked] == [
        ("GET", "/v2.0/ports")
    ] * 1


def test_ports_that_alone_lack_something(
    cloud: SmallCloud, placement: Placement, neutron: Neutron, network: str, policy: str
) -> None:
    provide(placement)
    instance = cloud.add()
    placement.allocate(instance, {HOST1: SMALL}, PROJECT, USER)
    port = neutron.make_port(network, instance, policy, **{"binding:profile": {"key": "value"}})
    ended = heal(cloud, "--verbose")
    assert ended.code == 0
    assert f"Successfully updated allocations for instance {instance}." in ended.out
    assert is_right(placement, neutron, instance, [port])
    assert neutron.profile(port)["key"] == "value"


def test_skipping_ports_does_without_neutron(
    cloud: SmallCloud,
    placement: Placement,
    neutron: Neutron,
    neutron_relay: Relay,
    network: str,
    policy: str,
) -> None:
    provide(placement)
    instance = cloud.add()
    neutron.make_port(network, instance, policy)
    assert heal(cloud, "--skip-port-allocations").code == 0
    assert placement.held(instance) == {HOST1: SMALL}
    assert neutron_relay.asked == []


def test_force_keeps_what_ports_have(
    cloud: SmallCloud, placement: Placement, neutron: Neutron, network: str, policy: str
) -> None:
    """HEAL-5"""
    provide(placement)
    instance = cloud.add()
    port = neutron.make_port(network, instance, policy)
    assert heal(cloud).code == 0
    assert heal(cloud, f"--instance {instance} --force").code == 0
    assert is_right(placement, neutron, instance, [port])


def test_allocations_that_are_gone_come_back_with_those_of_the_ports(
    cloud: SmallCloud, placement: Placement, neutron: Neutron, network: str, policy: str
) -> None:
    """HEAL-5"""
    provide(placement)
    instance = cloud.add()
    port = neutron.make_port(network, instance, policy)
    assert heal(cloud).code == 0
    placement.ask("DELETE", f"/allocations/{instance}")
    assert heal(cloud).code == 0
    assert is_right(placement, neutron, instance, [port])


@pytest.mark.parametrize(
    ("bridges", "kilobits", "specs", "words"),
    [
        pytest.param(1, 500, {}, "no allocation candidate", id="too little bandwidth"),
        pytest.param(0, 500, {}, "no allocation candidate", id="no bridge"),
        pytest.param(2, 5000, {}, "more than one possible allocation candidates", id="two bridges"),
        pytest.param(
            1, 5000, {"group_policy": "isolate"}, "no allocation candidate", id="one bridge each"
        ),
    ],
)
def test_3_there_must_be_one_way(
    cloud: SmallCloud, placement: Placement, neutron: Neutron, network: str, policy: str,
    bridges: int, kilobits: int, specs: dict[str, str], words: str,
) -> None:  # fmt: skip
    provide(placement, bridges, kilobits)
    instance = cloud.add(stored=flavor(specs))
    ports = [neutron.make_port(network, instance, policy) for _ in range(2)]
    ended = heal(cloud)
    assert ended.code == 3
    assert words in ended.line
    assert placement.held(instance) == {}
    assert [neutron.profile(port) for port in ports] == [{}, {}]


QUERIES: Final[dict[str, dict[str, Any]]] = {
    "500": {"status": 500}, "401": {"status": 401}, "403": {"status": 403}, "garbage": {"status": 200, "body": "x"},
    "no answer": {"status": 0},
}  # fmt: skip


@pytest.mark.parametrize("kind", QUERIES)
def test_5_ports_cannot_be_asked_for(
    cloud: SmallCloud, placement: Placement, neutron_relay: Relay, kind: str
) -> None:
    """HEAL-4"""
    provide(placement)
    instance = cloud.add()
    neutron_relay.fail("GET", "/v2.0/ports", **QUERIES[kind])
    ended = heal(cloud)
    assert ended.code == 5
    assert ended.err.startswith(f"cell1: Neutron ({neutron_relay.url}): GET /v2.0/ports: ")
    assert placement.held(instance) == {}


UPDATES: Final[dict[str, tuple[dict[str, Any], int]]] = {
    "500": ({"status": 500}, 6), "404": ({"status": 404}, 6), "409": ({"status": 409}, 6), "403": ({"status": 403}, 6),
    "401": ({"status": 401}, 6), "no answer": ({"status": 0}, 6),
    "written, but not answered": ({"status": 0, "after": True, "times": 1}, 0),
    "500 twice": ({"status": 500, "times": 2}, 0),
}  # fmt: skip


@pytest.mark.parametrize("kind", UPDATES)
@pytest.mark.parametrize("before", [0, 1])
def test_6_a_port_that_cannot_be_written_leaves_all_as_it_was(
    cloud: SmallCloud, placement: Placement, neutron: Neutron, neutron_relay: Relay, network: str, policy: str,
    kind: str, before: int,
) -> None:  # fmt: skip
    """HEAL-4"""
    provide(placement)
    fault, code = UPDATES[kind]
    instance = cloud.add()
    ports = [neutron.make_port(network, instance, policy) for _ in range(2)]
    bad = sorted(ports)[-1] if before else sorted(ports)[0]
    neutron_relay.fail("PUT", PUT_PORT + bad, **fault)
    ended = heal(cloud)
    assert ended.code == code
    if code:
        assert (
            "Unable to update ports with allocations that are about to be created in placement"
            in ended.err
        )
        assert [neutron.profile(port).get("allocation") for port in ports] == [None, None]
        assert placement.held(instance) == {}
        neutron_relay.heal()
        assert heal(cloud).code == 0
    assert is_right(placement, neutron, instance, ports)


def test_6_without_the_role_that_neutron_asks_for(
    cloud: SmallCloud,
    placement: Placement,
    neutron: Neutron,
    keystone: Keystone,
    network: str,
    policy: str,
) -> None:
    provide(placement)
    instance = cloud.add()
    neutron.make_port(network, instance, policy)
    cloud.config.write_text(
        cloud.config.read_text().partition("[placement]")[0] + sections(keystone, neutron="plain")
    )
    ended = heal(cloud)
    assert ended.code == 6
    assert "lacks a role" in ended.err


def test_7_ports_that_cannot_be_set_back_are_named(
    cloud: SmallCloud,
    placement: Placement,
    neutron: Neutron,
    neutron_relay: Relay,
    network: str,
    policy: str,
) -> None:
    provide(placement)
    instance = cloud.add()
    ports = [neutron.make_port(network, instance, policy) for _ in range(3)]
    neutron_relay.fail("PUT", PUT_PORT, status=409, skip=2)
    ended = heal(cloud)
    assert ended.code == 7
    written = [port for port in ports if named(neutron, port)]
    assert len(written) == 2
    assert all(
        f"openstack port unset {port} --binding-profile allocation" in ended.err for port in written
    )
    neutron_relay.heal()
    assert heal(cloud).code == 0
    assert is_right(placement, neutron, instance, ports)


REFUSALS: Final[dict[str, dict[str, Any]]] = {
    "500": {"status": 500, "body": placement_error(500)},
    "409": {"status": 409, "body": placement_error(409)},
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_3_ports_are_set_back_when_placement_refuses(
    cloud: SmallCloud,
    placement: Placement,
    neutron: Neutron,
    relay: Relay,
    network: str,
    policy: str,
    kind: str,
) -> None:
    provide(placement)
    instance = cloud.add()
    port = neutron.make_port(network, instance, policy)
    relay.fail("PUT", "/allocations/", **REFUSALS[kind])
    assert heal(cloud).code == 3
    assert neutron.profile(port).get("allocation") is None


def test_7_ports_that_cannot_be_set_back_when_placement_refuses(
    cloud: SmallCloud,
    placement: Placement,
    neutron: Neutron,
    neutron_relay: Relay,
    network: str,
    policy: str,
) -> None:
    provide(placement, room=256)
    instance = cloud.add()
    port = neutron.make_port(network, instance, policy)
    neutron_relay.fail("PUT", PUT_PORT, status=500, skip=1)
    ended = heal(cloud)
    assert ended.code == 7
    assert f"openstack port unset {port} --binding-profile allocation" in ended.err


@pytest.mark.parametrize("moment", ["second port", "placement"])
def test_killed_between_neutron_and_placement_the_next_run_finishes(
    cloud: SmallCloud, placement: Placement, neutron: Neutron, relay: Relay, neutron_relay: Relay,
    network: str, policy: str, moment: str,
) -> None:  # fmt: skip
    provide(placement)
    instances = [cloud.add() for _ in range(3)]
    ports = {one: [neutron.make_port(network, one, policy) for _ in range(2)] for one in instances}
    where, what = (neutron_relay, PUT_PORT) if moment == "second port" else (relay, "/allocations/")
    held = where.fail("PUT", what, held=True, skip=1)
    with Running(f"{HEAL} --concurrency 1", config=cloud.config) as running:
        held.wait_until_reached()
        running.process.kill()
        running.process.wait()
    where.heal()
    assert any(named(neutron, port) for one in instances for port in ports[one])
    assert heal(cloud).code == 0
    assert all(is_right(placement, neutron, one, ports[one]) for one in instances)
    assert heal(cloud).code == 4


def test_a_port_that_names_a_provider_of_another_host_gets_one_of_its_own(
    cloud: SmallCloud, placement: Placement, neutron: Neutron, network: str, policy: str
) -> None:
    provide(placement)
    instance = cloud.add()
    port = neutron.make_port(network, instance, policy)
    (group,) = neutron.ask("GET", f"ports/{port}")["port"]["resource_request"]["request_groups"]
    profile = {"allocation": {group["id"]: "eeeeeeee-0000-4000-8000-000000000001"}}
    neutron.ask("PUT", f"ports/{port}", {"port": {"binding:profile": profile}})
    assert heal(cloud).code == 0
    assert is_right(placement, neutron, instance, [port])


def test_the_old_form_of_neutron(
    cloud: SmallCloud,
    placement: Placement,
    neutron: Neutron,
    neutron_relay: Relay,
    network: str,
    policy: str,
) -> None:
    """What Neutron answered before it knew request groups is put into its mouth; what is written is
    really written.
    """
    provide(placement)
    instance = cloud.add()
    port = neutron.make_port(network, instance, policy)
    request = {"required": list(TRAITS), "resources": both(1000)}
    old: dict[str, Any] = {
        "id": port,
        "device_id": instance,
        "resource_request": request,
        "binding:profile": {},
    }
    neutron_relay.fail("GET", "/v2.0/ports", status=200, body={"ports": [old]})
    assert heal(cloud).code == 0
    assert placement.held(instance) == {HOST1: SMALL, BRIDGE: both(1000)}
    assert neutron.profile(port) == {"allocation": BRIDGE}
    neutron_relay.heal()
    neutron_relay.fail(
        "GET",
        "/v2.0/ports",
        status=200,
        body={"ports": [old | {"binding:profile": {"allocation": BRIDGE}}]},
    )
    assert heal(cloud).code == 4


def test_no_way_to_neutron(cloud: SmallCloud, placement: Placement, keystone: Keystone) -> None:
    provide(placement)
    cloud.add()
    text = cloud.config.read_text().partition("[neutron]")[0]
    wrong = sections(keystone).partition("[neutron]")[2].replace(PASSWORD, "peer-wrong")
    gone = (
        sections(keystone).partition("[neutron]")[2]
        + f"endpoint_override = http://127.0.0.1:{free_port()}\n"
    )
    for section, code in (("", 255), (f"[neutron]{wrong}", 255), (f"[neutron]{gone}", 5)):
        cloud.config.write_text(text + section)
        ended = heal(cloud)
        assert ended.code == code
        assert ended.line.startswith(("cell1: Neutron", "cell1, cell2: Neutron"))
    assert heal(cloud, "--skip-port-allocations").code == 0
