"""Online data migrations by workers: what the stock tool left of the same rows, also when their
processes die.
"""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.realcloud import RealCloud
from tests.support.services import Redis
from tests.support.unmigrated import look, put_back, recorded
from tests.workers.fleet import Site, Tickets, Worker

MIGRATE: Final = "db online_data_migrations --all-cells"
DEATHS: Final = 2


@pytest.fixture(scope="module")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Tickets:
    """Deaths of the worker's children."""
    return Tickets(tmp_path_factory.mktemp("tickets"))


@pytest.fixture(scope="module")
def shared_site(
    loaded_realcloud: RealCloud, broker: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Site:
    """Every slice is over after its first step."""
    return Site(
        loaded_realcloud,
        broker,
        tmp_path_factory.mktemp("site"),
        slice_seconds=0,
        lease_seconds=1.0,
    )


@pytest.fixture(scope="module")
def worker(shared_site: Site, tickets: Tickets) -> Iterator[Worker]:
    """A worker that survives; its children do not."""
    shared_site.cloud.restore()
    with shared_site.worker(name="survivor", env=tickets.env) as worker:
        yield worker.serve()


@pytest.fixture
def site(shared_site: Site, worker: Worker, realcloud: RealCloud) -> Site:
    """The cloud with the work of all migrations put back, and a worker that serves it."""
    put_back(realcloud)
    return shared_site


@pytest.mark.parametrize("deaths", [0, DEATHS])
def test_workers_leave_what_the_stock_tool_leaves(
    site: Site, tickets: Tickets, deaths: int
) -> None:
    tickets.order("after publish", deaths)
    ended = site.call(f"{MIGRATE} -f json")
    assert (ended.code, ended.err) == (0, "")
    assert tickets.left == [], "nobody died"
    assert look(site.cloud) == recorded()
    again = site.call(f"{MIGRATE} --max-count 5 -f json")
    assert (again.code, again.err) == (0, "")
    assert not any(
        tally["done"] for cell in again.document["cells"] for tally in cell["migrations"].values()
    )
