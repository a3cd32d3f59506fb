"""``empty``: what a cell costs in which there is nothing to do, as in most hourly runs."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.cloud import WrongResult, cloud
from benchmarks.stock import COMMAND
from benchmarks.tables import markdown, middle

CELLS: Final = 20
ROUNDS: Final = 3
TARGET: Final = 50  # ms


def run(*, quick: bool, stock: str | None) -> str:
    """Measure; returns a table.

    :param quick: one round instead of the median of several
    """
    with (
        cloud(CELLS) as measured,
        tempfile.TemporaryDirectory(prefix="cellkeeper-bench-") as folder,
    ):
        config = measured.config(Path(folder))
        pairs = [_in_new_process(config) for _ in range(1 if quick else ROUNDS)]
    processor, wall = (middle(seconds) * 1000 for seconds in zip(*pairs, strict=True))
    table = [
        ["per cell", f"{processor / CELLS:.1f}", f"{wall / CELLS:.1f}"],
        ["together", f"{processor:.0f}", f"{wall:.0f}"],
    ]
    title = (
        f"`{' '.join(COMMAND)} --all-cells` on {CELLS} cells with nothing to do, without the "
        "program's start:"
    )
    end = f"Target: less than {TARGET} ms of CPU per cell."
    return f"{title}\n\n{markdown(('', 'CPU ms', 'wall ms'), table)}\n\n{end}"


def _in_new_process(config: Path) -> tuple[float, float]:
    """Seconds of CPU and of wall time: nothing is warm but the imports."""
    command = [sys.executable, "-m", "benchmarks.empty", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WrongResult(done.stdout + done.stderr)
    processor, wall = json.loads(done.stdout.splitlines()[-1])
    return processor, wall


def measure(config: str) -> None:
    """Run the command in this process and print what it took; its own code is imported before."""
    import cli.db.archive_deleted_rows  # noqa: F401
    from cli import main

    before, begin = os.times(), time.perf_counter()
    code = main.run(["--config-file", config, *COMMAND, "--all-cells"])
    after, end = os.times(), time.perf_counter()
    print(json.dumps([after.user + after.system - before.user - before.system, end - begin]))
    sys.exit(code)


if __name__ == "__main__":
    measure(sys.argv[1])
