"""Options that several commands have, and how an option is declared."""

import math
import re
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, cast

import click

from cli.grammar import Option

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
V = TypeVar("V")

LONGEST: Final = 1_000_000
"""Seconds that an option takes at most: eleven days."""


class Decorator(Protocol):
    """What adds an option to any command."""

    def __call__(self, command: F) -> F: ...


def option(*names: str, **kwargs: Any) -> Decorator:
    """An option of the stock tool."""
    return cast(Decorator, click.option(*names, cls=Option, **kwargs))


def new_option(*names: str, **kwargs: Any) -> Decorator:
    """An option beyond the stock tool."""
    return cast(Decorator, click.option(*names, cls=Option, new=True, **kwargs))


def collect_into(
    kind: Callable[..., V],
) -> Callable[[Callable[Concatenate[V, P], int]], Callable[P, int]]:
    """Hand a command some of its options as one value, before its other arguments.

    :param kind: a dataclass; it is given the options that have the name of one of its fields
    """
    names = {field.name for field in fields(cast(Any, kind))}

    def decorate(command: Callable[Concatenate[V, P], int]) -> Callable[P, int]:
        @wraps(command)
        def collected(*args: P.args, **given: P.kwargs) -> int:
            value = kind(**{name: given.pop(name) for name in names & given.keys()})
            return command(value, *args, **given)

        return collected

    return decorate


class _ClosingTime(click.ParamType):  # type: ignore[type-arg]
    """``HH:MM``, or a moment with its offset from UTC; ``jobs.dates`` says which moment is
    meant.
    """

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from jobs import dates  # --help must be quick

        try:
            dates.check_closing_time(value)
        except ValueError as error:
            self.fail(f"{error}.")
        return value


class _Seconds(click.FloatRange):
    """A number of seconds. What ``float`` takes for one without being a number is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds.")
        return seconds


def seconds(least: float) -> click.FloatRange:
    """The type of an option that takes a number of seconds.

    :param least: that it takes
    """
    return _Seconds(min=least, max=LONGEST)


def _check_run_id(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", value):
        raise click.BadParameter(f"{value!r} is not made of letters, digits, '_', '.' and '-'.")
    return value


def _detach(command: F) -> F:
    """``--detach``, and the name for the run."""
    named = new_option(
        "--run-id",
        metavar="NAME",
        callback=_check_run_id,
        help="Name the run of workers. A second command with this name follows that run instead of "
        "starting one.",
    )
    plain = new_option(
        "--detach",
        is_flag=True,
        help="Leave the run to the workers; print its id, for: cellkeeper runs.",
    )
    return plain(named(command))


ALL_CELLS: Decorator = option(
    "--all-cells", is_flag=True, help="Run the command in all cells, cell0 included."
)
DRY_RUN: Decorator = new_option(
    "--dry-run", is_flag=True, help="Count what there is to do, by table; write nothing."
)


def concurrency(meaning: str) -> Decorator:
    """``--concurrency``.

    :param meaning: what ``N`` bounds
    """
    return new_option("--concurrency", type=click.IntRange(min=1), metavar="N", help=meaning)


CONCURRENCY: Decorator = concurrency("Work at most N cells at the same time.")
NO_WAIT: Decorator = new_option(
    "--no-wait",
    is_flag=True,
    help="Exit at once if another run of the same command holds one of the databases.",
)
DETACH: Decorator = _detach
UNTIL: Decorator = new_option(
    "--until",
    begins=r"\d",
    type=_ClosingTime(),
    metavar="HH:MM",
    help="Stop after the current batches at this time (of the option timezone), and say what is "
    "left.",
)
NO_THROTTLE: Decorator = new_option(
    "--no-throttle",
    is_flag=True,
    help="Go on while a database server suffers. Without it the work pauses by the limits of "
    "section [throttle].",
)
FORMAT: Decorator = new_option(
    "-f",
    "--format",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Format of the output.",
)
