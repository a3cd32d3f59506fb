"""Children of a worker that hang are ended, and nobody else; those that have grown are replaced."""

import os
import signal
from pathlib import Path

import pytest

from tests.support.command import until
from tests.support.services import Redis
from tests.workers.fleet import CELLS, Site, Tickets
from tests.workers.sqlite_cloud import SqliteCloud

ARCHIVE = "db archive_deleted_rows --all-cells --until-complete"
SLOWLY = f"{ARCHIVE} --max_rows 10 --sleep 0.3"
HANGS = "has shown no sign of life for 6 s: it is killed"


def make_site(broker: Redis, folder: Path, **celery: float) -> Site:
    """The cloud with short limits for statements and children."""
    broker.revive()
    broker.execute("FLUSHALL")
    site = Site(SqliteCloud(), broker, folder, **celery)
    site.config.write_text(f"{site.config.read_text()}[cellkeeper]\nread_timeout = 3\n")
    return site


@pytest.fixture
def site(broker: Redis, tmp_path: Path) -> Site:
    return make_site(broker, tmp_path, hang_seconds=6)


@pytest.fixture
def tickets(tmp_path: Path) -> Tickets:
    folder = tmp_path / "tickets"
    folder.mkdir()
    return Tickets(folder)


def begin(site: Site, line: str) -> str:
    """Order a run, and wait until it moves rows; its id."""
    run = site.call(f"{line} --detach").out.strip()
    until(lambda: site.rows(run) > 0)
    return run


def cell_uuid(site: Site) -> str:
    """The uuid of cell1."""
    listed = site.call("cell_v2 list_cells -f json").document
    (uuid,) = [cell["uuid"] for cell in listed if cell["name"] == "cell1"]
    return str(uuid)


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_child_that_was_stopped_is_killed_and_its_cell_taken_over(site: Site) -> None:
    with site.worker() as worker:
        worker.serve()
        run = begin(site, SLOWLY)
        until(lambda: bool(site.working(run)))
        (stopped, *_) = site.working(run).values()
        os.kill(stopped, signal.SIGSTOP)
        until(lambda: not is_there(stopped))
        assert f"child {stopped} {HANGS}" in worker.log
        assert site.until_ended(run) == 1
        until(lambda: len(worker.children) == 2)


def test_a_child_in_a_call_that_never_returns_is_killed_and_its_cell_taken_over(
    site: Site, tickets: Tickets
) -> None:
    """It renews its claim all the time: only its death lets others go on."""
    with site.worker(env=tickets.env) as worker:
        worker.serve()
        tickets.order("in step", cell=cell_uuid(site))
        ended = site.call(ARCHIVE)
        assert ended.code == 1
        assert tickets.left == []
        assert worker.log.count(HANGS) == 1


def test_a_worker_that_is_told_to_end_does_not_wait_for_a_child_that_hangs(
    site: Site, tickets: Tickets
) -> None:
    with site.worker(env=tickets.env) as worker:
        worker.serve()
        tickets.order("in step", cell=cell_uuid(site))
        run = site.call(f"{ARCHIVE} --detach").out.strip()
        until(lambda: not tickets.left)
        worker.terminate()
        assert worker.process.wait(120) == 0
        assert worker.log.count(HANGS) == 1
    site.end_all()
    assert site.ended(run)


def test_a_child_that_shows_signs_of_life_may_take_its_time(site: Site) -> None:
    """The pauses between its batches are longer than it may be silent, and so are its slices."""
    site.config.write_text(
        site.config.read_text().replace("slice_seconds = 0.3", "slice_seconds = 60")
    )
    with site.worker() as worker:
        worker.serve()
        children = set(worker.children)
        run = site.call(f"{ARCHIVE} --max_rows 20 --sleep 8 --detach").out.strip()
        until(lambda: any(site.rows(run, label) > 50 for label in CELLS))  # two pauses are over
        assert HANGS not in worker.log
        assert set(worker.children) == children
        site.end_all()


def test_a_child_that_has_grown_is_replaced_after_its_slice(broker: Redis, tmp_path: Path) -> None:
    site = make_site(broker, tmp_path, max_memory_per_child=1)
    with site.worker() as worker:
        worker.serve()
        first = set(worker.children)
        ended = site.call(ARCHIVE)
        assert ended.code == 1
        until(lambda: not first & set(worker.children) and len(worker.children) == 2)
        assert "Traceback" not in worker.log
