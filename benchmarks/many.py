"""``many``: what 50, 300 and 1,000 cells cost, by the command's own process and by workers.

Each cell has the whole of Nova's schema: what it is read with is most of what an idle cell costs.
Making 110,000 tables would take an hour: one server is made with 50 cells, and its folder is copied
for each 50 more. These servers, and what fills the cells, are not measured; what is are the
processes of this program, and the Redis that knows the runs, while another one carries the
messages.
"""

import json
import os
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from redis import Redis as Client

from benchmarks.cloud import (
    API,
    EMPTIED,
    NOVA_CONF,
    WrongResult,
    make_database,
    map_cells,
    schema,
    transaction,
)
from benchmarks.data import ROWS_PER_INSTANCE, Link, fill_api, fill_cell
from benchmarks.memory import watch
from benchmarks.programs import OWN_PROGRAM
from benchmarks.stock import COMMAND
from benchmarks.tables import markdown
from benchmarks.workers import CHILDREN, WORKERS, worker_process
from tests.support.realcloud import DUMPS
from tests.support.services import MariaDB, Redis

SIZES: Final = (50, 300, 1_000)
QUICK_SIZES: Final = (50, 300)
PER_SERVER: Final = 50
INSTANCES: Final = 20  # in each cell that is not idle
PATIENCE: Final = 600.0  # seconds for the workers to serve all cells
TARGETS: Final = (
    "Targets: at 1,000 idle cells at most 20 ms of CPU for each, all processes together; no "
    "process grows by more than "
    "10 KB a cell; reads that are linear."
)
RESIDENT: Final = re.compile(r"^VmRSS:\s+(\d+) kB", re.MULTILINE)
READING: Final = re.compile(
    r"cmdstat_(?:h?m?get|hgetall|exists|z(?:card|count|range|rangebyscore|revrange|score))$"
)


class Use(NamedTuple):
    """What a run took.

    :ivar seconds: from the start of the command to its end
    :ivar processor: seconds of CPU of the command and of all workers
    :ivar resident: MB that the command had at most
    :ivar reads: of the store of runs
    :ivar kilobytes: that the store sent
    """

    seconds: float
    processor: float
    resident: float
    reads: int = 0
    kilobytes: float = 0.0


class Grown(NamedTuple):
    """MB of the processes of a fleet: of a main process and of a child, the largest of each."""

    main: float
    child: float


@dataclass(frozen=True)
class Measured:
    """What a number of cells took."""

    cells: int
    own: Use
    workers: Use


def run(*, quick: bool, stock: str | None) -> str:
    """Measure; returns tables.

    :param quick: without the largest number of cells
    """
    sizes = QUICK_SIZES if quick else SIZES
    idle, filled, grown = [], [], []
    with many_cells(max(sizes)) as cloud:
        for size in sizes:
            cloud.map(size)
            with _fleet(cloud, size) as fleet:
                fleet.archive(0)  # the children's first slices import what they need
                idle.append(Measured(size, cloud.archive(0), fleet.archive(0)))
                cloud.fill(size)
                own = cloud.archive(size)
                cloud.fill(size)
                filled.append(Measured(size, own, fleet.archive(size)))
                grown.append(fleet.grown())
    parts = [
        _table("Nothing to do:", idle),
        _table(f"{INSTANCES} deleted instances of {ROWS_PER_INSTANCE} rows in each:", filled),
        _growth(sizes, idle, filled, grown),
        TARGETS,
    ]
    return "\n\n".join(parts)


def _table(title: str, measured: Sequence[Measured]) -> str:
    header = (
        "cells",
        "own process s",
        "CPU ms a cell",
        "workers s",
        "CPU ms a cell",
        "reads a cell",
        "KB read a cell",
    )
    rows = [
        [
            f"{one.cells:,}",
            f"{one.own.seconds:.1f}",
            f"{one.own.processor / one.cells * 1000:.1f}",
            f"{one.workers.seconds:.1f}",
            f"{one.workers.processor / one.cells * 1000:.1f}",
            f"{one.workers.reads / one.cells:.1f}",
            f"{one.workers.kilobytes / one.cells:.1f}",
        ]
        for one in measured
    ]
    by = f"with its start, and by {WORKERS} warm workers with {CHILDREN} children each"
    title = f"{title} `{' '.join(COMMAND)} --all-cells` {by}:"
    return f"{title}\n\n{markdown(header, rows)}"


