"""``workers``: what it costs to send cells to workers through Redis."""

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from oslo_config import cfg

from benchmarks.cloud import Cloud, WrongResult, cloud
from benchmarks.data import ROWS_PER_INSTANCE
from benchmarks.programs import OWN_PROGRAM
from benchmarks.proxy import delayed
from benchmarks.tables import markdown, middle
from jobs.action import CellResult, Target
from jobs.db.archive_deleted_rows import ACTION, Archived, Params
from runs.follow import Follower
from runs.local import LocalEngine
from runs.orders import order_of, ref_of
from settings.files import load_configuration
from tests.support.services import Redis
from workers import app

WORKERS: Final = 2
CHILDREN: Final = 4  # of each
IDLE_CELLS: Final = 50
LATE_CELLS: Final = 4
DELAY: Final = 0.020  # seconds
INSTANCES: Final = 5_000  # in the loaded cell
LATE_INSTANCES: Final = 300  # in each late cell
ROUNDS: Final = 3
PATIENCE: Final = 60.0  # seconds for the workers to serve all cells


def run(*, quick: bool, stock: str | None) -> str:
    """Measure; returns tables.

    :param quick: one round instead of the median of several
    """
    rounds = 1 if quick else ROUNDS
    with Redis() as broker:  # one for all: a process has one Celery application, with one broker
        return "\n\n".join(part(broker, rounds) for part in (_idle, _loaded, _late))


def _idle(broker: Redis, rounds: int) -> str:
    with cloud(IDLE_CELLS) as measured, _fleet(measured, broker, measured.server.port) as fleet:
        measured.fill(0)
        targets = [measured.target(number) for number in range(1, IDLE_CELLS + 1)]
        fleet.archive(targets)  # the children's first slice makes their connections
        runs = [(fleet.seconds(targets), *fleet.processor(targets)) for _ in range(rounds)]
    wall, own, theirs = (middle(seconds) for seconds in zip(*runs, strict=True))
    per_cell = (own + theirs) / IDLE_CELLS * 1000
    table = [
        ["seconds", f"{wall:.2f}"],
        ["CPU ms per cell, command and workers together", f"{per_cell:.1f}"],
    ]
    title = (
        f"{IDLE_CELLS} cells with nothing to do, {WORKERS} warm workers with {CHILDREN} "
        "children each:"
    )
    return f"{title}\n\n{markdown(('', ''), table)}\n\nTarget: less than 3 seconds."


def _loaded(broker: Redis, rounds: int) -> str:
    with cloud(1) as measured, _fleet(measured, broker, measured.server.port) as fleet:
        targets = [measured.target(1)]
        sides: dict[bool, list[float]] = {True: [], False: []}
        for number in range(rounds):
            # In turns: a noisy minute hits both.
            for is_inline in sorted(sides, reverse=bool(number % 2)):
                sides[is_inline].append(_filled(measured, fleet, targets, INSTANCES, is_inline))
    inline, workers = middle(sides[True]), middle(sides[False])
    rows = [
        ["in the command's own process", f"{inline:.2f}", ""],
        ["by workers", f"{workers:.2f}", f"{workers / inline:.2f}"],
    ]
    title = f"One cell with {INSTANCES:,} deleted instances of {ROWS_PER_INSTANCE} rows:"
    return (
        f"{title}\n\n{markdown(('', 'seconds', 'times as long'), rows)}\n\nTarget: at most "
        "1.10 "
        "times as long."
    )


