"""A broker of its own for each module, a worker that its tests share, and a cloud as dumped for
each test.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis as Client

from tests.support.placement import Placement
from tests.support.realcloud import RealCloud, load
from tests.support.services import MariaDB, Redis
from tests.workers.fleet import Site, Worker

PASSWORD = "redis-secret"
PLACEMENT = "placement_of_workers"


@pytest.fixture(scope="module")
def broker() -> Iterator[Redis]:
    """A Redis server for the tests of a module."""
    with Redis(password=PASSWORD) as server:
        yield server


@pytest.fixture(scope="module")
def shared_site(
    loaded_realcloud: RealCloud, broker: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Site:
    """The cloud of a module's tests, whatever state it is in."""
    return Site(loaded_realcloud, broker, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def shared_worker(shared_site: Site) -> Iterator[Worker]:
    """A worker for the tests of a module."""
    shared_site.cloud.restore()
    with shared_site.worker(name="shared") as worker:
        yield worker.serve()


@pytest.fixture
def site(realcloud: RealCloud, broker: Redis, tmp_path: Path) -> Site:
    """The cloud as dumped, with nothing in the broker, for workers of the test's own."""
    broker.revive()
    broker.execute("FLUSHALL")
    return Site(realcloud, broker, tmp_path)


@pytest.fixture
def placed(mariadb: MariaDB) -> Iterator[Placement]:
    """The Placement of the real cloud: six instances lack allocations, one has somebody else's,
    three providers lack four aggregates.
    """
    load(mariadb, PLACEMENT, "placement.sql.gz")
    with Placement(mariadb, PLACEMENT) as server:
        yield server


@pytest.fixture
def client(broker: Redis) -> Client:
    """A connection to an empty Redis."""
    client = Client.from_url(broker.url(), decode_responses=True)
    client.flushall()
    return client
