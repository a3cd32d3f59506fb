"""What deployment projects call: each is rolled out on empty databases, and once more, as it would
be by its own tools.

The lines, the configuration, and what is searched for in the output stand in
``tests/data/deployments.toml``, as facts.
"""

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.command import PATIENCE, PROGRAM, environment
from tests.support.services import MariaDB

FACTS: Final = Path(__file__).parents[1] / "data" / "deployments.toml"
SWITCHING: Final = Path(__file__).parents[2] / "docs" / "switching.md"
DEPLOYMENTS: Final = tomllib.loads(FACTS.read_text())["deployment"]
DATABASES: Final = ("nova_api", "nova_cell0", "nova", "nova_cell2")
ROUNDS: Final = ("first", "again")
NAME: Final = re.compile(r"@(\w+)@")
COMPUTES: Final = ("compute1", "compute2")
# What nova-compute writes at its start.
SERVICE: Final = (
    "INSERT INTO services (host, `binary`, topic, report_count, disabled, deleted, version) "
    "VALUES ('{0}', 'nova-compute', 'compute', 1, 0, 0, 66)"
)
NODE: Final = (
    "INSERT INTO compute_nodes (deleted, mapped, host, hypervisor_hostname, uuid, vcpus, "
    "memory_mb, local_gb, "
    "vcpus_used, memory_mb_used, local_gb_used, hypervisor_type, hypervisor_version, cpu_info) "
    "VALUES "
    "(0, 0, '{0}', '{0}', UUID(), 1, 1, 1, 0, 0, 0, 'QEMU', 1, '')"
)
AGES: Final = (400, 60, 1)  # days since instances were deleted
INSTANCE: Final = (
    "INSERT INTO instances (uuid, project_id, user_id, created_at, deleted_at, deleted, hidden) "
    "VALUES "
    "(UUID(), 'p', 'u', NOW() - INTERVAL 500 DAY, UTC_TIMESTAMP() - INTERVAL {0} DAY, {0}, 0)"
)


