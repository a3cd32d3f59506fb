"""Every command that the documents print is run as it stands there, each document on a cloud of its own.

What cannot run here is looked at in another way; ``ELSEWHERE`` says which, how, and why.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import create_connection
from typing import Final

import pytest
from redis import Redis as Client

from demo.cloud import build
from runs.redis_store import RedisStore
from tests.acceptance.program import environment, until
from tests.deploy.compose import services
from tests.docs.printed import FILES, OWN, ROOT, Printed, all_commands
from tests.realcloud import RealCloud
from tests.services import HOST, PLACES, MariaDB, Redis
from tests.workers.fleet import hooked

REDIS_PASSWORD: Final = "redis-secret"
USER: Final = "cellkeeper"
PATIENCE: Final = 60  # seconds for a command to end
NEVER: Final = (2, 255)
"""Exit codes of a command line that is wrong, and of one that failed."""
CONFIG: Final = """\
[celery]
broker_url = redis://{user}:{password}@{host}:{port}/0
slice_seconds = 1
[flower]
password = tulip-secret
[schedule]
enabled = nightly_archive, weekly_purge
"""
PLACEHOLDER: Final = re.compile(r"(?<![\w$%{-])[A-Z][A-Z0-9_]{2,}(?![\w=}])")


class Operator:
    """Somebody at a shell on a host with a cloud, a Redis and two workers."""

    def __init__(self, folder: Path, cloud: RealCloud, broker: Redis) -> None:
        self.home = folder
        self.broker = broker
        (folder / ".nova").mkdir()
        config = cloud.config(folder / ".nova")
        section = CONFIG.format(user=USER, password=REDIS_PASSWORD, host=HOST, port=broker.port)
        config.write_text(config.read_text() + section)
        build(folder / "demo-cloud")
        self.placeholders: dict[str, Callable[[], str]] = {"RUN": self._newest_run}

    def _newest_run(self) -> str:
        client = Client(HOST, self.broker.port, username=USER, password=REDIS_PASSWORD, decode_responses=True)
        return next(iter(RedisStore(client, 3600).recent()))

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"], *PLACES))
        return environment(hooked(PATH=path, HOME=str(self.home)))

    def start(self, text: str, log: Path) -> subprocess.Popen[bytes]:
        """Start what is printed, in a shell."""
        with log.open("ab") as file:
            return subprocess.Popen(
                ["bash", "-c", f"exec {text}" if "\n" not in text else text],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=self.environment(), cwd=self.home,
            )  # fmt: skip

    def run(self, shown: Printed) -> str | None:
        """Run a command to its end, or, of one that serves, until it can be asked to end; what went wrong."""
        text = PLACEHOLDER.sub(self._value, shown.text)
        log = self.home / f"{shown.file.name}.{shown.line}.log"
        process = self.start(text, log)
        try:
            if serves := next((ready for words, ready in SERVING if _begins(shown.words, words)), None):
                until(lambda: process.poll() is not None or serves(self, shown, log))
                process.send_signal(signal.SIGTERM)
            code = process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
        written = log.read_text(errors="replace")
        expected = code == shown.code if shown.code is not None else code >= 0 and code not in NEVER
        if expected and not (serves and code) and "Traceback" not in written:
            return None
        return f"exit code {code}: {written[-2000:]}"

    def _value(self, found: re.Match[str]) -> str:
        return self.placeholders[found[0]]() if found[0] in self.placeholders else found[0]


def _begins(words: list[str], with_words: tuple[str, ...]) -> bool:
    return words[0:1] == [OWN] and words[1 : 1 + len(with_words)] == list(with_words) and "--ping" not in words


def _answers_ping(operator: Operator, shown: Printed, _log: Path) -> bool:
    ping = subprocess.run(["bash", "-c", f"{shown.text} --ping"], env=operator.environment(), capture_output=True)
    return ping.returncode == 0


def _listens(_operator: Operator, shown: Printed, _log: Path) -> bool:
    ports = re.findall(r"(?:--port |:)(\d{4,5})\b", shown.text) or ["5555"]
    try:
        create_connection((HOST, int(ports[0])), timeout=5).close()
    except OSError:
        return False
    return True


def _tells_when(_operator: Operator, _shown: Printed, log: Path) -> bool:
    return "next at" in log.read_text()


# Commands that serve until a signal ends them, and how each is known to be at work.
SERVING: Final[tuple[tuple[tuple[str, ...], Callable[[Operator, Printed, Path], bool]], ...]] = (
    (("worker",), _answers_ping),
    (("flower",), _listens),
    (("beat",), _tells_when),
    (("metrics", "--listen"), _listens),
)


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


# First words of commands that do not run here: how they are looked at instead, and why that must do.
ELSEWHERE: Final[dict[str, tuple[Callable[[list[str]], bool], str]]] = {
    "make": (_is_target, "the tests are started by it; what it shows first is run by tests/acceptance/test_demo.py"),
    "pipx": (_nothing, "installs from outside; make venv and the image do the same with pip"),
    "pip": (_nothing, "as pipx"),
    "/opt/cellkeeper/bin/pip": (_nothing, "as pipx"),
    "python3": (_nothing, "makes the environment for it"),
    "ln": (_nothing, "changes the host"),
    "apt-get": (_nothing, "changes the host"),
    "git": (_nothing, "fetches the sources"),
    "install": (_has_sources, "changes the host"),
    "cp": (_has_sources, "changes the host"),
    "systemctl": (_has_units, "needs a running systemd; the units are checked by tests/deploy/test_units.py"),
    "systemd-sysusers": (_nothing, "changes the host"),
    "journalctl": (_nothing, "needs a running systemd"),
    "docker": (_has_services, "no engine; all of the file's commands are run by tests/deploy/test_compose_runs.py"),
    "deploy/compose/new-env": (_nothing, "run by tests/deploy/test_compose_file.py"),
    "nova-manage": (_nothing, "the stock tool"),
    "echo": (_nothing, "shows an exit code, which is compared"),
}


def for_cellkeeper(shown: Printed) -> Printed | None:
    """What cellkeeper is to do in a command, without what stands before it for another user or container."""
    if OWN not in shown.text or shown.program in (OWN, "sh"):
        return shown if shown.program in (OWN, "sh") else None
    wrapped = re.match(r"(?:sudo (?:-u \w+ )?|docker compose exec (?:-T )?[\w-]+ )(cellkeeper .*)", shown.text)
    return Printed(shown.file, shown.line, wrapped[1]) if wrapped else None


@pytest.fixture(scope="module")
def broker() -> Iterator[Redis]:
    """A Redis with the ACL that docs/security.md prints, and no other way in."""
    (rule,) = re.findall(r"^    user (cellkeeper on .*)$", (ROOT / "docs" / "security.md").read_text(), re.MULTILINE)
    with Redis(password="of-nobody") as server:
        rule = rule.replace("PASSWORD", REDIS_PASSWORD)
        assert server.execute(f"ACL SETUSER {rule}") == ["+OK"]
        yield server


@pytest.fixture(scope="module")
def workers(broker: Redis, loaded_realcloud: RealCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A worker for all cells and one for cell1, whose names are those that they have without an option."""
    operator = Operator(tmp_path_factory.mktemp("workers"), loaded_realcloud, broker)
    with ExitStack() as stack:
        for words in ("worker --concurrency 2", "worker --cells cell1 --concurrency 1"):
            shown = Printed(ROOT / "README.md", 0, f"cellkeeper {words}")
            process = operator.start(shown.text, operator.home / "log")
            stack.callback(process.wait)
            stack.callback(process.terminate)
            until(lambda shown=shown: _answers_ping(operator, shown, operator.home))  # type: ignore[misc]
        # A run for the documents that speak of one before they start one.
        first = Printed(ROOT / "README.md", 0, "cellkeeper db purge --all --all-cells --detach")
        assert operator.run(first) is None
        yield


