"""``db sync --all-cells``: a process of the caller's for each cell, as alembic works in global
variables.

Each is the command ``db sync --cell UUID``, in a session of its own: Ctrl-C reaches the caller
alone, which lets every process end after its current change. One that has lost its caller goes on
to its end.
"""

import json
import os
import select
import subprocess
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final

from cli import configuration
from cli.output import labels, put, say
from cli.run_options import RunOptions
from cli.schema import Upgrader
from cli.signals import Stop
from cli.start import EXIT_INTERRUPTED
from jobs.action import Action, CellResult, Cursor, Step, Target
from jobs.db.sync import Params, Synced, collapse
from novadb.cells import Cell
from novadb.errors import DatabaseProblem
from novadb.migrations.upgrade import UpgradeResult
from runs.follow import SilentListener
from runs.local import LocalEngine

CHUNK: Final = 65536  # bytes
WAKE: Final = 0.5  # seconds between two looks whether to stop


def sync_in_processes(
    upgrader: Upgrader, cells: Sequence[Cell], run: RunOptions
) -> list[CellResult[Synced]]:
    """Upgrade cells at the same time, each in a process of its own.

    Unless a document is wanted, there is a line on standard output when a cell is done.

    :returns: a result per cell; one that failed harms no other
    :raises KeyboardInterrupt: the operator has called it off
    """
    words = [
        *configuration.given(),
        "db",
        "sync",
        "--format",
        "json",
        *([] if upgrader.wait else ["--no-wait"]),
    ]
    processes = _Processes(words, upgrader.revision, upgrader.stop)
    own = upgrader.conf.cellkeeper
    listener = SilentListener() if run.json else _Lines(cells)
    engine = LocalEngine(
        run.concurrency or own.concurrency, own.concurrency_per_server, [listener], upgrader.stop
    )
    action = Action("db.sync", Params, processes.work, Synced(), collapse)
    results = engine.work(action, Params(upgrader.revision), [Target(cell, None) for cell in cells])
    if upgrader.stop.is_set():
        say("Stopped; what was done stands, and the same command goes on from there")
        raise KeyboardInterrupt
    return results


class _Lines(SilentListener):
    """Prints what became of each cell."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._labels = dict(
            zip(cells, labels([CellResult(cell, Synced()) for cell in cells]), strict=True)
        )

    def finished(self, result: CellResult[Synced]) -> None:
        done = result.outcome.database
        put(
            f"{self._labels[result.cell]}: "
            f"{f'{done.after}, was {done.before}' if done else 'failed'}"
        )


@dataclass(frozen=True)
class _Processes:
    """Starts and follows a process per cell.

    :ivar words: of the command line, up to what names the cell
    """

    words: Sequence[str]
    revision: str | None
    stop: Stop

    def work(
        self, target: Target, _params: Params, _cursor: Cursor | None
    ) -> Generator[Step[Synced]]:
        """The work in one cell.

        :raises DatabaseProblem: its process has failed
        """
        assert target.cell.uuid is not None
        version = [] if self.revision is None else ["--", self.revision]
        command = [*self.words, "--cell", target.cell.uuid, *version]
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "cli.start", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            self._follow(process)
            assert process.stdout is not None
            said = process.stdout.read()
        yield Step(Synced(_upgraded(said, process.returncode, target.cell)), {})

    def _follow(self, process: "subprocess.Popen[bytes]") -> None:
        """Hand on the lines of a process to its end; ask it to end when the operator wants to."""
        assert process.stderr is not None
        asked = False
        line = b""
        while True:
            if self.stop.is_set() and not asked:
                process.terminate()
                asked = True
            if not select.select([process.stderr], [], [], WAKE)[0]:
                continue
            part = os.read(process.stderr.fileno(), CHUNK)
            *whole, line = (line + part).split(b"\n")
            for one in whole:
                say(one.decode(errors="replace"))
            if not part:
                return


def _upgraded(said: bytes, code: int, cell: Cell) -> UpgradeResult | None:
    """What a process has said in the end; None: it was asked to stop.

    :raises DatabaseProblem: the upgrade failed, or the process did
    """
    try:
        (done,) = json.loads(said)["cells"]
    except ValueError:
        if code == EXIT_INTERRUPTED:
            return None
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise DatabaseProblem(
            f"{cell.label}: its process {how}; run: db sync --cell {cell.uuid}"
        ) from None
    if done["failure"]:
        raise DatabaseProblem(done["failure"])
    return UpgradeResult(done["before"], done["after"])
