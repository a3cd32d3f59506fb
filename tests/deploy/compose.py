"""``docker-compose.yml`` as Compose reads it, and its services as processes, where no container
engine is at hand.

All of them run in one network of their own, in which the names of the services lead to this host,
so that every command, URL, port and health check is the one of the file, to the letter.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import yaml

from tests.support.command import until
from tests.support.services import PLACES

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "docker-compose.yml"
VARIABLE: Final = re.compile(r"\$(?:(\$)|\{(\w+)(?::\?([^}]*))?\})")
PATIENCE: Final = 60  # seconds for a process to end
# A network without anything but itself, another /etc/hosts, and neither the settings nor the
# sockets of this host's servers; it ends with its input.
NAMESPACE: Final = """
set -e
ip link set lo up
mount --bind "$1" /etc/hosts
for folder in /etc/mysql /etc/my.cnf.d /run/mysqld; do
    if [ -d "$folder" ]; then mount -t tmpfs none "$folder"; fi
done
echo ready
read -r _
"""


class Missing(Exception):
    """A variable that must be set is not."""


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """A text of the file with the values of its variables.

    :raises Missing: one is not set
    """

    def value(found: re.Match[str]) -> str:
        dollar, name, message = found.groups()
        if dollar:
            return "$"
        if not variables.get(name):
            raise Missing(f"{name}: {message}")
        return variables[name]

    return VARIABLE.sub(value, text)


def services(variables: Mapping[str, str]) -> dict[str, Any]:
    """The services of the file.

    :raises Missing: a variable that must be set is not
    """
    return dict(yaml.safe_load(interpolated(FILE.read_text(), variables))["services"])


def variables_of(env_file: Path) -> dict[str, str]:
    """The variables of an ``.env``."""
    lines = [
        line for line in env_file.read_text().splitlines() if line and not line.startswith("#")
    ]
    return dict(line.partition("=")[::2] for line in lines)


class Host:
    """A network of its own with processes in it. As a context manager it ends with all of them."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        """:param names: that lead to this host"""
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        hosts = folder / "hosts"
        hosts.write_text("".join(f"127.0.0.1 {name}\n" for name in ["localhost", *names]))
        as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
        self._namespace = subprocess.Popen(
            [
                "unshare",
                *as_root,
                "--net",
                "--mount",
                "sh",
                "-c",
                NAMESPACE,
                "namespace",
                str(hosts),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._namespace.stdout is not None
        assert self._namespace.stdout.readline() == b"ready\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()
            process.wait()
        self._namespace.communicate()

    def words(self, command: list[str]) -> list[str]:
        """A command line for this network."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return [
            "nsenter",
            "--target",
            str(self._namespace.pid),
            *user,
            "--net",
            "--mount",
            "--wd=.",
            *command,
        ]

    def start(
        self, name: str, command: list[str], env: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start a process; what it writes goes to a log of its name."""
        with self.log_of(name).open("ab") as log:
            process = subprocess.Popen(
                self.words(command),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment(env), cwd=self._folder,
                start_new_session=True,
            )  # fmt: skip
        self._started.append(process)
        return process

    def run(
        self, command: list[str], env: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run a command to its end."""
        return subprocess.run(
            self.words(command),
            stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, env=self._environment(env),
            cwd=self._folder, check=False,
        )  # fmt: skip

    def log_of(self, name: str) -> Path:
        """Where a process writes."""
        return self._folder / f"{name}.log"

    def _environment(self, env: Mapping[str, str]) -> dict[str, str]:
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"], *PLACES))
        return {"PATH": path, "HOME": str(self._folder)} | dict(env)


class Stack:
    """The services of the file in such a network."""

    def __init__(self, host: Host, variables: Mapping[str, str]) -> None:
        self._host = host
        self.services = services(variables)

    def command(self, name: str) -> list[str]:
        """The command line of a service; that of the image's program starts with its entry
        point.
        """
        service = self.services[name]
        command = service["command"]
        words = shlex.split(command) if isinstance(command, str) else command
        return ["cellkeeper", *words] if service["image"] == "cellkeeper" else words

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start a service by its command and environment, and wait until its health check
        agrees.
        """
        process = self._host.start(name, self.command(name), self.services[name]["environment"])

        def healthy() -> bool:
            assert process.poll() is None, self._host.log_of(name).read_text()
            return self.is_healthy(name)

        until(healthy)
        return process

    def is_healthy(self, name: str) -> bool:
        """Whether the health check of a service agrees, in its environment."""
        test = self.services[name]["healthcheck"]["test"]
        return (
            self._host.run(["sh", "-c", test], self.services[name]["environment"]).returncode == 0
        )
