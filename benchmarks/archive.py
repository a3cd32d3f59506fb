"""``archive``: rows per second in one cell, beside a loop written by hand, and beside stock ``nova-manage``."""

import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.by_hand import archive
from benchmarks.cloud import API, Cloud, cloud
from benchmarks.data import ROWS_PER_INSTANCE
from benchmarks.tables import markdown, middle
from jobs.db.archive_deleted_rows import ACTION, Params
from runs.inline import InlineEngine

INSTANCES: Final = 5_000
MAX_ROWS: Final = (100, 1_000, 10_000, 100_000)
ROUNDS: Final = 3
STOCK_INSTANCES: Final = 500
COMMAND: Final = ("db", "archive_deleted_rows", "--until-complete")
OWN_PROGRAM: Final = str(Path(sys.executable).parent / "cellkeeper")

Side = Callable[[Cloud, int], None]


class WrongResult(Exception):
    """A side did not archive what it was to archive."""


def run(*, quick: bool, stock: str | None) -> str:
    """Measure; returns tables.

    :param quick: one round instead of the median of several
    :param stock: the command of the stock tool, to compare with it too
    """
    rounds = 1 if quick else ROUNDS
    with cloud(cells=1) as measured:
        parts = [_against_the_loop(measured, rounds)]
        if stock:
            parts.append(_against_stock(measured, stock, rounds))
    return "\n\n".join(parts)


def _against_the_loop(measured: Cloud, rounds: int) -> str:
    sides: tuple[Side, Side] = (_cellkeeper, _by_hand)
    rows = []
    for max_rows in MAX_ROWS:
        speeds = _interleaved(measured, sides, max_rows, rounds)
        rows.append([f"{max_rows:,}", *(f"{speed:,.0f}" for speed in speeds), f"{speeds[0] / speeds[1]:.2f}"])
    title = f"{INSTANCES:,} deleted instances of {ROWS_PER_INSTANCE} rows in one cell, rows/s:"
    return f"{title}\n\n" + markdown(("--max_rows", "cellkeeper", "loop by hand", "ratio"), rows)


def _interleaved(measured: Cloud, sides: tuple[Side, Side], max_rows: int, rounds: int) -> list[float]:
    """The rows per second of each side, the sides taking turns so that a noisy minute hits both."""
    seconds: list[list[float]] = [[] for _ in sides]
    for number in range(rounds):
        for side in sorted(range(len(sides)), key=lambda side: (side + number) % len(sides)):
            measured.fill(INSTANCES)
            begin = time.perf_counter()
            sides[side](measured, max_rows)
            seconds[side].append(time.perf_counter() - begin)
            _check(measured, INSTANCES)
    return [INSTANCES * ROWS_PER_INSTANCE / middle(times) for times in seconds]


def _cellkeeper(measured: Cloud, max_rows: int) -> None:
    params = Params(max_rows=max_rows, until_complete=True)
    (result,) = InlineEngine(concurrency=1, per_server=1).run(ACTION, params, [measured.target(1)])
    if result.failure:
        raise WrongResult(str(result.failure))


def _by_hand(measured: Cloud, max_rows: int) -> None:
    with measured.link(measured.cells[0]) as cell, measured.link(API) as api:
        archive(cell, api, max_rows // ROWS_PER_INSTANCE)


def _check(measured: Cloud, instances: int) -> None:
    """That all is archived: whoever is quick by doing less has not won."""
    cell = measured.cells[0]
    left, moved, api = measured.rows(cell), measured.rows(cell, "shadow_"), measured.api_rows()
    if (left, moved, api) != (0, instances * ROWS_PER_INSTANCE, 0):
        raise WrongResult(f"{left} rows are left, {moved} in shadow tables, {api} left in the API database")


def _against_stock(measured: Cloud, stock: str, rounds: int) -> str:
    """Both as programs; what they take to start and find nothing is taken off."""
    rows = STOCK_INSTANCES * ROWS_PER_INSTANCE
    with tempfile.TemporaryDirectory(prefix="cellkeeper-bench-") as folder:
        config = measured.config(Path(folder))
        programs = {"cellkeeper": [OWN_PROGRAM], "nova-manage": shlex.split(stock)}
        measurements = {
            name: [_program(measured, [*words, "--config-file", str(config), *COMMAND]) for _ in range(rounds)]
            for name, words in programs.items()
        }
    table = []
    for name, pairs in measurements.items():
        whole, empty = (middle(seconds) for seconds in zip(*pairs, strict=True))
        table.append([name, f"{whole:.1f}", f"{empty:.1f}", f"{rows / whole:,.0f}", f"{rows / (whole - empty):,.0f}"])
    (own, stock_speed) = (float(row[4].replace(",", "")) for row in table)
    (own_whole, stock_whole) = (float(row[3].replace(",", "")) for row in table)
    table.append(["ratio", "", "", f"{own_whole / stock_whole:.1f}", f"{own / stock_speed:.1f}"])
    header = ("program", "seconds", "with nothing to do", "rows/s", "rows/s beyond the start")
    title = f"{STOCK_INSTANCES} deleted instances of {ROWS_PER_INSTANCE} rows in one cell, `{' '.join(COMMAND)}`:"
    return f"{title}\n\n" + markdown(header, table)


def _program(measured: Cloud, command: list[str]) -> tuple[float, float]:
    """Seconds of a run with work, and of one without."""
    measured.fill(STOCK_INSTANCES)
    whole = _seconds(command)
    _check(measured, STOCK_INSTANCES)
    return whole, _seconds(command)


def _seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise WrongResult(f"{command[0]} ended with exit code {done.returncode}: {done.stdout}{done.stderr}")
    return time.perf_counter() - begin
