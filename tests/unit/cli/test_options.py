"""What Click hands to a command is what its function takes, by name and type."""

import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner

from cli.main import cellkeeper
from cli.options import ALL_CELLS, FORMAT, NO_WAIT, collect_into, option
from cli.run_options import RunOptions
from tests.support.command import call_here

# What an option's value is, by the name of its type; else it is text.
TYPES: Final = {
    "boolean": bool,
    "integer": int,
    "integer range": int,
    "float range": float,
    "choice": typing.Literal["table", "json"],
}
OWN_TYPES: Final = {"_PastTime": datetime, "_Span": timedelta}


def walk(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from walk(child, *path, name)
    else:
        yield " ".join(path), command


COMMANDS: Final = dict(walk(cellkeeper))


def type_of(param: click.Parameter, context: click.Context) -> Any:
    """What a command gets from an option or an argument."""
    kind = OWN_TYPES.get(type(param.type).__name__) or TYPES.get(param.type.name, str)
    if param.nargs == -1:
        return tuple[kind, ...]  # type: ignore[valid-type]
    is_flag = isinstance(param, click.Option) and param.is_flag
    always_there = (
        param.required or is_flag or not param.value_is_missing(param.get_default(context))
    )
    return kind if always_there else kind | None


def parameters(function: Any) -> dict[str, Any]:
    """The parameters of a function with their types; those that are a dataclass by its fields."""
    taken: dict[str, Any] = {}
    hints = typing.get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        assert parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL), name
        if is_dataclass(hints[name]):
            inner = typing.get_type_hints(hints[name])
            taken |= {field.name: inner[field.name] for field in fields(hints[name])}
        else:
            taken[name] = hints[name]
    return taken


@pytest.mark.parametrize("path", COMMANDS)
def test_a_function_takes_what_the_options_give(path: str) -> None:
    command = COMMANDS[path]
    context = click.Context(command)
    given = {param.name: type_of(param, context) for param in command.params if param.expose_value}
    taken = parameters(command.callback)
    # Have defaults: a command has some of them.
    shared = {field.name for field in fields(RunOptions)}
    assert {name: kind for name, kind in taken.items() if name in given} == given
    assert taken.keys() - given.keys() <= shared


@dataclass(frozen=True)
class Fruit:
    """Some options."""

    kind: str
    ripe: bool


@click.command()
@option("--kind", required=True)
@option("--ripe", is_flag=True)
@NO_WAIT
@FORMAT
@collect_into(Fruit)
@collect_into(RunOptions)
def pick(run: RunOptions, fruit: Fruit) -> int:
    click.echo(f"{fruit} {run}")
    return 0


def test_options_become_values() -> None:
    picked = CliRunner().invoke(pick, ["--kind", "pear", "--ripe", "--no-wait", "-f", "json"])
    assert picked.exit_code == 0
    assert (
        picked.output.strip() == f"{Fruit('pear', True)} {RunOptions(no_wait=True, format='json')}"
    )


def test_an_option_that_no_value_has_stays_an_argument_of_its_own() -> None:
    @click.command()
    @ALL_CELLS
    @FORMAT
    @collect_into(RunOptions)
    def count(run: RunOptions, all_cells: bool) -> int:
        click.echo(f"{run.json} {all_cells}")
        return 0

    assert CliRunner().invoke(count, ["--all-cells"]).output == "False True\n"


@pytest.mark.parametrize(
    "option",
    [
        "db archive_deleted_rows --sleep",
        "cell_v2 discover_hosts --wait-for 1 --timeout",
        "metrics --backlog-every",
    ],
)
@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400", "1e300", "1000001", "-1"])
def test_seconds_are_a_number_of_seconds(option: str, text: str) -> None:
    ended = call_here(f"{option} {text}")
    assert (ended.code, ended.out) == (2, "")
    assert re.search(
        r"Invalid value for '--\S+': .* is not (a number of seconds|in the range)", ended.err
    )
