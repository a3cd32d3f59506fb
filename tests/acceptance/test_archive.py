"""``cellkeeper db archive_deleted_rows`` on the databases of a real cloud: each exit code, and all
that is printed.
"""

import re
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.command import call, call_all
from tests.support.realcloud import DATABASES, RealCloud

ARCHIVE: Final = "db archive_deleted_rows"
API, CELL0, CELL1, CELL2, CELL3 = DATABASES
CELLS: Final = (CELL0, CELL1, CELL2, CELL3)
# No row of the cloud is as old.
BEFORE_ALL: Final = "2000-01-01"
OWN_CELL: Final = """\
+------------------------------+-------------------------+
| Table                        | Number of Rows Archived |
+------------------------------+-------------------------+
| API_DB.instance_group_member | 0                       |
| API_DB.instance_mappings     | 14                      |
| API_DB.request_specs         | 14                      |
| block_device_mapping         | 18                      |
| instance_actions             | 30                      |
| instance_actions_events      | 38                      |
| instance_extra               | 14                      |
| instance_id_mappings         | 14                      |
| instance_info_caches         | 14                      |
| instance_metadata            | 6                       |
| instance_system_metadata     | 168                     |
| instances                    | 14                      |
| migrations                   | 2                       |
| task_log                     | 3                       |
| virtual_interfaces           | 15                      |
+------------------------------+-------------------------+
"""
# The rows that go to the shadow tables when all that is deleted is archived, by cell.
ALL_ROWS: Final = {"cell0": 122, "cell1": 1280, "cell2": 1177, "cell3": 440}
DRY_RUN: Final = """\
+--------------------------------+------+-----------------------+-----------------------+
| Table                          | Rows | Oldest deletion (UTC) | Newest deletion (UTC) |
+--------------------------------+------+-----------------------+-----------------------+
"""


def count(cloud: RealCloud, table: str, *cells: str) -> int:
    """The rows of a table in some cells, or in all."""
    return sum(
        int(cloud.rows(cell, f"SELECT COUNT(*) FROM {table}")[0][0]) for cell in cells or CELLS
    )


def deleted_instances(cloud: RealCloud, *cells: str) -> int:
    return count(cloud, "instances WHERE deleted != 0", *cells)


def moved(document: Any) -> dict[str, int]:
    """The rows that were archived, by cell."""
    return {cell["cell"]: sum(cell["archived"].values()) for cell in document["cells"]}


@pytest.fixture
def archived_before(realcloud: RealCloud) -> RealCloud:
    """The cloud with some rows in shadow tables, and none in task_log that would move whatever the
    date.
    """
    realcloud.rows(CELL1, "INSERT INTO shadow_services SELECT * FROM services WHERE deleted = 0")
    realcloud.rows(CELL1, "UPDATE task_log SET deleted = 0")
    return realcloud


NOTHING: Final = {
    f"--before {BEFORE_ALL} --all-cells --purge --max_rows 2147483647": "",
    f"--before {BEFORE_ALL} --verbose --purge": "Nothing was archived.\n",
    f"--before {BEFORE_ALL} --verb --until --all": "Archiving...complete\nNothing was archived.\n",
    "--max_rows 0 --verbose --all-cells": "Nothing was archived.\n",
}


def test_0_nothing_was_archived_so_nothing_is_purged(
    archived_before: RealCloud, config: Path
) -> None:
    before = archived_before.checksums()
    ended = call_all((f"{ARCHIVE} {options}" for options in NOTHING), config=config)
    found = {
        options: (one.code, one.out, one.err) for options, one in zip(NOTHING, ended, strict=True)
    }
    assert found == {options: (0, printed, "") for options, printed in NOTHING.items()}
    assert archived_before.checksums() == before


