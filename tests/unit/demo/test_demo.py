"""The demo's cloud: like Nova's databases, the same each time, and never in the place of something
else.
"""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg
from sqlalchemy import Connection, create_engine, func, select, text
from sqlalchemy.pool import NullPool

from demo import tally
from demo.__main__ import STEPS, main
from demo.cloud import BLOCKED_CELL, CELLS, ForeignFolder, build, databases
from demo.rows import tables, url_of
from novadb import cells
from novadb.migrations.upgrade import API_SCHEMA, MAIN_SCHEMA
from settings.databases import connection_timeouts, connection_url
from settings.sections import register_sections

NOW = datetime(2026, 3, 1, 12)
CELL_NAMES = [f"cell{number}" for number in range(CELLS)]
CELL, OF_API = tables(MAIN_SCHEMA).tables, tables(API_SCHEMA).tables
# What Nova marks as deleted with an instance, besides instance_id_mappings, which has no foreign
# key.
CHILDREN = [
    "security_group_instance_association",
    "instance_info_caches",
    "instance_metadata",
    "instance_faults",
    "instance_extra",
    "instance_system_metadata",
    "block_device_mapping",
    "migrations",
    "virtual_interfaces",
]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cloud that no test changes."""
    return build(tmp_path_factory.mktemp("cloud"), now=NOW).parent


@contextmanager
def opened(cloud: Path, name: str) -> Iterator[Connection]:
    with create_engine(
        url_of(databases(cloud)[name][0]), poolclass=NullPool
    ).connect() as connection:
        yield connection


def rows(cloud: Path) -> dict[tuple[str, str], list[Any]]:
    """All rows of a cloud, but for the folder in the URLs of its cells."""
    found = {}
    for name, (_, schema) in databases(cloud).items():
        with opened(cloud, name) as connection:
            for table in tables(schema).sorted_tables:
                columns = [
                    column for column in table.columns if column.name != "database_connection"
                ]
                found[name, table.name] = list(connection.execute(select(*columns)).all())
    return found


def stand_in(folder: Path, code: int) -> Path:
    """A program that ends with this exit code, whatever it is told."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\nexit {code}\n")
    program.chmod(stat.S_IRWXU)
    return program


def test_the_same_seed_and_moment_give_the_same_rows(cloud: Path, tmp_path: Path) -> None:
    assert rows(build(tmp_path, now=NOW).parent) == rows(cloud)


def test_another_seed_gives_other_rows(cloud: Path, tmp_path: Path) -> None:
    assert rows(build(tmp_path, now=NOW, seed=2).parent) != rows(cloud)


def test_a_cloud_can_be_built_again_in_its_place(tmp_path: Path) -> None:
    build(tmp_path, instances=10)
    build(tmp_path, instances=4, now=NOW)
    with opened(tmp_path, "cell1") as cell:
        assert cell.execute(select(func.count()).select_from(CELL["instances"])).scalar() == 4


def test_there_are_some_thousands_of_rows_live_and_deleted(cloud: Path) -> None:
    tallies = tally.count(cloud)
    assert sum(each.live for each in tallies.values()) > 3000
    assert sum(each.deleted for each in tallies.values()) > 1500
    assert sum(each.shadow for each in tallies.values()) == 0


@pytest.mark.parametrize("name", ["API", *CELL_NAMES])
def test_every_foreign_key_holds(cloud: Path, name: str) -> None:
    with opened(cloud, name) as connection:
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []


@pytest.mark.parametrize("name", CELL_NAMES)
def test_a_mark_of_deletion_is_the_rows_own_id_and_a_time(cloud: Path, name: str) -> None:
    with opened(cloud, name) as cell:
        for table in tables(MAIN_SCHEMA).sorted_tables:
            if {"id", "deleted"} <= set(table.columns.keys()):
                for row in cell.execute(select(table.c.id, table.c.deleted, table.c.deleted_at)):
                    assert row.deleted == (row.id if row.deleted_at else 0)


@pytest.mark.parametrize("name", CELL_NAMES)
def test_about_half_of_the_instances_are_deleted_at_an_age_of_up_to_200_days(
    cloud: Path, name: str
) -> None:
    with opened(cloud, name) as cell:
        instances = cell.execute(select(CELL["instances"])).all()
    ages = [(NOW - row.deleted_at).days for row in instances if row.deleted]
    assert len(ages) == (len(instances) + 1) // 2
    assert min(ages) >= 1
    assert max(ages) <= 200


