"""nova.conf and the logging options, read by oslo.config and oslo.log."""

import logging
from typing import Final

import click
from oslo_config import cfg
from oslo_log import log

from cli.version import version
from novadb import settings

PROGRAM: Final = "cellkeeper"
# Ours alone, not oslo's.
OWN_WORDS: Final = frozenset({"--post-mortem", "--nopost-mortem"})


def load() -> cfg.ConfigOpts:
    """Read the configuration for the current command, and set up logging.

    The files are those the stock tool reads, and ``cellkeeper.conf`` beside them. Logs go to standard error unless
    the configuration says otherwise: standard output is for results.

    :raises cfg.Error: a file is missing or cannot be understood
    """
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    conf.set_default("use_stderr", True)
    settings.register(conf)
    words = [word for word in _given() if word not in OWN_WORDS]
    files = cfg.find_config_files(project="nova", prog="nova-manage")
    files += [name for name in cfg.find_config_files(project="nova", prog=PROGRAM) if name not in files]
    conf(words, project="nova", prog=PROGRAM, version=version(), default_config_files=files)
    if conf.log_file or conf.log_dir:
        conf.set_default("use_stderr", False)
    log.setup(conf, PROGRAM)
    if conf.use_stderr and not conf.debug and not conf.log_config_append:
        logging.getLogger().setLevel(logging.WARNING)  # a cron job that went well has nothing to say
    return conf


def debugger_wanted() -> bool:
    """Whether ``--post-mortem`` is given."""
    return "--post-mortem" in _given()


def _given() -> list[str]:
    """The global options of the command line."""
    words: list[str] = click.get_current_context().find_root().obj.get("words", [])
    return words
