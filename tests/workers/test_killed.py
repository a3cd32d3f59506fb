"""Whatever is killed in the middle of a run: the run ends by itself, once, and no row is lost or doubled."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tests.acceptance.program import until
from tests.inventory import Inventory
from tests.realcloud import RealCloud
from tests.services import Redis
from tests.workers.fleet import Site, Worker

ARCHIVE = "db archive_deleted_rows --all-cells --until-complete"
# Some seconds of work, in some sixty transactions.
SLOWLY = f"{ARCHIVE} --max_rows 50 --sleep 0.05"
KILLS = 5


@pytest.fixture(scope="module")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each file here ends a child between the continuation that it publishes and the acknowledgement."""
    return tmp_path_factory.mktemp("tickets")


@pytest.fixture(scope="module")
def shared_site(loaded_realcloud: RealCloud, broker: Redis, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(loaded_realcloud, broker, tmp_path_factory.mktemp("site"), lease_seconds=1.0)


@pytest.fixture(scope="module")
def worker(shared_site: Site, tickets: Path) -> Iterator[Worker]:
    """A worker that survives all tests of this module; its children do not."""
    shared_site.cloud.restore()
    with shared_site.worker(name="survivor", env={"CELLKEEPER_TEST_TICKETS": str(tickets)}) as worker:
        yield worker.serve()


@pytest.fixture
def site(shared_site: Site, worker: Worker, realcloud: RealCloud) -> Iterator[Site]:
    """The cloud as dumped, with a worker that serves it; no run outlives its test."""
    yield shared_site
    shared_site.end_all()


@pytest.fixture
def before(site: Site) -> Inventory:
    return Inventory(site.cloud)


def detach(site: Site, line: str = SLOWLY) -> str:
    """Start a run that nobody waits for."""
    ended = site.call(f"{line} --detach")
    assert (ended.code, ended.err) == (0, "")
    return ended.out.strip()


def until_moving(site: Site, run: str) -> None:
    """Wait until a run has moved some rows, and is far from its end."""
    until(lambda: site.rows(run) > 50)
    assert not site.ended(run)


def assert_all_is_done(site: Site, before: Inventory, run: str, *workers: Worker, exactly: bool = True) -> None:
    """The run ended by itself, was told once, moved everything, and counted no row twice.

    :param exactly: nobody died between a transaction and its record, so that each row was counted
    """
    assert site.until_ended(run) == 1
    before.check_complete()
    rows = sum(len(moving) for moving in before.moving.values())
    assert site.rows(run) == rows if exactly else 0 < site.rows(run) <= rows
    until(lambda: [(name, code) for name, code in site.audits(*workers) if name == run] == [(run, 1)])
    assert [site.store.queue_length(f"cell.{uuid}") for uuid in site.cloud.uuids.values()] == [0] * 4


def assert_the_rest_can_be_done(site: Site, before: Inventory) -> None:
    """What a run left is consistent, and the next one finishes it."""
    before.check()
    assert site.call(ARCHIVE).code in (0, 1)
    before.check_complete()


def victim(site: Site, run: str, seen: Mapping[str, int]) -> tuple[str, int] | None:
    """A child whose cell has got on since its last worker died: three deaths in a row would be a failure."""
    working = site.working(run).items()
    return next(((cell, pid) for cell, pid in working if site.rows(run, cell) > seen.get(cell, 0)), None)


def test_children_that_are_killed_in_the_middle_of_a_slice(site: Site, worker: Worker, before: Inventory) -> None:
    run = detach(site)
    seen: dict[str, int] = {}
    for _ in range(KILLS):
        until(lambda: site.ended(run) or victim(site, run, seen) is not None)
        if found := victim(site, run, seen):
            cell, pid = found
            with suppress(ProcessLookupError):  # its last step was recorded after its death
                os.kill(pid, signal.SIGKILL)
            seen[cell] = site.rows(run, cell)
    assert seen
    assert_all_is_done(site, before, run, worker, exactly=False)


def test_children_that_are_killed_between_a_continuation_and_its_acknowledgement(
    site: Site, worker: Worker, before: Inventory, tickets: Path
) -> None:
    for number in range(KILLS):
        (tickets / str(number)).touch()
    run = detach(site)
    assert_all_is_done(site, before, run, worker)
    assert list(tickets.iterdir()) == []


def test_a_worker_that_is_killed_with_all_its_children(site: Site, worker: Worker, before: Inventory) -> None:
    with site.worker(name="doomed") as doomed:
        doomed.serve()
        run = detach(site)
        until(lambda: not set(doomed.children).isdisjoint(site.working(run).values()))
        doomed.kill()
        assert not site.ended(run)
    assert_all_is_done(site, before, run, worker, doomed, exactly=False)


def test_a_worker_that_is_told_to_end(site: Site, worker: Worker, before: Inventory) -> None:
    with site.worker(name="leaving") as leaving:
        leaving.serve()
        run = detach(site)
        until(lambda: not set(leaving.children).isdisjoint(site.working(run).values()))
        leaving.terminate()
        assert leaving.process.wait(60) == 0
        assert not site.ended(run)
        assert_all_is_done(site, before, run, worker, leaving)
    assert "'lost'" not in leaving.log


def test_a_command_that_is_killed_while_it_waits(site: Site, worker: Worker, before: Inventory) -> None:
    running = site.start(SLOWLY)
    run = site.begun(running)
    until_moving(site, run)
    running.process.kill()
    running.end()
    waited = site.call(f"runs wait {run}")
    assert (waited.code, waited.out, waited.err) == (1, "", "")
    assert_all_is_done(site, before, run, worker)


def test_a_child_that_is_stopped_past_its_lease_and_goes_on(site: Site, worker: Worker, before: Inventory) -> None:
    """It comes back when another one works in its cell: it sees so, and writes no more."""
    run = detach(site, f"{ARCHIVE} --max_rows 700 --sleep 1")
    until(lambda: "cell1" in site.working(run) and site.rows(run) > 0)
    cell, pid = next(iter(site.working(run).items()))
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: site.working(run).get(cell, pid) != pid or site.cells(run)[cell].finished is not None)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert_all_is_done(site, before, run, worker, exactly=False)


