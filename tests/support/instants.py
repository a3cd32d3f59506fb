"""Runs the program again and again, each time with a Ctrl-C at another line of its Python code.

A process of its own, which tests start by ``Instants``: it forks, and must have no threads.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

PATIENCE: Final = 30.0  # seconds after which a run is taken to hang
NUDGE: Final = 5.0  # seconds after which a run is taken to wait
HERE: Final = "@HERE@"  # stands for the folder of a run in its configuration
# What is imported before the first fork need not be imported in each run.
HEAVY: Final = (
    "click",
    "oslo_log.log",
    "prettytable",
    "rich.live",
    "sqlalchemy.dialects.mysql",
    "pymysql",
    "jobs.check",
)


@dataclass(frozen=True)
class Interrupted:
    """How the program has ended after a Ctrl-C.

    :ivar place: file and line of the code at which it came
    :ivar code: the exit code; None: it did not end
    :ivar rows: of its SQLite databases, by ``file.table``
    """

    place: str
    code: int | None
    out: str
    err: str
    rows: dict[str, int]


@dataclass(frozen=True)
class Instants:
    """A command that is interrupted.

    :ivar template: a folder with a nova.conf and SQLite databases, copied for each run
    :ivar words: the command line behind ``--config-file``
    :ivar nudge: whether a run that waits for ever is interrupted there, if its line was not reached
    """

    template: Path
    words: list[str]
    nudge: bool = False

    def at_lines(self, seed: int, number: int, *files: str) -> list[Interrupted]:
        """Interrupt it at some of the lines that its main thread comes to, each in a run of its
        own.

        :param number: of lines anywhere, and again of lines in some files; chosen by ``seed``
        :param files: the endings of their names
        """
        places: dict[int, str] = dict(self._ask([0])[0]["places"])
        in_files = [
            instant for instant, place in places.items() if place.rpartition(":")[0].endswith(files)
        ]
        chance = random.Random(seed)
        chosen = chance.sample(list(places), number) + chance.sample(
            in_files, min(number, len(in_files))
        )
        return [
            Interrupted(places[instant], run["code"], run["out"], run["err"], run["rows"])
            for instant, run in zip(chosen, self._ask(chosen), strict=True)
        ]

    def _ask(self, instants: list[int]) -> list[Any]:
        question = {
            "template": str(self.template),
            "words": self.words,
            "nudge": self.nudge,
            "instants": instants,
        }
        words = [sys.executable, "-m", "tests.support.instants"]
        answer = subprocess.run(
            words, input=json.dumps(question), capture_output=True, text=True, check=True
        )
        return list(json.loads(answer.stdout))


def answer(question: dict[str, Any]) -> list[dict[str, Any]]:
    """What becomes of the program when it is interrupted at each of ``instants``; 0: not at all."""
    for name in HEAVY:
        __import__(name)
    runs = []
    for instant in question["instants"]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file in filter(Path.is_file, Path(question["template"]).iterdir()):
                shutil.copy(file, folder)
            move(folder, HERE, name)
            words = ["--config-file", str(folder / "nova.conf"), *question["words"]]
            runs.append(run_once(words, instant, folder, nudge=question["nudge"]))
    return runs


def move(folder: Path, old: str, new: str) -> None:
    """Write another place of the databases into nova.conf, and into the mappings of the cells."""
    config = folder / "nova.conf"
    config.write_text(config.read_text().replace(old, new))
    mappings = folder / "nova_api.db"
    if mappings.exists():
        with closing(sqlite3.connect(mappings)) as link, link:
            change = (
                "UPDATE cell_mappings SET database_connection = replace(database_connection, ?, ?)"
            )
            link.execute(change, (old, new))


def run_once(words: list[str], instant: int, folder: Path, *, nudge: bool) -> dict[str, Any]:
    """Run the program in a child of this process."""
    child = os.fork()
    if not child:
        become_the_program(words, instant, folder)
    code = wait_for(child, instant, folder, nudge)
    places = folder / "places"
    return {
        "code": code,
        "out": (folder / "out").read_text(),
        "err": (folder / "err").read_text(),
        "rows": census(folder),
        "places": json.loads(places.read_text()) if places.exists() else [],
    }


def become_the_program(words: list[str], instant: int, folder: Path) -> None:
    """Run the program in this process, and end it.

    :param instant: the number of the line at which it is interrupted, counted in its main thread;
        0: never, but note the number of each line when it is come to first
    """
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
    count = 0
    places: dict[str, int] = {}

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
            if not instant:
                places.setdefault(f"{frame.f_code.co_filename}:{frame.f_lineno}", count)
            if count == instant:
                sys.settrace(None)
                (folder / "reached").touch()
                os.kill(os.getpid(), signal.SIGINT)
        return trace

    from cli import start

    if not instant:
        signal.signal(signal.SIGUSR1, lambda *_: sys.exit())
    sys.argv[:] = ["cellkeeper", *words]
    code = 255
    try:
        sys.settrace(trace)
        start.main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.settrace(None)
        (folder / "places").write_text(
            json.dumps([(number, place) for place, number in places.items()])
        )
        os._exit(code)


def wait_for(child: int, instant: int, folder: Path, nudge: bool) -> int | None:
    """Wait until a child has ended; one that does not is killed."""
    begin = time.monotonic()
    while time.monotonic() - begin < PATIENCE:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if nudge and time.monotonic() - begin > NUDGE and not (folder / "reached").exists():
            os.kill(child, signal.SIGINT if instant else signal.SIGUSR1)
            nudge = False
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def census(folder: Path) -> dict[str, int]:
    """How many rows each table of the databases has."""
    rows = {}
    for file in folder.glob("*.db"):
        with closing(sqlite3.connect(file)) as link:
            for (name,) in link.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ).fetchall():
                ((rows[f"{file.stem}.{name}"],),) = link.execute(
                    f"SELECT COUNT(*) FROM {name}"
                ).fetchall()
    return rows


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