def _growth(
    sizes: Sequence[int],
    idle: Sequence[Measured],
    filled: Sequence[Measured],
    grown: Sequence[Grown],
) -> str:
    """What processes have in memory.

    What grows is told from the last size but one on: with fewer cells a child has not worked as
    many databases as it keeps statements of.
    """
    columns = {
        "own process, idle": [one.own.resident for one in idle],
        "own process": [one.own.resident for one in filled],
        "command that waits, idle": [one.workers.resident for one in idle],
        "command that waits": [one.workers.resident for one in filled],
        "worker's main process": [one.main for one in grown],
        "largest child": [one.child for one in grown],
    }
    header = ("resident MB", *(f"{size:,} cells" for size in sizes), "KB a cell")
    cells = sizes[-1] - sizes[-2]
    rows = [
        [name, *(f"{one:.1f}" for one in values), f"{(values[-1] - values[-2]) * 1024 / cells:.1f}"]
        for name, values in columns.items()
    ]
    return markdown(header, rows)


# -- the cells -------------------------------------------------------------------------------------


class CopiedServer(MariaDB):
    """A server that begins with what another one, which is down, has in its folder."""

    def __init__(self, template: Path) -> None:
        super().__init__()
        self._template = template

    def prepare(self) -> None:
        self.run(
            "cp", "--recursive", "--reflink=auto", str(self._template / "data"), str(self.folder)
        )
        self._write_users()


class ManyCells:
    """Cells on servers of 50 cells each; the API database is on the first."""

    def __init__(self, servers: Sequence[MariaDB], folder: Path) -> None:
        self.config = folder / "nova.conf"
        self._servers = servers
        self.config.write_text(
            NOVA_CONF.format(cell=self._url(1), api=servers[0].url(API), locks=folder / "locks")
        )

    def _place(self, number: int) -> tuple[MariaDB, str]:
        """The server and the database of a cell, by its number from 1 on."""
        server, place = divmod(number - 1, PER_SERVER)
        return self._servers[server], database_of(place)

    def _url(self, number: int) -> str:
        server, database = self._place(number)
        return server.url(database)

    def map(self, cells: int) -> None:
        """Let the cloud have so many cells."""
        map_cells(
            self._servers[0], {f"cell{number}": self._url(number) for number in range(1, cells + 1)}
        )

    def fill(self, cells: int) -> None:
        """Give each of so many cells its deleted instances, and none other."""
        with transaction(self._servers[0], API) as api:
            for number in range(1, cells + 1):
                with transaction(*self._place(number)) as link:
                    _empty(link)
                    fill_cell(link, INSTANCES, salt=f"cell{number}:", analyzed=False)
                fill_api(api, INSTANCES, number, salt=f"cell{number}:", analyzed=False)

    def archive(self, filled: int) -> Use:
        """Archive in the command's own process.

        :param filled: in how many cells there are instances
        """
        return _archive(self.config, filled)


def _empty(link: Link) -> None:
    """Delete what a cell had: of few rows quicker than making its tables anew."""
    with link.cursor() as cursor:
        cursor.execute("SET SESSION foreign_key_checks = 0")
        for table in EMPTIED:
            cursor.execute(f"DELETE FROM {table}")


def database_of(place: int) -> str:
    """The name of the database of a cell by its place on a server."""
    return f"cell{place}"


