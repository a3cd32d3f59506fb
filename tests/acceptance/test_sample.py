"""The main path on SQLite, which needs no server: archive and purge of the sample cloud."""

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tests.support.command import call

CELLS: Final = ("cell0", "cell1", "cell2", "cell3")
ARCHIVE: Final = "db archive_deleted_rows --all-cells --until-complete"
PURGE: Final = "db purge --all-cells"


def ask(sample: Path, database: str, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(sample.parent / f"nova_{database}.db")) as link:
        return link.execute(sql).fetchall()


def contents(sample: Path) -> dict[str, list[str]]:
    """All that is in the databases."""
    found = {}
    for database in ("api", *CELLS):
        with closing(sqlite3.connect(sample.parent / f"nova_{database}.db")) as link:
            found[database] = list(link.iterdump())
    return found


def deleted(sample: Path, *cells: str) -> dict[str, int]:
    """Deleted instances by cell."""
    count = "SELECT COUNT(*) FROM instances WHERE deleted != 0"
    return {cell: ask(sample, cell, count)[0][0] for cell in cells or CELLS}


def test_from_a_dry_run_to_empty_shadow_tables(sample: Path) -> None:
    before, waiting = contents(sample), deleted(sample)
    dry = call(f"{ARCHIVE} --dry-run -f json", config=sample)
    assert (dry.code, dry.err) == (0, "")
    assert contents(sample) == before
    assert {
        cell["cell"]: cell["waiting"]["instances"]["rows"] for cell in dry.document["cells"]
    } == waiting

    ended = call(f"{ARCHIVE} --verbose", config=sample)
    assert ended.code == 1
    assert re.fullmatch(r"cell2: left in instances: id \d+: 1 in share_mapping \(.*", ended.line)
    rows = {
        cell: int(number)
        for cell, number in re.findall(r"^\| (cell\d)\.instances +\| (\d+) ", ended.out, re.M)
    }
    assert rows == waiting | {"cell2": waiting["cell2"] - 1}
    assert deleted(sample) == {"cell0": 0, "cell1": 0, "cell2": 1, "cell3": 0}
    archived = {
        uuid for cell in CELLS for (uuid,) in ask(sample, cell, "SELECT uuid FROM shadow_instances")
    }
    assert len(archived) == sum(rows.values())
    for table in ("instance_mappings", "request_specs", "instance_group_member"):
        assert not archived & {
            uuid for (uuid,) in ask(sample, "api", f"SELECT instance_uuid FROM {table}")
        }

    again = call(f"{ARCHIVE} --verbose", config=sample)
    assert (again.code, again.out) == (0, "Archiving...complete\nNothing was archived.\n")
    assert again.line == ended.line

    old = call(f"{PURGE} --before 90d --verbose", config=sample)
    assert (old.code, old.err) == (0, "")
    assert re.search(
        r"^Cell [-0-9a-f]{36}\(cell1\): Deleted \d+ rows from shadow_instances based on",
        old.out,
        re.M,
    )
    young = sum(ask(sample, cell, "SELECT COUNT(*) FROM shadow_instances")[0][0] for cell in CELLS)
    assert 0 < young < len(archived)

    rest = call(f"{PURGE} --all -f json", config=sample)
    assert (rest.code, rest.err) == (0, "")
    assert (
        sum(cell["purged"].get("shadow_instances", 0) for cell in rest.document["cells"]) == young
    )
    assert call(f"{PURGE} --all", config=sample).code == 3


def test_a_database_file_that_is_missing_costs_one_cell(sample: Path) -> None:
    (sample.parent / "nova_cell3.db").unlink()
    ended = call(ARCHIVE, config=sample)
    assert (ended.code, ended.out) == (255, "")
    lines = ended.err.splitlines()
    assert lines[-1] == f"cell3 ({sample.parent / 'nova_cell3.db'}): there is no such file"
    assert [line.partition(":")[0] for line in lines[:-1]] == ["cell2"]
    assert not (sample.parent / "nova_cell3.db").exists()
    assert deleted(sample, "cell0", "cell1", "cell2") == {"cell0": 0, "cell1": 0, "cell2": 1}


def test_a_window_that_stays_open_changes_nothing(sample: Path) -> None:
    ended = call(f"{ARCHIVE} --verbose --until {far_from_now()}", config=sample)
    assert ended.code == 1
    assert re.fullmatch(r"cell2: left in instances: id \d+: 1 in share_mapping \(.*", ended.line)
    assert ".complete\n" in ended.out


def far_from_now() -> str:
    """A time of day that comes in some hours."""
    return (datetime.now(UTC) + timedelta(hours=8)).strftime("%H:%M")


def test_a_moment_that_has_passed_begins_nothing(untouched_sample: Path) -> None:
    ended = call(f"{ARCHIVE} --until 2026-01-01T06:00+00:00", config=untouched_sample)
    assert (ended.code, ended.out) == (255, "")
    assert ended.line == "--until 2026-01-01T06:00+00:00 is in the past; nothing was started"


def test_a_run_of_ones_own_process_takes_no_name(untouched_sample: Path) -> None:
    ended = call(f"{ARCHIVE} --run-id mine", config=untouched_sample)
    assert (ended.code, ended.out) == (255, "")
    assert ended.line.startswith("--detach and --run-id need workers: ")


def test_an_unknown_time_zone_is_named(untouched_sample: Path) -> None:
    env = {"OS_CELLKEEPER__TIMEZONE": "Mars/Olympus"}
    ended = call(f"{ARCHIVE} --until 06:00", config=untouched_sample, env=env)
    assert ended.code == 255
    assert "timezone in section [cellkeeper]: it takes the name of a time zone" in ended.line
