"""The lines that the documents explain are those that the program prints.

A table of a document whose first column is called ``line`` shows them, with words in capitals,
numbers and ``...`` where a value stands. What stands between the values and the colons must be in a
text of the code. Who else prints something is named here.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.docs.printed import FILES, ROOT
from tests.unit.test_layers import files

HEADER: Final = re.compile(r"\| (reason or )?line\b")
CODE: Final = re.compile(r"`([^`]+)`")
# What stands for a value: in a document, and in the three kinds of templates that the code has.
VALUE: Final = re.compile(
    r"\.\.\.|N rows|\b(?:[a-z]+_)?[A-Z][A-Z_]*(?:[:/][A-Z]+)*\b|\bn\b|\d+|'[^']*'|[:;]"
)
PLACE: Final = re.compile(r"%(?:\(\w+\))?[.\d]*[srd]|\{[^{}]*\}")
# Lines of others, and who prints them.
OF_OTHERS: Final = {
    "Access denied for user": "MariaDB and MySQL",
    "command denied to user": "MariaDB and MySQL",
    "Deadlock found": "MariaDB and MySQL",
    "Lock wait timeout exceeded": "MariaDB and MySQL",
    "has not yet prepared node for application use": "Galera",
    "No such command": "Click",
    "No such option": "Click",
    "Failed to capture events": "Flower",
    "trying again": "Flower",
    "Inspect method": "Flower",
    "unable to connect to server at": "libvirt",
}


def shown_lines(file: Path) -> Iterator[str]:
    """The lines that the tables of a document explain."""
    within = False
    for row in file.read_text().splitlines():
        within = bool(HEADER.match(row)) or (within and row.startswith("|"))
        if within:
            yield from CODE.findall(row.split(" | ")[0])


def fragments(line: str) -> list[str]:
    """What a line says between its values, as far as it is a word or more."""
    parts = [part.strip(" ,.()[]/") for part in VALUE.split(line)]
    named = [part for part in parts if " " in part]
    return named or [part for part in parts if part]


@cache
def texts() -> frozenset[str]:
    """All that the code says between the values of its texts."""
    return frozenset(
        part for file in files() for text in _texts_of(file) for part in PLACE.split(text)
    )


def _texts_of(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def unprinted(line: str) -> list[str]:
    """The fragments of a line that no text of the code has."""
    return [
        fragment
        for fragment in fragments(line)
        if fragment not in OF_OTHERS and not any(fragment in text for text in texts())
    ]


@pytest.mark.parametrize(
    "file", [file for file in FILES if any(shown_lines(file))], ids=lambda file: file.name
)
def test_the_lines_that_are_explained_are_printed(file: Path) -> None:
    wrong = {line: missing for line in shown_lines(file) if (missing := unprinted(line))}
    assert wrong == {}


def test_what_others_print_is_shown_somewhere() -> None:
    shown = {
        fragment for file in FILES for line in shown_lines(file) for fragment in fragments(line)
    }
    assert set(OF_OTHERS) - shown == set()


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("CELL: no worker serves it", []),
        ("CELL: nobody serves it", ["nobody serves it"]),
        ("... given up after 6 tries", ["given up after"]),
        ("CELL (HOST:PORT/DB): cannot connect: ...", []),
    ],
)
def test_a_line_that_nobody_prints_is_found(line: str, missing: list[str]) -> None:
    assert unprinted(line) == missing


def test_tables_of_lines_are_found() -> None:
    assert len([line for file in FILES for line in shown_lines(file)]) > 60
    assert ROOT.joinpath("docs", "operating.md") in FILES