def test_1_rows_of_the_configured_cell_were_archived(realcloud: RealCloud, config: Path) -> None:
    others = {
        name: states for name, states in realcloud.states().items() if name not in (API, CELL1)
    }
    ended = call(f"{ARCHIVE} --verbose --before 2026-08-01", config=config)
    assert (ended.code, ended.out, ended.err) == (1, OWN_CELL, "")
    assert count(realcloud, "shadow_instances", CELL1) == 14
    assert {name: states for name, states in realcloud.states().items() if name in others} == others


def test_1_without_verbose_nothing_is_printed(realcloud: RealCloud, config: Path) -> None:
    ended = call(f"{ARCHIVE} --max_rows 1", config=config)
    assert (ended.code, ended.out, ended.err) == (1, "", "")
    assert count(realcloud, "shadow_compute_nodes") == 1


def test_a_script_that_goes_on_while_the_code_is_1_comes_to_an_end(
    realcloud: RealCloud, config: Path
) -> None:
    """The manual: "run continuously while the result is 1, stopping at 0". The total is one over
    all cells.
    """
    ended = [
        call(f"{ARCHIVE} --all-cells --max_rows 1600 -f json", config=config) for _ in range(3)
    ]
    assert [(one.code, one.document["exit_code"], one.err) for one in ended] == [
        (1, 1, ""),
        (1, 1, ""),
        (0, 0, ""),
    ]
    first, second, third = (moved(one.document) for one in ended)
    assert {cell: first[cell] + second[cell] for cell in ALL_ROWS} == ALL_ROWS
    assert set(third.values()) == {0}
    assert sum(first.values()) <= 1600
    # The cells are worked in the order of their ids, the last one has to wait.
    assert (first["cell0"], first["cell1"], first["cell3"]) == (
        ALL_ROWS["cell0"],
        ALL_ROWS["cell1"],
        0,
    )
    assert [cell["state"] for cell in ended[0].document["cells"]] == ["complete"] * 2 + [
        "incomplete"
    ] * 2
    assert deleted_instances(realcloud) == 0


def test_all_cells_are_archived_until_complete(realcloud: RealCloud, config: Path) -> None:
    live = count(realcloud, "instances WHERE deleted = 0")
    options = "--max_rows 100 --sleep 0 --concurrency 2 --no-wait --verbose -f json"
    ended = call(f"{ARCHIVE} --all-cells --until-complete {options}", config=config)
    assert (ended.code, ended.err) == (1, "")
    assert moved(ended.document) == ALL_ROWS
    assert deleted_instances(realcloud) == 0
    assert count(realcloud, "instances") == live
    assert ended.document.keys() == {"exit_code", "cells"}
    assert ended.document["exit_code"] == 1
    assert {cell["uuid"]: cell["cell"] for cell in ended.document["cells"]} == {
        uuid: name for name, uuid in realcloud.uuids.items()
    }
    for cell in ended.document["cells"]:
        assert (cell["state"], cell["failure"]) == ("complete", None)
        assert (cell["repaired"], cell["blocked"], cell["blocked_count"]) == ({}, [], 0)
        instances = cell["archived"]["instances"]
        assert instances == count(realcloud, "shadow_instances", f"nova_{cell['cell']}")
        assert cell["api_rows_deleted"]["request_specs"] == instances


def test_purge_behind_archive_empties_the_shadow_tables(realcloud: RealCloud, config: Path) -> None:
    ended = call(f"{ARCHIVE} --all-cells --until-complete --verbose --purge", config=config)
    assert (ended.code, ended.err) == (1, "")
    table, _, lines = ended.out.partition("Rows were archived, running purge...\n")
    assert table.startswith("Archiving......")
    assert table.endswith("-+\n")
    cell3 = (
        f"Cell {realcloud.uuids['cell3']}(cell3): Deleted 19 rows from shadow_instances based "
        "on timestamp column (n/a)"
    )
    assert cell3 in lines.splitlines()
    assert all(
        re.match(r"Cell [-0-9a-f]{36}\(cell\d\): Deleted \d+ rows from shadow_", line)
        for line in lines.splitlines()
    )
    for table in ("shadow_instances", "shadow_instance_actions_events", "shadow_services"):
        assert count(realcloud, table) == 0


