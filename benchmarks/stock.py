"""Part of ``archive``: cellkeeper beside stock ``nova-manage``, both as programs."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.cloud import Cloud, WrongResult
from benchmarks.data import ROWS_PER_INSTANCE
from benchmarks.programs import programs, timed
from benchmarks.tables import markdown, middle

INSTANCES: Final = 500
COMMAND: Final = ("db", "archive_deleted_rows", "--until-complete")


class Times(NamedTuple):
    """Seconds that a program takes to archive all instances, and to start and find nothing to
    do.
    """

    whole: float
    idle: float

    @property
    def speed(self) -> float:
        """Rows per second."""
        return INSTANCES * ROWS_PER_INSTANCE / self.whole

    @property
    def own_speed(self) -> float:
        """Rows per second without the start of the program."""
        return INSTANCES * ROWS_PER_INSTANCE / (self.whole - self.idle)


def against_stock(measured: Cloud, stock: str, rounds: int) -> str:
    """Measure both, in turns; returns a table.

    :param stock: the command of the stock tool
    """
    both = programs(stock)
    with tempfile.TemporaryDirectory(prefix="cellkeeper-bench-") as folder:
        options = ["--config-file", str(measured.config(Path(folder))), *COMMAND]
        runs = [
            [_times(measured, [*words, *options]) for words in both.values()] for _ in range(rounds)
        ]
    own, rival = (
        Times(*map(middle, zip(*of_program, strict=True))) for of_program in zip(*runs, strict=True)
    )
    rows = [_row(name, times) for name, times in zip(both, (own, rival), strict=True)]
    rows.append(
        [
            "ratio",
            "",
            "",
            f"{own.speed / rival.speed:.1f}",
            f"{own.own_speed / rival.own_speed:.1f}",
        ]
    )
    header = ("program", "seconds", "with nothing to do", "rows/s", "rows/s without the start")
    title = (
        f"{INSTANCES} deleted instances of {ROWS_PER_INSTANCE} rows in one cell, "
        f"`{' '.join(COMMAND)}`:"
    )
    return f"{title}\n\n" + markdown(header, rows)


def _row(name: str, times: Times) -> list[str]:
    return [
        name,
        f"{times.whole:.1f}",
        f"{times.idle:.1f}",
        f"{times.speed:,.0f}",
        f"{times.own_speed:,.0f}",
    ]


def _times(measured: Cloud, command: Sequence[str]) -> Times:
    measured.fill(INSTANCES)
    whole = _seconds(command)
    measured.check_archived(INSTANCES)
    return Times(whole, _seconds(command))


def _seconds(command: Sequence[str]) -> float:
    ended = timed(command)
    if ended.code not in (0, 1):
        raise WrongResult(f"{command[0]} ended with {ended}")
    return ended.seconds
