"""``archive``: rows per second in one cell, beside a loop written by hand, and beside stock
``nova-manage``.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from benchmarks.by_hand import archive
from benchmarks.cloud import API, Cloud, WrongResult, cloud
from benchmarks.data import ROWS_PER_INSTANCE
from benchmarks.stock import against_stock
from benchmarks.tables import markdown, middle
from jobs.db.archive_deleted_rows import ACTION, Params
from runs.local import LocalEngine

INSTANCES: Final = 5_000
MAX_ROWS: Final = (100, 1_000, 10_000, 100_000)
ROUNDS: Final = 3

Side = Callable[[Cloud, int], None]


class Cost(NamedTuple):
    """Seconds to archive all instances: by the clock, and of CPU, which depends less on what else
    runs.
    """

    wall: float
    client: float
    server: float

    @property
    def speed(self) -> float:
        """Rows per second."""
        return INSTANCES * ROWS_PER_INSTANCE / self.wall

    def __str__(self) -> str:
        return f"{self.client:.1f} + {self.server:.1f}"


def run(*, quick: bool, stock: str | None) -> str:
    """Measure; returns tables.

    :param quick: one round instead of the median of several
    :param stock: the command of the stock tool, to compare with it too
    """
    rounds = 1 if quick else ROUNDS
    with cloud(cells=1) as measured:
        parts = [_against_the_loop(measured, rounds)]
        if stock:
            parts.append(against_stock(measured, stock, rounds))
    return "\n\n".join(parts)


def _against_the_loop(measured: Cloud, rounds: int) -> str:
    rows = []
    for max_rows in MAX_ROWS:
        own, rival = _interleaved(measured, (_cellkeeper, _by_hand), max_rows, rounds)
        speeds = [f"{cost.speed:,.0f}" for cost in (own, rival)]
        rows.append(
            [f"{max_rows:,}", *speeds, f"{own.speed / rival.speed:.2f}", str(own), str(rival)]
        )
    header = ("--max_rows", "rows/s", "by hand", "ratio", "CPU s: client + server", "by hand")
    title = (
        f"{INSTANCES:,} deleted instances of {ROWS_PER_INSTANCE} rows in one cell; beside it "
        "a "
        "loop written by hand:"
    )
    return f"{title}\n\n" + markdown(header, rows)


def _interleaved(measured: Cloud, sides: Sequence[Side], max_rows: int, rounds: int) -> list[Cost]:
    """What each side costs, the sides taking turns so that a noisy minute hits both."""
    costs: list[list[Cost]] = [[] for _ in sides]
    for number in range(rounds):
        for side in sorted(range(len(sides)), key=lambda side: (side + number) % len(sides)):
            measured.fill(INSTANCES)
            costs[side].append(_cost(measured, sides[side], max_rows))
            measured.check_archived(INSTANCES)
    return [Cost(*map(middle, zip(*of_side, strict=True))) for of_side in costs]


def _cost(measured: Cloud, side: Side, max_rows: int) -> Cost:
    client, server, begin = os.times(), measured.processor(), time.perf_counter()
    side(measured, max_rows)
    seconds, after = time.perf_counter() - begin, os.times()
    own = after.user + after.system - client.user - client.system
    return Cost(seconds, own, measured.processor() - server)


def _cellkeeper(measured: Cloud, max_rows: int) -> None:
    params = Params(max_rows=max_rows, until_complete=True)
    (result,) = LocalEngine(concurrency=1, per_server=1).work(ACTION, params, [measured.target(1)])
    if result.failure:
        raise WrongResult(str(result.failure))


def _by_hand(measured: Cloud, max_rows: int) -> None:
    with measured.link(measured.cells[0]) as cell, measured.link(API) as api:
        archive(cell, api, max_rows // ROWS_PER_INSTANCE)
