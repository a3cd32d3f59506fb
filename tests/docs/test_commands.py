"""Every command that the documents print is run as it stands there, each document on a cloud of its
own.

What cannot run here is looked at in another way; ``ELSEWHERE`` says which, how, and why.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.compose import services
from tests.docs.operator import (
    PLACEHOLDER,
    REDIS_PASSWORD,
    OfNothing,
    OfRealCloud,
    Operator,
    serves_cells,
)
from tests.docs.printed import FILES, OWN, ROOT, Printed, all_commands, blocks, commands
from tests.support.command import until
from tests.support.placement import Placement
from tests.support.realcloud import RealCloud
from tests.support.services import MariaDB, Redis
from tests.workers.fleet import guarded


def _nothing(_words: list[str]) -> bool:
    return True


def _is_target(words: list[str]) -> bool:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return all(word in targets for word in words[1:] if "=" not in word)


def _has_sources(words: list[str]) -> bool:
    sources = [word for word in words[1:-1] if "/" in word and not word.startswith("/")]
    return bool(sources) and all((ROOT / source).exists() for source in sources)


def _has_units(words: list[str]) -> bool:
    names = [word for word in words[2:] if not word.startswith("-")]
    files = [re.sub("@.*", "@", name.removesuffix(".service")) + ".service" for name in names]
    return all((ROOT / "deploy" / "systemd" / name).is_file() for name in files)


def _has_services(words: list[str]) -> bool:
    return words[:2] == ["docker", "compose"] and (words[2] != "exec" or words[3] in _services())


def _services() -> set[str]:
    return set(services(dict.fromkeys(_variables(), "x")))


def _variables() -> set[str]:
    """The variables of the compose file."""
    return set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))


# First words of commands that do not run here: how they are looked at instead, and why that must
# do.
ELSEWHERE: Final[dict[str, tuple[Callable[[list[str]], bool], str]]] = {
    "make": (
        _is_target,
        "the tests are started by it; what it shows first is run by tests/acceptance/test_demo.py",
    ),
    "pipx": (_nothing, "installs from outside; make venv and the image do the same with pip"),
    "pip": (_nothing, "as pipx"),
    "/opt/cellkeeper/bin/pip": (_nothing, "as pipx"),
    "python3": (_nothing, "makes the environment for it"),
    "ln": (_nothing, "changes the host"),
    "apt-get": (_nothing, "changes the host"),
    "git": (_nothing, "fetches the sources"),
    "install": (_has_sources, "changes the host"),
    "cp": (_has_sources, "changes the host"),
    "systemctl": (
        _has_units,
        "needs a running systemd; the units are checked by tests/deploy/test_units.py",
    ),
    "systemd-sysusers": (_nothing, "changes the host"),
    "journalctl": (_nothing, "needs a running systemd"),
    "docker": (
        _has_services,
        "no engine; all of the file's commands are run by tests/deploy/test_compose_runs.py",
    ),
    "deploy/compose/new-env": (_nothing, "run by tests/deploy/test_compose_file.py"),
    "rabbitmqctl": (
        _nothing,
        "changes the RabbitMQ of the host; that of make test-rabbitmq has a user who may do "
        "everything",
    ),
    "nova-manage": (_nothing, "the stock tool"),
    "echo": (_nothing, "shows an exit code, which is compared"),
}


def for_cellkeeper(shown: Printed) -> Printed | None:
    """What cellkeeper is to do in a command, without what stands before it for another user or
    container.
    """
    if OWN not in shown.text or shown.program in (OWN, "sh"):
        return shown if shown.program in (OWN, "sh") else None
    wrapped = re.match(
        r"(?:sudo (?:-u \w+ )?|docker compose exec (?:-T )?[\w-]+ )(cellkeeper .*)", shown.text
    )
    return Printed(shown.file, shown.line, wrapped[1]) if wrapped else None


@pytest.fixture(scope="module")
def broker() -> Iterator[Redis]:
    """A Redis with the ACL that docs/security.md prints, and no other way in."""
    (rule,) = re.findall(
        r"^    user (cellkeeper on .*)$", (ROOT / "docs" / "security.md").read_text(), re.MULTILINE
    )
    with Redis(password="of-nobody") as server:
        rule = rule.replace("PASSWORD", REDIS_PASSWORD)
        assert server.execute(f"ACL SETUSER {rule}") == ["+OK"]
        yield server


@pytest.fixture(scope="module")
def workers(
    broker: Redis, loaded_placed_cloud: RealCloud, cloud_placement_server: Placement,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:  # fmt: skip
    """A worker for all cells and one for cell1, whose names are those that they have without an
    option.
    """
    folder = tmp_path_factory.mktemp("workers")
    operator = OfRealCloud(folder / "home", loaded_placed_cloud, cloud_placement_server, broker)
    logs = {
        "worker --concurrency 2": folder / "all",
        "worker --cells cell1 --concurrency 1": folder / "cell1",
    }
    with ExitStack() as stack:
        for words, log in logs.items():
            stack.enter_context(guarded(operator.start(f"{OWN} {words}", log)))
        until(lambda: all(serves_cells("", log) for log in logs.values()))
        # A run for the documents that speak of one before they start one.
        first = Printed(ROOT / "README.md", 0, f"{OWN} db purge --all --all-cells --detach")
        assert operator.run(first) is None
        yield


@pytest.fixture
def operator(
    placed_cloud: RealCloud,
    cloud_placement: Placement,
    broker: Redis,
    workers: None,
    tmp_path: Path,
) -> Operator:
    return OfRealCloud(tmp_path / "somebody", placed_cloud, cloud_placement, broker)


@pytest.fixture(scope="module")
def empty_server() -> Iterator[MariaDB]:
    with MariaDB() as server:
        yield server


@pytest.fixture
def beginner(empty_server: MariaDB, tmp_path: Path) -> Operator:
    return OfNothing(tmp_path / "beginner", empty_server)


def from_nothing(shown: list[Printed]) -> bool:
    """Whether a block is for a cloud that is not there yet."""
    return any("map_cell0" in one.words for one in shown)


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if any(map(for_cellkeeper, all_commands(file)))],
    ids=lambda file: file.name,
)
def test_every_command_runs(file: Path, operator: Operator, beginner: Operator) -> None:
    went_wrong = []
    for block in blocks(file):
        shown = list(filter(None, map(for_cellkeeper, commands(block))))
        who = beginner if from_nothing(shown) else operator
        went_wrong += [f"{one.place}\n{problem}" for one in shown if (problem := who.run(one))]
    assert not went_wrong, "\n\n".join(went_wrong)
    for log in (*operator.home.glob("*.log"), *beginner.home.glob("*.log")):
        assert MariaDB.PASSWORD not in log.read_text(errors="replace")
        assert REDIS_PASSWORD not in log.read_text(errors="replace")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_placeholder_has_a_value(file: Path, operator: Operator) -> None:
    for shown in filter(None, map(for_cellkeeper, all_commands(file))):
        unknown = set(PLACEHOLDER.findall(" ".join(shown.words))) - operator.placeholders.keys()
        assert not unknown, f"{shown.place}: give {unknown} values in Operator.placeholders"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_does_not_run_here_is_looked_at(file: Path) -> None:
    for shown in all_commands(file):
        words = shown.words
        if words[:1] == ["sudo"]:
            words = words[1:]
        if not words or words[0] == OWN:
            continue
        assert words[0] in ELSEWHERE, (
            f"{shown.place}: nobody runs it, and ELSEWHERE does not say why"
        )
        looks_right, _why = ELSEWHERE[words[0]]
        assert looks_right(words), shown.place