def test_purge_behind_archive_goes_by_the_same_date(realcloud: RealCloud, config: Path) -> None:
    """ARC-5"""
    realcloud.rows(
        CELL1, "INSERT INTO shadow_instance_id_mappings SELECT * FROM instance_id_mappings"
    )
    realcloud.rows(CELL1, "DELETE FROM instance_id_mappings")
    younger = count(
        realcloud,
        "shadow_instance_id_mappings WHERE deleted_at >= '2026-08-01' OR deleted = 0",
        CELL1,
    )
    ended = call(f"{ARCHIVE} --verbose --before 2026-08-01 --purge -f json", config=config)
    assert (ended.code, ended.err) == (1, "")
    assert ended.document.keys() == {"exit_code", "cells", "purged"}
    (archived,), (purged,) = ended.document["cells"], ended.document["purged"]
    assert (archived["cell"], archived["uuid"]) == (None, None)
    assert purged["purged"]["shadow_instances"] == archived["archived"]["instances"] == 14
    assert purged["without_timestamp"] == ["shadow_alembic_version"]
    assert count(realcloud, "shadow_instances", CELL1) == 0
    assert count(realcloud, "shadow_instance_id_mappings", CELL1) == younger


# --max_rows, and how the line begins.
OUT_OF_RANGE: Final = {
    "-1": "Invalid value for --max_rows: -1; ",
    "2147483648": "Invalid value for --max_rows: 2147483648; ",
    "1.5": "cellkeeper db archive_deleted_rows: Invalid value for '--max_rows'",
}


def test_2_max_rows_is_out_of_range(realcloud: RealCloud, config: Path) -> None:
    before = realcloud.checksums()
    ended = call_all(
        (f"{ARCHIVE} --all-cells --max_rows {number}" for number in OUT_OF_RANGE), config=config
    )
    assert [(one.code, one.out) for one in ended] == [(2, "")] * len(ended)
    for one, beginning in zip(ended, OUT_OF_RANGE.values(), strict=True):
        assert one.line.startswith(beginning)
    assert realcloud.checksums() == before


def test_3_the_api_database_fails_during_the_work(realcloud: RealCloud, config: Path) -> None:
    """What was archived before stands, no instance is archived without its API rows."""
    before = realcloud.rows(API, "SELECT COUNT(*) FROM request_specs")
    realcloud.rows(
        API,
        "CREATE TRIGGER refuse BEFORE DELETE ON request_specs FOR EACH ROW "
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not today'",
    )
    ended = call(f"{ARCHIVE} --all-cells --until-complete -f json", config=config)
    assert ended.code == ended.document["exit_code"] == 3
    lines = ended.err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["cell0", "cell1", "cell2", "cell3"]
    assert all("the API database" in line and "not today" in line for line in lines)
    assert realcloud.rows(API, "SELECT COUNT(*) FROM request_specs") == before
    for cell in CELLS:
        assert realcloud.rows(cell, "SELECT COUNT(*) FROM shadow_instances") == [(0,)]
        assert realcloud.rows(cell, "SELECT COUNT(*) FROM shadow_instance_extra") == [(0,)]


# DATE-2, DATE-3
NO_DATES: Final = ("", "10 days ago", "--verbose")


def test_4_before_is_no_date(realcloud: RealCloud, config: Path) -> None:
    before = realcloud.checksums()
    ended = call_all(
        (f"{ARCHIVE} --all-cells --before '{date}'" for date in NO_DATES), config=config
    )
    assert [(one.code, one.out) for one in ended] == [(4, "")] * len(ended)
    for one, date in zip(ended, NO_DATES, strict=True):
        assert one.line.startswith(f"Invalid value for --before: {date!r} cannot be understood")
    assert realcloud.checksums() == before