def _late(broker: Redis, rounds: int) -> str:
    with (
        cloud(LATE_CELLS) as measured,
        delayed(measured.server.port, DELAY) as port,
        _fleet(measured, broker, port) as fleet,
    ):
        targets = [measured.target(number, port) for number in range(1, LATE_CELLS + 1)]
        pairs = [
            tuple(
                _filled(measured, fleet, some, LATE_INSTANCES, False)
                for some in (targets[:1], targets)
            )
            for _ in range(rounds)
        ]
    one, together = (middle(seconds) for seconds in zip(*pairs, strict=True))
    rows = [
        ["one cell", f"{one:.2f}", ""],
        [f"{LATE_CELLS} cells together", f"{together:.2f}", f"{together / one:.2f}"],
    ]
    title = (
        f"Databases that answer {DELAY * 1000:.0f} ms late, {LATE_INSTANCES} deleted "
        "instances "
        "each, by workers:"
    )
    return (
        f"{title}\n\n{markdown(('', 'seconds', 'times as long'), rows)}\n\nTarget: at most 1.3 "
        "times as long."
    )


def _filled(
    measured: Cloud, fleet: "Fleet", targets: Sequence[Target], instances: int, inline: bool
) -> float:
    """Seconds to archive some cells after all were filled anew."""
    measured.fill(instances)
    if not inline:
        return fleet.seconds(targets, instances)
    begin = time.perf_counter()
    results = LocalEngine(len(targets), len(targets)).work(
        ACTION, Params(until_complete=True), targets
    )
    seconds = time.perf_counter() - begin
    _check(results, instances)
    return seconds


def _check(results: Sequence[CellResult[Archived]], instances: int) -> None:
    for result in results:
        if result.failure or result.outcome.rows != instances * ROWS_PER_INSTANCE:
            raise WrongResult(
                f"{result.cell.label}: {result.outcome.rows} rows were archived; {result.failure}"
            )


class Fleet:
    """Warm workers, and a command's side of a run by them."""

    def __init__(self, conf: cfg.ConfigOpts, pids: Sequence[int]) -> None:
        self._pids = pids
        app.conductor.cache_clear()
        app.configure(conf)
        self._conductor = app.conductor()

    def archive(self, targets: Sequence[Target], instances: int = 0) -> None:
        """Archive cells by a run, as the command does."""
        order = order_of([(ACTION, Params(until_complete=True))])
        self._conductor.start(order, [ref_of(target.cell) for target in targets])
        finished = Follower(self._conductor, threading.Event()).follow(order.id)
        _check(finished.phases[0], instances)

    def seconds(self, targets: Sequence[Target], instances: int = 0) -> float:
        """What that takes."""
        begin = time.perf_counter()
        self.archive(targets, instances)
        return time.perf_counter() - begin

    def processor(self, targets: Sequence[Target]) -> tuple[float, float]:
        """Seconds of CPU of this process, and of all workers, for cells with nothing to do."""
        own, theirs = time.process_time(), self._ticks()
        self.archive(targets)
        return time.process_time() - own, (self._ticks() - theirs) / os.sysconf("SC_CLK_TCK")

    def _ticks(self) -> int:
        total = 0
        for pid in self._pids:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            for one in (str(pid), *children):
                fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        return total


@contextmanager
def _fleet(measured: Cloud, broker: Redis, port: int) -> Iterator[Fleet]:
    """Workers that serve all cells of a cloud, reached by some port."""
    measured.map_cells(port)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cellkeeper-bench-")))
        config = measured.config(folder)
        config.write_text(f"{config.read_text()}[celery]\nbroker_url = {broker.url()}\n")
        logs = [folder / f"w{number}.log" for number in range(WORKERS)]
        pids = [stack.enter_context(worker_process(config, log)).pid for log in logs]
        deadline = time.monotonic() + PATIENCE
        while any(
            not log.exists() or log.read_text().count("serving ") < len(measured.cells)
            for log in logs
        ):
            if time.monotonic() > deadline:
                raise WrongResult("the workers do not serve the cells")
            time.sleep(0.1)
        yield Fleet(load_configuration([f"--config-file={config}", "--log-file", os.devnull]), pids)


@contextmanager
def worker_process(config: Path, log: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """A worker with its children, while it runs."""
    command = [OWN_PROGRAM, "--config-file", str(config), "--log-file", str(log), "worker"]
    command += ["--name", f"{log.stem}@bench", "--concurrency", str(CHILDREN)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait()
