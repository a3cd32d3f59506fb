"""What archives deleted rows: the programs and options that ``neighbour`` compares, each as a
command line.
"""

import json
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.by_hand import TABLES, archive
from benchmarks.cloud import API, Cloud
from benchmarks.data import ROWS_PER_INSTANCE
from benchmarks.nova_load import connect_to
from benchmarks.programs import OWN_PROGRAM
from benchmarks.stock import COMMAND
from tests.support.services import HOST, MariaDB

PT_ARCHIVER: Final = "pt-archiver"
MAX_ROWS: Final = 1_000
"""What all of them move in one transaction by default, the loop and pt-archiver included."""
LARGE: Final = ("--max_rows", "10000")
BY_SIZE_ALONE: Final = {"OS_CELLKEEPER__TRANSACTION_SECONDS": "0"}
"""Lets a transaction have as many rows as ``--max_rows`` allows, however long they take."""


@dataclass(frozen=True)
class Archiver:
    """Something that archives the deleted rows of the first cell.

    :ivar name: for people
    :ivar commands: carried out one after the other
    :ivar environment: of these, beside that of this process
    :ivar absent: why it cannot be measured here; empty: it can
    """

    name: str
    commands: Sequence[Sequence[str]] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    absent: str = ""


def archivers(measured: Cloud, folder: Path, stock: str | None) -> list[Archiver]:
    """All that are compared.

    :param folder: for their configuration
    :param stock: the command of the stock tool; None: it is not there
    """
    config = str(measured.config(folder))
    own = [OWN_PROGRAM, "--config-file", config, *COMMAND]
    return [
        _stock(config, stock),
        Archiver("a loop written by hand", [_by_hand_command(measured)]),
        _pt_archiver(measured),
        Archiver("cellkeeper", [own]),
        Archiver("cellkeeper --max_rows 10000", [[*own, *LARGE]]),
        Archiver("cellkeeper --no-throttle", [[*own, "--no-throttle"]]),
        Archiver(
            "cellkeeper --max_rows 10000, transaction_seconds = 0", [[*own, *LARGE]], BY_SIZE_ALONE
        ),
    ]


def _stock(config: str, stock: str | None) -> Archiver:
    if not stock:
        return Archiver("nova-manage", absent="not measured: name it by --stock")
    return Archiver("nova-manage", [[*shlex.split(stock), "--config-file", config, *COMMAND]])


def _pt_archiver(measured: Cloud) -> Archiver:
    """Table by table, children first. It leaves the API database alone, and knows no trees."""
    program = shutil.which(PT_ARCHIVER)
    if not program:
        return Archiver(PT_ARCHIVER, absent="not installed: apt-get install percona-toolkit")
    server = f"h={HOST},P={measured.server.port},u={MariaDB.USER},p={MariaDB.PASSWORD},D={measured.cells[0]},A=utf8"
    options = [
        "--where",
        "deleted <> 0",
        "--limit",
        str(MAX_ROWS),
        "--commit-each",
        "--no-safe-auto-increment",
    ]
    tables = ("instance_actions_events", *TABLES, "instances")
    commands = [
        [
            program,
            "--source",
            f"{server},t={table}",
            "--dest",
            f"{server},t=shadow_{table}",
            *options,
        ]
        for table in tables
    ]
    return Archiver(PT_ARCHIVER, commands)


# -- the loop written by hand, as a program --------------------------------------------------------


def _by_hand_command(measured: Cloud) -> list[str]:
    return [
        sys.executable,
        "-m",
        "benchmarks.archivers",
        json.dumps([measured.server.port, measured.cells[0]]),
    ]


def archive_by_hand(port: int, cell: str) -> None:
    """Let the loop archive a cell."""
    with connect_to(port, cell) as cell_link, connect_to(port, API) as api_link:
        archive(cell_link, api_link, MAX_ROWS // ROWS_PER_INSTANCE)


if __name__ == "__main__":
    archive_by_hand(*json.loads(sys.argv[1]))
