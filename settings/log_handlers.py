"""Guards log handlers: control characters are made visible, and a full disk costs one line."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from functools import partial

from settings.printable import printable, printable_lines


class PrintableFormatter(logging.Formatter):
    """Wraps a formatter so that a record is one line, plus the lines of its traceback."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        text = self.formatter.format(record)
        traceback = f"\n{record.exc_text}" if record.exc_text else ""
        if traceback and text.endswith(traceback):
            return printable(text.removesuffix(traceback)) + printable_lines(traceback)
        return printable(text.rstrip("\n"))


def guard_handlers() -> None:
    """Guard all handlers that exist now."""
    for handler in set(_handlers()):
        if not isinstance(handler.formatter, PrintableFormatter):
            handler.setFormatter(PrintableFormatter(handler.formatter or logging.Formatter()))
        handler.handleError = partial(_report_once, handler, set())  # type: ignore[method-assign]


def _handlers() -> Iterator[logging.Handler]:
    yield from logging.getLogger().handlers
    for logger in logging.getLogger().manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            yield from logger.handlers


def _report_once(
    handler: logging.Handler, reported_reasons: set[str], _record: logging.LogRecord
) -> None:
    """Report on standard error, once for each reason, that a line could not be written.

    The work goes on.
    """
    error = sys.exception()
    reason = type(error).__name__
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
    if reason in reported_reasons:
        return
    reported_reasons.add(reason)
    name = getattr(handler, "baseFilename", None) or type(handler).__name__
    with contextlib.suppress(OSError, ValueError):
        print(printable(f"The log {name} cannot be written: {reason}"), file=sys.stderr)
