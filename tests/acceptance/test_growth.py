"""What commands need does not grow with the cells: connections to a server, memory, threads, open
files.
"""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.command import Running
from tests.support.many_cells import LEAVING, LIMIT, LOOKING, ManyCells, Peak
from tests.support.services import MariaDB

FEW, MANY = 20, 160
# More than are counted at once, so that an archive has use for a second connection.
INSTANCES: Final = 600
# Beyond what a few cells take: the results of all cells are kept for the end.
MEMORY: Final = 24_000  # KiB
SPARE: Final = 4
LINES: Final = {
    "check": (0, 1),
    "metrics": (0,),
    "db archive_deleted_rows --all-cells --dry-run": (0,),
    "db archive_deleted_rows --all-cells --until-complete --max_rows 400": (1,),
    "db purge --all-cells --all": (0,),
}


@pytest.fixture(scope="module")
def many_cells(mariadb: MariaDB) -> Iterator[ManyCells]:
    mariadb.revive()
    with ManyCells(mariadb) as cells:
        yield cells


@pytest.fixture(scope="module")
def peaks(
    many_cells: ManyCells, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, int], Peak]:
    """What each command had at most, with a few cells and with many."""
    config = many_cells.config(tmp_path_factory.mktemp("many"))
    found = {}
    for cells in (FEW, MANY):
        many_cells.have(cells, INSTANCES)
        for line, codes in LINES.items():
            with (
                Running(line, config=config) as running,
                Peak(many_cells.server, running.process.pid) as peak,
            ):
                ended = running.end()
            assert ended.code in codes, ended
            found[line, cells] = peak
    assert many_cells.live() == 0
    return found


@pytest.mark.parametrize("line", LINES)
def test_a_command_keeps_to_the_limit_of_connections(
    peaks: dict[tuple[str, int], Peak], line: str
) -> None:
    for cells in (FEW, MANY):
        assert 1 < peaks[line, cells].connections <= LIMIT + LOOKING + LEAVING, str(
            peaks[line, cells]
        )


@pytest.mark.parametrize("line", LINES)
def test_a_command_needs_no_more_for_many_cells_than_for_a_few(
    peaks: dict[tuple[str, int], Peak], line: str
) -> None:
    few, many = peaks[line, FEW], peaks[line, MANY]
    assert many.memory < few.memory + MEMORY, f"{few} {many}"
    assert many.threads <= few.threads + SPARE, f"{few} {many}"
    assert many.files <= few.files + SPARE, f"{few} {many}"
