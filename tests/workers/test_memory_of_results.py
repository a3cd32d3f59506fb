"""What the command that waits for a run has in memory of each cell at the most: as it reads and
prints its results.
"""

import gc
import tracemalloc
from typing import Final

import pytest
from redis import Redis as Client

from cli.db.archive_deleted_rows import _as_data
from cli.output import put_json
from jobs.codec import encode
from jobs.db.archive_deleted_rows import Archived
from runs.conductor import Conductor
from runs.records import NEVER, CellRecord, CellRef, RunRecord, RunState, Stage
from runs.redis_store import RedisStore
from tests.support.run_records import order

FEW: Final = 50
MANY: Final = 550
LIMIT: Final = 10_000
"""Bytes for each cell."""
TABLES: Final = (
    "instances",
    "instance_extra",
    "instance_actions",
    "instance_system_metadata",
    "virtual_interfaces",
)
DONE: Final = encode(
    Archived(dict.fromkeys(TABLES, 40), {"request_specs": 20, "instance_mappings": 20})
)


def test_results_of_a_cell_more_take_little_memory(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    few, many = peak_with(client, FEW), peak_with(client, MANY)
    assert (many - few) / (MANY - FEW) < LIMIT
    assert capsys.readouterr().out.count('"instance_extra": 40') == FEW + MANY


def peak_with(client: Client, cells: int) -> int:
    """Bytes that are had at the most while the results of so many cells are read and printed."""
    store, run = RedisStore(client, 60), f"of-{cells}"
    record = RunRecord(order(run), cells, store.now(), RunState.RUNNING)
    store.create(
        record, [done(number) for number in range(cells)], frozenset(), lambda queue, _: queue
    )
    conductor = Conductor(store, lambda _: None)
    gc.collect()
    tracemalloc.start()
    try:
        (results,) = conductor.results(store.run(run))
        put_json(_as_data(results, None, 1))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def done(number: int) -> CellRecord:
    """A cell that was archived."""
    return CellRecord(
        number,
        CellRef(
            f"00000000-0000-4000-8000-{number:012}",
            f"cell{number}",
            f"{number:016x}",
            ("10.0.0.1:3306",),
        ),
        Stage.DONE,
        worker="compute-control-1:4711",
        look_at=NEVER,
        outcome=DONE,
        complete=True,
        started=1e9,
        touched=1e9,
        finished=1e9,
    )
