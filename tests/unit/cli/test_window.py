"""The maintenance window of a command that works in its own process."""

import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from cli import window
from demo.cloud import build
from jobs.action import Action, CellResult, Cursor, Failure, FailureKind, Outcome, Step, Target
from jobs.db import backlog
from jobs.db.archive_deleted_rows import Archived, Params
from novadb.cells import Cell
from novadb.errors import DatabaseProblem
from runs.local import LocalEngine
from runs.targets import api_database, mapped_cells, targets
from settings.files import load_configuration
from tests.support.command import until

CLOSED = datetime(2026, 11, 25, 6, tzinfo=UTC)


class Code(IntEnum):
    """Any."""

    WELL = 0


@dataclass(frozen=True)
class Counted(Outcome):
    """An outcome of so many steps."""

    rows: int = 0

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(self.rows + other.rows)

    @property
    def by_table(self) -> dict[str, int]:
        return {}


def endless(target: Target, params: Any, cursor: Cursor | None) -> Generator[Step[Counted]]:
    while True:
        yield Step(Counted(1), {})


ENDLESS: Action[Any, Counted] = Action(
    "endless", object, endless, Counted(), lambda _results, _params: Code.WELL, pause=lambda _: 0.01
)


def cell(name: str) -> Cell:
    return Cell(name, name, frozenset(), DatabaseProblem("it has none"))


def test_work_ends_when_the_window_closes() -> None:
    stop = threading.Event()
    closes = datetime.now(UTC) + timedelta(seconds=0.3)
    with window.closing(stop, closes):
        (result,) = LocalEngine(1, 1, stop=stop).work(ENDLESS, None, [Target(cell("a"), None)])
    assert time.time() >= closes.timestamp()
    assert (result.complete, result.failure) == (False, None)
    assert result.outcome.rows > 0


def test_a_window_may_close_in_ages() -> None:
    stop = threading.Event()
    with window.closing(stop, datetime(9000, 1, 1, tzinfo=UTC)):
        (timer,) = [
            thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)
        ]
        timer.join(0.2)
        assert timer.is_alive()
    assert not stop.is_set()


def test_a_window_that_was_not_needed_closes_nothing() -> None:
    stop = threading.Event()
    closes = datetime.now(UTC) + timedelta(seconds=0.2)
    with window.closing(stop, closes), window.closing(stop, None):
        pass
    until(lambda: datetime.now(UTC) > closes + timedelta(seconds=0.1))
    assert not stop.is_set()


def test_what_is_left_is_said_by_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = load_configuration([f"--config-file={build(tmp_path / 'cloud')}"])
    api = api_database(conf)
    chosen = targets(conf, mapped_cells(conf, api), api)
    gone = replace(
        chosen[2], cell=replace(chosen[2].cell, database=DatabaseProblem("cell2: it is away"))
    )
    chosen[2] = gone
    results = [CellResult(target.cell, Archived(), complete=False) for target in chosen]
    results[0] = replace(results[0], complete=True)
    results[3] = replace(results[3], failure=Failure(FailureKind.CELL, "cell3: it was away"))
    window.say_left(CLOSED, results, chosen, (backlog.ARCHIVE, Params(until_complete=True)), conf)
    said = capsys.readouterr().err.splitlines()
    assert (
        said[0] == "The window closed at 06:00 UTC before 2 of 4 cells were through: cell1, cell2"
    )
    assert said[1].startswith("cell1: left: ")
    assert said[1].endswith(" tables")
    assert said[2] == "cell2: it is away; what is left there was not counted"
    assert said[3].startswith("Left in these cells: at least ")


def test_of_many_cells_some_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    results = [CellResult(cell(f"c{number}"), Archived(), complete=False) for number in range(80)]
    window.say_left(CLOSED, results, [], None, load_configuration([]))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "before 80 of 80 cells were through: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, ..."
    )


def test_nothing_is_said_of_a_run_that_was_through(capsys: pytest.CaptureFixture[str]) -> None:
    window.say_left(CLOSED, [CellResult(cell("a"), Archived())], [], None, load_configuration([]))
    assert capsys.readouterr() == ("", "")
