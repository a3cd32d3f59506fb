"""Starting the command line of an entry: the program itself, as an operator would, so that it means the same."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from schedules.beat import Attempt
from schedules.entries import Entry

PROGRAM: Final = (sys.executable, "-P", "-c", "from cli.main import main; main()")
ENDING: Final = 5.0  # seconds for a process that was asked to end


class Launcher:
    """Starts processes with the global options of this one."""

    def __init__(self, words: Sequence[str]) -> None:
        """:param words: the global options: which configuration, where to log"""
        self._words = words

    def __call__(self, entry: Entry, run: str, nominal: datetime, seconds: float) -> Attempt:
        """Start the run of an entry. What waits for another run on its databases is for the caller: it gets the reason.

        :param run: its id
        :param nominal: when the firing was due: a maintenance window counts from it
        :param seconds: that it may take
        """
        closes = entry.closes(nominal)
        window = [f"--until={closes.isoformat()}"] if closes else []
        line = [*PROGRAM, *self._words, *entry.words, "--detach", "--no-wait", f"--run-id={run}", *window]
        # A session of its own: Ctrl-C is for the beat, which lets what it has begun come to its end.
        with subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            errors="replace", start_new_session=True,
        ) as process:  # fmt: skip
            try:
                _, said = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                end(process)
                return Attempt(False, f"it did not start within {seconds:g} s")
        if process.returncode == 0:
            return Attempt(True)
        lines = [one for one in said.splitlines() if one.strip()]
        return Attempt(False, lines[-1] if lines else f"it ended with exit code {process.returncode}")


def end(process: "subprocess.Popen[str]") -> None:
    """End a process that takes too long; it has written nothing yet that would be lost."""
    process.terminate()
    try:
        process.communicate(timeout=ENDING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
