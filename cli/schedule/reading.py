"""Reading the schedule, with the grammar of this program."""

import contextlib
import io
from collections.abc import Sequence
from functools import partial
from typing import Any

import click
from oslo_config import cfg

from cli import configuration
from schedules import entries
from schedules.entries import Entry, InvalidSchedule, ParseCommand, ParsedCommand
from schedules.firings import Firings
from settings.errors import NotConfigured
from settings.read_files import describe_read_files
from settings.unknown import unknown_settings
from workers.redis_client import store_client


def load(*, check: bool = False) -> cfg.ConfigOpts:
    """The configuration, for a command that judges settings without effect itself."""
    return configuration.load(warn=False, check=check)


def read_strictly(conf: cfg.ConfigOpts) -> list[Entry]:
    """The enabled entries, if all that is configured has an effect: what has none may have been
    meant for them.

    :raises InvalidSchedule: an entry is wrong, or a setting has no effect
    """
    unknown = [str(setting) for setting in unknown_settings(conf)]
    try:
        enabled = read_entries(conf)
    except InvalidSchedule as refused:
        raise InvalidSchedule([*unknown, *refused.lines]) from None
    if unknown:
        raise InvalidSchedule(unknown)
    return enabled


def read_entries(conf: cfg.ConfigOpts, parse: ParseCommand | None = None) -> list[Entry]:
    """The enabled entries.

    :param parse: made by ``command_parser``, for a thread in which no command runs
    :raises InvalidSchedule: an entry is wrong
    """
    return entries.read_schedule(conf, parse or command_parser())


def command_parser() -> ParseCommand:
    """What understands command lines; made where a command runs, and good for any thread."""
    return partial(_parse_command, click.get_current_context().find_root().command)


def _parse_command(root: click.Command, words: Sequence[str]) -> ParsedCommand:
    """What a command line means, without carrying it out.

    :raises ValueError: the program would refuse it
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # --help
            context = root.make_context("cellkeeper", list(words), obj={})
            while isinstance(context.command, click.Group):
                context = _subcommand_context(context, context.command)
    except click.ClickException as error:
        raise ValueError(error.format_message()) from None
    except click.exceptions.Exit:
        raise ValueError("it only prints something") from None
    path = context.command_path.split()[1:]
    return ParsedCommand(" ".join(path), context.params, context.find_root().obj.get("words", []))


def _subcommand_context(context: click.Context, group: click.Group) -> click.Context:
    rest: list[Any] = [*context._protected_args, *context.args]
    if not rest:
        raise ValueError("it names no command")
    _, command, words = group.resolve_command(context, rest)
    assert command is not None
    return command.make_context(command.name, words, parent=context)


def firings(conf: cfg.ConfigOpts) -> Firings:
    """The memory of the schedule.

    :raises NotConfigured: there is no Redis
    """
    if not conf.celery.broker_url:
        raise NotConfigured(
            "There is no schedule without workers: set broker_url in section [celery] "
            f"({describe_read_files(conf)})"
        )
    return Firings(store_client(conf, 0))
