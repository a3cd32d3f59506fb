"""``--help``: quick, complete, and true to the codes of the jobs."""

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Final

import click
import pytest
from click.testing import CliRunner

from cli.main import cellkeeper

ROOT: Final = Path(__file__).parents[3]
# What a command needs to work, and its help does not: each of them takes longer to import than the
# help to print.
HEAVY: Final = {
    "celery",
    "keystoneauth1",
    "requests",
    "kombu",
    "redis",
    "sqlalchemy",
    "pymysql",
    "oslo_config",
    "oslo_log",
    "prettytable",
    "rich",
    "dateutil",
}
# Prints the help and then, behind an empty character, what was imported for it.
PRINT_HELP: Final = """
import sys
from cli.main import run
code = run(sys.argv[1:])
print(chr(0), *{name.partition('.')[0] for name in sys.modules})
sys.exit(code)
"""
RETURN_CODE: Final = re.compile(r"^ {4}(\d+) +(\S.*)$", re.MULTILINE)


def walk(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from walk(child, *path, name)


COMMANDS: Final = list(walk(cellkeeper))
# Those of nova-manage: a category and a command. The rest is about runs, workers and the schedule.
JOBS: Final = [
    path for path in COMMANDS if len(path) == 2 and path[0] not in ("runs", "schedule", "throttle")
]
each_command = pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
each_job = pytest.mark.parametrize("path", JOBS, ids=" ".join)


def command_of(path: tuple[str, ...]) -> tuple[click.Command, click.Context]:
    command: click.Command = cellkeeper
    context = click.Context(command, info_name="cellkeeper", **cellkeeper.context_settings)
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
        context = click.Context(command, parent=context, info_name=name)
    return command, context


def help_of(path: tuple[str, ...]) -> str:
    command, context = command_of(path)
    return command.get_help(context)


def options_of(path: tuple[str, ...]) -> list[click.Option]:
    command, context = command_of(path)
    return [option for option in command.get_params(context) if isinstance(option, click.Option)]


def shows(text: str, option: click.Option) -> bool:
    """Whether a help text names an option by all its names."""
    return all(
        re.search(rf"(^|\s){re.escape(name)}\b", text)
        for name in (*option.opts, *option.secondary_opts)
    )


def test_there_are_jobs_to_look_at() -> None:
    assert {("db", "archive_deleted_rows"), ("db", "purge")} <= set(JOBS)


@each_command
def test_help_imports_nothing_of_what_the_command_needs_to_work(path: tuple[str, ...]) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", PRINT_HELP, *path, "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    text, _, modules = shown.partition("\0")
    assert text.startswith("Usage: cellkeeper")
    assert "click" in modules.split()
    assert not HEAVY & set(modules.split())


@each_command
def test_every_option_is_in_the_help_of_its_command_or_in_that_of_the_program(
    path: tuple[str, ...],
) -> None:
    own, general = help_of(path), help_of(())
    for option in options_of(path):
        assert shows(general if option.hidden else own, option), option.opts


@each_command
def test_every_option_says_what_it_does(path: tuple[str, ...]) -> None:
    for option in options_of(path):
        assert option.help, option.opts
        assert option.help.endswith("."), option.opts


@each_command
def test_help_speaks_of_the_options_that_it_does_not_list(path: tuple[str, ...]) -> None:
    if any(option.hidden for option in options_of(path)):
        assert "The options that cellkeeper --help shows apply here, too." in " ".join(
            help_of(path).split()
        )


def test_global_options_are_the_same_at_each_command() -> None:
    general = {name for option in options_of(()) for name in (*option.opts, *option.secondary_opts)}
    for path in COMMANDS:
        own = {
            name for option in options_of(path) for name in (*option.opts, *option.secondary_opts)
        }
        assert general <= own, path


@each_command
def test_a_list_of_commands_cuts_no_sentence_short(path: tuple[str, ...]) -> None:
    command, _ = command_of(path)
    if isinstance(command, click.Group):
        shown = CliRunner().invoke(cellkeeper, path).output.splitlines()
        assert len(shown) > len(command.commands)
        assert [line for line in shown if line.endswith("...")] == []


@each_job
def test_what_workers_do_has_every_option_of_a_run(path: tuple[str, ...]) -> None:
    names = {name for option in options_of(path) for name in option.opts}
    if "--detach" in names:
        assert {"--run-id", "--no-wait", "--until", "--format"} <= names
        # Of a single cell nothing is worked at once.
        assert "--concurrency" in names or "--cell_uuid" in names


@each_job
def test_the_return_codes_in_the_help_are_those_of_the_job(path: tuple[str, ...]) -> None:
    codes: type[IntEnum] = importlib.import_module(f"jobs.{'.'.join(path)}").Exit
    listed = RETURN_CODE.findall(
        help_of(path).partition("Return codes:")[2].partition("Options:")[0]
    )
    assert [int(code) for code, _ in listed] == sorted(codes)
    assert len({meaning for _, meaning in listed}) == len(listed)


@pytest.mark.parametrize(
    ("command", "codes"),
    [
        (
            "archive_deleted_rows",
            {
                "0": "Nothing was archived.",
                "1": "Some number of rows were archived.",
                "2": "Invalid value for --max_rows.",
                "3": "No connection to the API database could be established.",
                "4": "Invalid value for --before.",
                "255": "An unexpected error occurred.",
            },
        ),
        (
            "purge",
            {
                "0": "Rows were deleted.",
                "1": "Required arguments were not provided.",
                "2": "Invalid value for --before.",
                "3": "Nothing was purged.",
                "4": "No connection to the API database could be established.",
                "255": "An unexpected error occurred.",
            },
        ),
        (
            "sync",
            {
                "0": "Successfully synced database schema.",
                "1": "Failed to access cell0.",
                "255": "An unexpected error occurred.",
            },
        ),
    ],
)
def test_the_help_gives_the_manuals_words_for_each_code(
    command: str, codes: dict[str, str]
) -> None:
    assert dict(RETURN_CODE.findall(help_of(("db", command)))) == codes


@each_command
def test_no_line_of_the_help_is_wider_than_a_terminal(path: tuple[str, ...]) -> None:
    assert max(map(len, help_of(path).splitlines())) <= 80
