"""What is written with a cell: its record, where it stands in the indexes, its connections, and the
sums of its run.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

from jobs.codec import encode
from runs import pace, rules
from runs.records import CellRecord, Stage, View
from runs.redis_codec import encode_record
from runs.redis_keys import (
    LINES_OF,
    TALLY,
    encode_cell_key,
    line_key,
    phase_key,
    run_key,
    server_key,
)
from runs.redis_scripts import Change
from runs.store import Increments

PACE_KEPT: Final = 180
"""Seconds for which it is kept how much was handled in ten seconds of a run."""
CELLS_AT_ONCE: Final = 1000
"""Cells in one command of a script."""


def write_cells(change: Change, run: str, phase: int, cells: Sequence[CellRecord]) -> None:
    """Write the cells of a phase that begins."""
    for start in range(0, len(cells), CELLS_AT_ONCE):
        batch = cells[start : start + CELLS_AT_ONCE]
        records = [(cell.number, encode_record(cell, 1)) for cell in batch]
        times = [(cell.look_at, cell.number) for cell in batch]
        change.write("HSET", phase_key(run, phase), *chain(*records))
        change.write("ZADD", phase_key(run, phase, "look"), *chain(*times))


def write_cell(
    change: Change, run: str, phase: int, before: CellRecord, cell: CellRecord, version: int
) -> str:  # fmt: skip
    """Write a cell, and where it stands in the indexes; its record."""
    key = phase_key(run, phase)
    record = encode_record(
        replace(cell, outcome=None if cell.outcome is None else encode(cell.outcome)), version
    )
    if cell.stage is Stage.DONE:
        change.write("ZREM", phase_key(run, phase, "look"), cell.number)
    else:
        change.write("ZADD", phase_key(run, phase, "look"), cell.look_at, cell.number)
    change.write("HSET", key, cell.number, record)
    if cell.lease_until:
        change.write("ZADD", phase_key(run, phase, "leases"), cell.lease_until, cell.number)
    else:
        change.write("ZREM", phase_key(run, phase, "leases"), cell.number)
    change.marks.append((run_key(run), phase_key(run, phase, "changed"), str(cell.number)))
    write_connections(change, encode_cell_key(run, phase, cell.number), before, cell)
    return record


def write_connections(change: Change, key: str, before: CellRecord, cell: CellRecord) -> None:
    """Write which connections a cell has, and in which lines it stands."""
    for server, number in (rules.connections(cell) if cell.lease_until else {}).items():
        held = chain(*((cell.lease_until, f"{key} {count}") for count in range(number)))
        change.write("ZADD", server_key(server), *held)
    if before.lease_until and not cell.lease_until:
        for server, number in rules.connections(before).items():
            change.write("ZREM", server_key(server), *(f"{key} {count}" for count in range(number)))
            # Of workers that were killed.
            change.write("ZREMRANGEBYSCORE", server_key(server), 0, cell.touched)
            change.lines.append(line_key(server))
    if rules.is_in_line(cell):
        for server in set(cell.ref.servers):
            change.write("ZADD", line_key(server), cell.waits_since, key)
            change.write("SADD", LINES_OF, server)
    elif rules.is_in_line(before):
        for server in set(before.ref.servers):
            change.write("ZREM", line_key(server), key)


def count_step(change: Change, before: View, cell: CellRecord, increments: Increments) -> None:
    """Keep the sums over the cells of a phase, and the counters that outlive the run."""
    key, phase = run_key(before.run.order.id), before.run.phase
    if increments.rows:
        change.write("HINCRBY", key, f"rows {phase}", increments.rows)
    for name, amount in increments.counters.items():
        change.write("HINCRBYFLOAT", TALLY, name, amount)
    if increments.handled:
        bucket = phase_key(before.run.order.id, phase, f"pace-{pace.recent(before.now)[-1]}")
        change.write("INCRBY", bucket, increments.handled)
        change.write("EXPIRE", bucket, PACE_KEPT)
    remaining, remaining_before = cell.remaining, before.cell.remaining
    if remaining != remaining_before:
        change.write(
            "HINCRBY", key, f"remaining {phase}", (remaining or 0) - (remaining_before or 0)
        )
        change.write(
            "HINCRBY",
            key,
            f"foreseen {phase}",
            (remaining is not None) - (remaining_before is not None),
        )
    if cell.failure and not before.cell.failure:
        change.write("HINCRBY", key, f"failed {phase}", 1)
