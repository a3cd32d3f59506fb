"""Programs that are texts in the tests, which no linter sees: what they import from the product
exists.
"""

import ast
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
FILES: Final = sorted(
    file for room in ("tests", "benchmarks", "tools") for file in (ROOT / room).rglob("*.py")
)
PACKAGES: Final = {file.parent.name for file in ROOT.glob("*/__init__.py")} - {"tests"}
IMPORTING: Final = "from novadb.migrations.upgrade import {}"


def missing(source: str) -> list[str]:
    """What programs in a source import from modules that do not have it."""
    texts = [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and type(node.value) is str
    ]
    return [
        f"{node.module}.{alias.name}"
        for text in texts
        for node in imports(text)
        for alias in node.names
        if alias.name not in names_of(node.module or "")
    ]


def imports(text: str) -> list[ast.ImportFrom]:
    """The imports from the product, where a text is a program."""
    if "import " not in text:
        return []
    try:
        nodes = ast.walk(ast.parse(text))
    except SyntaxError:
        return []
    return [
        node
        for node in nodes
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in PACKAGES
    ]


def names_of(module: str) -> set[str]:
    """What a module of the product has: modules, or what it defines and imports."""
    place = ROOT.joinpath(*module.split("."))
    if place.is_dir():
        return {file.stem for file in place.iterdir()} | names_in(place / "__init__.py")
    return names_in(place.with_suffix(".py"))


def names_in(file: Path) -> set[str]:
    """The names that a file binds; none, where it is not there."""
    nodes = list(ast.walk(ast.parse(file.read_text()))) if file.is_file() else []
    bound = {
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    imported = {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return bound | defined | imported


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_a_program_in_a_text_imports_is_there(file: Path) -> None:
    assert missing(file.read_text()) == []


@pytest.mark.parametrize(
    ("name", "found"), [("MAIN_SCHEMA", []), ("GONE", ["novadb.migrations.upgrade.GONE"])]
)
def test_a_name_that_is_not_there_is_found(name: str, found: list[str]) -> None:
    assert missing(f"PROGRAM = {IMPORTING.format(name)!r}") == found
