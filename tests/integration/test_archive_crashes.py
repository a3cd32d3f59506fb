"""The program, or the server under it, is killed in the middle of archiving: nothing is lost and
the next run ends it.

The program is killed fifty times in all.
"""

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.inventory import Inventory
from tests.support.program import Ended, Moment, Program, Run
from tests.support.realcloud import RealCloud
from tests.support.services import MariaDB

ARCHIVE: Final = (
    "db",
    "archive_deleted_rows",
    "--all-cells",
    "--until-complete",
    "--max_rows",
    "50",
)
ARCHIVED, NOTHING_ARCHIVED, ERROR = 1, 0, 255
CELLS: Final = ("cell0", "cell1", "cell2", "cell3")
# Which moment of its kind is the last one of a program: one after the other on the same databases.
# All cells are worked at once, and some hundred transactions are needed.
WORST: Final = {
    "between the commits": [
        (Moment.BETWEEN_THE_COMMITS, n) for n in (0, 1, 0, 2, 3, 0, 5, 1, 8, 0, 13, 2)
    ],
    "around the commits": [
        (moment, n)
        for n in (0, 1, 2, 4, 7, 11)
        for moment in (Moment.API_COMMIT, Moment.AFTER_CELL_COMMIT)
    ],
    "over statements": [
        *((Moment.CELL_STATEMENT, n) for n in (0, 30, 70, 120, 200, 350)),
        *((Moment.API_STATEMENT, n) for n in (1, 2, 3, 6, 20)),
        (Moment.CELL_COMMIT, 1),
    ],
}
RANDOM_KILLS: Final = 14
# Less than the program needs from its first statement to its end.
LONGEST_LIFE: Final = 1.0
# Of a program that meets a server which stands still. They are for it alone: a server that answers
# may take longer.
SHORT_LIMITS: Final = "connect_timeout = 2\nread_timeout = 10\n"
LONG_LIMITS: Final = "connect_timeout = 60\nread_timeout = 300\n"


@pytest.fixture
def program(realcloud: RealCloud, tmp_path: Path) -> Program:
    return Program(realcloud.config(tmp_path), realcloud.api)


@pytest.mark.parametrize("moments", WORST.values(), ids=WORST)
def test_a_program_killed_at_the_worst_moments_loses_no_row(
    realcloud: RealCloud, program: Program, moments: list[tuple[Moment, int]]
) -> None:
    inventory = Inventory(realcloud)
    for moment, number in moments:
        with program.start_and_kill(moment, number, *ARCHIVE) as run:
            assert run.end() == (-signal.SIGKILL, "", "")
        inventory.check()
        if moment is Moment.BETWEEN_THE_COMMITS:
            assert inventory.instances_without_api_rows(), "it was too early or too late"
    assert program.run(*ARCHIVE) == (ARCHIVED, "", "")
    inventory.check_complete()
    assert program.run(*ARCHIVE) == (NOTHING_ARCHIVED, "", "")


def test_a_program_killed_at_random_moments_loses_no_row(
    realcloud: RealCloud, program: Program
) -> None:
    inventory = Inventory(realcloud)
    dice = random.Random(1)
    kills = 0
    while kills < RANDOM_KILLS:
        with program.start_and_hold(Moment.CELL_STATEMENT, 0, *ARCHIVE) as run:
            run.wait_until_held()
            run.go_on()
            time.sleep(dice.uniform(0, LONGEST_LIFE))
            run.process.kill()
            ended = run.end()
        if ended.code == -signal.SIGKILL:
            kills += 1
        else:  # it was done before
            assert ended.code in (ARCHIVED, NOTHING_ARCHIVED)
            inventory.check_complete()
            realcloud.restore()
    inventory.check()
    assert program.run(*ARCHIVE).code in (ARCHIVED, NOTHING_ARCHIVED)
    inventory.check_complete()


@pytest.fixture(scope="module")
def fragile_cloud() -> Iterator[RealCloud]:
    """The databases of the real cloud on a MariaDB server that no other test uses, whatever the
    others run on.
    """
    with MariaDB() as server:
        yield RealCloud(server)


@pytest.fixture
def patient(fragile_cloud: RealCloud, tmp_path: Path) -> Iterator[Program]:
    """The program with long limits, on a server that may be killed."""
    fragile_cloud.restore()
    yield with_limits(LONG_LIMITS, fragile_cloud, tmp_path / "patient")
    fragile_cloud.server.revive()


def with_limits(limits: str, cloud: RealCloud, folder: Path) -> Program:
    """The program with a configuration of its own in a new folder."""
    folder.mkdir()
    config = cloud.config(folder)
    config.write_text(config.read_text() + limits)
    return Program(config, cloud.api)


def in_the_middle(
    program: Program, moment: Moment = Moment.BETWEEN_THE_COMMITS, number: int = 12
) -> Run:
    """A program that has archived some instances, and is held up."""
    run = program.start_and_hold(moment, number, *ARCHIVE)
    run.wait_until_held()
    return run


def assert_cells_are_named(ended: Ended) -> None:
    """The end is 255, and each cell that failed has one line that says so."""
    assert ended.code == ERROR
    assert ended.out == ""
    lines = ended.err.splitlines()
    assert [line.split(" ")[0].rstrip(":") for line in lines] == [
        cell for cell in CELLS if cell in ended.err
    ]
    assert "cell1" in ended.err
    assert "cell2" in ended.err
    assert "Traceback" not in ended.err
    assert "unexpected" not in ended.err


@pytest.mark.parametrize(
    ("moment", "number"),
    [(Moment.BETWEEN_THE_COMMITS, 12), (Moment.CELL_STATEMENT, 250)],
)
def test_a_server_that_is_killed_and_comes_back_at_once_is_carried_over(
    fragile_cloud: RealCloud, patient: Program, moment: Moment, number: int
) -> None:
    inventory = Inventory(fragile_cloud)
    with in_the_middle(patient, moment, number) as run:
        fragile_cloud.server.kill()
        fragile_cloud.server.restart()
        run.go_on()
        assert run.end() == (ARCHIVED, "", "")
    inventory.check_complete()


def test_a_server_that_stays_away_is_reported_by_cell_and_the_next_run_completes(
    fragile_cloud: RealCloud, patient: Program
) -> None:
    inventory = Inventory(fragile_cloud)
    with in_the_middle(patient) as run:
        fragile_cloud.server.kill()
        run.go_on()
        assert_cells_are_named(run.end())
    fragile_cloud.server.restart()
    inventory.check()
    assert patient.run(*ARCHIVE) == (ARCHIVED, "", "")
    inventory.check_complete()


def test_a_server_that_stands_still_is_reported_within_the_limits_and_the_next_run_completes(
    fragile_cloud: RealCloud, patient: Program, tmp_path: Path
) -> None:
    impatient = with_limits(SHORT_LIMITS, fragile_cloud, tmp_path / "impatient")
    inventory = Inventory(fragile_cloud)
    with in_the_middle(impatient) as run:
        fragile_cloud.server.pause()
        run.go_on()
        assert_cells_are_named(run.end())
    fragile_cloud.server.resume()
    inventory.check()
    assert impatient.run(*ARCHIVE) == (ARCHIVED, "", "")
    inventory.check_complete()
