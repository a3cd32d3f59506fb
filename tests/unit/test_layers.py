"""The rooms: imports go one way, and each room does without what is not in it."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parents[2]
# From the bottom to the top: a room imports from itself and from those that stand before it.
ROOMS: Final = (
    "settings",
    "novadb",
    "throttle",
    "clients",
    "jobs",
    "runs",
    "workers",
    "schedules",
    "cli",
)
# Rooms that nothing imports, and the rooms that they import from.
ASIDE: Final = {"demo": {"settings", "novadb"}}
# What a room does without, by docs/architecture.md.
WITHOUT: Final = {
    "settings": {
        "click",
        "rich",
        "celery",
        "kombu",
        "redis",
        "sqlalchemy",
        "pymysql",
        "threading",
        "multiprocessing",
    },
    "novadb": {"click", "rich", "celery", "threading", "multiprocessing"},
    "throttle": {"click", "rich", "celery", "threading", "multiprocessing", "pymysql", "argparse"},
    "clients": {"click", "rich", "celery", "sqlalchemy", "pymysql", "multiprocessing", "argparse"},
    "jobs": {
        "click",
        "rich",
        "celery",
        "threading",
        "concurrent",
        "multiprocessing",
        "oslo_config",
        "settings",
        "os",
        "argparse",
    },
    "runs": {"click", "rich", "celery", "kombu", "pymysql", "argparse"},
    "workers": {"click", "rich", "sqlalchemy", "pymysql", "argparse"},
    "schedules": {"click", "rich", "celery", "kombu", "sqlalchemy", "pymysql", "argparse"},
    "cli": {"pymysql", "sqlite3", "celery", "kombu"},
}


class Import(NamedTuple):
    """One import somewhere in a file, be it in a function."""

    line: int
    package: str


def imports(source: str) -> Iterator[Import]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name.partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import tells no room"
            yield Import(node.lineno, (node.module or "").partition(".")[0])


def forbidden(room: str, source: str) -> list[Import]:
    """The imports that a file of a room must not have."""
    above = {*ROOMS[ROOMS.index(room) + 1 :], *ASIDE} if room in ROOMS else {*ROOMS} - ASIDE[room]
    return [
        found
        for found in imports(source)
        if found.package in above | WITHOUT.get(room, set()) | {"tests"}
    ]


def files() -> list[Path]:
    return sorted(file for room in (*ROOMS, *ASIDE) for file in (ROOT / room).rglob("*.py"))


def test_every_room_is_installed() -> None:
    find = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"][
        "find"
    ]
    assert set(find["include"]) == {f"{room}*" for room in (*ROOMS, *ASIDE)}
    assert all((file.parent / "__init__.py").is_file() for file in files())


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_one_way(file: Path) -> None:
    assert forbidden(file.relative_to(ROOT).parts[0], file.read_text()) == []


@pytest.mark.parametrize(
    ("room", "source", "packages"),
    [
        ("clients", "from jobs.action import Target", ["jobs"]),
        ("settings", "from novadb.errors import DatabaseProblem", ["novadb"]),
        ("novadb", "from clients.errors import ServiceProblem", ["clients"]),
        ("novadb", "from settings.databases import Timeouts", []),
        ("jobs", "from settings.databases import Timeouts", ["settings"]),
        ("novadb", "from jobs.action import Cell", ["jobs"]),
        ("jobs", "import novadb, runs.local, cli", ["runs", "cli"]),
        ("jobs", "def work():\n    from cli.output import put", ["cli"]),
        ("jobs", "import os.path\nimport threading", ["os", "threading"]),
        ("runs", "if TYPE_CHECKING:\n    from cli.main import main", ["cli"]),
        ("runs", "from celery import Celery", ["celery"]),
        ("workers", "from cli.progress import shown", ["cli"]),
        ("workers", "from schedules.entries import Entry", ["schedules"]),
        ("schedules", "from cli.main import main", ["cli"]),
        ("runs", "from demo.cloud import build", ["demo"]),
        ("cli", "from tests.support.services import MariaDB", ["tests"]),
        ("cli", "import jobs.action, runs.local, novadb.cells, cli.output", []),
        ("demo", "from novadb import cells", []),
        ("demo", "from jobs.action import Cell", ["jobs"]),
    ],
)
def test_an_import_upwards_is_found(room: str, source: str, packages: list[str]) -> None:
    assert [found.package for found in forbidden(room, source)] == packages
