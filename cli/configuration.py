"""The configuration of the current command."""

import logging
from typing import Final

import click
from oslo_config import cfg

from cli.output import say
from settings.files import load_configuration, read_configuration
from settings.sections import check_values
from settings.unknown import unknown_settings

# Options of the manual that are not on oslo's command line: ours alone, and one that oslo takes
# from files only.
OWN_WORDS: Final = frozenset(
    {"--post-mortem", "--nopost-mortem", "--watch-log-file", "--nowatch-log-file"}
)

CONFIGURATION: Final = "configuration"
"""Where a configuration that was read for the command stands, in the object of its root context."""
LATEST: Final = "latest"
"""Where the time stands until which the command may order its run, in seconds since the epoch."""


def load(*, warn: bool = True, check: bool = False) -> cfg.ConfigOpts:
    """Read the configuration that the global options name, and set up logging.

    Whoever carries a command out in a process of many may have read it already; then nothing else
    is done.

    :param warn: whether settings that have no effect are named on standard error
    :param check: whether to look at every value at once: for a command that works until a signal
        ends it
    :raises InvalidSetting: a file or a value cannot be understood
    :raises cfg.Error: a file is missing
    """
    ready: cfg.ConfigOpts | None = click.get_current_context().find_root().obj.get(CONFIGURATION)
    if ready is not None:
        return ready
    watched = [word for word in given() if "watch-log-file" in word][-1:]
    defaults = {"watch_log_file": watched == ["--watch-log-file"]} if watched else {}
    conf = load_configuration(words_for_oslo(), defaults)
    if conf.use_stderr and not conf.debug and not conf.log_config_append:
        # A cron job that went well has nothing to say.
        logging.getLogger().setLevel(logging.WARNING)
    if check:
        check_values(conf)
    if warn:
        for setting in unknown_settings(conf):
            say(f"Warning: {setting}")
    return conf


def read() -> cfg.ConfigOpts:
    """Read the configuration that the global options name, and leave logging alone.

    :raises cfg.Error: a file is missing or cannot be understood
    """
    return read_configuration(words_for_oslo())


def words_for_oslo() -> list[str]:
    """The global options that name files and log options, as oslo takes them."""
    return [word for word in given() if word not in OWN_WORDS]


def debugger_wanted() -> bool:
    """Whether ``--post-mortem`` is given."""
    return "--post-mortem" in given()


def latest_wanted() -> float | None:
    """Until when a run may be ordered, in seconds since the epoch; None: at any time."""
    latest: float | None = click.get_current_context().find_root().obj.get(LATEST)
    return latest


def given() -> list[str]:
    """The global options of the command line."""
    words: list[str] = click.get_current_context().find_root().obj.get("words", [])
    return words
