"""``db online_data_migrations`` as an operator sees it: its text, its exit codes, what it says of
trouble.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tests.support.command import call
from tests.support.realcloud import RealCloud

MIGRATE: Final = "db online_data_migrations"
RECORDED: Final = Path(__file__).parent / "recorded"


def test_with_a_budget_the_stock_tool_said_the_same(realcloud: RealCloud, config: Path) -> None:
    realcloud.rows(realcloud.cell1, "UPDATE block_device_mapping SET uuid = NULL WHERE id <= 5")
    realcloud.rows(realcloud.cell1, "UPDATE compute_nodes SET ram_allocation_ratio = 0.0")
    for number in (1, 2):
        ended = call(f"{MIGRATE} --max-count 4", config=config)
        text = (RECORDED / f"online_max_count_{number}.txt").read_text()
        assert (ended.code, ended.out, ended.err) == (1, text, "")


@pytest.mark.parametrize("count", ["0", "-3", "abc", "1.5", "''"])
def test_a_count_that_is_no_positive_number(config: Path, count: str) -> None:
    ended = call(f"{MIGRATE} --max-count={count}", config=config)
    assert (ended.code, ended.out) == (127, "")
    assert ended.line.startswith("Must supply a positive value for --max-count")


def refuse(cloud: RealCloud) -> None:
    """cell1 refuses any change of a block device mapping, and has one without uuid."""
    cloud.rows(cloud.cell1, "UPDATE block_device_mapping SET uuid = NULL WHERE id = 1")
    cloud.rows(
        cloud.cell1,
        "CREATE TRIGGER refuse BEFORE UPDATE ON block_device_mapping FOR EACH ROW "
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no change today'",
    )


def test_a_migration_that_fails_is_named_and_the_others_go_on(
    realcloud: RealCloud, config: Path
) -> None:
    refuse(realcloud)
    realcloud.rows(realcloud.cell1, "UPDATE instances SET compute_id = NULL WHERE id = 1")
    realcloud.rows(realcloud.cell2, "UPDATE block_device_mapping SET uuid = NULL")
    ended = call(f"{MIGRATE} --max-count 1", config=config)
    assert (ended.code, ended.err.count("Error attempting to run populate_uuids: ")) == (1, 1)
    ended = call(f"{MIGRATE} --all-cells", config=config)
    first, last = ended.err.splitlines()
    assert ended.code == 2
    assert f"({'cell1'}): Error attempting to run populate_uuids: " in first
    assert "no change today" in first
    assert last == "Some migrations failed unexpectedly. Check log for details."
    assert realcloud.rows(
        realcloud.cell2, "SELECT COUNT(*) FROM block_device_mapping WHERE uuid IS NULL"
    ) == [(0,)]
    assert realcloud.rows(
        realcloud.cell1, "SELECT compute_id IS NULL FROM instances WHERE id = 1"
    ) == [(0,)]


@pytest.mark.parametrize("options", ["", "--all-cells"])
def test_a_cell_that_is_away_costs_itself(realcloud: RealCloud, config: Path, options: str) -> None:
    realcloud.rows(realcloud.cell1, "UPDATE block_device_mapping SET uuid = NULL")
    realcloud.rows(realcloud.api, "UPDATE instance_mappings SET user_id = NULL")
    url = f"mysql+pymysql://nova:nova-secret@127.0.0.1:1/{realcloud.cell2}"
    realcloud.rows(
        realcloud.api,
        f"UPDATE cell_mappings SET database_connection = '{url}' WHERE name = 'cell2'",
    )
    ended = call(f"{MIGRATE} {options}", config=config)
    assert ended.code == 2
    assert "cell2 (127.0.0.1:1/nova_cell2): cannot connect" in ended.err
    assert realcloud.rows(
        realcloud.cell1, "SELECT COUNT(*) FROM block_device_mapping WHERE uuid IS NULL"
    ) == [(0,)]
    left = (
        "SELECT DISTINCT c.name FROM instance_mappings m JOIN cell_mappings c ON c.id = m.cell_id "
        "JOIN nova_cell1.instances i ON i.uuid = m.instance_uuid WHERE m.user_id IS NULL AND "
        "c.name <> 'cell2'"
    )
    assert realcloud.rows(realcloud.api, left) == []


@pytest.mark.parametrize(
    "away", ["", "mysql+pymysql://nova:nova-secret@127.0.0.1:1/nova_api"], ids=["none", "away"]
)
def test_without_the_api_database_a_cell_does_what_it_can(
    realcloud: RealCloud, config: Path, away: str
) -> None:
    realcloud.rows(realcloud.cell1, "UPDATE block_device_mapping SET uuid = NULL")
    env = {"OS_API_DATABASE__CONNECTION": away}
    ended = call(MIGRATE, config=config, env=env)
    assert ended.code == 2
    assert [line.split()[4].rstrip(":") for line in ended.err.splitlines()[:-1]] == [
        "populate_queued_for_delete",
        "populate_user_id",
    ]
    assert realcloud.rows(
        realcloud.cell1, "SELECT COUNT(*) FROM block_device_mapping WHERE uuid IS NULL"
    ) == [(0,)]
    ended = call(f"{MIGRATE} --all-cells", config=config, env=env)
    assert (ended.code, ended.out) == (2, "")
    assert "API database" in ended.err or "api_database" in ended.err


def test_an_own_database_that_is_away_is_one_line(realcloud: RealCloud, config: Path) -> None:
    url = f"mysql+pymysql://nova:wrong@127.0.0.1:{realcloud.server.port}/{realcloud.cell1}"
    ended = call(f"{MIGRATE} -f json", config=config, env={"OS_DATABASE__CONNECTION": url})
    assert (ended.code, ended.document["exit_code"]) == (2, 2)
    assert "Access denied" in ended.err.splitlines()[0]


def test_a_schema_of_an_older_release_has_nothing_for_a_newer_migration(
    realcloud: RealCloud, config: Path
) -> None:
    realcloud.rows(realcloud.cell1, "ALTER TABLE instances DROP COLUMN compute_id")
    ended = call(MIGRATE, config=config)
    assert ended.code == 0
    assert ended.line.startswith(
        "populate_instance_compute_id was passed over: there is no instances.compute_id."
    )
    assert "populate_instance_compute_id" not in ended.out


def test_a_marker_whose_instance_is_gone_is_no_obstacle(realcloud: RealCloud, config: Path) -> None:
    assert call(MIGRATE, config=config).code == 0
    realcloud.rows(
        realcloud.cell1,
        "UPDATE virtual_interfaces SET tag = 'gone' WHERE uuid LIKE '00000000-0000-%'",
    )
    ended = call(MIGRATE, config=config)
    assert (ended.code, ended.err) == (0, "")
    assert "rows matched query fill_virtual_interface_list, 0 migrated" in ended.out


def test_ports_of_two_instances_and_unreadable_caches_are_named_and_left(
    realcloud: RealCloud, config: Path
) -> None:
    uuids = [
        uuid
        for (uuid,) in realcloud.rows(
            realcloud.cell1,
            "SELECT instance_uuid FROM instance_info_caches c JOIN instances i ON i.uuid = "
            "c.instance_uuid "
            "WHERE i.deleted = 0 AND i.hidden = 0 AND network_info LIKE '[{%' ORDER BY i.id LIMIT "
            "4",
        )
    ]
    shared = '[{"id": "port", "address": "fa:16"}, {"id": "PORT%s", "address": "fa:17"}]'
    for number, cache in enumerate(
        (shared % 1, shared % 2, "[{", '[{"id": "p3", "address": "fa:18"}]')
    ):
        realcloud.rows(
            realcloud.cell1,
            f"UPDATE instance_info_caches SET network_info = '{cache}' WHERE instance_uuid = "
            f"'{uuids[number]}'",
        )
        realcloud.rows(
            realcloud.cell1,
            f"DELETE FROM virtual_interfaces WHERE instance_uuid = '{uuids[number]}'",
        )
    ended = call(f"{MIGRATE} --verbose", config=config)
    assert (ended.code, ended.err) == (0, "")
    assert "rows matched query fill_virtual_interface_list, 1 migrated" in ended.out
    [taken] = [
        line for line in ended.out.splitlines() if "2 left: instances one of whose ports" in line
    ]
    assert {uuids[0], uuids[1]} <= set(taken.replace(",", "").split())
    assert f"1 left: instances whose network cache cannot be read: {uuids[2]}" in ended.out


def test_on_sqlite(sample: Path) -> None:
    folder = sample.parent
    undo = {
        "cell1": "UPDATE block_device_mapping SET uuid = NULL",
        "api": "UPDATE instance_mappings SET user_id = NULL, queued_for_delete = NULL",
    }
    for database, statement in undo.items():
        with closing(sqlite3.connect(folder / f"nova_{database}.db")) as link:
            link.execute(statement)
            link.commit()
    ended = call(f"{MIGRATE} --all-cells -f json", config=sample)
    again = call(f"{MIGRATE} --all-cells -f json", config=sample)
    assert (ended.code, again.code) == (0, 0)
    # The sample has not all tables of Nova.
    assert all("was passed over" in line for line in ended.err.splitlines())
    for document, is_done in ((ended.document, True), (again.document, False)):
        done = sum(
            tally["done"] for cell in document["cells"] for tally in cell["migrations"].values()
        )
        assert bool(done) == is_done
    with closing(sqlite3.connect(folder / "nova_cell1.db")) as link:
        assert link.execute(
            "SELECT COUNT(*) FROM block_device_mapping WHERE uuid IS NULL"
        ).fetchone() == (0,)
