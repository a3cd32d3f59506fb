"""Names that MySQL takes for the same are the same everywhere: there is one place that says how."""

import ast
from pathlib import Path
from typing import Final

import pytest

from novadb.names import fold_name, is_same_name

ROOT: Final = Path(__file__).parents[3]
ROOMS: Final = ("novadb", "clients", "jobs", "runs", "workers", "schedules", "cli")
HOME: Final = ROOT / "novadb" / "names.py"


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("cmp1", "CMP1", True),
        ("cmp1", "Cmp1  ", True),
        ("cmp1", " cmp1", False),
        ("cmp1", "cmp1\t", False),
        ("cmp1", "cmp1.example.org", False),
        ("CCCCCCCC-0000-4000-8000-00000000000A", "cccccccc-0000-4000-8000-00000000000a", True),
        ("", "  ", True),
        ("KÖLN", "köln", True),
    ],
)
def test_neither_case_nor_blanks_at_the_end_count(one: str, other: str, alike: bool) -> None:
    assert is_same_name(one, other) is (fold_name(one) == fold_name(other)) is alike


def test_a_name_that_is_missing_is_the_same_as_no_other() -> None:
    assert not is_same_name(None, None)
    assert not is_same_name(None, "cmp1")
    assert not is_same_name("cmp1", None)


def test_folding_twice_changes_nothing() -> None:
    assert fold_name(fold_name("Straße ")) == fold_name("Straße ")


def calls(source: str, name: str) -> list[int]:
    """The lines where a method of this name is called."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [
        node.lineno
        for node in nodes
        if isinstance(node.func, ast.Attribute) and node.func.attr == name
    ]


def test_names_are_folded_in_one_place_only() -> None:
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py") if file != HOME]
    folding = {str(file.relative_to(ROOT)): calls(file.read_text(), "casefold") for file in files}
    assert {file: lines for file, lines in folding.items() if lines} == {}
    assert len(calls(HOME.read_text(), "casefold")) == 1
