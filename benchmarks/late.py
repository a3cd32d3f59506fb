"""``late``: whether cells are worked at the same time where their databases are far away."""

import time
from typing import Final

from benchmarks.cloud import Cloud, WrongResult, cloud
from benchmarks.data import ROWS_PER_INSTANCE
from benchmarks.proxy import delayed
from benchmarks.tables import markdown, middle
from jobs.db.archive_deleted_rows import ACTION, Params
from runs.local import LocalEngine

CELLS: Final = 4
INSTANCES: Final = 300  # in each cell
DELAY: Final = 0.020  # seconds
ROUNDS: Final = 3
TARGET: Final = 1.3


def run(*, quick: bool, stock: str | None) -> str:
    """Measure; returns a table.

    :param quick: one round instead of the median of several
    """
    with cloud(CELLS) as measured, delayed(measured.server.port, DELAY) as port:
        pairs = [
            (_seconds(measured, port, 1), _seconds(measured, port, CELLS))
            for _ in range(1 if quick else ROUNDS)
        ]
    one, all_cells = (middle(seconds) for seconds in zip(*pairs, strict=True))
    rows = INSTANCES * ROWS_PER_INSTANCE
    table = [
        ["one cell", f"{rows:,}", f"{one:.2f}", ""],
        [
            f"{CELLS} cells together",
            f"{CELLS * rows:,}",
            f"{all_cells:.2f}",
            f"{all_cells / one:.2f}",
        ],
    ]
    title = (
        f"Databases that answer {DELAY * 1000:.0f} ms late, {INSTANCES} deleted instances in "
        "each cell:"
    )
    end = f"Target: together at most {TARGET:g} times as long as one."
    return f"{title}\n\n{markdown(('', 'rows', 'seconds', 'times as long'), table)}\n\n{end}"


def _seconds(measured: Cloud, port: int, cells: int) -> float:
    """How long it takes to archive some of the cells together."""
    measured.fill(INSTANCES)
    targets = [measured.target(number, port) for number in range(1, cells + 1)]
    begin = time.perf_counter()
    results = LocalEngine(concurrency=CELLS, per_server=CELLS).work(
        ACTION, Params(until_complete=True), targets
    )
    seconds = time.perf_counter() - begin
    for result in results:
        if result.failure or result.outcome.rows != INSTANCES * ROWS_PER_INSTANCE:
            raise WrongResult(
                f"{result.cell.label}: {result.outcome.rows} rows were archived; {result.failure}"
            )
    return seconds
