"""Placement and Neutron as the jobs reach them: what goes wrong becomes one line that an operator
can act on.
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import pytest

from clients.concurrency import map_bounded
from clients.errors import (
    RequestForbidden,
    RequestRefused,
    ServiceMisconfigured,
    ServiceProblem,
    ServiceTooOld,
    ServiceUnavailable,
)
from clients.placement import Consumer
from clients.services import Services
from settings.configuration import Configuration
from settings.sections import register_sections
from tests.support.placement import Placement, nova_conf
from tests.support.recorded.cloud import BY_PASSWORD
from tests.support.recorded.stand_ins import PASSWORD as KEYSTONES_PASSWORD
from tests.support.recorded.stand_ins import Keystone
from tests.support.relay import Relay, placement_error
from tests.support.services import free_port

NODE: Final = "cccccccc-0000-4000-8000-000000000001"
CONSUMER: Final = "11111111-0000-4000-8000-000000000001"
SECRET: Final = "service-secret"
LOGIN: Final = (
    BY_PASSWORD.replace("{keystone}", "{url}")
    + "status_code_retry_delay = 0.1\nconnect_retry_delay = 0.1\n"
)


def services(folder: Path, text: str) -> Services:
    """The services by a nova.conf of this text."""
    file = folder / "nova.conf"
    file.write_text(text)
    conf = Configuration()
    register_sections(conf)
    conf(["--config-file", str(file)], project="nova")
    return Services(conf)


@pytest.fixture
def reached(relay: Relay, tmp_path: Path) -> Services:
    """A Placement with one provider, by way of the relay."""
    return services(tmp_path, nova_conf(relay.url))


def test_what_is_written_is_read(placement: Placement, reached: Services) -> None:
    placement.provide(NODE, "node1", {"VCPU": 8, "MEMORY_MB": 1024})
    held = {NODE: {"VCPU": 2, "MEMORY_MB": 512}}
    assert reached.placement.consumer(CONSUMER) == Consumer()
    reached.placement.write_consumer(CONSUMER, Consumer(held, "project", "user"))
    assert reached.placement.consumer(CONSUMER) == Consumer(
        held, "project", "user", generation=1, generations={NODE: 2}
    )
    assert reached.placement.resources_by_consumer(NODE) == {CONSUMER: held[NODE]}
    assert reached.placement.usage("project", "user") == held[NODE]
    assert [(one.uuid, one.name, one.root) for one in reached.placement.providers()] == [
        (NODE, "node1", NODE)
    ]
    assert reached.placement.resources_by_consumer(CONSUMER) == {}
    with pytest.raises(RequestRefused) as refusal:
        reached.placement.write_consumer(CONSUMER, Consumer(held, "project", "user"))
    assert refusal.value.is_consumer_conflict


def read(services: Services) -> object:
    return services.placement.consumer(CONSUMER)


def write(services: Services) -> object:
    return services.placement.write_consumer(
        CONSUMER, Consumer({NODE: {"VCPU": 1}}, "project", "user")
    )


@pytest.mark.parametrize(
    ("work", "fault", "kind", "words"),
    [
        pytest.param(
            read,
            {"status": 500, "body": placement_error(500)},
            ServiceUnavailable,
            "answered 500: injected",
            id="500",
        ),
        pytest.param(read, {"status": 503}, ServiceUnavailable, "answered 503", id="503"),
        pytest.param(
            read,
            {"status": 200, "body": "<html>"},
            ServiceUnavailable,
            "answered 200 with a body that is not JSON",
            id="garbage",
        ),
        pytest.param(read, {"status": 0}, ServiceUnavailable, "no connection", id="cut off"),
        pytest.param(
            read, {"silent": True}, ServiceUnavailable, "it does not answer in time", id="silence"
        ),
        pytest.param(
            read,
            {"status": 403},
            RequestForbidden,
            "answered 403.*: the user of .* lacks a role",
            id="403",
        ),
        pytest.param(
            read,
            {"status": 401},
            RequestForbidden,
            "answered 401.*: the login of .* is not accepted",
            id="401",
        ),
        pytest.param(read, {"status": 406}, ServiceTooOld, "too old", id="406"),
        pytest.param(
            write,
            {"status": 409, "body": placement_error(409, "placement.concurrent_update")},
            RequestRefused,
            "409",
            id="409",
        ),
    ],
)
def test_an_answer_that_helps_nobody(
    placement: Placement,
    relay: Relay,
    tmp_path: Path,
    work: Callable[[Services], object],
    fault: dict[str, Any],
    kind: type[ServiceProblem],
    words: str,
) -> None:
    relay.fail("GET" if work is read else "PUT", "/allocations/", **fault)
    with pytest.raises(kind, match=words) as problem:
        work(services(tmp_path, nova_conf(relay.url) + "timeout = 0.5\n"))
    assert str(problem.value).startswith(f"Placement ({relay.url}): ") or kind is ServiceTooOld
    assert f"/allocations/{CONSUMER}" in str(problem.value)
    assert problem.value.service == "placement"


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"status": 502}, {"status": 0}, {"silent": True, "times": 1}]
)
def test_what_passes_by_itself_is_asked_again(
    placement: Placement, relay: Relay, tmp_path: Path, fault: dict[str, Any]
) -> None:
    relay.fail("GET", "/allocations/", **{"times": 2} | fault)
    assert read(services(tmp_path, nova_conf(relay.url) + "timeout = 2\n")) == Consumer()


def test_a_service_that_is_too_old_is_told_what_is_needed(relay: Relay, reached: Services) -> None:
    version = {"id": "v1.0", "min_version": "1.0", "max_version": "1.20", "status": "CURRENT"}
    body = {"versions": [version | {"links": [{"rel": "self", "href": ""}]}]}
    relay.fail("GET", "^/$", status=200, body=body)
    reached.placement.require("1.14", "audit")
    with pytest.raises(ServiceTooOld) as problem:
        reached.placement.require("1.28", "heal_allocations")
    assert str(problem.value) == (
        f"Placement ({relay.url}) is too old: heal_allocations needs microversion 1.28, it offers "
        "1.20; upgrade it"
    )


def test_a_service_that_is_new_enough_is_asked_once(relay: Relay, reached: Services) -> None:
    reached.placement.require("1.28", "heal_allocations")
    reached.placement.require("1.36", "ports")
    assert relay.count("GET", "^/$") == 1


PASSWORD: Final = (
    f"auth_type = password\nauth_url = http://127.0.0.1:{{port}}\nusername = nova\npassword = "
    f"{SECRET}\n"
    "project_name = service\nuser_domain_id = default\nproject_domain_id = default\n"
)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        pytest.param("", "set auth_type and its options in section [placement]", id="no section"),
        pytest.param(
            "[placement]\nauth_type = service-secret\n",
            "its auth_type names no way",
            id="unknown plugin",
        ),
        pytest.param(
            "[placement]\nauth_type = password\npassword = a$service-secret\n",
            "password in section [placement]: $ begins the name of another option",
            id="a dollar sign",
        ),
        pytest.param(
            "[placement]\nauth_type = admin_token\ntoken = x\nendpoint = y\ntimeout = "
            "service-secret\n",
            "timeout in section [placement]: it takes a number",
            id="no number",
        ),
        pytest.param(
            "[placement]\nauth_type = password\n", "section [placement]", id="missing options"
        ),
        pytest.param("[placement]\n" + PASSWORD, "section [placement]", id="no Keystone"),
        pytest.param(
            "[placement]\n" + PASSWORD + "cafile = /nonexistent\n",
            "section [placement]",
            id="no certificate",
        ),
        pytest.param("[placement]\nauth_type = none\n", "[placement]", id="no endpoint"),
    ],
)
def test_no_way_to_a_service(tmp_path: Path, section: str, words: str) -> None:
    with pytest.raises(ServiceMisconfigured) as problem:
        services(tmp_path, section.format(port=free_port())).placement.require(
            "1.28", "heal_allocations"
        )
    assert words in str(problem.value)
    assert SECRET not in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_refused_connection_names_the_place_without_its_secrets(tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(ServiceUnavailable) as problem:
        services(tmp_path, nova_conf(f"http://nova:{SECRET}@127.0.0.1:{port}")).placement.consumer(
            CONSUMER
        )
    assert str(problem.value).startswith(
        f"Placement (http://127.0.0.1:{port}): GET /allocations/{CONSUMER}: no connection"
    )
    assert SECRET not in str(problem.value)


def test_no_more_connections_than_configured(
    placement: Placement, relay: Relay, tmp_path: Path
) -> None:
    reached = services(tmp_path, "[cellkeeper]\nconnections = 1\n" + nova_conf(relay.url))
    assert map_bounded(lambda _: read(reached), range(6), 6) == [Consumer()] * 6


@pytest.mark.parametrize("work", [read, write])
def test_a_token_that_ends_again_and_again_is_replaced(
    placement: Placement, relay: Relay, tmp_path: Path, work: Callable[[Services], object]
) -> None:
    """Many requests are under way: the new token of one may be the old one of another."""
    placement.provide(NODE, "node1", {"VCPU": 8})
    with Keystone({"placement": relay.url}) as keystone:
        reached = services(tmp_path, "[placement]\n" + LOGIN.format(url=keystone.url))
        relay.fail("GET" if work is read else "PUT", "/allocations/", status=401, times=3)
        work(reached)


def test_a_login_that_keystone_refuses_is_called_that(tmp_path: Path) -> None:
    with Keystone({}) as keystone:
        section = "[placement]\n" + LOGIN.format(url=keystone.url).replace(
            KEYSTONES_PASSWORD, SECRET
        )
        with pytest.raises(
            ServiceMisconfigured, match="Keystone does not accept the login of section"
        ) as problem:
            services(tmp_path, section).placement.require("1.28", "heal_allocations")
    assert SECRET not in str(problem.value)


PROXY: Final = f"http://nova:{SECRET}@127.0.0.1:{{port}}"


@pytest.mark.parametrize("way", ["to Placement", "to Keystone"])
def test_a_proxy_of_the_environment_that_stands_in_between_is_named(
    relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    port = free_port()
    monkeypatch.setenv("http_proxy", PROXY.format(port=port))
    section = nova_conf(relay.url)
    if way == "to Keystone":
        section = "[placement]\n" + LOGIN.format(url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ServiceProblem) as problem:
        read(services(tmp_path, section))
    assert f"by way of the proxy http://127.0.0.1:{port} of the environment" in str(problem.value)
    assert SECRET not in str(problem.value)
    monkeypatch.setenv("no_proxy", "127.0.0.0/8")
    with pytest.raises(ServiceProblem) if way == "to Keystone" else nullcontext() as unproxied:
        read(services(tmp_path, section))
    assert "proxy" not in str(unproxied)
