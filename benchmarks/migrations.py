"""``migrations``: ``db online_data_migrations`` on rows of older releases, beside stock
``nova-manage``.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.cloud import API, Cloud, WrongResult, cloud
from benchmarks.programs import OWN_PROGRAM, programs, timed
from benchmarks.tables import markdown, middle

ROWS: Final = 20_000
COMMAND: Final = ("db", "online_data_migrations")
ROUNDS: Final = 3
# Nodes that the instances are on, as benchmarks.data names hosts.
NODES: Final = (
    "INSERT INTO compute_nodes (vcpus, memory_mb, local_gb, vcpus_used, memory_mb_used, "
    "local_gb_used, "
    "hypervisor_type, hypervisor_version, cpu_info, host, hypervisor_hostname, deleted, "
    "cpu_allocation_ratio, "
    "ram_allocation_ratio, disk_allocation_ratio, uuid) "
    "SELECT 1, 1, 1, 1, 1, 1, 'QEMU', 1, '', host, host, 0, 4, 1, 1, UUID() "
    "FROM (SELECT DISTINCT host FROM instances) hosts"
)


class Work(NamedTuple):
    """Rows to migrate.

    :ivar what: for people
    :ivar undo: by database, the statements that put the work back
    :ivar left: the database and the statement that counts the rows that were not migrated
    """

    what: str
    undo: tuple[tuple[str, str], ...]
    left: tuple[str, str]


WORKS: Final = (
    Work(
        f"{ROWS:,} block device mappings without uuid",
        (("cell1", f"UPDATE block_device_mapping SET uuid = NULL ORDER BY id LIMIT {ROWS}"),),
        ("cell1", "SELECT COUNT(*) FROM block_device_mapping WHERE uuid IS NULL"),
    ),
    Work(
        f"{ROWS:,} instances without compute node id",
        (("cell1", f"UPDATE instances SET compute_id = NULL ORDER BY id LIMIT {ROWS}"),),
        ("cell1", "SELECT COUNT(*) FROM instances WHERE compute_id IS NULL AND host IS NOT NULL"),
    ),
    Work(
        f"{ROWS:,} instance mappings without user",
        ((API, f"UPDATE instance_mappings SET user_id = NULL ORDER BY id LIMIT {ROWS}"),),
        (API, "SELECT COUNT(*) FROM instance_mappings WHERE user_id IS NULL"),
    ),
)


def run(*, quick: bool, stock: str | None) -> str:
    """Measure; returns a table.

    :param quick: one round instead of the median of several
    :param stock: the command of the stock tool, to compare with it too
    """
    both = programs(stock)
    with (
        cloud(cells=1) as measured,
        tempfile.TemporaryDirectory(prefix="cellkeeper-bench-") as folder,
    ):
        measured.fill(ROWS)
        measured.server.execute(
            "UPDATE instances SET node = host, availability_zone = 'nova'", "cell1"
        )
        measured.server.execute(NODES, "cell1")
        options = ["--config-file", str(measured.config(Path(folder))), *COMMAND]
        _migrate(measured, [OWN_PROGRAM, *options], None)  # whatever else these rows lack
        rows = []
        for work in WORKS:
            times: dict[str, list[float]] = {name: [] for name in both}
            for number in range(1 if quick else ROUNDS):
                for name in sorted(both, reverse=bool(number % 2)):
                    if name == "cellkeeper" or number == 0:  # the stock tool takes minutes: once
                        times[name].append(_migrate(measured, [*both[name], *options], work))
            rows.append(_row(work, {name: middle(seconds) for name, seconds in times.items()}))
    header = ("rows to migrate", *(f"{name}, s" for name in both), *(["ratio"] if stock else []))
    return f"`{' '.join(COMMAND)}`, the whole program:\n\n" + markdown(header, rows)


def _row(work: Work, seconds: dict[str, float]) -> list[str]:
    own, *rival = seconds.values()
    return [
        work.what,
        *(f"{one:.1f}" for one in seconds.values()),
        *(f"{one / own:.0f}" for one in rival),
    ]


def _migrate(measured: Cloud, command: Sequence[str], work: Work | None) -> float:
    """Put the work back and do it; returns the seconds that it took.

    :raises WrongResult: it was not done
    """
    for database, statement in work.undo if work else ():
        measured.server.execute(statement, database)
    ended = timed(command)
    if ended.code:
        raise WrongResult(f"{command[0]} ended with {ended}")
    if work:
        database, count = work.left
        ((left,),) = measured.server.execute(count, database)
        if left:
            raise WrongResult(f"{command[0]} left {left} rows")
    return ended.seconds