def test_the_checks_come_in_the_order_of_the_stock_tool(tmp_path: Path) -> None:
    """Without an API database: a wrong --max_rows is seen before, a wrong date after."""
    empty = tmp_path / "nova.conf"
    empty.touch()
    options = ("--max_rows -1 --before nonsense", "--before nonsense")
    ended = call_all((f"{ARCHIVE} {each}" for each in options), config=empty)
    assert [(one.code, one.out) for one in ended] == [(2, ""), (3, "")]
    assert all(one.line for one in ended)


def test_a_dry_run_writes_nothing_and_tells_what_an_archive_moves(
    realcloud: RealCloud, config: Path
) -> None:
    command = f"{ARCHIVE} --all-cells --until-complete --before 2026-10-01 --task-log"
    before = realcloud.checksums()
    dry, table, nothing = call_all(
        (
            f"{command} --dry-run --repair --purge -f json",
            f"{command} --dry-run",
            f"{ARCHIVE} --dry-run --task-log --before {BEFORE_ALL}",
        ),
        config=config,
    )
    assert [(one.code, one.err) for one in (dry, table, nothing)] == [(0, "")] * 3
    assert realcloud.checksums() == before
    assert nothing.out == "There is nothing to do.\n"
    assert table.out.startswith(DRY_RUN)
    assert dry.document["dry_run"] is True
    real = call(f"{command} -f json", config=config)
    assert real.code == 1
    for waiting, cell in zip(dry.document["cells"], real.document["cells"], strict=True):
        assert {name: found["rows"] for name, found in waiting["waiting"].items()} == cell[
            "archived"
        ]
        for name, found in waiting["waiting"].items():
            assert re.search(
                rf"^\| {cell['cell']}\.{name} +\| {found['rows']} ", table.out, re.MULTILINE
            )


@pytest.fixture
def share(realcloud: RealCloud) -> tuple[int, str]:
    """An instance of cell1 that is deleted while a share refers to it: its id and uuid."""
    ((number, uuid),) = realcloud.rows(
        CELL1, "SELECT id, uuid FROM instances WHERE deleted != 0 ORDER BY id LIMIT 1"
    )
    realcloud.rows(
        CELL1,
        "INSERT INTO share_mapping (uuid, instance_uuid, share_id, status, tag, export_location, "
        "share_proto) "
        f"VALUES ('{uuid}', '{uuid}', '{uuid}', 'active', 'tag', 'nfs', 'NFS')",
    )
    return number, uuid


def test_a_row_that_cannot_move_is_named_and_changes_no_code(
    realcloud: RealCloud, config: Path, share: tuple[int, str]
) -> None:
    """ARC-7"""
    number, uuid = share
    blocked = (
        f"cell1: left in instances: id {number}: 1 in share_mapping (instance_uuid {uuid}) still "
        "refer to it, and "
        "share_mapping is not archived: delete what is there once it is of no use, then run this "
        "again"
    )
    ended = call(f"{ARCHIVE} --all-cells --until-complete", config=config)
    assert (ended.code, ended.out, ended.line) == (1, "", blocked)
    ended = call(f"{ARCHIVE} --all-cells --until-complete -f json", config=config)
    assert (ended.code, ended.line) == (0, blocked)
    (named,) = ended.document["cells"][1]["blocked"]
    assert (named["table"], named["id"], ended.document["cells"][1]["blocked_count"]) == (
        "instances",
        number,
        1,
    )
    assert deleted_instances(realcloud) == 1
    assert realcloud.rows(
        API, f"SELECT COUNT(*) FROM request_specs WHERE instance_uuid = '{uuid}'"
    ) == [(1,)]


