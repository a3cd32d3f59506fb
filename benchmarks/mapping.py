"""``mapping``: map_instances and discover_hosts, beside stock ``nova-manage``, both as programs."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.cloud import API, Cloud, WrongResult, cloud, uuid_of
from benchmarks.programs import programs, timed
from benchmarks.tables import markdown, middle

INSTANCES: Final = 20_000
HOSTS: Final = 2_000
ROUNDS: Final = 3
CELL: Final = "cell1"
NODES: Final = (
    "INSERT INTO compute_nodes (created_at, deleted, mapped, host, hypervisor_hostname, uuid, "
    "vcpus, memory_mb, "
    "local_gb, vcpus_used, memory_mb_used, local_gb_used, hypervisor_type, hypervisor_version, "
    "cpu_info) "
    "SELECT '2026-01-01', 0, 0, CONCAT('cmp-', seq), CONCAT('cmp-', seq), UUID(), 64, 262144, "
    "4000, 0, 0, 0, 'QEMU', "
    f"1, '' FROM seq_1_to_{HOSTS}"
)
# Of each the row itself: what hangs on it would only take the stock tool longer to read.
SERVERS: Final = (
    "INSERT INTO instances (created_at, deleted, uuid, project_id, user_id, hidden, host, "
    "vm_state, hostname) "
    "SELECT '2026-01-01' + INTERVAL seq SECOND, 0, UUID(), MD5(seq % 40), MD5(seq % 100), 0, "
    "'cmp-1', 'active', 'vm' "
    f"FROM seq_1_to_{INSTANCES}"
)


class Task(NamedTuple):
    """Something to measure.

    :ivar prepare: puts the databases into their state
    :ivar counted: the table of the API database that has ``rows`` rows afterwards
    """

    words: tuple[str, ...]
    prepare: Callable[[Cloud], None]
    counted: str
    rows: int


def run(*, quick: bool, stock: str | None) -> str:
    """Measure; returns a table.

    :param quick: one round instead of the median of several
    :param stock: the command of the stock tool, to compare with it too
    """
    rows = []
    with (
        cloud(cells=1) as measured,
        tempfile.TemporaryDirectory(prefix="cellkeeper-bench-") as folder,
    ):
        options = ["--config-file", str(measured.config(Path(folder)))]
        for task in TASKS:
            runs = [
                [
                    _seconds(measured, task, [*words, *options, *task.words])
                    for words in programs(stock).values()
                ]
                for _ in range(1 if quick or stock else ROUNDS)
            ]
            own, *rival = (middle(of_program) for of_program in zip(*runs, strict=True))
            ratio = [f"{rival[0]:.1f}", f"{rival[0] / own:.0f}"] if rival else []
            rows.append([f"{task.words[1]}, {task.rows:,} {task.counted}", f"{own:.1f}", *ratio])
    header = ("command", "seconds", *(("nova-manage", "ratio") if stock else ()))
    return "One cell, whole programs with their start:\n\n" + markdown(header, rows)


def _seconds(measured: Cloud, task: Task, command: Sequence[str]) -> float:
    task.prepare(measured)
    ended = timed(command)
    ((rows,),) = measured.server.execute(f"SELECT COUNT(*) FROM {task.counted}", API)
    if ended.code or rows != task.rows:
        raise WrongResult(f"{command[0]} made {rows} rows, {ended}")
    return ended.seconds


def _unmapped_instances(measured: Cloud) -> None:
    measured.server.execute("DELETE FROM instance_mappings", API)
    measured.server.execute("DELETE FROM instances", CELL)
    measured.server.execute(SERVERS, CELL)


def _unmapped_hosts(measured: Cloud) -> None:
    measured.server.execute("DELETE FROM host_mappings", API)
    measured.server.execute("TRUNCATE TABLE pci_devices", CELL)
    measured.server.execute("DELETE FROM compute_nodes", CELL)
    measured.server.execute(NODES, CELL)


TASKS: Final = (
    Task(
        ("cell_v2", "map_instances", f"--cell_uuid={uuid_of(1)}"),
        _unmapped_instances,
        "instance_mappings",
        INSTANCES,
    ),
    Task(("cell_v2", "discover_hosts"), _unmapped_hosts, "host_mappings", HOSTS),
)
