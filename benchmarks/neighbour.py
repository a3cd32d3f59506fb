"""``neighbour``: how long Nova's own statements take while deleted rows are archived beside
them.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from typing import Final, NamedTuple

from benchmarks.archivers import Archiver, archivers
from benchmarks.cloud import Cloud, WrongResult, cloud
from benchmarks.data import ROWS_PER_INSTANCE
from benchmarks.nova_load import RATE, Load, live_instances, make_services, sent
from benchmarks.tables import markdown, middle

INSTANCES: Final = 30_000
LIVE: Final = 3_000
SECONDS: Final = 60.0
"""After which whatever archives is stopped: what it has moved until then counts."""
QUICK_INSTANCES: Final = 5_000
QUICK_SECONDS: Final = 20.0
ROUNDS: Final = 3
PATIENCE: Final = 30.0
"""Seconds for a program to end that was asked to."""
ALONE: Final = Archiver("alone")
HEADER: Final = (
    "beside the load",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "worst ms",
    "p99 : alone",
    "rows/s",
)
TARGETS: Final = (
    "Targets: at any --max_rows p99 at most twice that of the load alone, worst at most 100 ms "
    "more, at 15 times the "
    "rows/s of nova-manage. Rows/s without the start of the program. pt-archiver leaves the API "
    "database alone."
)


class Figures(NamedTuple):
    """What was measured: latencies of the load in milliseconds, and rows archived each second."""

    p50: float
    p95: float
    p99: float
    worst: float
    speed: float


class Extent(NamedTuple):
    """How much there is to archive, and the seconds after which it is stopped."""

    instances: int
    seconds: float


def run(*, quick: bool, stock: str | None) -> str:
    """Measure; returns a table.

    :param quick: one short round instead of the median of several
    :param stock: the command of the stock tool, to compare with it too
    """
    extent = Extent(QUICK_INSTANCES, QUICK_SECONDS) if quick else Extent(INSTANCES, SECONDS)
    with (
        cloud(cells=1) as measured,
        tempfile.TemporaryDirectory(prefix="cellkeeper-bench-") as folder,
    ):
        sides = [ALONE, *archivers(measured, Path(folder), stock)]
        present = [side for side in sides if not side.absent]
        idle = {side.name: _seconds_to_start(measured, side) for side in present}
        rounds = [
            {
                side.name: _beside(measured, side, extent, idle[side.name])
                for side in _rotated(present, number)
            }
            for number in range(1 if quick else ROUNDS)
        ]
    figures = {
        side.name: _middle_of([of_side[side.name] for of_side in rounds]) for side in present
    }
    rows = [_row(side, figures) for side in sides]
    title = (
        f"{RATE} transactions of Nova's each second on {LIVE:,} live instances of a cell, each "
        "timed from when it was "
        f"due, while up to {extent.instances:,} deleted instances of {ROWS_PER_INSTANCE} rows are "
        "archived for at "
        f"most {extent.seconds:.0f} s:"
    )
    return f"{title}\n\n{markdown(HEADER, rows)}\n\n{TARGETS}"


def _middle_of(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    return Figures(*map(middle, zip(*rounds, strict=True)))


def _rotated(sides: list[Archiver], number: int) -> list[Archiver]:
    """The sides in another order in each round."""
    first = number % len(sides)
    return sides[first:] + sides[:first]


def _row(side: Archiver, figures: dict[str, Figures]) -> list[str]:
    if side.absent:
        return [f"{side.name} ({side.absent})", *[""] * (len(HEADER) - 1)]
    own = figures[side.name]
    latencies = [f"{milliseconds:.1f}" for milliseconds in own[:4]]
    ratio = own.p99 / figures[ALONE.name].p99
    return [side.name, *latencies, f"{ratio:.1f}", f"{own.speed:,.0f}" if side.commands else ""]


def _seconds_to_start(measured: Cloud, side: Archiver) -> float:
    """How long it takes where there is nothing to archive."""
    measured.fill(0)
    begin = time.monotonic()
    _archive(side, begin + PATIENCE)
    return time.monotonic() - begin


def _beside(measured: Cloud, side: Archiver, extent: Extent, idle: float) -> Figures:
    """Archive beside the load.

    :param idle: seconds that the side takes with nothing to do
    """
    cell = measured.cells[0]
    measured.fill(extent.instances, LIVE)
    with measured.link(cell) as link:
        make_services(link)
        instances = live_instances(link)
    load = Load(measured.server.port, cell, instances)
    with sent(load) as latencies:
        begin = time.monotonic()
        if side.commands:
            is_through = _archive(side, begin + extent.seconds)
        else:
            time.sleep(extent.seconds)
            is_through = False
        seconds = time.monotonic() - begin
    moved = measured.rows(cell, "shadow_")
    if is_through and moved != extent.instances * ROWS_PER_INSTANCE:
        raise WrongResult(f"{side.name} ended with {moved} rows in shadow tables")
    milliseconds = [1000 * latency for latency in latencies]
    percentiles = quantiles(milliseconds, n=100)
    worst = max(milliseconds)
    return Figures(
        percentiles[49], percentiles[94], percentiles[98], worst, moved / max(seconds - idle, 0.1)
    )


def _archive(side: Archiver, until: float) -> bool:
    """Carry out its commands until they have ended, or a time has come.

    :param until: by ``time.monotonic``
    :returns: whether they have ended by themselves
    """
    environment = os.environ | side.environment
    for command in side.commands:
        if time.monotonic() > until:
            return False
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            if not _ends_in_time(process, side, until):
                return False
    return True


def _ends_in_time(process: "subprocess.Popen[str]", side: Archiver, until: float) -> bool:
    """Wait for the end of a program; one that takes too long is stopped.

    :returns: whether it has ended by itself
    :raises WrongResult: it failed
    """
    try:
        said, _ = process.communicate(timeout=max(until - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        return False
    if process.returncode not in (0, 1):
        raise WrongResult(f"{side.name} ended with exit code {process.returncode}: {said}")
    return True