@pytest.fixture
def operator(realcloud: RealCloud, broker: Redis, workers: None, tmp_path: Path) -> Operator:
    return Operator(tmp_path, realcloud, broker)


@pytest.mark.parametrize(
    "file", [file for file in FILES if any(map(for_cellkeeper, all_commands(file)))], ids=lambda file: file.name
)
def test_every_command_runs(file: Path, operator: Operator) -> None:
    shown = list(filter(None, map(for_cellkeeper, all_commands(file))))
    went_wrong = [f"{one.place}\n{problem}" for one in shown if (problem := operator.run(one))]
    assert not went_wrong, "\n\n".join(went_wrong)
    for log in operator.home.glob("*.log"):
        assert MariaDB.PASSWORD not in log.read_text(errors="replace")
        assert REDIS_PASSWORD not in log.read_text(errors="replace")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_does_not_run_here_is_looked_at(file: Path) -> None:
    for shown in all_commands(file):
        words = shown.words
        if words[:1] == ["sudo"]:
            words = words[1:]
        if not words or words[0] == OWN:
            continue
        assert words[0] in ELSEWHERE, f"{shown.place}: nobody runs it, and ELSEWHERE does not say why"
        looks_right, _why = ELSEWHERE[words[0]]
        assert looks_right(words), shown.place
