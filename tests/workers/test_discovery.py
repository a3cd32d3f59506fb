"""Discovering hosts by many commands at once: each is mapped once, whoever is killed, stopped or
writes beside them.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import pymysql
import pytest

from tests.integration.cells import add_nodes, mapped_hosts, marked_nodes
from tests.support.command import Running, call, until
from tests.support.realcloud import DATABASES, RealCloud
from tests.support.services import Redis
from tests.workers.fleet import Site, Worker, hooked

API, CELL0, *CELLS = DATABASES
MORE: Final = ("nova_cell4", "nova_cell5")
DISCOVER: Final = "cell_v2 discover_hosts"
HOSTS, AT_ONCE = 500, 8


def add_cells(cloud: RealCloud) -> list[str]:
    """Two more cells, of compute nodes alone; the names of all that have hosts."""
    for name in MORE:
        cloud.server.drop(name)
        cloud.server.create(name)
        for table in ("compute_nodes", "services", "instances"):
            cloud.server.execute(f"CREATE TABLE {table} LIKE {CELLS[0]}.{table}", name)
        cloud.rows(
            API,
            "INSERT INTO cell_mappings (uuid, name, transport_url, database_connection, disabled) "
            f"VALUES (UUID(), '{name.removeprefix('nova_')}', 'none:///', '{cloud.url(name)}', 0)",
        )
    return [*CELLS, *MORE]


def fill(cloud: RealCloud, cells: list[str], hosts: int = HOSTS) -> None:
    """New hosts, in each cell as many."""
    for cell in cells:
        add_nodes(cloud, cell, hosts // len(cells), prefix=f"new-{cell[-1]}")


def assert_mapped_once(cloud: RealCloud, cells: list[str], hosts: int = HOSTS) -> None:
    """Each host is mapped to the cell it is in."""
    numbers = dict(cloud.rows(API, "SELECT CONCAT('nova_', name), id FROM cell_mappings"))
    mapped = mapped_hosts(cloud)
    assert len(mapped) == hosts
    assert all(
        number == numbers[f"nova_cell{host.split('-')[1]}"] for host, number in mapped.items()
    )


@pytest.fixture
def cells(realcloud: RealCloud) -> Iterator[list[str]]:
    """Five cells with 500 hosts that are not mapped."""
    names = add_cells(realcloud)
    fill(realcloud, names)
    yield names
    for name in MORE:
        realcloud.server.drop(name)


def test_runs_at_once_without_a_broker(
    realcloud: RealCloud, cells: list[str], tmp_path: Path
) -> None:
    config = realcloud.config(tmp_path)
    running = [Running(f"{DISCOVER} --strict", config=config) for _ in range(AT_ONCE)]
    ended = [one.end() for one in running]
    assert sorted(one.code for one in ended) == [0] + [1] * (AT_ONCE - 1)
    assert_mapped_once(realcloud, cells)
    assert sum(marked_nodes(realcloud, cell) for cell in cells) == HOSTS


def test_runs_at_once_that_nothing_keeps_apart(
    realcloud: RealCloud, cells: list[str], tmp_path: Path
) -> None:
    config = realcloud.config(tmp_path)
    config.write_text(config.read_text() + "exclusion = false\n")
    running = [Running(DISCOVER, config=config) for _ in range(AT_ONCE)]
    assert {one.end().code for one in running} <= {0, 2}
    assert_mapped_once(realcloud, cells)


def test_a_foreign_writer_that_races(
    realcloud: RealCloud, cells: list[str], tmp_path: Path
) -> None:
    """It maps all hosts, the last ones first, one by one as the scheduler does."""
    config = realcloud.config(tmp_path)
    begun, lost = threading.Event(), 0

    def race() -> None:
        nonlocal lost
        with closing(realcloud.server.connect(API)) as link, link.cursor() as cursor:
            for cell in reversed(cells):
                for number in range(HOSTS // len(cells), 0, -1):
                    begun.set()
                    row = (
                        f"SELECT 'new-{cell[-1]}-{number:05}', id FROM cell_mappings WHERE name "
                        f"= 'cell{cell[-1]}'"
                    )
                    try:
                        cursor.execute(f"INSERT INTO host_mappings (host, cell_id) {row}")
                    except pymysql.IntegrityError:
                        lost += 1

    racing = threading.Thread(target=race)
    with Running(DISCOVER, config=config) as running:
        racing.start()
        begun.wait()
        ended = running.end()
    racing.join()
    assert (ended.code, bool(ended.err)) in ((0, False), (2, True))
    assert_mapped_once(realcloud, cells)
    assert sum(marked_nodes(realcloud, cell) for cell in cells) == lost


@pytest.fixture
def fleet(
    realcloud: RealCloud, broker: Redis, tmp_path: Path, cells: list[str]
) -> Iterator[tuple[Site, Worker]]:
    """Five cells, and a worker that serves them."""
    broker.revive()
    broker.execute("FLUSHALL")
    site = Site(realcloud, broker, tmp_path, lease_seconds=3.0)
    with site.worker() as worker:
        yield site, worker.serve(*(cell.removeprefix("nova_") for cell in cells))
        site.end_all()


def test_runs_at_once_through_workers(fleet: tuple[Site, Worker], cells: list[str]) -> None:
    site, _ = fleet
    running = [site.start(f"{DISCOVER} --strict") for _ in range(AT_ONCE)]
    ended = [one.end() for one in running]
    assert sorted(one.code for one in ended) == [0] + [1] * (AT_ONCE - 1)
    assert_mapped_once(site.cloud, cells)
    assert sum(marked_nodes(site.cloud, cell) for cell in cells) == HOSTS


class Gate:
    """A lock of the server's on the mappings of hosts: whoever adds one waits, and can be killed or
    stopped there.

    The program gives up a wait for the lock after a second, and begins it anew some times.
    """

    def __init__(self, site: Site) -> None:
        self._link = site.cloud.server.connect(API, autocommit=False)
        with self._link.cursor() as cursor:
            cursor.execute("SELECT * FROM host_mappings WHERE host >= 'new' FOR UPDATE")
        self._site = site

    def waiting(self) -> bool:
        """Whether somebody waits."""
        sql = (
            "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'INSERT INTO "
            "host_mappings%'"
        )
        return bool(self._site.cloud.server.execute(sql)[0][0])

    def open(self) -> None:
        """Let everybody in."""
        if self._link.open:
            self._link.close()


@pytest.fixture
def held(fleet: tuple[Site, Worker]) -> Iterator[tuple[Site, str, Gate, Running]]:
    """A run in one cell whose worker waits at the gate; the run, and the command that waits for
    it.
    """
    site, _ = fleet
    gate = Gate(site)
    command = site.start(f"{DISCOVER} --strict --cell_uuid {site.cloud.uuids['cell1']}")
    with command:
        run = site.begun(command)
        until(gate.waiting)
        yield site, run, gate, command
        gate.open()


def holder(site: Site, run: str) -> int:
    """The process that works on the run."""
    until(lambda: "cell1" in site.working(run))
    return site.working(run)["cell1"]


def mapped_in_cell1(site: Site) -> list[str]:
    return [host for host in mapped_hosts(site.cloud) if host.startswith("new-1-")]


def assert_cell1_is_done(site: Site) -> None:
    assert len(mapped_in_cell1(site)) == HOSTS // 5
    assert marked_nodes(site.cloud, CELLS[0], "new-1") == HOSTS // 5


def test_the_holder_is_killed(held: tuple[Site, str, Gate, Running]) -> None:
    site, run, gate, command = held
    os.kill(holder(site, run), signal.SIGKILL)
    gate.open()
    assert command.end().code == 0
    assert_cell1_is_done(site)


def test_the_holder_is_stopped_past_its_lease_and_comes_back(
    held: tuple[Site, str, Gate, Running],
) -> None:
    """Its write meets the unique key, or waits to be rolled back; the run counts each host once."""
    site, run, gate, command = held
    stopped = holder(site, run)
    os.kill(stopped, signal.SIGSTOP)
    gate.open()
    try:
        until(lambda: site.ended(run) or site.working(run).get("cell1") not in (None, stopped))
        if not site.ended(run):
            os.kill(stopped, signal.SIGCONT)
        assert command.end().code == 0
    finally:
        with suppress(ProcessLookupError):
            os.kill(stopped, signal.SIGCONT)
    assert_cell1_is_done(site)


def test_the_store_is_emptied_in_the_middle(held: tuple[Site, str, Gate, Running]) -> None:
    """The worker does not write on; who runs it again completes it."""
    site, _, gate, command = held
    site.broker.execute("FLUSHALL")
    ended = command.end()
    assert ended.code == 1
    assert ended.line.startswith("There is no run ")
    gate.open()
    again = call(DISCOVER, config=site.config, env=hooked())
    assert again.code in (0, 2)
    assert_mapped_once(site.cloud, [*CELLS, *MORE])