def _archive(config: Path, filled: int) -> Use:
    """Run the command.

    :param filled: in how many cells there are instances
    :returns: what it took; of the workers nothing
    """
    command = [OWN_PROGRAM, "--config-file", str(config), *COMMAND, "--all-cells", "-f", "json"]
    begin, before = time.perf_counter(), _processor_of_children()
    with tempfile.TemporaryFile() as out, subprocess.Popen(command, stdout=out) as process:
        resident = watch(process).peak
        seconds, processor = time.perf_counter() - begin, _processor_of_children() - before
        out.seek(0)
        text = out.read().decode()
    _check(process.returncode, text, filled)
    return Use(seconds, processor, resident)


def _processor_of_children() -> float:
    """Seconds of CPU of the processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _check(code: int, text: str, filled: int) -> None:
    """See that all was archived.

    :raises WrongResult: it was not
    """
    rows = sum(sum(cell["archived"].values()) for cell in json.loads(text)["cells"])
    if (code, rows) != (int(filled > 0), filled * INSTANCES * ROWS_PER_INSTANCE):
        raise WrongResult(f"exit code {code}, {rows} rows: {text[:2000]}")


@contextmanager
def many_cells(cells: int) -> Iterator[ManyCells]:
    """A cloud with place for so many cells."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cellkeeper-bench-")))
        first = stack.enter_context(MariaDB())
        make_database(first, API, schema(DUMPS / "nova_api.sql.gz"))
        statements = schema(DUMPS / "nova_cell1.sql.gz")
        for place in range(PER_SERVER):
            make_database(first, database_of(place), statements)
        first.end()
        servers: list[MariaDB] = [first]
        servers += [
            stack.enter_context(CopiedServer(first.folder))
            for _ in range(-(-cells // PER_SERVER) - 1)
        ]
        first.start()
        yield ManyCells(servers, folder)


# -- the workers -----------------------------------------------------------------------------------


class Fleet:
    """Workers, and the Redis that knows their runs."""

    def __init__(self, config: Path, store: Redis, pids: Sequence[int]) -> None:
        self._config = config
        self._store = Client.from_url(store.url())
        self._pids = pids

    def archive(self, filled: int) -> Use:
        """Archive by the workers.

        :param filled: in how many cells there are instances
        """
        self._store.config_resetstat()
        before = self._processor()
        use = _archive(self._config, filled)
        counted = self._store.info("commandstats")
        reads = sum(counts["calls"] for name, counts in counted.items() if READING.match(name))
        sent = self._store.info("stats")["total_net_output_bytes"] / 1024
        return use._replace(
            processor=use.processor + self._processor() - before, reads=reads, kilobytes=sent
        )

    def grown(self) -> Grown:
        """What the processes have by now."""
        children = [child for pid in self._pids for child in _children(pid)]
        return Grown(max(map(_resident, self._pids)), max(map(_resident, children)))

    def _processor(self) -> float:
        """Seconds of CPU of all workers so far."""
        processes = [process for pid in self._pids for process in (pid, *_children(pid))]
        return sum(map(_ticks, processes)) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _resident(pid: int) -> float:
    """MB."""
    match = RESIDENT.search(Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1]) / 1024


@contextmanager
def _fleet(cloud: ManyCells, cells: int) -> Iterator[Fleet]:
    """Workers that serve so many cells."""
    with ExitStack() as stack:
        broker, store = stack.enter_context(Redis()), stack.enter_context(Redis())
        config = cloud.config.with_name(f"workers{cells}.conf")
        section = f"[celery]\nbroker_url = {broker.url()}\nstore_url = {store.url()}\n"
        config.write_text(f"{cloud.config.read_text()}{section}")
        logs = [config.with_name(f"w{cells}-{number}.log") for number in range(WORKERS)]
        pids = [stack.enter_context(worker_process(config, log)).pid for log in logs]
        deadline = time.monotonic() + PATIENCE
        while any(not log.exists() or log.read_text().count("serving ") < cells for log in logs):
            if time.monotonic() > deadline:
                raise WrongResult("the workers do not serve the cells")
            time.sleep(0.1)
        yield Fleet(config, store, pids)
