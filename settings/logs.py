"""Adapts oslo.log: the format of its lines, and the journal without Nova's environment."""

import copy
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from oslo_config import cfg
from oslo_log.formatters import ContextFormatter

SYSLOG: Final = Path("/dev/log")


class ShortWarningFormatter(ContextFormatter):
    """oslo.log's format, without the exception that it appends to a warning logged meanwhile.

    Our lines say the same in words without secrets; the appended text is the driver's, after the
    name of a class. Lines with a traceback, from ``LOG.exception``, are unchanged.
    """

    def format(self, record: logging.LogRecord) -> str:
        if not record.exc_info:
            # oslo.log appends the exception from WARNING on.
            record = copy.copy(record)
            record.levelno = min(record.levelno, logging.INFO)
        return str(super().format(record))


def reach_journal(conf: cfg.ConfigOpts) -> None:
    """Honour ``use_journal`` of nova.conf without the Python module that it usually needs.

    systemd's journal also reads the socket of syslog. If there is no socket, logs go to standard
    error.
    """
    if conf.use_journal and find_spec("systemd") is None:
        conf.set_override("use_journal", False)
        conf.set_override("use_syslog", SYSLOG.exists())


def shorten_warnings(conf: cfg.ConfigOpts) -> None:
    """Keep the handlers of oslo.log from appending exceptions to warnings."""
    for handler in logging.getLogger().handlers:
        formatter = handler.formatter
        if type(formatter) is ContextFormatter:
            short_formatter = ShortWarningFormatter(
                project=formatter.project,
                version=formatter.version,
                datefmt=formatter.datefmt,
                config=conf,
            )
            handler.setFormatter(short_formatter)