def test_repair_removes_what_an_earlier_crash_left(realcloud: RealCloud, config: Path) -> None:
    """ARC-8, ARC-12"""
    ((twin, leftover),) = realcloud.rows(
        CELL1, "SELECT MIN(id), MAX(id) FROM instances WHERE deleted != 0"
    )
    realcloud.rows(CELL1, f"INSERT INTO shadow_instances SELECT * FROM instances WHERE id = {twin}")
    ((uuid,),) = realcloud.rows(CELL1, f"SELECT uuid FROM instances WHERE id = {leftover}")
    kept = realcloud.rows(API, f"SELECT * FROM request_specs WHERE instance_uuid = '{uuid}'")
    ended = call(f"{ARCHIVE} --until-complete", config=config)
    assert (ended.code, ended.out) == (1, "")
    assert ended.line.startswith(
        f"DB: left in instances: id {twin}: shadow_instances already has a row with id {twin}"
    )
    assert "--repair" in ended.line
    # As a tool leaves it that is killed between the cell's commit and the API database's.
    realcloud.rows(
        API, f"INSERT INTO request_specs (instance_uuid, spec) VALUES ('{uuid}', '{{}}')"
    )
    realcloud.rows(
        API,
        "INSERT INTO instance_mappings (instance_uuid, cell_id, project_id, queued_for_delete) "
        f"SELECT '{uuid}', id, 'p', 1 FROM cell_mappings WHERE name = 'cell1'",
    )
    ended = call(f"{ARCHIVE} --until-complete --repair -f json", config=config)
    assert ended.code == 1
    assert ended.document["cells"][0]["archived"]["instances"] == 1
    removed = {"API_DB.instance_mappings": 1, "API_DB.request_specs": 1, "shadow_instances": 1}
    assert ended.document["cells"][0]["repaired"] == removed
    assert ended.line.startswith(
        "DB: repaired by removing rows that were double or left over: 1 of API_DB.instance_mapp"
    )
    assert deleted_instances(realcloud, CELL1) == 0
    assert len(kept) == 1
    assert (
        realcloud.rows(API, f"SELECT * FROM instance_mappings WHERE instance_uuid = '{uuid}'") == []
    )


def test_tables_that_nova_does_not_know_are_left_alone(realcloud: RealCloud, config: Path) -> None:
    """ARC-14: a backup, an online change of the schema, an odd name."""
    tables = ("instances_backup", "_instances_new", "~ odd: name?")
    for table in tables:
        realcloud.rows(CELL1, f"CREATE TABLE `{table}` LIKE instances")
        realcloud.rows(CELL1, f"INSERT INTO `{table}` SELECT * FROM instances")
    before = realcloud.states()[CELL1]
    ended = call(f"{ARCHIVE} --all-cells --until-complete --purge -f json", config=config)
    assert (ended.code, ended.err) == (1, "")
    assert moved(ended.document) == ALL_ROWS
    after = realcloud.states()[CELL1]
    assert [after[table] for table in tables] == [before[table] for table in tables]


def test_a_view_is_no_shadow_table(realcloud: RealCloud, config: Path) -> None:
    realcloud.rows(CELL1, "CREATE VIEW shadow_of_a_doubt AS SELECT * FROM services")
    before = count(realcloud, "services", CELL1)
    try:
        call("db purge --all", config=config)
    finally:
        realcloud.rows(CELL1, "DROP VIEW shadow_of_a_doubt")
    assert count(realcloud, "services", CELL1) == before


def test_a_replica_is_never_written_to_nor_read(realcloud: RealCloud, config: Path) -> None:
    """ARC-10"""
    config.write_text(
        config.read_text().replace(
            "[api_database]", f"slave_connection = {realcloud.url(CELL3)}\n[api_database]"
        )
    )
    before = realcloud.states()[CELL3]
    assert call(f"{ARCHIVE} --until-complete", config=config).code == 1
    assert realcloud.states()[CELL3] == before
    assert deleted_instances(realcloud, CELL1) == 0
