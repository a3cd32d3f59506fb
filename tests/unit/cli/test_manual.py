"""Every command of the manual is there: with its options and return codes, in --help, in docs/, in
its job's ``Exit``.

What the manual says is data: tests/data/manual.toml.
"""

import importlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import click
import pytest

from cli.main import cellkeeper

ROOT: Final = Path(__file__).parents[3]
MANUAL: Final[dict[str, Any]] = tomllib.loads((ROOT / "tests/data/manual.toml").read_text())
PROGRAM: Final = click.Context(cellkeeper, **cellkeeper.context_settings)
NUMBERS: Final = re.compile(r"`?\d+`?(?:(?:,| and) `?\d+`?)*")
LISTED: Final = re.compile(r"[-*] [`*]*(\d+)[`*]*[:.]? ")
RETURN_CODE: Final = re.compile(r"^ {4}(\d+) +\S", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """A command as the manual has it.

    :ivar codes: the return codes that it gives
    """

    name: str
    arguments: frozenset[str]
    options: frozenset[str]
    codes: frozenset[int]

    @property
    def action(self) -> str:
        return self.name.partition(" ")[2]

    def found(self) -> click.Command | None:
        """The command of the program."""
        category, action = self.name.split()
        group = cellkeeper.commands.get(category)
        return group.commands.get(action) if isinstance(group, click.Group) else None

    def there(self) -> click.Command:
        """The same, which is there."""
        command = self.found()
        assert command is not None
        return command

    def context(self) -> click.Context:
        return click.Context(self.there(), parent=PROGRAM, info_name=self.action)

    def is_named_in(self, text: str) -> bool:
        """Whether a heading or the first column of a table speaks of it: by its whole name, or by
        its action alone.
        """
        plain = text.replace("`", "").strip()
        return (
            plain == self.action
            or f"`{self.action}`" in text
            or bool(re.search(rf"\b{self.name}\b", plain))
        )


def manual() -> Iterator[Command]:
    for entry in MANUAL["command"]:
        yield Command(
            entry["name"],
            frozenset(entry.get("arguments", ())),
            frozenset(entry.get("options", ())),
            frozenset(map(int, entry.get("codes", {}))),
        )


COMMANDS: Final = list(manual())
DOCS: Final = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
each_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)


def shows(text: str, option: str) -> bool:
    """Whether a text names an option, and not only one that begins like it."""
    return re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text) is not None


def rows_of(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """The lines of a page that may give codes: the headings above each, and its columns.

    A first column that is left empty means the one above; an entry of a list is a single column.
    """
    headings: dict[int, str] = {}
    first = ""
    for line in text.splitlines():
        if line.startswith("#"):
            level = len(line) - len(line.lstrip("#"))
            headings = {depth: words for depth, words in headings.items() if depth < level} | {
                level: line.strip("# ")
            }
        elif line.startswith("|"):
            columns = [column.strip() for column in line.strip("|").split("|")]
            first = columns[0] or first
            yield list(headings.values()), [first, *columns[1:]]
        elif match := LISTED.match(line):
            yield list(headings.values()), [match[1]]


def codes_in(text: str, command: Command) -> set[int]:
    """The return codes that a page gives for a command: in a table or list below its name, or in a
    table beside it.
    """
    found: set[int] = set()
    for headings, columns in rows_of(text):
        if any(command.is_named_in(heading) for heading in headings):
            found |= _numbers(columns[0])
        if command.is_named_in(columns[0]) and len(columns) > 1:
            found |= _numbers(columns[1])
    return found


def _numbers(column: str) -> set[int]:
    return (
        {int(number) for number in re.findall(r"\d+", column)}
        if NUMBERS.fullmatch(column)
        else set()
    )


@each_command
def test_it_is_there(command: Command) -> None:
    assert command.found() is not None


@each_command
def test_it_takes_the_options_and_arguments_of_the_manual(command: Command) -> None:
    params = command.there().params
    assert {
        name for param in params for name in (*param.opts, *param.secondary_opts)
    } >= command.options
    arguments = [param for param in params if isinstance(param, click.Argument)]
    assert {
        one.make_metavar(command.context()).strip("[]") for one in arguments
    } >= command.arguments


@each_command
def test_its_help_shows_them_and_the_return_codes(command: Command) -> None:
    text = command.there().get_help(command.context())
    assert {option for option in command.options if not shows(text, option)} == set()
    assert {
        int(code) for code in RETURN_CODE.findall(text.partition("Return codes:")[2])
    } >= command.codes


@each_command
def test_its_job_has_the_return_codes(command: Command) -> None:
    codes: type[IntEnum] = importlib.import_module(f"jobs.{command.name.replace(' ', '.')}").Exit
    assert {int(code) for code in codes} >= command.codes


@each_command
def test_the_docs_explain_it(command: Command) -> None:
    pages = [text for text in DOCS.values() if shows(text, command.action)]
    assert {
        option for option in command.options if not any(shows(text, option) for text in pages)
    } == set()
    assert {code for text in pages for code in codes_in(text, command)} >= command.codes


@pytest.mark.parametrize("option", MANUAL["options"])
def test_every_command_takes_the_options_of_the_program(option: str) -> None:
    for command in COMMANDS:
        params = command.there().get_params(command.context())
        assert option in {name for param in params for name in (*param.opts, *param.secondary_opts)}
    assert shows(cellkeeper.get_help(PROGRAM), option)
    assert any(shows(text, option) for text in DOCS.values())


PAGE: Final = """
# Page
| command | code | meaning |
|---|---|---|
| `get` | 0 | fine |
| | 1, 2 | not so |
| `set` | 7 | |
## db put
### Codes
| code | |
|---|---|
| 3 | |
| `4` and 5 | |
## `drop`
- 6: gone
"""


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("db get", {0, 1, 2}),
        ("db set", {7}),
        ("db put", {3, 4, 5}),
        ("db drop", {6}),
        ("db other", set()),
    ],
)
def test_codes_are_found_wherever_a_page_gives_them(name: str, codes: set[int]) -> None:
    assert codes_in(PAGE, Command(name, frozenset(), frozenset(), frozenset())) == codes
