"""The helpers of the tests: each is where it is imported from, and the page of ``tests.support``
names it.
"""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

import tests.support

ROOT: Final = Path(__file__).parents[2]
FILES: Final = sorted(
    file for room in ("tests", "benchmarks", "tools") for file in (ROOT / room).rglob("*.py")
)


def missing(source: str) -> list[str]:
    """The modules of ``tests`` that a file imports, and that are not there."""
    wanted = [
        node.module or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
    ]
    places = {
        name: ROOT.joinpath(*name.split("."))
        for name in wanted
        if name.partition(".")[0] == "tests"
    }
    return [
        name
        for name, place in places.items()
        if not (place.is_dir() or place.with_suffix(".py").is_file())
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_helper_is_where_it_is_imported_from(file: Path) -> None:
    assert missing(file.read_text()) == []


def test_a_helper_that_is_elsewhere_is_found() -> None:
    assert missing(
        "from tests.support.services import MariaDB\nfrom tests.services import Redis"
    ) == ["tests.services"]


def test_the_page_names_every_helper() -> None:
    folder = ROOT / "tests" / "support"
    there = {place.stem for place in folder.iterdir() if not place.name.startswith("_")}
    assert set(re.findall(r"``(\w+)``", tests.support.__doc__ or "")) == there
