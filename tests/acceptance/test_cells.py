"""Cells that cannot be used, cells of any name, and databases that are known by several."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.support.command import call, call_all
from tests.support.realcloud import DATABASES, RealCloud
from tests.support.services import MariaDB, free_port

ARCHIVE: Final = "db archive_deleted_rows --all-cells"
PURGE: Final = "db purge --all-cells --all"
API, CELL0, CELL1, CELL2, CELL3 = DATABASES


def remap(cloud: RealCloud, name: str, url: str) -> None:
    """Let the mapping of a cell name another database."""
    cloud.rows(API, f"UPDATE cell_mappings SET database_connection = '{url}' WHERE name = '{name}'")


def deleted(cloud: RealCloud, cell: str) -> int:
    """How many deleted instances a cell still has."""
    return int(cloud.rows(cell, "SELECT COUNT(*) FROM instances WHERE deleted != 0")[0][0])


@pytest.fixture
def broken(realcloud: RealCloud, silent_port: int) -> dict[str, str]:
    """The lines to expect, by cell, after three of the four cells were given databases that cannot
    be used.
    """
    refusing = free_port()
    remap(
        realcloud,
        "cell0",
        f"mysql+pymysql://nova:{MariaDB.PASSWORD}@127.0.0.1:{refusing}/nova_cell0",
    )
    remap(
        realcloud,
        "cell2",
        f"mysql+pymysql://nova:{MariaDB.PASSWORD}@127.0.0.1:{silent_port}/nova_cell2",
    )
    remap(realcloud, "cell3", f"nova:{MariaDB.PASSWORD}@127.0.0.1/nova_cell3")
    return {
        "cell0": f"cell0 (127.0.0.1:{refusing}/nova_cell0): cannot connect: Connection refused",
        "cell2": (
            f"cell2 (127.0.0.1:{silent_port}/nova_cell2): cannot connect: it accepts "
            "connections but does not"
        ),
        "cell3": (
            "cell3: its URL cannot be used; expected mysql+pymysql://USER:PASSWORD@HOST/DATABASE"
        ),
    }


@pytest.mark.parametrize("more", ["--until-complete", "--max_rows 5000"])
def test_a_cell_that_fails_costs_itself_a_line_and_the_code_255(
    realcloud: RealCloud, config: Path, broken: dict[str, str], more: str
) -> None:
    """ARC-4: one refuses, one accepts connections and never answers, one has a broken URL."""
    ended = call(f"{ARCHIVE} {more} -f json", config=config)
    assert ended.code == ended.document["exit_code"] == 255
    lines = ended.err.splitlines()
    assert len(lines) == len(broken)
    for line, beginning in zip(lines, broken.values(), strict=True):
        assert line.startswith(beginning)
    states = {cell["cell"]: cell["state"] for cell in ended.document["cells"]}
    assert states == {"cell0": "failed", "cell1": "complete", "cell2": "failed", "cell3": "failed"}
    assert [cell["failure"] for cell in ended.document["cells"] if cell["failure"]] == lines
    assert deleted(realcloud, CELL1) == 0


def test_a_cell_that_fails_does_not_keep_a_purge_from_the_others(
    realcloud: RealCloud, config: Path, broken: dict[str, str]
) -> None:
    """PUR-3"""
    realcloud.rows(CELL1, "INSERT INTO shadow_instances SELECT * FROM instances WHERE deleted != 0")
    rows = deleted(realcloud, CELL1)
    ended = call(f"{PURGE} --verbose", config=config)
    assert ended.code == 255
    cell = f"Cell {realcloud.uuids['cell1']}(cell1)"
    assert (
        ended.out
        == f"{cell}: Deleted {rows} rows from shadow_instances based on timestamp column (n/a)\n"
    )
    lines = ended.err.splitlines()
    assert len(lines) == len(broken)
    assert all(
        line.startswith(beginning) for line, beginning in zip(lines, broken.values(), strict=True)
    )


def test_dry_runs_name_the_cells_that_could_not_be_looked_at(
    config: Path, broken: dict[str, str]
) -> None:
    ended = call_all((f"{ARCHIVE} --dry-run", f"{PURGE} --dry-run"), config=config)
    for one in ended:
        assert one.code == 255
        assert [line.split(" ")[0].rstrip(":") for line in one.err.splitlines()] == list(broken)
    archive, purge = ended
    assert "cell1.instances" in archive.out
    assert purge.out == ""  # nobody knows whether there is nothing to do


def test_the_configured_cell_fails(realcloud: RealCloud, config: Path) -> None:
    unknown = {"OS_DATABASE__CONNECTION": realcloud.url("nova_cell9")}
    lines = ("db archive_deleted_rows", "db purge --all", "db archive_deleted_rows --dry-run")
    for one in call_all(lines, config=config, env=unknown):
        assert (one.code, one.out) == (255, "")
        assert "Unknown database 'nova_cell9'" in one.line
    for one in call_all(lines[:2], config=config, env={"OS_DATABASE__CONNECTION": ""}):
        assert (one.code, one.out) == (255, "")
        assert one.line.startswith(
            "No database is configured: set connection in section [database] of nova.conf (read: /"
        )


def test_a_cell_without_a_url_costs_itself_only(realcloud: RealCloud, config: Path) -> None:
    realcloud.rows(API, "UPDATE cell_mappings SET database_connection = NULL WHERE name = 'cell2'")
    ended = call(f"{ARCHIVE} --until-complete", config=config)
    assert ended.code == 255
    assert deleted(realcloud, CELL1) == deleted(realcloud, CELL3) == 0


def test_cells_are_found_by_templates(realcloud: RealCloud, config: Path) -> None:
    template = "{scheme}://{username}:{password}@{hostname}:{port}/nova_cell"
    realcloud.rows(
        API, f"UPDATE cell_mappings SET database_connection = CONCAT('{template}', RIGHT(name, 1))"
    )
    ended = call(f"{ARCHIVE} --until-complete", config=config)
    assert (ended.code, ended.err) == (1, "")
    assert [deleted(realcloud, cell) for cell in (CELL0, CELL1, CELL2, CELL3)] == [0, 0, 0, 0]


# The name of each mapping, and what the table calls its cell; None: its uuid.
NAMES: Final = [
    pytest.param((None, None, None, None), (None, None, None, None), id="none has a name"),
    pytest.param(
        ("a", "a", "b", ""), ("{}(a)", "{}(a)", "b", None), id="two share a name, one's is empty"
    ),
    pytest.param(
        ("a.b", "a.", ".", "ä:b c"), ("a.b", "a.", ".", "ä:b c"), id="ARC-16: dots and worse"
    ),
]


@pytest.mark.parametrize(("names", "labels"), NAMES)
def test_cells_of_any_name_are_kept_apart(
    realcloud: RealCloud,
    config: Path,
    names: tuple[str | None, ...],
    labels: tuple[str | None, ...],
) -> None:
    """ARC-16"""
    uuids = [uuid for (uuid,) in realcloud.rows(API, "SELECT uuid FROM cell_mappings ORDER BY id")]
    for uuid, name in zip(uuids, names, strict=True):
        value = "NULL" if name is None else f"'{name}'"
        realcloud.rows(API, f"UPDATE cell_mappings SET name = {value} WHERE uuid = '{uuid}'")
    ended = call(f"{ARCHIVE} --until-complete --verbose --purge", config=config)
    assert (ended.code, ended.err) == (1, "")
    shown = [
        label.format(uuid) if label else uuid for label, uuid in zip(labels, uuids, strict=True)
    ]
    rows = dict(re.findall(r"^\| (.*)\.instances +\| (\d+) ", ended.out, re.MULTILINE))
    assert rows == dict(zip(shown, ("6", "53", "49", "19"), strict=True))
    identities = [
        f"{uuid}({name})" if name else uuid for uuid, name in zip(uuids, names, strict=True)
    ]
    purged = dict(
        re.findall(
            r"^Cell (.*): Deleted (\d+) rows from shadow_instances ", ended.out, re.MULTILINE
        )
    )
    assert purged == dict(zip(identities, ("6", "53", "49", "19"), strict=True))


def test_two_mappings_of_one_database_are_worked_once(realcloud: RealCloud, config: Path) -> None:
    """ARC-17; instances that are mapped to either of the two lose their API rows."""
    url = realcloud.url(CELL2).replace("mysql+pymysql", "mysql") + "?charset=utf8"
    realcloud.rows(
        API,
        "INSERT INTO cell_mappings (uuid, name, transport_url, database_connection, disabled) "
        f"VALUES ('11111111-1111-1111-1111-111111111111', 'twin', 'none:///', '{url}', 0)",
    )
    realcloud.rows(
        API,
        "UPDATE instance_mappings SET cell_id = (SELECT id FROM cell_mappings WHERE name = 'twin') "
        f"WHERE instance_uuid IN (SELECT uuid FROM {CELL2}.instances WHERE id % 2)",
    )
    ended = call(f"{ARCHIVE} --until-complete -f json", config=config)
    assert (ended.code, ended.err) == (1, "")
    assert [cell["cell"] for cell in ended.document["cells"]] == [
        "cell0",
        "cell1",
        "cell2",
        "cell3",
    ]
    assert ended.document["cells"][2]["archived"]["instances"] == 49
    assert ended.document["cells"][2]["api_rows_deleted"]["request_specs"] == 49
    left = (
        "SELECT COUNT(*) FROM instance_mappings WHERE instance_uuid IN (SELECT uuid FROM "
        f"{CELL2}.shadow_instances)"
    )
    assert realcloud.rows(API, left) == [(0,)]


def test_the_configured_database_under_another_name_of_its_host_is_known_by_its_instances(
    realcloud: RealCloud, config: Path
) -> None:
    """The cell mapping says 127.0.0.1, nova.conf says localhost."""
    config.write_text(config.read_text().replace("@127.0.0.1:", "@localhost:", 1))
    ended = call("db archive_deleted_rows --until-complete -f json", config=config)
    assert (ended.code, ended.err) == (1, "")
    (cell,) = ended.document["cells"]
    assert cell["archived"]["instances"] == 53
    assert cell["api_rows_deleted"]["request_specs"] == 53
    assert cell["api_rows_deleted"]["instance_mappings"] == 52  # one is missing from the dump
    left = (
        "SELECT COUNT(*) FROM request_specs WHERE instance_uuid IN (SELECT uuid FROM "
        f"{CELL1}.shadow_instances)"
    )
    assert realcloud.rows(API, left) == [(0,)]
