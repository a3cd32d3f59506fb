"""Whatever is killed during a run, and however often: the run ends by itself, once, and no row is
lost or doubled.

Deaths come at random, and at the moments that are worst: around each decision of the store, and
after a message.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import pytest

from jobs.action import FailureKind
from tests.support.command import Running, until
from tests.support.inventory import Inventory
from tests.support.realcloud import RealCloud
from tests.support.services import Redis
from tests.workers.fleet import Site, Tickets, Worker

ARCHIVE: Final = "db archive_deleted_rows --all-cells --until-complete"
# Some seconds of work, in some sixty transactions; and long enough to be harmed often.
SLOWLY: Final = f"{ARCHIVE} --max_rows 50 --sleep 0.05"
SLOWER: Final = f"{ARCHIVE} --max_rows 50 --sleep 0.4"
# Long enough for all harm, however slowly commands start on a machine that has other work.
SLOWEST: Final = f"{ARCHIVE} --max_rows 20 --sleep 0.4"
KILLS: Final = 5
ARCHIVED, NOTHING, NO_API_DATABASE, FAILED = 1, 3, 3, 255
# A machine is dead: operators are told that somebody has its cells within a minute; twice that is
# an error.
TAKEN_OVER: Final = 120.0
# Longer than any test waits.
FOR_EVER: Final = 600.0


@pytest.fixture(scope="module")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Tickets:
    """Deaths of the worker's children."""
    return Tickets(tmp_path_factory.mktemp("tickets"))


