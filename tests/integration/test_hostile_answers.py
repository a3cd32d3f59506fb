"""What services and databases answer is not trusted: it is shown, not obeyed, and one of another
form is one line.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from clients.errors import ServiceProblem
from clients.placement import RequestGroup
from clients.services import Services
from settings.configuration import Configuration
from settings.sections import register_sections
from tests.support.command import Ended, call
from tests.support.hostile import CONTROL, NAME, SHOWN, assert_shown
from tests.support.placement import nova_conf
from tests.support.recorded.cloud import BY_PASSWORD, QUICK, RecordedCloud
from tests.support.recorded.stand_ins import Answer, StandIn
from tests.support.relay import placement_error
from tests.support.small_cloud import SMALL, flavor

NODE: Final = "cccccccc-0000-4000-8000-000000000001"
VM: Final = "11111111-0000-4000-8000-000000000001"
NOBODY: Final = "ffffffff-0000-4000-8000-000000000001"
AGGREGATE: Final = "aaaaaaaa-0000-4000-8000-000000000001"
HOST: Final = NAME
LONG: Final = NAME * 2000
ERROR: Final = placement_error(400, "placement.undefined_code", LONG)


@pytest.fixture
def config(recorded_cloud: RecordedCloud, tmp_path: Path) -> Path:
    """The nova.conf of a cloud with one host of that name in an aggregate of that name; an
    instance, and an orphan.
    """
    cells = recorded_cloud.cells
    cells.node("cell1", NODE, HOST)
    cells.map_host(HOST, "cell1")
    cells.instance("cell1", VM, HOST, project_id="p1", user_id="u1", image_ref="image")
    cells.equip("cell1", VM, flavor())
    cells.map_instance(VM, "cell1")
    cells.aggregate(AGGREGATE, NAME, HOST)
    recorded_cloud.placement.provide(NODE, NAME, {"VCPU": 64, "MEMORY_MB": 65536, "DISK_GB": 1000})
    recorded_cloud.placement.allocate(NOBODY, {NODE: SMALL}, "p1", "u1")
    login = BY_PASSWORD.format(keystone=recorded_cloud.keystone.url) + QUICK
    return cells.config(tmp_path, f"[placement]\n{login}[neutron]\n{login}")


def run(words: str, config: Path) -> Ended:
    """Run a command with a log of everything, which must hold no control character either."""
    log = config.with_name("log")
    ended = call(f"--debug --log-file {log} placement {words}", config=config)
    assert not CONTROL.search(ended.out + ended.err)
    assert not CONTROL.search(log.read_text())
    assert "Traceback" not in ended.err
    return ended


@pytest.mark.parametrize("words", ["audit", "audit --verbose", "audit --delete"])
def test_an_audit_of_a_host_of_that_name(config: Path, words: str) -> None:
    ended = run(words, config)
    assert ended.code == (4 if "delete" in words else 3)
    assert_shown(ended.out + ended.err)


def test_an_audit_in_json_has_the_name_itself(config: Path) -> None:
    (orphan,) = run("audit -f json", config).document["orphans"]
    assert (orphan["host"], orphan["resource_provider_name"]) == (HOST, NAME)


def test_a_sync_of_aggregates_of_that_name(config: Path) -> None:
    ended = run("sync_aggregates --verbose", config)
    assert ended.code == 0
    assert SHOWN in ended.out
    assert_shown(ended.out)


def test_a_sync_of_aggregates_that_has_failed(config: Path, recorded_cloud: RecordedCloud) -> None:
    recorded_cloud.placement_relay.fail("PUT", "/aggregates", status=409, body=ERROR)
    ended = run("sync_aggregates", config)
    assert ended.code == 3
    assert_one_short_line(ended)


def test_a_host_that_is_mapped_to_no_cell(config: Path, recorded_cloud: RecordedCloud) -> None:
    recorded_cloud.cells.aggregate(AGGREGATE.replace("1", "2"), "other", f"unmapped {NAME}")
    ended = run("sync_aggregates", config)
    assert ended.code == 4
    assert_shown(ended.err)


def test_a_heal_that_placement_refuses(config: Path, recorded_cloud: RecordedCloud) -> None:
    recorded_cloud.placement_relay.fail("PUT", "/allocations/", status=400, body=ERROR)
    ended = run("heal_allocations --verbose", config)
    assert ended.code == 3
    assert_one_short_line(ended)


def test_a_heal_where_there_is_no_such_node(config: Path, recorded_cloud: RecordedCloud) -> None:
    recorded_cloud.cells.instance("cell1", VM.replace("1", "2"), f"{NAME} again")
    ended = run("heal_allocations --verbose", config)
    assert ended.code == 2
    assert_shown(ended.err)


def test_a_heal_whose_ports_neutron_does_not_tell(
    config: Path, recorded_cloud: RecordedCloud
) -> None:
    document = {"NeutronError": {"message": LONG, "type": LONG}}
    recorded_cloud.neutron_relay.fail("GET", "/ports", status=400, body=document)
    ended = run("heal_allocations", config)
    assert ended.code == 5
    assert_one_short_line(ended)


def test_a_port_of_that_name(config: Path, recorded_cloud: RecordedCloud) -> None:
    recorded_cloud.neutron.ports[NAME] = {
        "id": NAME, "device_id": VM, "resource_request": {"required": [], "resources": {"CUSTOM_X": 1}},
        "binding:profile": {NAME: NAME},
    }  # fmt: skip
    ended = run("heal_allocations --verbose", config)
    assert ended.code == 3
    assert "second" in ended.err


@pytest.mark.parametrize("words", ["audit", "sync_aggregates", "heal_allocations"])
def test_a_keystone_that_refuses_in_such_words(
    config: Path, recorded_cloud: RecordedCloud, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    refusal = Answer(401, {"error": {"code": 401, "title": NAME, "message": LONG}})
    monkeypatch.setattr(recorded_cloud.keystone, "answer", lambda *_: refusal)
    ended = run(words, config)
    assert ended.code == {"audit": 1, "sync_aggregates": 2, "heal_allocations": 255}[words]
    assert_one_short_line(ended)


def assert_one_short_line(ended: Ended) -> None:
    """What a service has said at length is one line that can be read."""
    assert "second" in ended.line
    assert len(ended.line) < 1000


# Documents that are none of the service's; what they lack, no caller may take for granted.
VALUES: Final[tuple[Any, ...]] = (
    None, True, 7, "text", [], {}, [None], [7], ["text"], [{}], {"id": None}, {"text": 7}, {"text": {"resources": 7}},
    {"text": {"resources": {"VCPU": "many"}}}, {"text": {"resources": {"VCPU": 1}, "generation": "x"}},
    [{"id": 7, "device_id": 7}], [{"id": "x", "device_id": "x", "resource_request": {"request_groups": 7}}],
    [{"id": "x", "device_id": "x", "resource_request": {"request_groups": [{"resources": 7}]}}],
    [{"uuid": "x", "name": None, "generation": 1, "root_provider_uuid": "x"}],
    {"ports": [], "ports_links": 7}, {"ports": [], "ports_links": ["text"]},
    {"ports": [], "ports_links": [{"rel": "next", "href": "http://["}]},
    [{"allocations": {}, "mappings": {}}], [{"allocations": {}, "mappings": {"x": []}}],
)  # fmt: skip
KEYS: Final = (
    "resource_providers",
    "allocations",
    "usages",
    "allocation_requests",
    "aggregates",
    "ports",
    "versions",
)
DOCUMENTS: Final = [*VALUES, *({key: value} for key, value in itertools.product(KEYS, VALUES))]
CALLS: Final[dict[str, Callable[[Services], object]]] = {
    "providers": lambda services: services.placement.providers(),
    "holdings": lambda services: services.placement.allocations_of(NODE),
    "consumer": lambda services: services.placement.consumer(VM),
    "usage": lambda services: services.placement.usage("p1", "u1"),
    "candidates": lambda services: services.placement.candidates(
        [RequestGroup("x", SMALL)], NODE, [], "none"
    ),
    "aggregates": lambda services: services.placement.aggregates(NODE),
    "ports": lambda services: services.neutron.ports_of([VM]),
}


class Anything(StandIn):
    """Answers every request with the same.

    :ivar reply: that
    """

    reply: Answer

    def answer(self, method: str, path: str, document: Any) -> Answer:
        return self.reply


@pytest.fixture(scope="module")
def anything() -> Iterator[Anything]:
    with Anything() as service:
        yield service


def services(folder: Path, sections: str) -> Services:
    """The services by a nova.conf of these sections."""
    file = folder / "nova.conf"
    file.write_text(sections)
    conf = Configuration()
    register_sections(conf)
    conf(["--config-file", str(file)], project="nova")
    return Services(conf)


@pytest.mark.parametrize("ask", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("status", [200, 400])
def test_a_document_of_another_form_is_a_problem_of_the_service(
    anything: Anything, tmp_path: Path, ask: Callable[[Services], object], status: int
) -> None:
    problems = problems_of(anything, status, tmp_path, ask)
    assert len(problems) > len(DOCUMENTS) / 2
    assert all(anything.url in problem and len(problem) < 1000 for problem in problems)


def test_versions_of_another_form_are_a_problem_of_the_service_or_none(
    anything: Anything, tmp_path: Path
) -> None:
    problems = problems_of(
        anything, 200, tmp_path, lambda services: services.placement.require("1.2", "a test")
    )
    assert problems
    assert all(anything.url in problem and len(problem) < 1000 for problem in problems)


def problems_of(
    anything: Anything, status: int, folder: Path, ask: Callable[[Services], object]
) -> list[str]:
    """What is said of a service that answers with each of the documents; where it can be taken,
    nothing.
    """
    access = nova_conf(anything.url)
    problems = []
    for document in DOCUMENTS:
        anything.reply = Answer(status, document)
        try:
            ask(services(folder, access + access.replace("[placement]", "[neutron]")))
        except ServiceProblem as problem:
            problems.append(str(problem))
    return problems


@pytest.mark.parametrize("headers", [{}, {"X-Subject-Token": "token"}])
def test_a_keystone_whose_answers_are_of_another_form(
    anything: Anything, tmp_path: Path, headers: dict[str, str]
) -> None:
    login = BY_PASSWORD.format(keystone=anything.url) + QUICK
    values = [*VALUES, *(placement_at(url) for url in (7, [], "text", "http://["))]
    catalogs = [
        {"token": {"catalog": value, "expires_at": "2099-01-01T00:00:00Z"}} for value in values
    ]
    catalogs += [{"token": {"catalog": [], "expires_at": value}} for value in (7, "soon")]
    for document in [*VALUES, *({"token": value} for value in VALUES), *catalogs]:
        anything.reply = Answer(201, document, headers)
        with pytest.raises(ServiceProblem, match="Placement"):
            services(tmp_path, f"[placement]\n{login}").placement.providers()


def placement_at(url: Any) -> list[dict[str, Any]]:
    """A catalog in which Placement has this URL."""
    endpoint = {
        "url": url,
        "interface": "internal",
        "region": "RegionOne",
        "region_id": "RegionOne",
    }
    return [{"type": "placement", "name": "placement", "endpoints": [endpoint]}]


@pytest.mark.parametrize("words", ["audit", "sync_aggregates", "heal_allocations"])
@pytest.mark.parametrize("document", [[], {}, 7, {"resource_providers": 7}], ids=json.dumps)
def test_a_command_says_it_in_one_line(
    config: Path, recorded_cloud: RecordedCloud, words: str, document: object
) -> None:
    recorded_cloud.placement_relay.fail(
        "GET", "^/(resource_providers|allocations)", status=200, body=document
    )
    ended = run(words, config)
    assert ended.code == {"audit": 1, "sync_aggregates": 2, "heal_allocations": 3}[words]
    assert "answered with a document of another form" in ended.line
