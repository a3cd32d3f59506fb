"""Archiving on a Galera cluster: nothing is lost or left, whatever becomes of the nodes or limits
their write sets.
"""

import re
import time
from typing import Final

import pytest

from tests.galera.cluster import Cluster
from tests.support.inventory import Inventory
from tests.support.program import Moment, Program
from tests.support.realcloud import RealCloud

ARCHIVE: Final = (
    "db",
    "archive_deleted_rows",
    "--all-cells",
    "--until-complete",
    "--max_rows",
    "50",
)
ARCHIVED: Final = 1
# Seconds without quorum: longer than the tries of a batch that pass by within seconds.
WITHOUT_QUORUM: Final = 12.0
LARGE_TREE: Final = 2_000  # rows that are added to an instance
LIMITS: Final = {"wsrep_max_ws_size": 300_000, "wsrep_max_ws_rows": 1_000}


def test_all_nodes_have_the_same_rows_afterwards(
    cluster: Cluster, realcloud: RealCloud, program: Program
) -> None:
    inventory = Inventory(realcloud)
    assert program.run(*ARCHIVE) == (ARCHIVED, "", "")
    inventory.check_complete()
    cluster.wait_until_whole()
    names = ", ".join(f"{name}.{table}" for name, table in realcloud.checksums())
    first, *others = (node.execute(f"CHECKSUM TABLE {names}") for node in cluster.nodes)
    assert others == [first, first]


@pytest.mark.parametrize(
    ("moment", "number"),
    [(Moment.BETWEEN_THE_COMMITS, 12), (Moment.API_COMMIT, 6), (Moment.CELL_STATEMENT, 250)],
    ids=["at the cell's commit", "at the API database's commit", "at a statement"],
)
def test_a_quorum_that_is_lost_for_seconds_is_waited_for(
    cluster: Cluster, realcloud: RealCloud, program: Program, moment: Moment, number: int
) -> None:
    inventory = Inventory(realcloud)
    with program.start_and_hold(moment, number, *ARCHIVE) as run:
        run.wait_until_held()
        cluster.nodes[0].isolate()
        run.go_on()
        time.sleep(WITHOUT_QUORUM)
        cluster.nodes[0].rejoin()
        assert run.end() == (ARCHIVED, "", "")
    inventory.check_complete()


@pytest.mark.parametrize(
    ("moment", "number"),
    [(Moment.API_STATEMENT, 0), (Moment.CELL_STATEMENT, 0), (Moment.BETWEEN_THE_COMMITS, 12)],
    ids=["before the cells are known", "before the first batch", "in the middle"],
)
def test_another_node_takes_over_from_one_that_is_killed(
    cluster: Cluster, realcloud: RealCloud, program: Program, moment: Moment, number: int
) -> None:
    inventory = Inventory(realcloud)
    with program.start_and_hold(moment, number, *ARCHIVE) as run:
        run.wait_until_held()
        cluster.nodes[0].kill()
        run.go_on()
        assert run.end() == (ARCHIVED, "", "")
    inventory.check_complete()


# -- limits of a write set -------------------------------------------------------------------------


def with_a_large_tree(cloud: RealCloud) -> tuple[int, str]:
    """Let a deleted instance of cell1 bring along many rows; returns its id and uuid."""
    known = "SELECT instance_uuid FROM nova_api.request_specs"
    ((number, uuid),) = cloud.rows(
        cloud.cell1,
        f"SELECT id, uuid FROM instances WHERE deleted != 0 AND uuid IN ({known}) ORDER BY id "
        "LIMIT 1",
    )
    cloud.rows(
        cloud.cell1,
        "INSERT INTO instance_metadata (instance_uuid, `key`, value, deleted) "
        f"SELECT '{uuid}', concat('key', seq), repeat('x', 60), 1 FROM seq_1_to_{LARGE_TREE}",
    )
    return number, uuid


