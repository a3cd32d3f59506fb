"""Options that several commands have, and how an option is declared."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

import click

from cli.grammar import Option

F = TypeVar("F", bound=Callable[..., Any])


class Decorator(Protocol):
    """What adds an option to any command."""

    def __call__(self, command: F) -> F: ...


def option(*names: str, **kwargs: Any) -> Decorator:
    """An option of the stock tool."""
    return cast(Decorator, click.option(*names, cls=Option, **kwargs))


def new_option(*names: str, **kwargs: Any) -> Decorator:
    """An option beyond the stock tool."""
    return cast(Decorator, click.option(*names, cls=Option, new=True, **kwargs))


ALL_CELLS: Decorator = option("--all-cells", is_flag=True, help="Run the command in all cells, cell0 included.")
DRY_RUN: Decorator = new_option("--dry-run", is_flag=True, help="Count what there is to do, by table; write nothing.")
CONCURRENCY: Decorator = new_option(
    "--concurrency", type=click.IntRange(min=1), metavar="N", help="Work at most N cells at the same time."
)
NO_WAIT: Decorator = new_option(
    "--no-wait", is_flag=True, help="End at once if the same command already works on one of the databases."
)
DETACH: Decorator = new_option(
    "--detach", is_flag=True, help="Leave the run to the workers; print its id, for: cellkeeper runs."
)
FORMAT: Decorator = new_option(
    "-f", "--format", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How to print."
)
