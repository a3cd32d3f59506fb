"""What the documents name exists: options of commands, options of the configuration, files."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from cli.main import cellkeeper
from settings.sample import nova_options, own_options
from tests.docs.printed import FILES, INLINE, LINK, LINK_WITHIN, Block, blocks

SECTION: Final = re.compile(r"\[(\w+)\]$")
OPTION: Final = re.compile(r"(\w+) = ")
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def unknown_words(line: str) -> list[str]:
    """The commands and options of a command line that do not exist."""
    command: click.Command = cellkeeper
    context = click.Context(command, **cellkeeper.context_settings)
    unknown = []
    for word in shlex.split(line)[1:]:
        if isinstance(command, click.Group) and not word.startswith("-"):
            found = command.get_command(context, word)
            if found is None:
                return [word]
            command = found
        elif word.startswith("--"):
            name = word.partition("=")[0]
            known = {
                name
                for option in command.get_params(context)
                for name in (*option.opts, *option.secondary_opts)
            }
            if name.replace("-", "_") not in {one.replace("-", "_") for one in known}:
                unknown.append(word)
    return unknown


@each_file
def test_commands_within_the_text_exist(file: Path) -> None:
    text = re.sub(r"\s+", " ", file.read_text())
    for line in INLINE.findall(text):
        if not re.search(r"[|<>…]|\.\.\.|COMMAND", line):
            assert unknown_words(line) == [], line


def test_a_word_that_does_not_exist_is_found() -> None:
    assert unknown_words("cellkeeper db purge --all --befor 90d") == ["--befor"]
    assert unknown_words("cellkeeper db purgatory") == ["purgatory"]
    assert unknown_words("cellkeeper --debug db archive --max-rows 5") == []


def settings_of(block: Block) -> Iterator[tuple[str, str]]:
    """The sections and options that a block shows."""
    section = ""
    for line in block.lines:
        if match := SECTION.match(line):
            section = match[1]
        elif section and (match := OPTION.match(line)):
            yield section, match[1]


@each_file
def test_options_of_the_configuration_exist(file: Path) -> None:
    known = {
        group.name: {option.dest for option in options}
        for group, options in (*own_options(), *nova_options())
    }
    shown = [found for block in blocks(file) for found in settings_of(block)]
    for section, name in shown:
        if section in known:
            assert name in known[section], f"[{section}] {name}"


@each_file
def test_links_lead_somewhere(file: Path) -> None:
    for target in LINK.findall(file.read_text()):
        if "://" not in target:
            assert (file.parent / target).exists(), target


def anchors(file: Path) -> set[str]:
    """What the headings of a document are called in links, as GitHub does it."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@each_file
def test_links_to_headings_lead_somewhere(file: Path) -> None:
    for target, heading in LINK_WITHIN.findall(file.read_text()):
        if "://" not in target:
            assert heading in anchors(file.parent / target if target else file), (
                f"{target}#{heading}"
            )