@pytest.mark.parametrize("variable", LIMITS)
def test_a_tree_above_the_limit_is_named_and_stays_with_its_api_rows(
    cluster: Cluster, realcloud: RealCloud, program: Program, variable: str
) -> None:
    number, uuid = with_a_large_tree(realcloud)
    inventory = Inventory(realcloud)
    cluster.limit(variable, LIMITS[variable])
    ended = program.run(*ARCHIVE[:-1], "10000")
    assert (ended.code, ended.out, ended.err.count("\n")) == (ARCHIVED, "", 1)
    assert ended.err.startswith(f"cell1: left in instances: id {number}: ")
    assert variable in ended.err
    gone = inventory.check_at_the_end()
    left = {
        name: rows - gone[name] for name, rows in inventory.moving.items() if rows != gone[name]
    }
    assert left.keys() == {realcloud.cell1}
    assert inventory.forests[realcloud.cell1].uuids(left[realcloud.cell1]) == {uuid}
    assert len(left[realcloud.cell1]) > LARGE_TREE
    cluster.limit(variable, enough(ended.err, variable))
    assert program.run(*ARCHIVE) == (ARCHIVED, "", "")
    inventory.check_complete()


def enough(line: str, variable: str) -> int:
    """The value of a limit that the tree needs, which a line names; for rows, no limit."""
    if variable == "wsrep_max_ws_rows":
        return 0
    ((size, limit),) = re.findall(
        r"up to ([\d,]+) bytes, more than wsrep_max_ws_size \(([\d,]+)\)", line
    )
    assert int(limit.replace(",", "")) == LIMITS[variable]
    return int(size.replace(",", ""))


def test_a_row_whose_commit_is_refused_as_too_large_is_named_and_stays(
    cluster: Cluster, realcloud: RealCloud, program: Program
) -> None:
    """Where no API rows are at stake nothing is measured before."""
    live = (
        "SELECT '{}', uuid, 1, repeat('x', {}) FROM (SELECT uuid FROM instances WHERE deleted "
        "= "
        "0 LIMIT 1) AS any_one"
    )
    columns = "(device_name, instance_uuid, deleted, connection_info)"
    for number in range(20):
        realcloud.rows(
            realcloud.cell2,
            f"INSERT INTO block_device_mapping {columns} {live.format(f'small{number}', 20_000)}",
        )
    realcloud.rows(
        realcloud.cell2,
        f"INSERT INTO block_device_mapping {columns} {live.format('large', 200_000)}",
    )
    ((number,),) = realcloud.rows(
        realcloud.cell2, "SELECT id FROM block_device_mapping WHERE device_name = 'large'"
    )
    inventory = Inventory(realcloud)
    cluster.limit("wsrep_max_ws_size", LIMITS["wsrep_max_ws_size"])
    ended = program.run(*ARCHIVE[:-1], "10000")
    assert (ended.code, ended.out) == (ARCHIVED, "")
    assert ended.err == (
        f"cell2: left in block_device_mapping: id {number}: the server takes no transaction as "
        "large as this one: "
        "Maximum writeset size exceeded (error 1105)\n"
    )
    gone = inventory.check_at_the_end()
    left = {
        name: rows - gone[name] for name, rows in inventory.moving.items() if rows != gone[name]
    }
    assert left == {realcloud.cell2: {("block_device_mapping", number)}}


@pytest.mark.parametrize("variable", LIMITS)
def test_a_purge_deletes_fewer_rows_at_once_where_a_write_set_is_limited(
    cluster: Cluster, realcloud: RealCloud, program: Program, variable: str
) -> None:
    with_a_large_tree(realcloud)
    assert program.run(*ARCHIVE).code == ARCHIVED
    cluster.limit(variable, LIMITS[variable] // 4)
    assert program.run("db", "purge", "--all", "--all-cells") == (0, "", "")
    for cell in (realcloud.cell0, realcloud.cell1, realcloud.cell2, realcloud.cell3):
        tables = [name for (name,) in realcloud.rows(cell, "SHOW TABLES LIKE 'shadow\\_%'")]
        assert not any(realcloud.rows(cell, f"SELECT 1 FROM {table} LIMIT 1") for table in tables)