class RollOut:
    """A deployment on databases of its own, which are empty.

    :ivar values: what stands for the names in its lines
    """

    def __init__(self, facts: Mapping[str, Any], server: MariaDB, folder: Path) -> None:
        self._facts = facts
        self._server = server
        self._folder = folder
        for name in DATABASES:
            server.drop(name)
            server.create(name)
        self.values = {name: server.url(name) for name in DATABASES} | {
            "CONF": str(folder / "conf")
        }
        for name, text in facts["files"].items():
            file = folder / "conf" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self.filled(text))
        program = folder / "bin" / "nova-manage"
        program.parent.mkdir()
        program.symlink_to(PROGRAM)

    def filled(self, text: str, escaped: bool = False) -> str:
        """A text with the values for its names.

        :param escaped: it is a pattern
        """
        return NAME.sub(
            lambda name: re.escape(self.values[name[1]]) if escaped else self.values[name[1]], text
        )

    def run_round(self, name: str) -> None:
        """Make the steps of a round, and look at what the project expects of each."""
        for step in self._facts["steps"]:
            if "given" in step:
                if name == ROUNDS[0]:
                    self._give(step["given"])
            elif name in step.get("rounds", ROUNDS):
                self._run(step)

    def _give(self, what: str) -> None:
        statements = {
            "computes": [text.format(host) for host in COMPUTES for text in (SERVICE, NODE)],
            "deleted": [INSTANCE.format(days) for days in AGES],
        }
        for statement in statements[what]:
            self._server.execute(statement, "nova")

    def _run(self, step: Mapping[str, Any]) -> None:
        line = self.filled(step["run"])
        ended = subprocess.run(
            ["bash", "-c", line],
            env=self._environment(step.get("with", "nova")),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        said = f"{line}\n{ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        assert not step.get("codes", [0]) or ended.returncode in step.get("codes", [0]), said
        assert "Traceback" not in ended.stderr, said
        for pattern in step.get("shows", ()):
            assert re.search(self.filled(pattern, escaped=True), ended.stdout), said
        for pattern in step.get("lacks", ()):
            assert not re.search(self.filled(pattern, escaped=True), ended.stdout), said
        if "takes" in step:
            self.values[step["takes"]["name"]] = cut_out(step["takes"], ended.stdout)
        for database, expected in step.get("leaves", {}).items():
            assert self._instances(database) == expected, said

    def _environment(self, config: str) -> dict[str, str]:
        """Variables with which nova-manage reads a file as its nova.conf, and the folder beside
        it.
        """
        home = self._folder / f"home-{config}"
        places = {"nova.conf": f"{config}.conf", "nova.conf.d": "nova.conf.d"}
        for name, target in places.items():
            place = home / ".nova" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists() and (self._folder / "conf" / target).exists():
                place.symlink_to(self._folder / "conf" / target)
        path = os.pathsep.join((str(self._folder / "bin"), os.environ["PATH"]))
        # Whatever the tests are started with: compiling the program at each start takes a third of
        # a short command.
        return environment({"HOME": str(home), "PATH": path, "PYTHONDONTWRITEBYTECODE": ""})

    def _instances(self, database: str) -> list[int]:
        """How many are marked as deleted, and how many are in the shadow table."""
        counts = (
            "SELECT COUNT(*) FROM instances WHERE deleted != 0",
            "SELECT COUNT(*) FROM shadow_instances",
        )
        return [self._server.execute(count, database)[0][0] for count in counts]

    def cells(self) -> dict[str, list[str]]:
        """The mappings of cells, by name."""
        rows = self._server.execute(
            "SELECT COALESCE(name, 'unnamed'), transport_url, database_connection FROM "
            "cell_mappings",
            "nova_api",
        )
        assert len({name for name, *_ in rows}) == len(rows), "a cell was made twice"
        return {name: urls for name, *urls in rows}

    def hosts(self) -> int:
        """How many hosts are mapped."""
        return int(self._server.execute("SELECT COUNT(*) FROM host_mappings", "nova_api")[0][0])


def cut_out(how: Mapping[str, Any], output: str) -> str:
    """A value out of an output, as a project's script cuts it out."""
    lines = output.splitlines()
    kept = lines[how.get("first", 0) : len(lines) - how.get("last", 0)]
    chosen = [line for line in kept if re.search(how["lines"], line)]
    assert len(chosen) == 1, output
    columns = re.split(how["by"], chosen[0]) if "by" in how else chosen[0].split()
    return str(columns[how["column"]].strip())


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDB]:
    """One whose databases have the names that deployments give them."""
    with MariaDB() as server:
        yield server


@pytest.mark.parametrize("facts", DEPLOYMENTS, ids=lambda facts: facts["name"])
def test_a_deployment_rolls_out_twice(
    facts: Mapping[str, Any], server: MariaDB, tmp_path: Path
) -> None:
    roll_out = RollOut(facts, server, tmp_path)
    for name in ROUNDS:
        roll_out.run_round(name)
        cells = facts["cells"] | (facts.get("again", {}) if name == "again" else {})
        expected = {cell: [roll_out.filled(url) for url in urls] for cell, urls in cells.items()}
        assert (roll_out.cells(), roll_out.hosts()) == (expected, facts["hosts"]), name


def test_each_deployment_is_explained() -> None:
    headings = re.findall(r"^### (.*)$", SWITCHING.read_text(), re.MULTILINE)
    unexplained = {facts["name"].split()[0] for facts in DEPLOYMENTS} - {"tripleo", "sunbeam"}
    assert {
        name for name in unexplained if not any(name in heading.lower() for heading in headings)
    } == set()


def test_the_facts_name_what_was_read() -> None:
    for facts in DEPLOYMENTS:
        assert re.search(r"^\S+/\S+ [0-9a-f]{7,8}\b", facts["read"]), facts["name"]
        assert {key for step in facts["steps"] for key in step} <= {
            "given", "run", "with", "codes", "shows", "lacks", "takes", "rounds", "leaves",
        }  # fmt: skip
