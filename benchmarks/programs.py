"""The programs that are measured, as an operator starts them."""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

OWN_PROGRAM: Final = str(Path(sys.executable).parent / "cellkeeper")


class Ended(NamedTuple):
    """How a program ended.

    :ivar seconds: that it took, its start included
    """

    code: int
    seconds: float
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit code {self.code}: {self.out}{self.err}"


def programs(stock: str | None) -> dict[str, list[str]]:
    """The words that start each program, by its name.

    :param stock: the command of the stock tool, if it is measured too
    """
    return {"cellkeeper": [OWN_PROGRAM]} | ({"nova-manage": shlex.split(stock)} if stock else {})


def timed(command: Sequence[str]) -> Ended:
    """Run a program to its end."""
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Ended(done.returncode, time.perf_counter() - begin, done.stdout, done.stderr)
