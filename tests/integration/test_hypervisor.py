"""Asking hosts: in order, several at a time, each within a limit. The hosts are those of libvirt's
test driver.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from socket import create_server

import pytest

from clients.hypervisor import PROBE_COMMAND, DomainsAnswer, HypervisorProblem, Hypervisors
from tests.support.hypervisors import Hosts
from tests.support.services import free_port

PATIENCE = 60.0
A, B, C = (f"11111111-1111-4111-8111-11111111111{n}" for n in "abc")


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port of 127.0.0.1 that accepts connections and never says a word."""
    with closing(create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


def test_hosts_answer_in_order_and_one_that_cannot_costs_only_itself(hosts: Hosts) -> None:
    hosts.have("h 1ä", {A: "pc-q35-7.2", B: None})
    hosts.have("h3", {C: "pc"})
    asked = Hypervisors(hosts.template, PATIENCE, concurrency=2)
    wanted = {"h3": [C], "h2": [B], "h 1ä": [A, B, C]}
    with closing(asked.machine_types(wanted)) as answers:
        (three, third), (two, second), (one, first) = answers
    assert [three, two, one] == list(wanted)
    assert third == DomainsAnswer({C: "pc"})
    assert first == DomainsAnswer({A: "pc-q35-7.2"})
    assert second.machine_types == {}
    assert "h2.xml" in (second.problem or "")


def test_whoever_has_heard_enough_waits_for_nobody_else(hosts: Hosts, silent_port: int) -> None:
    """Hosts that are not being asked yet are not asked any more."""
    asked = Hypervisors(
        f"qemu+tcp://127.0.0.1:{silent_port}/system?name={{host}}", timeout=0.5, concurrency=1
    )
    with closing(asked.machine_types({f"h{n}": [A] for n in range(10_000)})) as answers:
        assert next(answers) == ("h0", DomainsAnswer(problem="it does not answer within 0.5 s"))


def test_a_host_that_names_no_machine_types(hosts: Hosts) -> None:
    hosts.have("h1", {A: "pc"})
    assert Hypervisors(hosts.template, PATIENCE).known_machine_types("h1") == frozenset()
    with pytest.raises(HypervisorProblem, match=r"h2\.xml"):
        Hypervisors(hosts.template, PATIENCE).known_machine_types("h2")


def test_a_probe_ends_though_its_asker_is_gone(silent_port: int) -> None:
    question = {"uri": f"qemu+tcp://127.0.0.1:{silent_port}/system", "uuids": [A], "seconds": 1}
    ended = subprocess.run(PROBE_COMMAND, input=json.dumps(question).encode(), timeout=PATIENCE)
    assert ended.returncode < 0


def test_a_host_that_refuses_says_so() -> None:
    refusing = Hypervisors(f"qemu+tcp://127.0.0.1:{free_port()}/system?name={{host}}", PATIENCE)
    with closing(refusing.machine_types({"h1": [A]})) as answers:
        ((_, answer),) = answers
    assert "Connection refused" in (answer.problem or "")