@pytest.fixture(scope="module")
def shared_site(
    loaded_realcloud: RealCloud, broker: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Site:
    return Site(loaded_realcloud, broker, tmp_path_factory.mktemp("site"), lease_seconds=1.0)


@pytest.fixture(scope="module")
def worker(shared_site: Site, tickets: Tickets) -> Iterator[Worker]:
    """A worker that survives all tests of this module; its children do not."""
    shared_site.cloud.restore()
    with shared_site.worker(name="survivor", env=tickets.env) as worker:
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
    """Wait until a run has moved some more rows, and a random time, and is not at its end."""
    rows = site.rows(run)
    until(lambda: site.rows(run) > rows or site.ended(run))
    time.sleep(random.uniform(0, 0.3))
    assert not site.ended(run)


def assert_all_is_done(
    site: Site, before: Inventory, run: str, *workers: Worker, exactly: bool = True
) -> None:
    """The run ended by itself, was told once, moved everything, and counted no row twice.

    :param exactly: nobody died between a transaction and its record, so that each row was counted
    """
    assert site.until_ended(run) == ARCHIVED
    finished = site.record(run).finished
    before.check_complete()
    rows = sum(len(moving) for moving in before.moving.values())
    assert site.rows(run) == rows if exactly else 0 < site.rows(run) <= rows
    until(lambda: audits_of(site, run, *workers) == [ARCHIVED])
    # Bells that were rung twice.
    until(lambda: not any(site.queued(uuid) for uuid in site.cloud.uuids.values()))
    assert site.record(run).finished == finished


def audits_of(site: Site, run: str, *workers: Worker) -> list[int]:
    """The exit codes with which a run was told to have ended."""
    return [code for name, code in site.audits(*workers) if name == run]


def assert_the_rest_can_be_done(site: Site, before: Inventory) -> None:
    """What a run left is consistent, and the next one finishes it."""
    before.check()
    assert site.call(ARCHIVE).code in (0, ARCHIVED)
    before.check_complete()


# -- children --------------------------------------------------------------------------------------


def victim(site: Site, run: str, seen: Mapping[str, int]) -> tuple[str, int] | None:
    """A child whose cell has got on since its last worker died: three deaths in a row would be a
    failure.
    """
    working = site.working(run).items()
    return next(
        ((cell, pid) for cell, pid in working if site.rows(run, cell) > seen.get(cell, 0)), None
    )


def each_victim(site: Site, run: str, harm: Callable[[str, int], None]) -> None:
    """Do harm to children of a run that work, one after the other."""
    seen: dict[str, int] = {}
    for _ in range(KILLS):
        until(lambda: site.ended(run) or victim(site, run, seen) is not None)
        found = victim(site, run, seen)
        assert found is not None, "the run ended before its worker was harmed often enough"
        cell, pid = found
        time.sleep(random.uniform(0, 0.1))
        with suppress(ProcessLookupError):
            harm(cell, pid)
        seen[cell] = site.rows(run, cell)


def test_children_that_are_killed_in_the_middle_of_a_slice(
    site: Site, worker: Worker, before: Inventory
) -> None:
    run = detach(site, SLOWER)
    each_victim(site, run, lambda _, pid: os.kill(pid, signal.SIGKILL))
    assert_all_is_done(site, before, run, worker, exactly=False)


# What a child dies of, and whether in cells of its own: two deaths in a row are not yet a failure
# of the cell.
MOMENTS: Final = {
    "after claim": True,
    "before record_step": True,
    "after record_step": False,
    "before give_back": False,
    "after give_back": False,
    "after publish": False,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_children_that_die_at_a_bad_moment(
    site: Site, worker: Worker, before: Inventory, tickets: Tickets, moment: str
) -> None:
    """A continuation that is published and not yet acknowledged; a transaction that is not yet
    recorded.
    """
    if MOMENTS[moment]:
        for uuid in site.cloud.uuids.values():
            tickets.order(moment, 2, uuid)
    else:
        tickets.order(moment, KILLS)
    run = detach(site)
    assert_all_is_done(site, before, run, worker, exactly=moment != "before record_step")
    assert tickets.left == []


@pytest.mark.parametrize("moment", ["before finish_cell", "after finish_cell"])
def test_whoever_ends_a_cell_dies(
    site: Site, worker: Worker, before: Inventory, tickets: Tickets, moment: str
) -> None:
    """In each of the cells: the next to look ends the run."""
    for uuid in site.cloud.uuids.values():
        tickets.order(moment, 1, uuid)
    assert_all_is_done(site, before, detach(site), worker)
    assert tickets.left == []


@pytest.mark.parametrize("moment", ["before end_run", "after end_run"])
def test_whoever_ends_a_run_dies(site: Site, worker: Worker, tickets: Tickets, moment: str) -> None:
    """The run is told once, or not at all where he dies of telling; its exit code stands."""
    deaths = 0
    while deaths < KILLS:
        tickets.order(moment)
        run = detach(site, "db purge --all --all-cells")
        assert site.until_ended(run) == NOTHING
        until(lambda: not tickets.left or bool(audits_of(site, run, worker)))  # noqa: B023
        died = not tickets.left  # else the worker's main process saw first that all was done
        tickets.cancel()
        deaths += died
        if moment == "before end_run" or not died:
            until(lambda: audits_of(site, run, worker) == [NOTHING])  # noqa: B023
        assert len(audits_of(site, run, worker)) == (0 if died and moment == "after end_run" else 1)


def test_each_decision_of_two_phases_costs_a_life(
    site: Site, worker: Worker, tickets: Tickets
) -> None:
    """What archive and purge leave is what they leave undisturbed."""
    line = f"{ARCHIVE} --purge"
    assert site.call(line).code == ARCHIVED
    undisturbed = site.cloud.checksums()
    site.cloud.restore()
    for uuid in site.cloud.uuids.values():
        for moment in ("after claim", "after give_back", "after finish_cell"):
            tickets.order(moment, 1, uuid)
    tickets.order("before next_phase")
    tickets.order("after next_phase")
    run = detach(site, line)
    assert site.until_ended(run) == ARCHIVED
    assert site.record(run).phase == 1
    assert site.cloud.checksums() == undisturbed
    assert all(
        name.startswith(("after give_back", "before next_phase", "after next_phase"))
        for name in tickets.left
    )
    tickets.cancel()
    until(lambda: audits_of(site, run, worker) == [ARCHIVED])


def test_children_that_are_stopped_past_their_leases_and_go_on(
    site: Site, worker: Worker, before: Inventory
) -> None:
    """Each comes back when another one works in its cell: it sees so, and writes no more."""
    run = detach(site, SLOWER)

    def stop(cell: str, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        try:
            until(
                lambda: (
                    site.working(run).get(cell, pid) != pid
                    or site.cells(run)[cell].finished is not None
                )
            )
        finally:
            os.kill(pid, signal.SIGCONT)

    each_victim(site, run, stop)
    assert_all_is_done(site, before, run, worker, exactly=False)


# -- workers ---------------------------------------------------------------------------------------


def kill(leaving: Worker) -> None:
    """As a power cut."""
    leaving.kill()


def drain(leaving: Worker) -> None:
    """As a restart of the service: the worker ends its steps, and leaves the rest to others."""
    leaving.terminate()
    assert leaving.process.wait(60) == 0
    assert "'lost'" not in leaving.log


@pytest.mark.parametrize("end", [kill, drain])
def test_workers_that_end_one_after_the_other(
    site: Site, worker: Worker, before: Inventory, end: Callable[[Worker], None]
) -> None:
    with ExitStack() as stack:
        leaving = [
            stack.enter_context(site.worker("--concurrency", "1", name=f"leaving{number}"))
            for number in range(KILLS)
        ]
        for one in leaving:
            one.serve()
        run = detach(site, SLOWER)
        for one in leaving:
            until(lambda one=one: not set(one.children).isdisjoint(site.working(run).values()))  # type: ignore[misc]
            time.sleep(random.uniform(0, 0.3))
            end(one)
            assert not site.ended(run)
        assert_all_is_done(site, before, run, worker, *leaving, exactly=end is drain)


def test_a_worker_that_is_told_to_end_does_not_work_out_its_slices(
    realcloud: RealCloud, broker: Redis, tmp_path: Path
) -> None:
    """Its successor does the rest, and nothing again."""
    site = Site(realcloud, broker, tmp_path, database=2, slice_seconds=FOR_EVER)
    before = Inventory(realcloud)
    with site.worker("--concurrency", "4", name="leaving") as leaving:
        leaving.serve()
        run = detach(site, f"{ARCHIVE} --max_rows 50 --sleep 0.2")
        until(lambda: site.rows(run, "cell1") > 0)
        drain(leaving)
        assert not site.ended(run)
    with site.worker("--concurrency", "4", name="next") as successor:
        assert_all_is_done(site, before, run, leaving, successor)


def test_a_fleet_of_one_that_is_restarted_again_and_again(
    realcloud: RealCloud, broker: Redis, tmp_path: Path
) -> None:
    """Nobody else is there meanwhile, nor anybody who waits."""
    site = Site(realcloud, broker, tmp_path, database=1, lease_seconds=1.0)
    before = Inventory(realcloud)
    with ExitStack() as stack:
        workers = [stack.enter_context(site.worker(name="restarted-0"))]
        workers[0].serve()
        run = detach(site, SLOWER)
        for number in range(1, KILLS):
            until(lambda: not set(workers[-1].children).isdisjoint(site.working(run).values()))
            until_moving(site, run)
            workers[-1].kill()
            workers.append(stack.enter_context(site.worker(name=f"restarted-{number}")))
        assert_all_is_done(site, before, run, *workers, exactly=False)


def test_a_machine_that_dies_is_replaced_while_nobody_waits(
    realcloud: RealCloud, broker: Redis, tmp_path: Path
) -> None:
    """With the patience of an operator's worker, and its configuration."""
    site = Site(realcloud, broker, tmp_path, database=1, lease_seconds=30.0, slice_seconds=20.0)
    before, unhurried = Inventory(realcloud), {"CELLKEEPER_TEST_PATIENCE": "{}"}
    with (
        site.worker(name="machine", env=unhurried) as machine,
        site.worker(name="other", env=unhurried) as other,
    ):
        machine.serve()
        other.serve()
        run = detach(site, f"{ARCHIVE} --max_rows 5 --sleep 1")
        until(lambda: bool(worked_by(site, run, machine)) and site.rows(run) > 0)
        lost, taken_over = worked_by(site, run, machine), set()
        machine.kill()
        assert lost

        def is_taken_over() -> bool:
            taken_over.update(worked_by(site, run, other))
            taken_over.update(
                name for name, cell in site.cells(run).items() if cell.finished is not None
            )
            return taken_over >= lost

        until(is_taken_over, patience=TAKEN_OVER)
        before.check()
        site.call(f"runs cancel {run}")
        site.until_ended(run)


def worked_by(site: Site, run: str, worker: Worker) -> set[str]:
    """The cells that a worker works on."""
    return {cell for cell, pid in site.working(run).items() if pid in worker.children}


# -- commands --------------------------------------------------------------------------------------


def waits(running: Running) -> bool:
    """Whether a command is connected to the store."""
    assert running.process.poll() is None
    links = []
    for file in Path(f"/proc/{running.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links.append(os.readlink(file))
    return any(link.startswith("socket:") for link in links)


def test_commands_that_are_killed_while_they_wait(
    site: Site, worker: Worker, before: Inventory
) -> None:
    running = site.start(SLOWEST)
    run = site.begun(running)
    for _ in range(KILLS):
        until(lambda: waits(running))  # noqa: B023
        until_moving(site, run)
        running.process.kill()
        assert running.end().code == -signal.SIGKILL
        running = site.start(f"runs wait {run}")
    waited = running.end()
    assert (waited.code, waited.out, waited.err) == (ARCHIVED, "", "")
    assert_all_is_done(site, before, run, worker)


@pytest.mark.parametrize("moment", ["after admit", "after begin_run", "after publish"])
def test_a_command_that_dies_while_it_starts_a_run(
    site: Site, worker: Worker, before: Inventory, tmp_path: Path, moment: str
) -> None:
    """What it did not get done, the workers do; whoever orders the run again gets the same one."""
    tickets, run = Tickets(tmp_path), moment.replace(" ", "-")
    tickets.order(moment)
    assert site.start(f"{SLOWLY} --run-id {run}", tickets.of_command).end().code == -signal.SIGKILL
    again = site.call(f"{SLOWLY} --run-id {run} -f json")
    assert (again.code, again.err) == (ARCHIVED, "")
    assert_all_is_done(site, before, run, worker)


def test_a_command_that_dies_before_there_is_a_run_keeps_nobody_waiting_for_ever(
    site: Site, worker: Worker, before: Inventory, tmp_path: Path
) -> None:
    tickets = Tickets(tmp_path)
    tickets.order("before admit")
    known = set(site.store.recent())
    assert site.start(SLOWLY, tickets.of_command).end().code == -signal.SIGKILL
    assert set(site.store.recent()) == known
    running = site.start(SLOWLY)
    run = site.begun(running)
    ended = running.end()
    assert (ended.code, ended.err) == (ARCHIVED, "")
    assert_all_is_done(site, before, run, worker)


# -- databases -------------------------------------------------------------------------------------


def code_of(failures: Collection[str], rows: int) -> int:
    """The exit code of an archive.

    :param failures: their kinds
    """
    if failures:
        return NO_API_DATABASE if set(failures) == {FailureKind.API_DATABASE} else FAILED
    return ARCHIVED if rows else 0


def test_a_database_server_that_is_killed_again_and_again(
    site: Site, worker: Worker, before: Inventory
) -> None:
    """Each run ends by itself, and says what it could not do."""
    kills = 0
    while kills < KILLS:
        running = site.start(SLOWER)
        run = site.begun(running)
        while not site.ended(run) and kills < KILLS:
            rows = site.rows(run)
            until(lambda: site.rows(run) > rows or site.ended(run))  # noqa: B023
            time.sleep(random.uniform(0, 0.3))
            site.cloud.server.kill()
            site.cloud.server.start()
            kills += 1
        ended = running.end()
        failures = [cell.failure.kind for cell in site.cells(run).values() if cell.failure]
        assert ended.code == code_of(failures, site.rows(run))
        assert len(ended.err.splitlines()) == len(failures)
        until(lambda: audits_of(site, run, worker) == [ended.code])  # noqa: B023
        before.check()
    assert_the_rest_can_be_done(site, before)


def test_a_database_server_that_stays_away_fails_its_cells(
    site: Site, worker: Worker, before: Inventory
) -> None:
    running = site.start(SLOWLY)
    run = site.begun(running)
    until_moving(site, run)
    site.cloud.server.kill()
    ended = running.end()
    assert ended.code in (NO_API_DATABASE, FAILED)
    assert all(
        "cannot connect" in line or "Lost connection" in line for line in ended.err.splitlines()
    )
    site.cloud.server.start()
    assert site.call(f"runs wait {run}").code == ended.code
    assert_the_rest_can_be_done(site, before)


def test_a_redis_that_is_killed_and_comes_back_with_its_data(
    site: Site, worker: Worker, before: Inventory
) -> None:
    running = site.start(SLOWEST)
    run = site.begun(running)
    for _ in range(KILLS):
        until_moving(site, run)
        site.broker.kill()
        time.sleep(random.uniform(0, 0.5))
        site.broker.start()
    ended = running.end()
    assert (ended.code, ended.err) == (ARCHIVED, "")
    assert_all_is_done(site, before, run, worker, exactly=False)


def test_a_redis_that_is_killed_and_comes_back_without_its_data(
    site: Site, worker: Worker, before: Inventory
) -> None:
    """Each time the run is gone, and whoever waits for it is told so; what it did stands, nobody
    goes on with it.
    """
    for number in range(KILLS):
        running = site.start(SLOWEST)
        run = site.begun(running)
        until_moving(site, run)
        site.broker.kill()
        site.broker.lose()
        site.broker.start()
        ended = running.end()
        assert (ended.code, ended.out) == (FAILED, ""), number
        assert (
            ended.line
            == f"There is no run {run}: the id is misspelt, the run has expired, or the store was "
            "emptied"
        )
        assert audits_of(site, run, worker) == []
        before.check()
    assert_the_rest_can_be_done(site, before)
