"""Progress per cell: a live table on standard error where that is a terminal; dots on standard
output.
"""

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.output import put
from cli.run_summary import eta_in_words, mean_speed, rate_in_words
from cli.signals import STOPPING, watch
from jobs.action import CellResult
from novadb.cells import Cell
from runs.follow import Listener, SilentListener
from runs.pace import Speed
from settings.printable import printable

# Lines of the live table; cells beyond are summed up in the last one.
SHOWN: Final = 20
UNKNOWN: Final = Speed()


@dataclass
class _Line:
    cell: Cell
    begin: float
    rows: int = 0
    state: str = "working"
    speed: Speed = UNKNOWN
    throttled: str = ""


class Progress:
    """What each cell does right now."""

    def __init__(self, cells: int, stop: threading.Event) -> None:
        self._cells = cells
        self._stop = stop
        self._lines: dict[str, _Line] = {}
        self._speed = UNKNOWN
        self._lock = threading.Lock()

    def started(self, cell: Cell) -> None:
        with self._lock:
            self._lines[cell.identity] = _Line(cell, time.monotonic())

    def stepped(self, cell: Cell, rows: int) -> None:
        with self._lock:
            self._lines[cell.identity].rows += rows

    def paced(self, cell: Cell | None, speed: Speed) -> None:
        with self._lock:
            if cell is None:
                self._speed = speed
            elif line := self._lines.get(cell.identity):
                line.speed = speed

    def throttled(self, cell: Cell, reason: str) -> None:
        with self._lock:
            if line := self._lines.get(cell.identity):
                line.throttled = reason

    def finished(self, result: CellResult[Any]) -> None:
        with self._lock:
            line = self._lines.setdefault(
                result.cell.identity, _Line(result.cell, time.monotonic())
            )
            line.speed, line.throttled = mean_speed(result), ""
            line.state = "failed" if result.failure else "done" if result.complete else "stopped"

    def __rich__(self) -> Group:
        with self._lock:
            lines = sorted(
                self._lines.values(), key=lambda line: (line.state != "working", line.begin)
            )
            table = Table(box=None, pad_edge=False)
            for name in ("cell", "state"):
                table.add_column(name)
            for name in ("rows", "rate", "ETA"):
                table.add_column(name, justify="right")
            for line in lines[:SHOWN]:
                label = Text(printable(line.cell.label))  # a string could hold markup
                state = (
                    Text(printable(f"pauses: {line.throttled}")) if line.throttled else line.state
                )
                table.add_row(
                    label,
                    state,
                    f"{line.rows:,}",
                    rate_in_words(line.speed),
                    eta_in_words(line.speed),
                )
            finished = sum(line.state != "working" for line in lines)
            rows = sum(line.rows for line in lines)
            speed = self._speed if finished < len(lines) else UNKNOWN
            total = (
                "",
                f"{finished} of {self._cells} cells",
                f"{rows:,}",
                rate_in_words(speed),
                eta_in_words(speed),
            )
            table.add_row(*total)
            return Group(table, STOPPING) if self._stop.is_set() else Group(table)


class Dots:
    """A dot on standard output for every batch: so many rows of a cell, or what was left of them at
    its end.
    """

    def __init__(self, beginning: str, batch: int, at_once: bool) -> None:
        """:param beginning: of the line
        :param batch: rows
        :param at_once: print as it comes; otherwise all waits for ``flush``, lest it mix with the
            live table
        """
        self._batch = max(batch, 1)
        self._at_once = at_once
        self._rows: Counter[str] = Counter()
        self._waiting = ""
        self._lock = threading.Lock()
        self._print(beginning)

    def started(self, cell: Cell) -> None: ...

    def stepped(self, cell: Cell, rows: int) -> None:
        with self._lock:
            self._rows[cell.identity] += rows
            full, self._rows[cell.identity] = divmod(self._rows[cell.identity], self._batch)
            self._print("." * full)

    def paced(self, cell: Cell | None, speed: Speed) -> None: ...

    def throttled(self, cell: Cell, reason: str) -> None: ...

    def finished(self, result: CellResult[Any]) -> None:
        with self._lock:
            self._print("." if self._rows.pop(result.cell.identity, 0) else "")

    def _print(self, text: str) -> None:
        self._waiting += text
        if self._at_once:
            self.flush()

    def flush(self) -> None:
        """Print what waits."""
        if self._waiting:
            put(self._waiting, newline=False)
        self._waiting = ""


class Several:
    """Tells several listeners."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners

    def started(self, cell: Cell) -> None:
        for listener in self._listeners:
            listener.started(cell)

    def stepped(self, cell: Cell, rows: int) -> None:
        for listener in self._listeners:
            listener.stepped(cell, rows)

    def paced(self, cell: Cell | None, speed: Speed) -> None:
        for listener in self._listeners:
            listener.paced(cell, speed)

    def throttled(self, cell: Cell, reason: str) -> None:
        for listener in self._listeners:
            listener.throttled(cell, reason)

    def finished(self, result: CellResult[Any]) -> None:
        for listener in self._listeners:
            listener.finished(result)


@contextmanager
def shown(cells: int, stop: threading.Event) -> Iterator[Listener]:
    """A listener that shows progress while the context lasts; nothing where standard error is no
    terminal.

    :param stop: once set, the run ends after the current batches, and the table says so
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield SilentListener()
        return
    progress = Progress(cells, stop)
    direct = sys.stderr
    with (
        Live(progress, console=console, refresh_per_second=4) as live,
        _logs_moved(direct, sys.stderr),
    ):
        with watch.below_table(live.stop):
            yield progress


@contextmanager
def _logs_moved(old: TextIO, new: TextIO) -> Iterator[None]:
    """Let log lines that would go to one stream go to another: above the live table, not into
    it.
    """
    moved = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is old
    ]
    for handler in moved:
        handler.setStream(new)
    try:
        yield
    finally:
        for handler in moved:
            handler.setStream(old)
