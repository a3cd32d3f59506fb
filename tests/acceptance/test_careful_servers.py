"""Servers whose administrators guard against mistakes: with other defaults of a session, other
engines and columns.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.command import call
from tests.support.realcloud import DATABASES, RealCloud

ARCHIVE: Final = "db archive_deleted_rows --all-cells --until-complete"
API, CELL0, CELL1, CELL2, CELL3 = DATABASES
# What the mysql client sets with --safe-updates, and what makes a server forget what its tables
# promise.
CAREFUL: Final = {
    "sql_safe_updates": "1",
    "sql_select_limit": "1",
    "max_join_size": "1",
    "foreign_key_checks": "0",
}


@pytest.fixture
def careful(realcloud: RealCloud) -> Iterator[RealCloud]:
    """The real cloud on a server that gives each new session other defaults."""
    names = ", ".join(f"@@global.{name}" for name in CAREFUL)
    (before,) = realcloud.rows(API, f"SELECT {names}")
    realcloud.rows(
        API, "SET " + ", ".join(f"GLOBAL {name} = {value}" for name, value in CAREFUL.items())
    )
    try:
        yield realcloud
    finally:
        usual = zip(CAREFUL, before, strict=True)
        realcloud.rows(API, "SET " + ", ".join(f"GLOBAL {name} = {value}" for name, value in usual))


def look(cloud: RealCloud, sql: str) -> list[tuple[Any, ...]]:
    """The rows of cell1 that a statement finds, whatever the server's defaults."""
    return cloud.rows(
        CELL1, f"SET STATEMENT sql_big_selects = 1, sql_select_limit = 1000 FOR {sql}"
    )


def test_defaults_of_the_server_for_new_sessions_change_nothing(
    careful: RealCloud, config: Path
) -> None:
    """All cells are seen, all deleted rows are archived, and then purged."""
    archived = call(f"{ARCHIVE} --verbose -f json", config=config)
    assert (archived.code, archived.err) == (1, "")
    assert {cell["cell"]: cell["state"] for cell in archived.document["cells"]} == dict.fromkeys(
        ("cell0", "cell1", "cell2", "cell3"), "complete"
    )
    assert look(careful, "SELECT EXISTS (SELECT 1 FROM instances WHERE deleted != 0)") == [(0,)]
    purged = call("db purge --all --all-cells -f json", config=config)
    assert (purged.code, purged.err) == (0, "")
    assert look(careful, "SELECT EXISTS (SELECT 1 FROM shadow_instances)") == [(0,)]


def test_a_row_that_others_refer_to_stays_where_the_server_does_not_check_that(
    careful: RealCloud, config: Path
) -> None:
    ((number, uuid),) = look(
        careful, "SELECT id, uuid FROM instances WHERE deleted != 0 ORDER BY id LIMIT 1"
    )
    careful.rows(
        CELL1,
        "INSERT INTO share_mapping (uuid, instance_uuid, share_id, status, tag, export_location, "
        "share_proto) "
        f"VALUES ('{uuid}', '{uuid}', '{uuid}', 'active', 'tag', 'nfs', 'NFS')",
    )
    ended = call(ARCHIVE, config=config)
    assert ended.code == 1
    assert ended.line.startswith(f"cell1: left in instances: id {number}: 1 in share_mapping ")
    assert look(careful, f"SELECT COUNT(*) FROM instances WHERE id = {number}") == [(1,)]


REFUSED: Final = {
    "engine": (
        ("ALTER TABLE shadow_instances "
        "ENGINE=MyISAM", "ALTER TABLE shadow_instance_extra ENGINE=Aria"),
        (
            "shadow_instances is kept by MyISAM, which has no transactions: ALTER TABLE "
            "shadow_instances ENGINE=InnoDB",
            "shadow_instance_extra is kept by Aria, which has no transactions: "
            "ALTER TABLE shadow_instance_extra ENGINE=InnoDB",
        ),
        "{0}; left: instances; {1}; left: instance_extra",
    ),
    "the table's own engine": (
        # A table with foreign keys cannot be altered, and one that InnoDB does not keep has none.
        ("CREATE TABLE was LIKE "
        "instance_faults", "DROP TABLE instance_faults", "ALTER TABLE was ENGINE=MyISAM",
         "RENAME TABLE was TO "
         "instance_faults", "INSERT INTO instance_faults (id, deleted, code) VALUES (1, 1, 500)"),
        ("instance_faults is kept by MyISAM, which has no transactions: ALTER TABLE "
        "instance_faults ENGINE=InnoDB",),
        "{0}; left: instance_faults",
    ),
    "column": (
        ("ALTER TABLE shadow_instances ADD archived_at timestamp NOT NULL DEFAULT "
        "CURRENT_TIMESTAMP",
         "ALTER TABLE shadow_instance_extra ADD archived_by varchar(20) NOT NULL"),
        ("shadow_instance_extra takes no row of instance_extra, which lacks its columns "
        "archived_by: give them a "
         "default",),
        "{0}; left: instances, instance_extra",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_cannot_be_archived_is_named_by_archive_and_check_and_the_others_are_archived(
    realcloud: RealCloud, config: Path, case: str
) -> None:
    """Nothing of its trees is copied."""
    changes, problems, words = REFUSED[case]
    for change in changes:
        realcloud.rows(CELL1, change)
    left = [name for name in ("instances", "instance_extra", "instance_faults") if name in words]
    before = {
        name: state
        for name, state in realcloud.states()[CELL1].items()
        if name.removeprefix("shadow_") in left
    }
    line = (
        f"cell1 ({realcloud.server.url('').rpartition('@')[2]}{CELL1}): {words.format(*problems)}"
    )

    found = call("check -f json", config=config)
    assert found.code == 1
    details = [
        finding["detail"] for finding in found.document["findings"]
        if (finding["where"], finding["verdict"]) == ("cell1", "failed")
    ]  # fmt: skip
    assert details == ["; ".join(problems)]

    looked = call(f"{ARCHIVE} --dry-run -f json", config=config)
    waiting = looked.document["cells"][1]["waiting"]
    counted = sum(table["rows"] for table in waiting.values())
    assert (looked.code, looked.line) == (255, f"{line} ({counted} rows were counted before)")
    assert waiting.keys().isdisjoint(left)

    archived = call(f"{ARCHIVE} --purge -f json", config=config)
    assert archived.code == 255
    cell = archived.document["cells"][1]
    assert archived.line == f"{line} ({sum(cell['archived'].values())} rows were archived before)"
    assert cell["archived"]["services" if "instances" in left else "instances"] > 0
    assert [other["state"] for other in archived.document["cells"]] == [
        "complete",
        "failed",
        "complete",
        "complete",
    ]
    assert {name: realcloud.states()[CELL1][name] for name in before} == before


def test_check_names_tables_of_the_api_database_that_have_no_transactions(
    realcloud: RealCloud, config: Path
) -> None:
    realcloud.rows(API, "ALTER TABLE request_specs ENGINE=MyISAM")
    ended = call("check -f json", config=config)
    assert ended.code == 1
    assert [
        finding["detail"]
        for finding in ended.document["findings"]
        if finding["verdict"] == "failed"
    ] == [
        "request_specs is kept by MyISAM, which has no transactions: ALTER TABLE request_specs "
        "ENGINE=InnoDB"
    ]
