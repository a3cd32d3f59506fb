"""What the ports of an instance lack in Placement: by what they request, what they name, and what
it holds.
"""

from typing import Any

import pytest

from clients.neutron import Port
from jobs.placement.ports import find_missing, with_providers

HERE = frozenset({"bridge", "other"})
BANDWIDTH = {"NET_BW_EGR_KILOBIT_PER_SEC": 1000}
GROUPS: dict[str, Any] = {
    "request_groups": [{"id": "g1", "required": ["T"], "resources": BANDWIDTH}]
}
OLD: dict[str, Any] = {"required": ["T"], "resources": BANDWIDTH}
TWO: dict[str, Any] = {
    "request_groups": [*GROUPS["request_groups"], {"id": "g2", "resources": {"PPS": 5}}]
}


def port(name: str, request: dict[str, Any], allocation: Any = None) -> Port:
    return Port(
        name,
        "instance",
        request,
        {"key": "value"} | ({"allocation": allocation} if allocation else {}),
    )


@pytest.mark.parametrize(
    ("ports", "held", "homeless", "unbacked"),
    [
        pytest.param([], {}, [], {}, id="no port"),
        pytest.param([port("a", {})], {}, [], {}, id="a port without request"),
        pytest.param([port("a", GROUPS)], {}, ["a"], {}, id="names nobody"),
        pytest.param([port("a", OLD)], {}, ["a"], {}, id="names nobody, old form"),
        pytest.param([port("a", GROUPS, {"g1": "bridge"})], {"bridge": BANDWIDTH}, [], {}, id="right"),
        pytest.param([port("a", OLD, "bridge")], {"bridge": BANDWIDTH}, [], {}, id="right, old form"),
        pytest.param([port("a", GROUPS, "bridge")], {"bridge": BANDWIDTH}, [], {}, id="right, old form of the name"),
        pytest.param([port("a", GROUPS, {"g1": "bridge"})], {}, [], {"bridge": BANDWIDTH}, id="gets nothing"),
        pytest.param([port("a", GROUPS, {"g1": "far"})], {}, ["a"], {}, id="names another host's"),
        pytest.param([port("a", GROUPS, {"g1": "far"})], {"far": BANDWIDTH}, [], {}, id="and holds it: a move"),
        pytest.param(
            [port("a", GROUPS, {"g1": "bridge"}), port("b", GROUPS, {"g1": "bridge"})], {"bridge": BANDWIDTH}, [],
            {"bridge": {"NET_BW_EGR_KILOBIT_PER_SEC": 2000}}, id="two name one, which gives for "
            "one",
        ),
        pytest.param([port("a", TWO, {"g1": "bridge"})], {"bridge": BANDWIDTH}, ["a"], {}, id="half a name"),
        pytest.param(
            [port("a", GROUPS, {"g1": "bridge"}), port("b", GROUPS)], {"bridge": BANDWIDTH}, ["b"], {}, id="one of two"
        ),
    ],
)  # fmt: skip
def test_lack(
    ports: list[Port],
    held: dict[str, dict[str, int]],
    homeless: list[str],
    unbacked: dict[str, dict[str, int]],
) -> None:
    lack = find_missing(ports, held, lambda: HERE)
    assert [one.id for one in lack.homeless] == homeless
    assert lack.unbacked == unbacked
    assert bool(lack) is bool(homeless or unbacked)


def test_a_profile_names_providers_in_the_form_of_the_request() -> None:
    assert with_providers(port("a", GROUPS), {"g1": "bridge", "x": "y"}) == {
        "key": "value",
        "allocation": {"g1": "bridge"},
    }
    assert with_providers(port("a", OLD), {"a": "bridge"}) == {
        "key": "value",
        "allocation": "bridge",
    }
