"""What all tests share: the private servers, and the databases of a real cloud."""

import sqlite3
from collections.abc import Iterator
from datetime import datetime

import hypothesis
import pytest

from tests.support.placement import Placement
from tests.support.realcloud import DATABASES, PLACEMENT, RealCloud
from tests.support.relay import Relay
from tests.support.services import MariaDB, MissingProgram, MySQL, Redis, Service, program
from tests.support.two_cells import TwoCells

# How long an example takes says something of the machine only.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

# Which server the fixture ``mariadb`` starts, by the option --server.
DATABASE_SERVERS: dict[str, type[MariaDB]] = {"mariadb": MariaDB, "mysql": MySQL}
SERVICES: dict[str, type[Service]] = {"mariadb": MariaDB, "redis": Redis}


def _refuse(moment: datetime) -> str:
    """Fail where a moment is bound without a type: of itself sqlite3 warns of it from Python 3.12
    on only.

    :raises DeprecationWarning: always
    """
    raise DeprecationWarning(f"{moment} is bound without a type")


sqlite3.register_adapter(datetime, _refuse)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that make test-mysql uses."""
    parser.addoption(
        "--server", choices=list(DATABASE_SERVERS), default="mariadb", help="the database server"
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """End at once, and as an error, when a server is missing: a test that was skipped would look
    like one that passed.

    :raises pytest.UsageError: with what is missing
    """
    used = {fixture for item in session.items for fixture in getattr(item, "fixturenames", ())}
    try:
        for fixture in used & SERVICES.keys():
            for name in SERVICES[fixture].PROGRAMS:
                program(name)
    except MissingProgram as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def mariadb(request: pytest.FixtureRequest) -> Iterator[MariaDB]:
    """A MariaDB server for all tests, or one of MySQL. Each test cleans up what it makes there."""
    with DATABASE_SERVERS[request.config.getoption("--server")]() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """A Redis server for all tests. Each cleans up what it makes there."""
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def placement_server(mariadb: MariaDB) -> Iterator[Placement]:
    """A Placement for all tests, in whatever state the last one left it."""
    mariadb.revive()
    with Placement(mariadb, "empty_placement") as server:
        yield server


@pytest.fixture
def placement(mariadb: MariaDB, placement_server: Placement) -> Placement:
    """A Placement that knows no provider."""
    mariadb.revive()
    placement_server.revive()
    placement_server.empty()
    return placement_server


@pytest.fixture
def relay(placement: Placement) -> Iterator[Relay]:
    """What stands between the program and that Placement, and can do harm."""
    with Relay(placement.port) as between:
        yield between


@pytest.fixture(scope="session")
def loaded_realcloud(mariadb: MariaDB) -> RealCloud:
    """The databases of the real cloud in the state in which the last test left them."""
    return RealCloud(mariadb)


@pytest.fixture
def realcloud(loaded_realcloud: RealCloud) -> RealCloud:
    """The databases of the real cloud, as dumped."""
    loaded_realcloud.restore()
    return loaded_realcloud


@pytest.fixture(scope="session")
def loaded_placed_cloud(mariadb: MariaDB) -> RealCloud:
    """The same with the database of its Placement."""
    return RealCloud(mariadb, (*DATABASES, PLACEMENT))


@pytest.fixture
def placed_cloud(loaded_placed_cloud: RealCloud) -> RealCloud:
    """The databases of the real cloud and of its Placement, as dumped."""
    loaded_placed_cloud.restore()
    return loaded_placed_cloud


@pytest.fixture(scope="session")
def cloud_placement_server(loaded_placed_cloud: RealCloud) -> Iterator[Placement]:
    """The real cloud's Placement, in whatever state the last test left it."""
    with Placement(loaded_placed_cloud.server, PLACEMENT) as server:
        yield server


@pytest.fixture
def cloud_placement(placed_cloud: RealCloud, cloud_placement_server: Placement) -> Placement:
    """The real cloud's Placement, as dumped."""
    cloud_placement_server.revive()
    return cloud_placement_server


@pytest.fixture(scope="session")
def made_two_cells(mariadb: MariaDB) -> TwoCells:
    """The databases of the two cells, in whatever state the last test left them."""
    mariadb.revive()
    return TwoCells(mariadb)


@pytest.fixture
def two_cells(made_two_cells: TwoCells) -> TwoCells:
    """A cloud of two cells in which nothing is."""
    made_two_cells.empty()
    return made_two_cells
