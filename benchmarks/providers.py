"""``providers``: ``placement audit`` and ``sync_aggregates`` against a real Placement, beside the
stock tool.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.cloud import API, Cloud, WrongResult, cloud
from benchmarks.programs import programs, timed
from benchmarks.tables import markdown, middle
from tests.support.placement import Placement, nova_conf

CELLS: Final = 4
HOSTS: Final = 500
INSTANCES: Final = 1000
ORPHANS: Final = 200
MIRRORED: Final = 20  # hosts in aggregates
AGGREGATES: Final = 5
ROUNDS: Final = 3
PLACEMENT: Final = "placed"
NEEDS: Final = ((0, 1), (1, 512), (2, 10))
"""Placement's own id of a class, and how much of it an instance holds: processors, memory, disk."""
STOCK_CONF: Final = """\
[DEFAULT]
transport_url = fake:///
state_path = {folder}
[oslo_concurrency]
lock_path = {folder}
"""


class Job(NamedTuple):
    """A command line, what is wanted of it, and what is done before.

    :ivar filled: whether all is made anew before
    """

    title: str
    words: str
    code: int
    filled: bool


JOBS: Final = (
    Job(
        f"audit of {HOSTS} providers with {INSTANCES} instances and {ORPHANS} orphans",
        "audit",
        3,
        True,
    ),
    Job("the same, --delete", "audit --delete", 4, False),
    Job("the same, nothing to find", "audit", 0, False),
    Job(
        f"sync_aggregates, {MIRRORED} hosts in {AGGREGATES} aggregates each",
        "sync_aggregates",
        0,
        False,
    ),
    Job("the same, nothing to add", "sync_aggregates", 0, False),
)


def run(*, quick: bool, stock: str | None) -> str:
    """Measure; returns a table.

    :param quick: one round instead of the median of several
    :param stock: the command of the stock tool
    """
    both = programs(stock)
    with cloud(CELLS) as measured, tempfile.TemporaryDirectory(prefix="cellkeeper-bench-") as name:
        with Placement(measured.server, PLACEMENT) as placement:
            config = measured.config(Path(name))
            config.write_text(
                STOCK_CONF.format(folder=name) + config.read_text() + nova_conf(placement.url)
            )
            times = [
                {
                    program: _times(measured, [*words, "--config-file", str(config)])
                    for program, words in both.items()
                }
                for _ in range(1 if quick else ROUNDS)
            ]
    rows = []
    for number, job in enumerate(JOBS):
        seconds = [middle([one[program][number] for one in times]) for program in both]
        ratio = [f"{seconds[0] / seconds[1]:.2f}"] if stock else []
        rows.append([job.title, *(f"{one:.1f}" for one in seconds), *ratio])
    header = ("", *(f"{program} s" for program in both), *(["ratio"] if stock else []))
    return (
        f"One Placement process, {CELLS} cells; whole programs, their start "
        f"included:\n\n{markdown(header, rows)}"
    )


def _times(measured: Cloud, command: Sequence[str]) -> list[float]:
    """Seconds that each job takes a program."""
    return [_seconds(measured, command, job) for job in JOBS]


def _seconds(measured: Cloud, command: Sequence[str], job: Job) -> float:
    if job.filled:
        _fill(measured)
    ended = timed([*command, "placement", *job.words.split()])
    if ended.code != job.code:
        raise WrongResult(f"{command[0]} {job.words} ended with {ended}")
    return ended.seconds


def _fill(measured: Cloud) -> None:
    """Hosts in all cells with their providers, instances with their allocations, orphans,
    aggregates.
    """
    for database, statements in _statements(measured.cells).items():
        with measured.link(database) as link, link.cursor() as cursor:
            cursor.execute("SET SESSION foreign_key_checks = 0, sql_mode = ''")
            for statement in statements:
                cursor.execute(statement)


def _statements(cells: Sequence[str]) -> dict[str, list[str]]:
    """What makes everything anew, by database; ``seq`` numbers hosts, instances, orphans."""
    node, instance = (
        "CONCAT('cccccccc-0000-4000-8000-', LPAD(seq, 12, 0))",
        "CONCAT('11111111-0000-4000-8000-', LPAD(seq, 12, 0))",
    )
    aggregate, host = (
        "CONCAT('aaaaaaaa-0000-4000-8000-', LPAD(seq, 12, 0))",
        "CONCAT('cmp-', LPAD(seq, 4, 0))",
    )
    home = host.replace("seq", f"1 + seq % {HOSTS}")
    emptied = {
        API: ("host_mappings", "aggregate_hosts", "aggregates"),
        PLACEMENT: ("allocations", "consumers", "inventories", "resource_provider_aggregates", "placement_aggregates",
                    "resource_providers", "projects", "users"),
        **dict.fromkeys(cells, ("instances", "compute_nodes")),
    }  # fmt: skip
    made = {
        API: [
            f"INSERT INTO host_mappings (host, cell_id) SELECT {host}, 1 + seq % {CELLS} FROM "
            f"seq_1_to_{HOSTS}",
            f"INSERT INTO aggregates (id, uuid, name) SELECT seq, {aggregate}, CONCAT('agg', seq) "
            f"FROM seq_1_to_{AGGREGATES}",
            "INSERT INTO aggregate_hosts (aggregate_id, host) SELECT a.seq, "
            f"{host.replace('seq', 'h.seq')} "
            f"FROM seq_1_to_{AGGREGATES} a JOIN seq_1_to_{MIRRORED} h",
        ],
        PLACEMENT: [
            "INSERT INTO projects (id, external_id) VALUES (1, 'p1')",
            "INSERT INTO users (id, external_id) VALUES (1, 'u1')",
            "INSERT INTO resource_providers (id, uuid, name, generation, root_provider_id) "
            f"SELECT seq, {node}, {host}, 1, seq FROM seq_1_to_{HOSTS}",
            "INSERT INTO consumers (uuid, project_id, user_id, generation) "
            f"SELECT {instance}, 1, 1, 1 FROM seq_1_to_{INSTANCES + ORPHANS}",
        ],
    } | {
        cell: [
            "INSERT INTO compute_nodes (uuid, host, hypervisor_hostname, deleted) "
            f"SELECT {node}, {host}, {host}, 0 FROM seq_1_to_{HOSTS} WHERE seq % {CELLS} = "
            f"{number}",
            "INSERT INTO instances (uuid, host, node, vm_state, deleted) "
            f"SELECT {instance}, {home}, {home}, 'active', 0 FROM seq_1_to_{INSTANCES} "
            f"WHERE (1 + seq % {HOSTS}) % {CELLS} = {number}",
        ]
        for number, cell in enumerate(cells)
    }
    for kind, amount in NEEDS:
        made[PLACEMENT] += [
            "INSERT INTO inventories (resource_provider_id, resource_class_id, total, reserved, "
            "min_unit, max_unit, "
            f"step_size, allocation_ratio) SELECT seq, {kind}, 1000000, 0, 1, 1000000, 1, 1 FROM "
            f"seq_1_to_{HOSTS}",
            "INSERT INTO allocations (resource_provider_id, consumer_id, resource_class_id, used) "
            f"SELECT 1 + seq % {HOSTS}, {instance}, {kind}, {amount} FROM "
            f"seq_1_to_{INSTANCES + ORPHANS}",
        ]
    return {
        database: [*(f"DELETE FROM {table}" for table in tables), *made[database]]
        for database, tables in emptied.items()
    }
