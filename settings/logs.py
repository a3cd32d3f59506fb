"""How log lines look."""

import copy
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from oslo_config import cfg
from oslo_log.formatters import ContextFormatter

SYSLOG: Final = Path("/dev/log")


class OnceFormatter(ContextFormatter):
    """oslo.log's format, without what it appends to a warning that is logged while an exception is handled.

    Our lines have said it already, in words without secrets; the appended text is the driver's, behind the name of a
    class. With a traceback, as ``LOG.exception`` wants it, a line stays as it was.
    """

    def format(self, record: logging.LogRecord) -> str:
        """A line. oslo.log appends nothing below WARNING."""
        if not record.exc_info:
            record = copy.copy(record)
            record.levelno = min(record.levelno, logging.INFO)
        return str(super().format(record))


def reach_journal(conf: cfg.ConfigOpts) -> None:
    """Let a nova.conf that wants the journal have it, also without the module that Nova's own environment has for it.

    systemd's journal reads the socket of syslog as well. Where nobody listens, logs go to standard error.
    """
    if conf.use_journal and find_spec("systemd") is None:
        conf.set_override("use_journal", False)
        conf.set_override("use_syslog", SYSLOG.exists())


def shorten_warnings(conf: cfg.ConfigOpts) -> None:
    """Let the handlers that oslo.log has set up say what went wrong once."""
    for handler in logging.getLogger().handlers:
        formatter = handler.formatter
        if type(formatter) is ContextFormatter:
            handler.setFormatter(
                OnceFormatter(
                    project=formatter.project, version=formatter.version, datefmt=formatter.datefmt, config=conf
                )
            )
