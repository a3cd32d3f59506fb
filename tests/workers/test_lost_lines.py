"""Workers whose connections to the databases are lost again and again."""

from collections.abc import Iterator

import pytest

from tests.support.mysql_relay import Cut, MysqlRelay
from tests.support.services import HOST
from tests.workers.fleet import Site

# Packets from one cut to the next: more than the largest transaction has, with its lines to the
# cell and to the API database made anew. Otherwise the last cell at work never gets through.
EVERY = 61


@pytest.fixture
def relay(site: Site) -> Iterator[MysqlRelay]:
    """Before all databases of the site."""
    server = site.cloud.server
    with MysqlRelay(server.port) as relay:
        before, behind = f"@{HOST}:{server.port}/", f"@{HOST}:{relay.port}/"
        site.config.write_text(site.config.read_text().replace(before, behind))
        change = (
            "UPDATE cell_mappings SET database_connection = REPLACE(database_connection, "
            f"'{before}', '{behind}')"
        )
        site.cloud.rows(site.cloud.api, change)
        yield relay


@pytest.mark.parametrize("cut", Cut, ids=lambda cut: cut.name.lower())
def test_lost_connections_cost_a_run_of_workers_nothing(
    site: Site, relay: MysqlRelay, cut: Cut
) -> None:
    """Neither the heartbeat, which reads the registry, nor the work, nor the command that waits."""
    relay.reset(EVERY, cut, every=EVERY)
    with site.worker() as worker:
        worker.serve()
        ended = site.call("db archive_deleted_rows --all-cells --until-complete -f json")
    assert (ended.code, ended.err) == (1, "")
    assert {cell["state"] for cell in ended.document["cells"]} == {"complete"}
    assert len(relay.said) > 10 * EVERY
    for cell in ("cell0", "cell1", "cell2", "cell3"):
        left = "SELECT COUNT(*) FROM instances WHERE deleted != 0"
        assert site.cloud.rows(f"nova_{cell}", left) == [(0,)]
    assert " ERROR " not in worker.log
