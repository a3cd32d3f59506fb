"""``memory``: whether the program grows with the work it does."""

import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.cloud import Cloud, WrongResult, cloud
from benchmarks.data import ROWS_PER_INSTANCE
from benchmarks.programs import OWN_PROGRAM
from benchmarks.stock import COMMAND
from benchmarks.tables import markdown

FEW_ROWS: Final = 10_000
MANY_ROWS: Final = 1_000_000
QUICK_ROWS: Final = 100_000
MAX_ROWS: Final = 10_000
POLL: Final = 0.02  # seconds
TARGET: Final = 10.0  # MB
RESIDENT: Final = re.compile(r"^(VmHWM|VmRSS):\s+(\d+) kB", re.MULTILINE)


class Use(NamedTuple):
    """Resident memory of a process in MB: the most it ever had, and at its end."""

    peak: float
    last: float


def run(*, quick: bool, stock: str | None) -> str:
    """Measure; returns a table.

    :param quick: with fewer rows
    """
    table, peaks = [], []
    with cloud(cells=1) as measured:
        for wanted in (FEW_ROWS, QUICK_ROWS if quick else MANY_ROWS):
            instances = wanted // ROWS_PER_INSTANCE
            measured.fill(instances)
            begin = time.perf_counter()
            use = _archive(measured)
            seconds = time.perf_counter() - begin
            if left := measured.rows(measured.cells[0]):
                raise WrongResult(f"{left} rows are left")
            peaks.append(use.peak)
            rows = instances * ROWS_PER_INSTANCE
            table.append([f"{rows:,}", f"{use.peak:.1f}", f"{use.last:.1f}", f"{seconds:.1f}"])
    header = ("rows archived", "peak resident MB", "at the end MB", "seconds")
    growth = f"Growth of the peak: {peaks[1] - peaks[0]:.1f} MB; target: less than {TARGET:g} MB."
    return f"`{' '.join(COMMAND)} --max_rows {MAX_ROWS}`:\n\n{markdown(header, table)}\n\n{growth}"


def _archive(measured: Cloud) -> Use:
    """Run the program and watch its memory."""
    with tempfile.TemporaryDirectory(prefix="cellkeeper-bench-") as folder:
        config = measured.config(Path(folder))
        command = [OWN_PROGRAM, "--config-file", str(config), *COMMAND, "--max_rows", str(MAX_ROWS)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            use = watch(process)
    if process.returncode != 1:
        raise WrongResult(f"exit code {process.returncode}")
    return use


def watch(process: "subprocess.Popen[bytes]") -> Use:
    """Look at the memory of a process until it has ended."""
    status = Path(f"/proc/{process.pid}/status")
    use = Use(0, 0)
    while process.poll() is None:
        # A process that has just ended has no memory any more.
        if found := dict(RESIDENT.findall(status.read_text())):
            use = Use(int(found["VmHWM"]) / 1024, int(found["VmRSS"]) / 1024)
        time.sleep(POLL)
    return use
