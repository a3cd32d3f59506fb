"""Cells to work on without the program: targets in the databases of the real cloud, and rows to put
there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

from jobs.action import Target
from novadb.cells import Cell
from novadb.engine import Database
from settings.databases import Timeouts
from tests.support.realcloud import RealCloud

TIMEOUTS = Timeouts(lock_wait=1)


def target(cloud: RealCloud, name: str) -> Target:
    """A cell of the cloud."""
    ((number, uuid),) = cloud.rows(
        cloud.api, f"SELECT id, uuid FROM cell_mappings WHERE name = '{name}'"
    )
    database = Database(cloud.url(f"nova_{name}"), name, TIMEOUTS)
    api = Database(cloud.url(cloud.api), "the API database", TIMEOUTS)
    return Target(Cell(uuid, name, frozenset({number}), database), api)


def add_nodes(
    cloud: RealCloud, database: str, hosts: int, prefix: str = "new", nodes: int = 1
) -> None:
    """Add compute nodes that are not mapped: so many hosts with so many nodes each."""
    cloud.rows(
        database,
        "INSERT INTO compute_nodes (created_at, deleted, mapped, host, hypervisor_hostname, uuid, "
        "vcpus, memory_mb, "
        "local_gb, vcpus_used, memory_mb_used, local_gb_used, hypervisor_type, hypervisor_version, "
        "cpu_info) "
        f"SELECT '2026-01-01', 0, 0, CONCAT('{prefix}-', LPAD(h.seq, 5, '0')), CONCAT('{prefix}-', "
        "h.seq, '-', n.seq), "
        "UUID(), 1, 1, 1, 0, 0, 0, 'fake', 1, '' "
        f"FROM seq_1_to_{hosts} h JOIN seq_1_to_{nodes} n ORDER BY h.seq, n.seq",
    )


def mapped_hosts(cloud: RealCloud, prefix: str = "new") -> dict[str, int]:
    """The mapped hosts whose names begin so, with the ids of their cells."""
    return dict(
        cloud.rows(
            cloud.api, f"SELECT host, cell_id FROM host_mappings WHERE host LIKE '{prefix}-%'"
        )
    )


def marked_nodes(cloud: RealCloud, database: str, prefix: str = "new") -> int:
    """How many nodes of such hosts are marked as mapped."""
    sql = f"SELECT COUNT(*) FROM compute_nodes WHERE host LIKE '{prefix}-%' AND mapped = 1"
    return int(cloud.rows(database, sql)[0][0])


@contextmanager
def statements() -> Iterator[list[str]]:
    """The statements that are sent meanwhile, to whatever database."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)