@pytest.mark.parametrize("name", CELL_NAMES)
def test_children_are_marked_with_their_instance(cloud: Path, name: str) -> None:
    with opened(cloud, name) as cell:
        ends = {row.uuid: row.deleted_at for row in cell.execute(select(CELL["instances"]))}
        for table in CHILDREN:
            for row in cell.execute(select(CELL[table])):
                assert row.deleted_at == ends[row.instance_uuid]
        for row in cell.execute(select(CELL["instance_id_mappings"])):
            assert row.deleted_at == ends[row.uuid]


@pytest.mark.parametrize("name", CELL_NAMES)
def test_actions_and_their_events_are_never_marked(cloud: Path, name: str) -> None:
    with opened(cloud, name) as cell:
        for table in (CELL["instance_actions"], CELL["instance_actions_events"]):
            assert cell.execute(select(func.count()).where(table.c.deleted == 0)).scalar()
            assert not cell.execute(select(func.count()).where(table.c.deleted != 0)).scalar()


@pytest.mark.parametrize("name", CELL_NAMES)
def test_a_deleted_instance_has_no_tags(cloud: Path, name: str) -> None:
    deleted = select(CELL["instances"].c.uuid).where(CELL["instances"].c.deleted != 0)
    with opened(cloud, name) as cell:
        assert not cell.execute(
            select(CELL["tags"]).where(CELL["tags"].c.resource_id.in_(deleted))
        ).all()


def test_one_deleted_instance_is_blocked(cloud: Path) -> None:
    blocked = select(CELL["instances"].c.deleted).join(CELL["share_mapping"])
    marks = {}
    for name in CELL_NAMES:
        with opened(cloud, name) as cell:
            marks[name] = cell.execute(blocked).scalars().all()
    assert [name for name in CELL_NAMES if marks[name]] == [f"cell{BLOCKED_CELL}"]
    assert len(marks[f"cell{BLOCKED_CELL}"]) == 1
    assert all(marks[f"cell{BLOCKED_CELL}"])


def test_the_api_database_knows_every_instance(cloud: Path) -> None:
    known: dict[str, tuple[int, bool]] = {}
    actual: dict[str, tuple[int, bool]] = {}
    with opened(cloud, "API") as api:
        for row in api.execute(select(OF_API["instance_mappings"])):
            known[row.instance_uuid] = (row.cell_id, row.queued_for_delete)
        assert (
            set(api.execute(select(OF_API["request_specs"].c.instance_uuid)).scalars())
            == known.keys()
        )
        assert (
            set(api.execute(select(OF_API["instance_group_member"].c.instance_uuid)).scalars())
            < known.keys()
        )
    for mapping, name in enumerate(CELL_NAMES, 1):
        with opened(cloud, name) as cell:
            actual |= {
                row.uuid: (mapping, bool(row.deleted))
                for row in cell.execute(select(CELL["instances"]))
            }
    assert known == actual


@pytest.mark.parametrize("folder", ["plain", "with space, $dollar and 100%"])
def test_the_configuration_leads_to_all_cells(
    tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build(tmp_path / folder, instances=1)
    monkeypatch.chdir(path.parent)
    conf = cfg.ConfigOpts()
    register_sections(conf)
    conf(["--config-file", path.name], default_config_dirs=[])
    assert connection_url(conf, "database") == str(url_of(path.parent / "nova_cell1.db"))
    assert connection_url(conf, "api_database") == str(url_of(path.parent / "nova_api.db"))
    assert conf.cellkeeper.lock_path == str(path.parent / "locks")
    with opened(path.parent, "API") as api:
        registry = cells.read_cells(api, None, connection_timeouts(conf))
    assert [cell.name for cell in registry] == CELL_NAMES
    assert registry[0].uuid == cells.CELL0


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    treasure = tmp_path / "nova_api.db"
    treasure.write_text("precious")
    with pytest.raises(ForeignFolder):
        build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["nova_api.db"]
    assert treasure.read_text() == "precious"


def test_the_demo_says_in_one_line_that_it_overwrites_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = stand_in(tmp_path, 0)
    assert main([str(tmp_path)], program) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err == f"{tmp_path} exists and was not made by the demo: name another folder\n"


def test_the_demo_refuses_settings_that_lead_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OS_API_DATABASE__CONNECTION", "mysql+pymysql://nova@production/nova_api")
    assert main([str(tmp_path / "cloud")], stand_in(tmp_path, 0)) == 1
    assert "OS_API_DATABASE__CONNECTION" in capfd.readouterr().err
    assert not (tmp_path / "cloud").exists()


def test_the_demo_names_each_command_that_ends_unexpectedly(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "cloud")], stand_in(tmp_path, 7)) == 1
    out = capfd.readouterr().out
    for step in STEPS:
        assert f"exit code 7 instead of {step.expected}: {step.command}" in out