def test_a_database_server_that_is_killed(site: Site, worker: Worker, before: Inventory) -> None:
    running = site.start(SLOWLY)
    run = site.begun(running)
    until_moving(site, run)
    site.cloud.server.kill()
    site.cloud.server.start()
    ended = running.end()
    failures = [cell for cell in site.cells(run).values() if cell.failure]
    assert ended.code == (255 if failures else 1)
    assert len(ended.err.splitlines()) == len(failures)
    assert_the_rest_can_be_done(site, before)


def test_a_database_server_that_stays_away_fails_its_cells(site: Site, worker: Worker, before: Inventory) -> None:
    running = site.start(SLOWLY)
    run = site.begun(running)
    until_moving(site, run)
    site.cloud.server.kill()
    ended = running.end()
    assert ended.code in (3, 255)
    assert all("cannot connect" in line or "Lost connection" in line for line in ended.err.splitlines())
    site.cloud.server.start()
    assert site.call(f"runs wait {run}").code == ended.code
    assert_the_rest_can_be_done(site, before)


def test_a_redis_that_is_killed_and_comes_back_with_its_data(site: Site, worker: Worker, before: Inventory) -> None:
    running = site.start(SLOWLY)
    run = site.begun(running)
    for _ in range(3):
        rows = site.rows(run)
        until(lambda rows=rows: site.rows(run) > rows or site.ended(run))  # type: ignore[misc]
        site.broker.kill()
        time.sleep(0.3)
        site.broker.start()
    ended = running.end()
    assert (ended.code, ended.err) == (1, "")
    assert_all_is_done(site, before, run, worker, exactly=False)


def test_a_redis_that_is_emptied(site: Site, worker: Worker, before: Inventory) -> None:
    running = site.start(SLOWLY)
    run = site.begun(running)
    until_moving(site, run)
    site.broker.execute("FLUSHALL")
    ended = running.end()
    assert (ended.code, ended.out) == (255, "")
    assert ended.line == f"The store knows no run {run}: it was emptied, or the run has expired"
    assert [one for one in site.audits(worker) if one[0] == run] == []
    assert_the_rest_can_be_done(site, before)
