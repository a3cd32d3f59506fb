"""``machine_types``: libvirt list_unset_machine_type, beside stock ``nova-manage``, both as
programs.
"""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.cloud import Cloud, WrongResult, cloud
from benchmarks.programs import programs, timed
from benchmarks.tables import markdown, middle
from jobs.libvirt.list_unset_machine_type import Exit

CELLS: Final = 4
INSTANCES: Final = 5_000  # in each cell
LACKING: Final = 100  # one of so many has no machine type
ROUNDS: Final = 3
COMMAND: Final = ("libvirt", "list_unset_machine_type")
SERVERS: Final = (
    "INSERT INTO instances (created_at, deleted, uuid, project_id, user_id, hidden, host, "
    "vm_state, hostname) "
    "SELECT '2026-01-01', 0, UUID(), MD5(seq % 40), MD5(seq % 100), 0, CONCAT('cmp-', seq % 50), "
    "'active', 'vm' "
    f"FROM seq_1_to_{INSTANCES}"
)
RECORDED: Final = (
    "INSERT INTO instance_system_metadata (created_at, deleted, instance_uuid, `key`, value) "
    "SELECT '2026-01-01', 0, uuid, `key`, 'pc-q35-8.2' FROM instances "
    "JOIN (SELECT 'image_hw_machine_type' AS `key` UNION SELECT 'image_base_image_ref') named "
    f"WHERE `key` <> 'image_hw_machine_type' OR id % {LACKING} <> 0"
)
UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def run(*, quick: bool, stock: str | None) -> str:
    """Measure; returns a table.

    :param quick: one round instead of the median of several
    :param stock: the command of the stock tool, to compare with it too
    """
    with (
        cloud(cells=CELLS) as measured,
        tempfile.TemporaryDirectory(prefix="cellkeeper-bench-") as folder,
    ):
        _fill(measured)
        options = ["--config-file", str(measured.config(Path(folder))), *COMMAND]
        runs = [
            [_seconds([*words, *options]) for words in programs(stock).values()]
            for _ in range(1 if quick or stock else ROUNDS)
        ]
    own, *rival = (middle(of_program) for of_program in zip(*runs, strict=True))
    row = [
        f"{CELLS * INSTANCES:,}",
        f"{own:.1f}",
        *(f"{one:.1f}" for one in rival),
        *(f"{x / own:.0f}" for x in rival),
    ]
    header = ("instances", "cellkeeper, s", *(("nova-manage, s", "ratio") if stock else ()))
    title = (
        f"`{' '.join(COMMAND)}`, {CELLS} cells, one of {LACKING} instances lacks its machine "
        "type, whole programs:"
    )
    return f"{title}\n\n" + markdown(header, [row])


def _fill(measured: Cloud) -> None:
    for cell in measured.cells:
        for statement in (SERVERS, RECORDED, "ANALYZE TABLE instances, instance_system_metadata"):
            measured.server.execute(statement, cell)


def _seconds(command: Sequence[str]) -> float:
    ended = timed(command)
    listed = len(set(UUID.findall(ended.out)))
    if ended.code != Exit.FOUND or listed != CELLS * INSTANCES // LACKING:
        raise WrongResult(f"{command[0]} listed {listed}, {ended}")
    return ended.seconds
