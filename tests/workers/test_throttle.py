"""Workers that pause while a database server suffers."""

import json
from collections.abc import Iterator

import pytest

from tests.support.command import call
from tests.support.pressure import Pressure, pressure_on
from tests.support.waiting import wait_until
from tests.workers.fleet import Site, Worker

ARCHIVE = "db archive_deleted_rows --all-cells --until-complete"


@pytest.fixture
def pressure(site: Site) -> Iterator[Pressure]:
    with pressure_on(site.cloud.server) as pressure:
        pressure.configure(site.config)
        yield pressure


def deleted_instances(site: Site) -> int:
    ((number,),) = site.cloud.server.execute(
        "SELECT COUNT(*) FROM instances WHERE deleted != 0", site.cloud.cell1
    )
    return int(number)


def cell_states(site: Site, run: str) -> set[str]:
    ended = call(f"runs show {run} -f json", config=site.config)
    return {cell["state"] for phase in ended.document["phases"] for cell in phase["cells"]}


def test_workers_write_nothing_while_the_server_suffers(site: Site, pressure: Pressure) -> None:
    before = deleted_instances(site)
    pressure.rise()
    with Worker(site.config):
        run = json.loads(call(f"{ARCHIVE} --detach -f json", config=site.config).out)["run"]
        wait_until(lambda: "throttled" in cell_states(site, run))
        assert deleted_instances(site) == before
        pressure.fall()
        assert call(f"runs wait {run}", config=site.config).code == 1
    assert deleted_instances(site) == 0
    shown = call(f"runs show {run}", config=site.config).out
    assert shown.count("throttled") == 0
    assert "\nThrottle: threads_running, query\n" in shown


def test_a_worker_that_is_killed_in_a_pause_loses_nothing(site: Site, pressure: Pressure) -> None:
    pressure.rise()
    with Worker(site.config) as worker:
        run = json.loads(call(f"{ARCHIVE} --detach -f json", config=site.config).out)["run"]
        wait_until(lambda: "throttled" in cell_states(site, run))
        worker.kill()
    pressure.fall()
    with Worker(site.config, name="other"):
        assert call(f"runs wait {run}", config=site.config).code == 1
    assert deleted_instances(site) == 0
