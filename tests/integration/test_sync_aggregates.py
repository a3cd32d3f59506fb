"""``placement sync_aggregates`` on real cells and a real Placement."""

import re
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest

from cli.main import run
from jobs.placement.sync_aggregates import HOSTS_PER_STEP
from tests.support import moments
from tests.support.command import Running, until
from tests.support.placement import Placement, nova_conf
from tests.support.program import Ended
from tests.support.realcloud import RealCloud
from tests.support.relay import Relay, placement_error
from tests.support.services import free_port
from tests.support.two_cells import TwoCells

NODES: Final = {
    f"host{number}": f"cccccccc-0000-4000-8000-00000000000{number}" for number in range(1, 7)
}
AGGREGATES: Final = {
    name: f"aaaaaaaa-0000-4000-8000-00000000000{n}" for n, name in enumerate(("one", "two"), 1)
}
FOREIGN: Final = "aaaaaaaa-0000-4000-8000-000000000009"


@pytest.fixture
def config(two_cells: TwoCells, relay: Relay, tmp_path: Path) -> Path:
    return two_cells.config(tmp_path, nova_conf(relay.url))


@pytest.fixture
def sync(config: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs the command in this process; in JSON unless other words are given."""

    def sync(*words: str) -> Ended:
        code = run(
            [
                "--config-file",
                str(config),
                "placement",
                "sync_aggregates",
                *(words or ("-f", "json")),
            ]
        )
        return Ended(code, *capsys.readouterr())

    return sync


@pytest.fixture
def hosts(two_cells: TwoCells, placement: Placement) -> TwoCells:
    """Three hosts of two cells, each in two aggregates; one of them is in a foreign one besides."""
    for number, host in enumerate(("host1", "host2", "host3")):
        cell = ("cell1", "cell2")[number % 2]
        two_cells.node(cell, NODES[host], host)
        two_cells.map_host(host, cell)
        placement.provide(NODES[host], host, {"VCPU": 8})
    for name, uuid in AGGREGATES.items():
        two_cells.aggregate(uuid, name, "host1", "host2", "host3")
    placement.join(NODES["host2"], FOREIGN, AGGREGATES["one"])
    return two_cells


@pytest.fixture
def many_hosts(two_cells: TwoCells, placement: Placement) -> list[str]:
    """More hosts of one cell than are mirrored at a time, in one aggregate; returns their names."""
    names = [f"host{number:03}" for number in range(HOSTS_PER_STEP + 2)]
    for number, host in enumerate(names):
        node = f"cccccccc-0000-4000-8000-000000000{number:03}"
        two_cells.node("cell1", node, host)
        two_cells.map_host(host, "cell1")
        placement.ask("POST", "/resource_providers", {"uuid": node, "name": host})
    two_cells.aggregate(FOREIGN, "one", *names)
    return names


def test_a_provider_is_read_once_and_written_once_if_it_lacks_something(
    hosts: TwoCells, placement: Placement, relay: Relay, sync: Callable[..., Ended]
) -> None:
    ended = sync()
    assert ended.code == 0
    assert {(one["host"], one["aggregate_name"]) for one in ended.data["added"]} == {
        ("host1", "one"), ("host1", "two"), ("host2", "two"), ("host3", "one"), ("host3", "two"),
    }  # fmt: skip
    assert placement.aggregates(NODES["host1"]) == {*AGGREGATES.values()}
    assert placement.aggregates(NODES["host2"]) == {*AGGREGATES.values(), FOREIGN}
    bodies = {one.path: one.body["aggregates"] for one in relay.asked if one.method == "PUT"}
    assert sorted(map(len, bodies.values())) == [2, 2, 3]
    relay.heal()
    assert sync("--verbose").out.count("Successfully added") == 0
    assert (relay.count("GET", "/aggregates"), relay.count("PUT", "/aggregates")) == (3, 0)
    assert sync("--format", "table") == (0, "", "")


def test_all_problems_are_told_and_all_other_hosts_are_done(
    hosts: TwoCells, placement: Placement, relay: Relay, sync: Callable[..., Ended]
) -> None:
    """Every code of the manual at once; the worst one is returned, and after each repair the
    next.
    """
    wrong = ("unmapped", "ghost", "twice", "provider-less", "host4", "host5")
    hosts.aggregate(FOREIGN, "wrong", *wrong, "host1")
    for host in wrong[1:]:
        hosts.map_host(host, "cell1")
    for number, node in enumerate(("one", "two")):
        hosts.node("cell1", f"cccccccc-0000-4000-8000-0000000001{number:02}", "twice", node)
    hosts.node("cell1", NODES["host6"], "provider-less")
    for host in ("host4", "host5"):
        hosts.node("cell1", NODES[host], host)
        placement.provide(NODES[host], host, {"VCPU": 8})
    relay.fail("GET", f"{NODES['host4']}/aggregates", status=500)
    relay.fail("PUT", f"{NODES['host5']}/aggregates", status=400, body=placement_error(400))
    ended = sync()
    assert ended.code == 2
    assert {(one["host"], one["code"]) for one in ended.data["problems"]} == {
        ("unmapped", 4), ("ghost", 5), ("twice", 1), ("provider-less", 6), ("host4", 2), ("host5", 3),
    }  # fmt: skip
    assert all(host in ended.err or NODES.get(host, "") in ended.err for host in wrong)
    assert len([line for line in ended.err.splitlines() if "Retriable" not in line]) == len(wrong)
    for host in ("host1", "host2", "host3"):
        assert placement.aggregates(NODES[host]) >= {*AGGREGATES.values()}
    assert FOREIGN in placement.aggregates(NODES["host1"])


def test_255_where_a_cell_is_gone(
    hosts: TwoCells, placement: Placement, sync: Callable[..., Ended]
) -> None:
    hosts.lose("cell2", free_port())
    ended = sync()
    assert ended.code == 255
    assert {(one["host"], one["code"]) for one in ended.data["problems"]} == {("host2", 255)}
    assert (
        placement.aggregates(NODES["host1"])
        == placement.aggregates(NODES["host3"])
        == {*AGGREGATES.values()}
    )
    assert "The cells of the following hosts could not be read: host2" in ended.err


CONFLICT: Final = placement_error(409, "placement.concurrent_update", "another process")


@pytest.mark.parametrize(
    ("method", "how", "code", "said"),
    [
        pytest.param("PUT", {"status": 409, "body": CONFLICT, "times": 2}, 0, "", id="conflicts"),
        pytest.param("PUT", {"status": 0, "after": True, "times": 1}, 0, "", id="a lost answer"),
        pytest.param("PUT", {"status": 0}, 3, "Failed updating aggregates of host", id="cut off"),
        pytest.param(
            "GET", {"status": 200, "body": "<html>"}, 2, "a body that is not JSON", id="garbage"
        ),
        pytest.param("GET", {"silent": True}, 2, "it does not answer in time", id="silence"),
    ],
)
def test_troubles_with_placement(
    hosts: TwoCells, placement: Placement, relay: Relay, config: Path, sync: Callable[..., Ended],
    method: str, how: dict[str, Any], code: int, said: str,
) -> None:  # fmt: skip
    patience = 4 if "silent" in how else 60
    config.write_text(config.read_text() + f"timeout = {patience}\nconnect_retries = 0\n")
    relay.fail(method, f"{NODES['host1']}/aggregates", **how)
    ended = sync()
    assert ended.code == code
    assert said in ended.err
    assert placement.aggregates(NODES["host1"]) == (set() if code else {*AGGREGATES.values()})
    assert placement.aggregates(NODES["host3"]) == {*AGGREGATES.values()}
    added = {one["host"] for one in ended.data["added"]}
    assert added == ({"host2", "host3"} if code else {"host1", "host2", "host3"})


def test_an_aggregate_that_somebody_adds_meanwhile_stays(
    hosts: TwoCells, placement: Placement, relay: Relay, sync: Callable[..., Ended]
) -> None:
    """Placement refuses what was read before; it is read again."""
    held = relay.fail("PUT", f"{NODES['host1']}/aggregates", held=True, times=1)

    def join() -> None:
        held.wait_until_reached()
        placement.join(NODES["host1"], FOREIGN)
        held.go_on()

    thread = Thread(target=join)
    thread.start()
    assert sync().code == 0
    thread.join()
    assert placement.aggregates(NODES["host1"]) == {*AGGREGATES.values(), FOREIGN}


def test_stopped_in_the_middle_it_ends_after_a_batch_and_the_next_run_does_the_rest(
    many_hosts: list[str],
    placement: Placement,
    relay: Relay,
    config: Path,
    sync: Callable[..., Ended],
) -> None:
    held = relay.fail("PUT", "/aggregates$", held=True, times=1)
    with Running("placement sync_aggregates", config=config) as running:
        held.wait_until_reached()
        running.interrupt()
        until(lambda: "Stopping" in running.err)
        held.go_on()
        ended = running.end()
    assert ended.code == 255
    assert "cell1: stopped before all its hosts were mirrored" in ended.err
    assert len(placement.all_aggregates()) == HOSTS_PER_STEP
    assert [one["host"] for one in sync().data["added"]] == many_hosts[HOSTS_PER_STEP:]


def test_where_no_provider_of_a_batch_can_be_read_no_further_ones_are_asked_for(
    many_hosts: list[str], relay: Relay, sync: Callable[..., Ended]
) -> None:
    relay.fail("GET", "/aggregates$", status=500)
    ended = sync()
    assert ended.code == 2
    assert [one["host"] for one in ended.data["problems"]] == many_hosts[:HOSTS_PER_STEP]
    assert (
        len({one.path for one in relay.asked if one.path.endswith("/aggregates")}) == HOSTS_PER_STEP
    )
    assert "cell1: Placement" in ended.err
    relay.heal()
    assert [one["host"] for one in sync().data["added"]] == many_hosts


def test_one_line_where_there_is_no_way_to_placement(
    hosts: TwoCells, config: Path, sync: Callable[..., Ended]
) -> None:
    text = config.read_text()
    for wrong in (
        text.partition("[placement]")[0],
        re.sub("endpoint = .*", "endpoint = http://127.0.0.1:1", text),
    ):
        config.write_text(wrong)
        ended = sync("--no-wait")
        assert (ended.code, ended.out) == (2, "")
        assert "Placement" in ended.err
        assert len([line for line in ended.err.splitlines() if "keystoneauth" not in line]) == 1
    config.write_text(text.replace("[api_database]", "[elsewhere]"))
    ended = sync("--no-wait")
    assert (ended.code, ended.out, ended.err.count("\n")) == (255, "", 1)


def test_the_real_cloud(
    placed_cloud: RealCloud,
    cloud_placement: Placement,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Four pairs were taken away on purpose; nothing else is lacking."""
    config = placed_cloud.config(tmp_path)
    config.write_text(config.read_text() + nova_conf(cloud_placement.url))
    command = ["--config-file", str(config), "placement", "sync_aggregates", "-f", "json"]
    pairs = "SELECT r.name, a.uuid FROM resource_provider_aggregates p JOIN resource_providers r ON r.id = " \
            "p.resource_provider_id JOIN placement_aggregates a ON a.id = p.aggregate_id"  # fmt: skip
    before = {*placed_cloud.rows("placement", pairs)}
    assert run(command) == 0
    added = moments.parse(capsys.readouterr().out)["added"]
    assert sorted((one["host"], one["aggregate_name"]) for one in added) == [
        ("cmp-c1-01", "ssd"), ("cmp-c2-01", "az2"), ("cmp-c2-01", "ssd"), ("cmp-c3-02", "az3"),
    ]  # fmt: skip
    after = {*placed_cloud.rows("placement", pairs)}
    assert after - before == {(one["host"], one["aggregate"]) for one in added}
    assert before <= after
    assert run(command) == 0
    assert moments.parse(capsys.readouterr().out)["added"] == []
