"""Which servers cells are on, and which replicas these have."""

import pytest

from novadb.cells import Cell
from novadb.engine import Database
from novadb.errors import DatabaseProblem
from settings.databases import Timeouts
from settings.throttle import ThrottleSettings
from throttle.servers import cells_unknown, servers_of


def cell(name: str, url: str) -> Cell:
    uuid = f"00000000-0000-0000-0000-{name[-1]:>012}"
    return Cell(uuid, name, frozenset({int(name[-1])}), Database(url, name, Timeouts()))


CELL1 = cell("cell1", "mysql+pymysql://nova:pw@db1/nova_cell1")
CELL2 = cell("cell2", "mysql+pymysql://nova:pw@DB1:3306/nova_cell2")
CELL3 = cell("cell3", "mysql+pymysql://nova:pw@db3/nova_cell3")
SQLITE = cell("cell4", "sqlite:////srv/cell4.db")
BROKEN = Cell("b", "broken", frozenset({5}), DatabaseProblem("its URL cannot be used"))


def test_cells_of_one_server_are_watched_together() -> None:
    servers = servers_of([CELL1, CELL3, CELL2, SQLITE, BROKEN], ThrottleSettings())
    assert [(server.name, server.cells) for server in servers] == [
        ("db1:3306", ["cell1", "cell2"]),
        ("db3:3306", ["cell3"]),
    ]


@pytest.mark.parametrize("name", ["cell3", "Cell3 ", CELL3.uuid])
def test_a_replica_belongs_to_the_server_of_its_cell(name: str) -> None:
    settings = ThrottleSettings(replicas=((name, "mysql://nova:pw@db4/nova_cell3"),))
    (_, server) = servers_of([CELL1, CELL3], settings)
    assert [replica.server for replica in server.replicas] == ["db4:3306"]


def test_the_configured_database_has_the_replica_that_nova_reads() -> None:
    own = Cell.unmapped(Database("mysql://nova:pw@db1/nova", "the configured database", Timeouts()))
    (server,) = servers_of([own], ThrottleSettings(max_lag=1), "mysql://nova:pw@db2/nova")
    assert [replica.server for replica in server.replicas] == ["db2:3306"]


def test_a_replica_whose_lag_does_not_count_may_have_any_url() -> None:
    own = Cell.unmapped(Database("mysql://nova:pw@db1/nova", "the configured database", Timeouts()))
    (server,) = servers_of([own], ThrottleSettings(), "postgresql://nova:pw@db2/nova")
    assert server.replicas == []


def test_a_replica_of_no_cell_is_named() -> None:
    settings = ThrottleSettings(
        replicas=(("cell9", "mysql://db4/nova"), ("CELL1", "mysql://db2/nova"))
    )
    assert cells_unknown([CELL1], settings) == ["cell9"]
    assert [
        replica.server for server in servers_of([CELL1], settings) for replica in server.replicas
    ] == ["db2:3306"]


def test_the_url_of_a_replica_is_not_repeated() -> None:
    with pytest.raises(DatabaseProblem) as caught:
        servers_of([CELL1], ThrottleSettings(replicas=(("cell1", "mysql://nova:pa@ss@db4/nova"),)))
    assert "ss@" not in str(caught.value)
    assert "the replica of cell1" in str(caught.value)
