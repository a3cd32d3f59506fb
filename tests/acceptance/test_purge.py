"""``cellkeeper db purge`` on the databases of a real cloud: each exit code, and all that is
printed.
"""

from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.command import call, call_all
from tests.support.realcloud import DATABASES, RealCloud

PURGE: Final = "db purge"
API, CELL0, CELL1, CELL2, CELL3 = DATABASES
CELLS: Final = (CELL0, CELL1, CELL2, CELL3)
TABLES: Final = ("instance_actions", "instances", "services", "task_log")
AGED_BY: Final = {
    "instance_actions": "created_at",
    "instances": "deleted_at",
    "task_log": "updated_at",
}
AGELESS: Final = (
    "DB: Unable to purge table shadow_alembic_version because it has no timestamp column\n"
)


def shadows(cloud: RealCloud, cell: str) -> dict[str, int]:
    """How many rows the shadow tables of a cell have."""
    return {
        table: int(cloud.rows(cell, f"SELECT COUNT(*) FROM shadow_{table}")[0][0])
        for table in TABLES
    }


@pytest.fixture
def archived(realcloud: RealCloud) -> RealCloud:
    """The cloud with rows in the shadow tables of each cell: copies, which a purge does not
    mind.
    """
    for cell in CELLS:
        for table in TABLES:
            realcloud.rows(cell, f"INSERT INTO shadow_{table} SELECT * FROM {table}")
    return realcloud


def test_0_rows_older_than_a_date_were_deleted(archived: RealCloud, config: Path) -> None:
    others = {name: states for name, states in archived.states().items() if name != CELL1}
    younger = archived.rows(
        CELL1,
        "SELECT COUNT(*) FROM shadow_instances WHERE deleted = 0 OR deleted_at >= '2026-08-01'",
    )
    older = {
        table: archived.rows(
            CELL1, f"SELECT COUNT(*) FROM shadow_{table} WHERE {column} < '2026-08-01'"
        )[0][0]
        for table, column in AGED_BY.items()
    }
    lines = [
        f"DB: Deleted {rows} rows from shadow_{table} based on timestamp column {AGED_BY[table]}\n"
        for table, rows in older.items()
    ]
    ended = call(f"{PURGE} --all --verbose --before '2026-08-01 00:00'", config=config)
    assert (ended.code, ended.out, ended.err) == (0, AGELESS + "".join(lines), "")
    assert all(older.values())
    assert [(shadows(archived, CELL1)["instances"],)] == younger
    assert {name: states for name, states in archived.states().items() if name != CELL1} == others


def test_0_all_rows_of_all_cells_were_deleted_in_chunks(archived: RealCloud, config: Path) -> None:
    config.write_text(config.read_text() + "purge_chunk = 7\n")
    there = {cell: shadows(archived, cell) for cell in CELLS}
    live = {
        cell: archived.rows(cell, "CHECKSUM TABLE instances, instance_actions, task_log")
        for cell in CELLS
    }
    ended = call(f"{PURGE} --all --all-cells -f json", config=config)
    assert (ended.code, ended.err) == (0, "")
    assert ended.document.keys() == {"exit_code", "cells"}
    assert ended.document["exit_code"] == 0
    for cell in ended.document["cells"]:
        assert (cell["state"], cell["failure"], cell["without_timestamp"]) == ("complete", None, [])
        expected = {
            f"shadow_{table}": rows for table, rows in there[f"nova_{cell['cell']}"].items() if rows
        }
        assert cell["purged"] == expected
    assert all(not any(shadows(archived, cell).values()) for cell in CELLS)
    assert live == {
        cell: archived.rows(cell, "CHECKSUM TABLE instances, instance_actions, task_log")
        for cell in CELLS
    }


def test_0_without_verbose_nothing_is_printed(archived: RealCloud, config: Path) -> None:
    ended = call(f"{PURGE} --before 2026-08-01 --all-cells", config=config)
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_the_configured_cell_is_purged_without_an_api_database(
    archived: RealCloud, config: Path
) -> None:
    config.write_text(config.read_text().replace(archived.url(API), ""))
    assert call(f"{PURGE} --all", config=config).code == 0
    assert not any(shadows(archived, CELL1).values())
    assert any(shadows(archived, CELL2).values())


NO_DATES: Final = ("", "01/02/2015")
# Options, exit code and how the line begins. Neither database nor file is looked at before.
REFUSED: Final[dict[str, tuple[int, str]]] = {
    "--all-cells --verbose": (1, "Either --all or --before is needed"),
    **{
        f"--all --before '{date}'": (
            2,
            f"Invalid value for --before: {date!r} cannot be understood",
        )
        for date in NO_DATES
    },
    "--all --nope": (2, "cellkeeper db purge: No such option"),
}


def test_1_and_2_a_missing_or_wrong_argument(archived: RealCloud, config: Path) -> None:
    """DATE-2, DATE-3"""
    before = archived.checksums()
    ended = call_all((f"{PURGE} {options}" for options in REFUSED), config=config)
    assert [(one.code, one.out) for one in ended] == [(code, "") for code, _ in REFUSED.values()]
    for one, (_, beginning) in zip(ended, REFUSED.values(), strict=True):
        assert one.line.startswith(beginning)
    assert archived.checksums() == before


NOTHING: Final = {
    "--all": "",
    "--all --all-cells --verbose": "",
    "--before 2026-08-01 --verbose": AGELESS,
}


def test_3_nothing_was_purged(realcloud: RealCloud, config: Path) -> None:
    before = realcloud.checksums()
    ended = call_all((f"{PURGE} {options}" for options in NOTHING), config=config)
    assert [(one.code, one.out, one.err) for one in ended] == [
        (3, printed, "") for printed in NOTHING.values()
    ]
    assert realcloud.checksums() == before


def counted(document: Any, what: str) -> list[dict[str, int]]:
    return [
        {name: found["rows"] for name, found in cell[what].items()} for cell in document["cells"]
    ]


def test_a_dry_run_writes_nothing_and_tells_what_a_purge_deletes(
    archived: RealCloud, config: Path
) -> None:
    command = f"{PURGE} --all-cells --before 2026-08-01"
    before = archived.checksums()
    dry, table = call_all((f"{command} --dry-run -f json", f"{command} --dry-run"), config=config)
    assert [(one.code, one.err) for one in (dry, table)] == [(3, "")] * 2
    assert archived.checksums() == before
    assert "| cell1.shadow_instances " in table.out
    real = call(f"{command} -f json", config=config)
    assert real.code == 0
    assert counted(dry.document, "waiting") == [cell["purged"] for cell in real.document["cells"]]
