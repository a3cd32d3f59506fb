"""Many cells on one server: all workers together keep to its connections, and need no more for many
cells.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import pytest

from tests.support.many_cells import CELLS, LEAVING, LIMIT, LOOKING, ManyCells, Peak, name_of
from tests.support.services import MariaDB, Redis
from tests.workers.fleet import Site, Worker

ARCHIVE: Final = "db archive_deleted_rows --all-cells --until-complete"
# A cell that is archived has one connection to its database, and one to the API database on the
# same server.
AT_ONCE: Final = LIMIT // 2
FEW, MANY = 10, 80
MEMORY: Final = 16_000  # KiB
SPARE: Final = 4
ARCHIVED: Final = 1


@pytest.fixture(scope="module")
def many_cells(mariadb: MariaDB) -> Iterator[ManyCells]:
    mariadb.revive()
    with ManyCells(mariadb) as cells:
        yield cells


@pytest.fixture
def site(many_cells: ManyCells, broker: Redis, tmp_path: Path) -> Site:
    broker.revive()
    broker.execute("FLUSHALL")
    return Site(cast("Any", many_cells), broker, tmp_path)


def serve(worker: Worker, cells: int) -> None:
    worker.serve(*(f"many{number}" for number in range(cells)))


def test_all_workers_together_keep_to_the_connections_of_a_server(
    site: Site, many_cells: ManyCells
) -> None:
    many_cells.have(24, 200)
    with (
        site.worker("--concurrency", "4") as first,
        site.worker("--concurrency", "4", name="second") as second,
    ):
        for worker in (first, second):
            serve(worker, 24)
        with Peak(many_cells.server, databases=CELLS) as peak:
            ended = site.call(f"{ARCHIVE} --max_rows 100 --sleep 0.05")
        assert ended.code == ARCHIVED, ended
        assert 1 <= peak.connections <= AT_ONCE + LOOKING + LEAVING, str(peak)
        assert many_cells.live() == 0


def test_what_a_killed_worker_had_is_free_again(site: Site, many_cells: ManyCells) -> None:
    """The worker that is killed has all connections that the server has to spare."""
    many_cells.have(12, 200)
    with site.worker("--concurrency", "4", name="second") as second:
        serve(second, 12)
        with site.worker("--concurrency", "4", "--cells", "many0,many1") as first:
            serve(first, 2)
            with site.start(f"{ARCHIVE} --max_rows 20 --sleep 0.2") as running:
                run = site.begun(running)
                site.until(lambda: site.working(run))
                first.kill()
                ended = running.end()
    assert ended.code == ARCHIVED, ended
    assert many_cells.live() == 0


def test_workers_need_no_more_for_many_cells_than_for_a_few(
    site: Site, many_cells: ManyCells
) -> None:
    peaks = []
    many_cells.have(MANY, 100)
    with site.worker() as worker:
        serve(worker, MANY)
        for cells in (FEW, MANY):
            many_cells.have(cells, 100)
            for line, code in ((ARCHIVE, ARCHIVED), ("db purge --all-cells --all", 0)):
                with Peak(
                    many_cells.server, worker.process.pid, *worker.children, databases=CELLS
                ) as peak:
                    ended = site.call(line)
                assert ended.code == code, ended
                peaks.append(peak)
    few, many = peaks[:2], peaks[2:]
    for less, more in zip(few, many, strict=True):
        assert more.memory < less.memory + MEMORY, f"{less} {more}"
        assert more.threads <= less.threads + SPARE, f"{less} {more}"
        assert more.files <= less.files + SPARE, f"{less} {more}"


def test_one_loaded_cell_alone_counts_ahead(site: Site, many_cells: ManyCells) -> None:
    """Its second connection is had while the server has it to spare: a limit of eight."""
    text = site.config.read_text().replace(
        f"concurrency_per_server = {LIMIT}", "concurrency_per_server = 8"
    )
    site.config.write_text(text)
    many_cells.have(1, 3000)
    with site.worker() as worker:
        serve(worker, 1)
        with Peak(many_cells.server, databases=name_of(0)) as peak:
            ended = site.call(f"{ARCHIVE} --max_rows 200")
    assert ended.code == ARCHIVED, ended
    assert peak.connections == 2 + LOOKING, str(peak)
