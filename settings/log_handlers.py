"""What becomes of a log line on its way out: control characters are shown, and a disk that is full costs one line."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from functools import partial

from settings.printable import printable, printable_lines


class PrintableFormatter(logging.Formatter):
    """Another formatter, whose records are a line each, and a line for each of a traceback's."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        text = self.formatter.format(record)
        traceback = f"\n{record.exc_text}" if record.exc_text else ""
        if traceback and text.endswith(traceback):
            return printable(text.removesuffix(traceback)) + printable_lines(traceback)
        return printable(text.rstrip("\n"))


def guard_handlers() -> None:
    """Guard all handlers that there are."""
    for handler in set(_handlers()):
        if not isinstance(handler.formatter, PrintableFormatter):
            handler.setFormatter(PrintableFormatter(handler.formatter or logging.Formatter()))
        handler.handleError = partial(_say_once, handler, set())  # type: ignore[method-assign]


def _handlers() -> Iterator[logging.Handler]:
    yield from logging.getLogger().handlers
    for logger in logging.getLogger().manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            yield from logger.handlers


def _say_once(handler: logging.Handler, said: set[str], _record: logging.LogRecord) -> None:
    """Say on standard error, once for each reason, that a line could not be written: the work goes on.

    :param said: the reasons that were said before
    """
    error = sys.exception()
    reason = f"{error.strerror or error}" if isinstance(error, OSError) else type(error).__name__
    if reason in said:
        return
    said.add(reason)
    name = getattr(handler, "baseFilename", None) or type(handler).__name__
    with contextlib.suppress(OSError, ValueError):
        print(printable(f"The log {name} cannot be written: {reason}"), file=sys.stderr)
