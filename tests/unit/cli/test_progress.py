"""The live table of a command: each cell with its rate and its end, and the sum below."""

import io
import logging
import os
import pty
import re
import subprocess
import sys
import threading

import pytest
from rich.console import Console

from cli.output import say
from cli.progress import Progress, shown
from cli.signals import STOPPING
from jobs.action import CellResult
from novadb.cells import Cell
from novadb.errors import DatabaseProblem
from runs.pace import Speed
from tests.support.run_records import moved

CELL1, CELL2 = (
    Cell(f"uuid-{name}", name, frozenset(), DatabaseProblem("no database"))
    for name in ("cell1", "cell2")
)


def lines(progress: Progress) -> list[list[str]]:
    """What is shown, in words."""
    console = Console(file=io.StringIO(), width=80)
    with console.capture() as captured:
        console.print(progress)
    return [line.split() for line in captured.get().splitlines()]


def test_each_cell_has_a_rate_and_an_eta_as_far_as_they_are_known() -> None:
    progress = Progress(3, threading.Event())
    for cell in (CELL1, CELL2):
        progress.started(cell)
    progress.stepped(CELL1, 5000)
    progress.paced(CELL1, Speed(1234.5, 120_000))
    progress.paced(CELL2, Speed(2.5, None))
    progress.paced(None, Speed(1237.0, None))
    assert lines(progress) == [
        ["cell", "state", "rows", "rate", "ETA"],
        ["cell1", "working", "5,000", "1,234/s", "0:01:37"],
        ["cell2", "working", "0", "2.5/s"],
        ["0", "of", "3", "cells", "5,000", "1,237/s"],
    ]


def test_a_cell_that_has_ended_shows_the_rate_of_all_its_time() -> None:
    progress = Progress(1, threading.Event())
    progress.started(CELL1)
    progress.stepped(CELL1, 5000)
    progress.paced(CELL1, Speed(1.0, 10))
    progress.paced(None, Speed(1.0, 10))
    progress.finished(CellResult(CELL1, moved(5000), seconds=2.0))
    assert lines(progress)[1:] == [
        ["cell1", "done", "5,000", "2,500/s"],
        ["1", "of", "1", "cells", "5,000"],
    ]


class Terminal(io.TextIOWrapper):
    """A terminal for standard error, with the buffer that a real one has."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def seen(self) -> str:
        """All that was written to it."""
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]  # it is a BytesIO


def test_messages_and_log_lines_stand_above_the_live_table_on_lines_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    handler = logging.StreamHandler(terminal)
    logging.getLogger().addHandler(handler)
    try:
        with shown(1, threading.Event()) as progress:
            progress.started(CELL1)
            say("Waiting for another run: db.purge")
            logging.getLogger("somebody").warning("a line of the log")
        say("the end")
        logging.getLogger("somebody").warning("after it")
    finally:
        logging.getLogger().removeHandler(handler)
    above, line, rest = terminal.seen.partition("Waiting for another run: db.purge\n")
    assert line
    assert above.endswith("\x1b[2K"), "the table was cleared before it, from its first line on"
    log, line, rest = rest.partition("a line of the log\n")
    assert line
    assert log.endswith("\x1b[2K")
    assert "0 of 1 cells" in rest
    assert rest.endswith("the end\nafter it\n")


INTERRUPTED_TWICE = """
import os, signal, threading
from cli.progress import shown
from cli.signals import graceful_stop, watch
watch.begin()
with graceful_stop() as stop, shown(1, stop):
    os.kill(os.getpid(), signal.SIGINT)
    stop.wait()
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait()
"""
ESCAPES = re.compile(r"\x1b\[[?;\d]*[A-Za-z]|\r")


def test_the_farewell_of_a_second_ctrl_c_stands_below_the_table() -> None:
    terminal, standard_error = pty.openpty()
    command = [sys.executable, "-c", INTERRUPTED_TWICE]
    with subprocess.Popen(
        command, stderr=standard_error, env=os.environ | {"TERM": "xterm"}
    ) as process:
        os.close(standard_error)
        seen = b"".join(iter(lambda: read(terminal), b"")).decode()
    os.close(terminal)
    assert process.returncode == 130
    assert ESCAPES.sub("", seen).endswith(f"\n{STOPPING}\nLeft at once.\n"), seen


def read(terminal: int) -> bytes:
    """What was written to a terminal; nothing once nobody has it open any more."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""
