"""What a process has in memory of each cell more: bytes of live objects, whatever the interpreter
keeps beside them.
"""

import gc
import shutil
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from oslo_config import cfg

from cli.db.archive_deleted_rows import _as_data
from clients.services import Services
from demo.cloud import databases
from jobs.action import Target
from jobs.db.archive_deleted_rows import ACTION, Params
from novadb import engine
from runs.cell_worker import CellWorker
from runs.conductor import Conductor, Fleet
from runs.local import LocalEngine
from runs.memory_store import MemoryStore
from runs.orders import order_of, refs_of
from runs.records import NEVER, Bell
from runs.slices import SliceEnd, SliceLimits, WorkingProcess
from runs.targets import Registry, api_database, mapped_cells, targets
from settings.files import read_configuration
from tests.support.demo_cloud import DemoCloud

CELLS: Final = 32
LIMIT: Final = 10_000
"""Bytes for each cell."""
PHASES: Final = [(ACTION, Params(until_complete=True))]


@pytest.fixture
def conf(tmp_path: Path) -> cfg.ConfigOpts:
    """The configuration of a cloud of so many cells, each with some deleted instances."""
    cloud = DemoCloud(tmp_path / "cloud")
    source, _ = databases(cloud.folder)["cell1"]
    cloud.sql("API", "DELETE FROM host_mappings")
    cloud.sql("API", "DELETE FROM cell_mappings")
    for number in range(CELLS):
        file = tmp_path / f"cell{number}.db"
        shutil.copy(source, file)
        cloud.sql(
            "API",
            "INSERT INTO cell_mappings (uuid, name, transport_url, database_connection, disabled) "
            "VALUES (?, ?, 'none:///', ?, 0)",
            f"00000000-0000-4000-8000-{number:012}",
            f"cell{number}",
            f"sqlite:///{file}",
        )
    return read_configuration([f"--config-file={cloud.config}"])


@pytest.fixture
def traced() -> Iterator[Callable[[], int]]:
    """Tells the bytes of all live objects. What is kept of a few databases, however many there are,
    is left out.
    """

    def held() -> int:
        engine._engine_of.cache_clear()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    yield held
    tracemalloc.stop()


def mapped_targets(conf: cfg.ConfigOpts) -> Sequence[Target]:
    api = api_database(conf)
    return targets(conf, mapped_cells(conf, api), api)


def test_a_worker_holds_little_of_each_cell_that_it_has_worked(
    conf: cfg.ConfigOpts, traced: Callable[[], int]
) -> None:
    bells: list[Bell] = []
    conductor = Conductor(MemoryStore(), bells.append, fleet=Fleet(lambda: {"worker:1": None}))
    registry = Registry(conf, Services(conf))
    worker = CellWorker(
        conductor, registry.target, WorkingProcess("worker:1", SliceLimits(NEVER, 60.0))
    )
    conductor.start(order_of(PHASES), refs_of(mapped_targets(conf), PHASES))

    def work_half() -> None:
        for _ in range(CELLS // 2):
            assert worker.answer(bells.pop(0)) is SliceEnd.COMPLETE

    work_half()
    before = traced()
    work_half()
    assert bells == []
    assert traced() - before < LIMIT * CELLS // 2


def test_a_command_holds_little_of_each_of_its_cells(
    conf: cfg.ConfigOpts, traced: Callable[[], int]
) -> None:
    def run(cells: slice) -> Any:
        own_engine = LocalEngine(concurrency=4, per_server=4)
        finished = own_engine.run(PHASES, mapped_targets(conf)[cells])
        assert all(result.outcome.rows for result in finished.phases[0])
        return finished, _as_data(finished.phases[0], None, finished.code)

    run(slice(2))
    before = traced()
    kept = run(slice(2, CELLS))
    assert traced() - before < LIMIT * (CELLS - 2)
    assert kept
