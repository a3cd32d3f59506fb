"""The migrations: revision by revision what the stock tool makes, from wherever a database stands,
and never alone.
"""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Engine, event, text

from jobs.schema import upgrade as upgrade_patiently
from novadb.engine import Database
from novadb.errors import MissingDatabase, UnsuitableSchema
from novadb.migrations import changes
from novadb.migrations.progress import UpgradeStopped
from novadb.migrations.upgrade import (
    API_SCHEMA,
    MAIN_SCHEMA,
    Schema,
    UpgradeRefused,
    UpgradeResult,
    WrongSchema,
    read_version,
    upgrade_schema,
)
from settings.databases import Timeouts
from tests.support.schemas import Description, describe, recorded_on
from tests.support.services import MariaDB

NAME: Final = "migrated"
SCHEMAS: Final = pytest.mark.parametrize("schema", [MAIN_SCHEMA, API_SCHEMA], ids=["main", "api"])
ENGINES: Final = pytest.mark.parametrize("engine", ["server", "sqlite"])
BEFORE_THE_NEWEST: Final = "2903cd72dc14"
BEFORE_SHARES: Final = "1acf2c98e646"
# Upgrades a database given by its URL in another process, as another host would: it knows nothing
# of this one's locks.
ELSEWHERE: Final = """
import sys
from jobs.schema import upgrade
from novadb.engine import Database
from novadb.migrations.upgrade import MAIN_SCHEMA
from settings.databases import Timeouts
upgrade(Database(sys.argv[1], "the same", Timeouts()), MAIN_SCHEMA, "head")
"""


@pytest.fixture
def empty(mariadb: MariaDB) -> Iterator[Database]:
    """An empty database on MariaDB, of the character set that servers have by default."""
    mariadb.drop(NAME)
    mariadb.execute(f"CREATE DATABASE {NAME} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
    yield Database(mariadb.url(NAME), "cell1", Timeouts())
    mariadb.drop(NAME)


@pytest.fixture
def fresh(request: pytest.FixtureRequest, engine: str, tmp_path: Path) -> Database:
    """An empty database of an engine; that of SQLite is not even a file."""
    if engine == "sqlite":
        return Database(f"sqlite:///{tmp_path}/with %s.db", "cell1", Timeouts())
    database: Database = request.getfixturevalue("empty")
    return database


def described(database: Database) -> Description:
    """What a database says of its tables, as a thing of JSON."""
    with database.connect() as connection:
        return comparable(json.loads(json.dumps(describe(connection))))


def at_head(database: Database, schema: Schema) -> Description:
    """What the stock tool makes of an empty database on this server."""
    with database.connect() as connection:
        return comparable(recorded_on(connection, schema.name)[schema.revisions[-1]])


def comparable(description: Description) -> Description:
    """A description without the columns of a table that is never used, which are of another
    collation (SCH-10).
    """
    unused = "shadow_alembic_version"
    return {
        table: {
            aspect: facts
            for aspect, facts in aspects.items()
            if (table, aspect) != (unused, "columns")
        }
        for table, aspects in description.items()
    }


def execute(database: Database, *statements: str) -> None:
    with database.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
        connection.commit()


def rows(database: Database, query: str) -> list[Any]:
    with database.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def elsewhere(database: Database) -> "subprocess.Popen[bytes]":
    """Somebody else who upgrades the database."""
    return subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE, database.url.render_as_string(hide_password=False)]
    )


def after(changes: int) -> Callable[[], bool]:
    """Stops a migration after so many changes."""
    numbers = count()
    return lambda: next(numbers) >= changes


@SCHEMAS
@ENGINES
def test_each_revision_is_what_the_stock_tool_makes_of_it(fresh: Database, schema: Schema) -> None:
    before = None
    for revision in schema.revisions:
        assert upgrade_schema(fresh, schema, revision) == UpgradeResult(before, revision)
        with fresh.connect() as connection:
            made = recorded_on(connection, schema.name)
        assert list(made) == schema.revisions
        found, wanted = described(fresh), comparable(made[revision])
        assert found.keys() == wanted.keys()
        for table in wanted:
            assert found[table] == wanted[table], (revision, table)
        assert read_version(fresh) == revision
        before = revision


@ENGINES
def test_from_nothing_to_the_head_at_once(fresh: Database) -> None:
    assert upgrade_schema(fresh, MAIN_SCHEMA, "head") == UpgradeResult(
        None, MAIN_SCHEMA.revisions[-1]
    )
    assert described(fresh) == at_head(fresh, MAIN_SCHEMA)


def test_without_a_revision_it_goes_to_the_newest(empty: Database) -> None:
    assert upgrade_schema(empty, MAIN_SCHEMA, BEFORE_THE_NEWEST).after == BEFORE_THE_NEWEST
    assert upgrade_schema(empty) == UpgradeResult(BEFORE_THE_NEWEST, "ab450ba04102")
    assert upgrade_schema(empty) == UpgradeResult("ab450ba04102", "ab450ba04102")


@ENGINES
def test_a_migration_that_is_stopped_again_and_again_comes_to_the_same_end(
    fresh: Database, engine: str
) -> None:
    for step in (1, 60, 50, 3, 2, 1, 3):
        # SQLite takes a revision back that is stopped in the middle.
        with pytest.raises(UpgradeStopped):
            upgrade_schema(fresh, MAIN_SCHEMA, "head", stopped=after(step))
        if engine == "sqlite":
            break
    upgrade_schema(fresh, MAIN_SCHEMA, "head")
    assert described(fresh) == at_head(fresh, MAIN_SCHEMA)


def test_a_run_after_an_interruption_says_where_it_goes_on(empty: Database) -> None:
    with pytest.raises(UpgradeStopped):
        upgrade_schema(empty, stopped=after(40))
    told: list[str] = []
    upgrade_schema(empty, MAIN_SCHEMA, "16f1fbcab42b", tell=told.append)
    assert told[:2] == [
        "at no revision; revisions to go: 2, up to 16f1fbcab42b (Nova 25)",
        "changes of this revision that were made before: 39; going on from there",
    ]
    assert [line.partition(":")[0] for line in told[2:]] == MAIN_SCHEMA.revisions[:2]


def test_indexes_that_the_stock_tool_had_not_come_to_are_made(empty: Database) -> None:
    """It makes a table first and its indexes after it."""
    with pytest.raises(UpgradeStopped):
        upgrade_schema(empty, stopped=after(109))
    execute(
        empty, "DROP INDEX reservations_uuid_idx ON reservations", "DROP INDEX uuid ON instances"
    )
    upgrade_schema(empty, MAIN_SCHEMA, "head")
    assert described(empty) == at_head(empty, MAIN_SCHEMA)


def test_a_table_of_somebody_else_ends_it(empty: Database) -> None:
    execute(empty, "CREATE TABLE services (id INTEGER PRIMARY KEY, host TEXT)")
    with pytest.raises(
        UnsuitableSchema,
        match="a table services already, and it is not Nova's: it has no created_at",
    ):
        upgrade_schema(empty)


def test_two_at_once_come_to_the_same_end(empty: Database) -> None:
    together = [elsewhere(empty) for _ in range(2)]
    assert [process.wait() for process in together] == [0, 0]
    assert described(empty) == at_head(empty, MAIN_SCHEMA)
    assert rows(empty, "SELECT version_num FROM alembic_version") == [(MAIN_SCHEMA.revisions[-1],)]


def test_who_is_overtaken_undoes_nothing(empty: Database) -> None:
    """The other one goes through all revisions before this one makes its next change."""
    numbers = count(1)

    def let_another_through() -> bool:
        if next(numbers) == 113:
            assert elsewhere(empty).wait() == 0
        return False

    assert (
        upgrade_schema(empty, MAIN_SCHEMA, "head", stopped=let_another_through).after
        == MAIN_SCHEMA.revisions[-1]
    )
    assert described(empty) == at_head(empty, MAIN_SCHEMA)
    assert rows(empty, "SELECT version_num FROM alembic_version") == [(MAIN_SCHEMA.revisions[-1],)]


@pytest.mark.parametrize("words", ["INSERT INTO alembic_version", "UPDATE alembic_version"])
def test_a_revision_that_is_behind_is_not_written_beside_a_later_one(
    empty: Database, words: str
) -> None:
    pending = [words]

    def let_another_through(_link: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if pending and statement.startswith(pending[0]):
            pending.clear()
            assert elsewhere(empty).wait() == 0

    event.listen(Engine, "before_cursor_execute", let_another_through)
    try:
        assert upgrade_schema(empty).after == MAIN_SCHEMA.revisions[-1]
    finally:
        event.remove(Engine, "before_cursor_execute", let_another_through)
    assert not pending
    assert described(empty) == at_head(empty, MAIN_SCHEMA)
    assert rows(empty, "SELECT version_num FROM alembic_version") == [(MAIN_SCHEMA.revisions[-1],)]


# Those of Train, Wallaby, and the last, which Xena's tool puts on its way to alembic.
@pytest.mark.parametrize(
    ("schema", "number"),
    [
        (MAIN_SCHEMA, 402),
        (MAIN_SCHEMA, 417),
        (MAIN_SCHEMA, 422),
        (API_SCHEMA, 67),
        (API_SCHEMA, 82),
        (API_SCHEMA, 87),
    ],
)
def test_a_database_of_sqlalchemy_migrate_is_taken_over(
    empty: Database, schema: Schema, number: int
) -> None:
    under_migrate(empty, schema, number)
    assert read_version(empty, schema) == str(number)
    lines: list[str] = []
    assert upgrade_schema(empty, schema, tell=lines.append) == UpgradeResult(
        str(number), schema.revisions[-1]
    )
    assert (
        lines[0]
        == f"version {number} of sqlalchemy-migrate, which is taken for revision {schema.initial}"
    )
    found, wanted = described(empty), at_head(empty, schema)
    # The version table is of the database's own character set, which was another one by then.
    assert (
        found.pop("alembic_version")["constraints"] == wanted.pop("alembic_version")["constraints"]
    )
    assert found == wanted


def test_a_number_of_revisions_counts_from_the_one_that_a_version_is_taken_for(
    empty: Database,
) -> None:
    under_migrate(empty, MAIN_SCHEMA, 417)
    assert upgrade_schema(empty, MAIN_SCHEMA, "+1") == UpgradeResult("417", "16f1fbcab42b")


@pytest.mark.parametrize(
    ("schema", "number", "words"),
    [
        (
            MAIN_SCHEMA,
            391,
            "from before release 20 .*: upgrade it with nova-manage of release 20, 21 or 22",
        ),
        (
            API_SCHEMA,
            61,
            "from before release 20 .*: upgrade it with nova-manage of release 20, 21 or 22",
        ),
        (
            MAIN_SCHEMA,
            401,
            "was interrupted. If no data is in it yet, make it anew, as an empty database",
        ),
        (
            API_SCHEMA,
            66,
            "was interrupted. If no data is in it yet, make it anew, as an empty database",
        ),
    ],
)
def test_one_from_before_train_is_refused_with_a_tool_that_can_upgrade_it(
    empty: Database, schema: Schema, number: int, words: str
) -> None:
    under_migrate(empty, schema, number)
    before = described(empty)
    with pytest.raises(
        UpgradeRefused, match=f"is at version {number} of sqlalchemy-migrate, .*{words}"
    ):
        upgrade_schema(empty, schema)
    assert described(empty) == before


@pytest.mark.parametrize(
    ("its", "meant", "number"),
    [(MAIN_SCHEMA, API_SCHEMA, 417), (API_SCHEMA, MAIN_SCHEMA, 82), (API_SCHEMA, MAIN_SCHEMA, 402)],
)
def test_a_database_of_sqlalchemy_migrate_that_has_the_other_schema_is_left_alone(
    empty: Database, its: Schema, meant: Schema, number: int
) -> None:
    """The numbers alone do not tell: 417 of the main schema is later than 67 of the other."""
    under_migrate(empty, its, number)
    before = described(empty)
    with pytest.raises(
        WrongSchema, match="is of the other schema: see whether connection in section"
    ):
        upgrade_schema(empty, meant)
    assert described(empty) == before
    assert read_version(empty, meant) is None


def test_a_database_of_another_project_is_left_alone(empty: Database) -> None:
    under_migrate(empty, MAIN_SCHEMA, 145, repository="cinder")
    with pytest.raises(
        UpgradeRefused, match="is not Nova's: its table migrate_version names cinder"
    ):
        upgrade_schema(empty)


def under_migrate(database: Database, schema: Schema, number: int, repository: str = "") -> None:
    """Leave the database as sqlalchemy-migrate did."""
    upgrade_schema(database, schema, schema.initial)
    execute(
        database,
        "DROP TABLE alembic_version",
        "CREATE TABLE migrate_version (repository_id VARCHAR(250) NOT NULL PRIMARY KEY, "
        "repository_path TEXT, "
        "version INTEGER)",
        f"INSERT INTO migrate_version VALUES ('{repository or schema.legacy.name}', "
        f"'/migrate_repo', {number})",
    )


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (
            "8f2f1571d55b",
            "is at revision 1acf2c98e646, later than 8f2f1571d55b: there are no downgrades",
        ),
        ("base", "There is no revision base"),
        ("-1", "There is no revision -1"),
        ("+5", "There is no revision \\+5"),
        ("+0", "There is no revision \\+0"),
        ("402", "402 is a version of sqlalchemy-migrate"),
        ("0123456789ab", "There is no revision 0123456789ab; there are 8f2f1571d55b, 16f1fbcab42b"),
        ("1", "1 is a version of sqlalchemy-migrate"),
        ("nonsense", "There is no revision nonsense"),
    ],
)
def test_what_cannot_be_done_is_refused(empty: Database, wanted: str, words: str) -> None:
    upgrade_schema(empty, MAIN_SCHEMA, "1acf2c98e646")
    with pytest.raises(UpgradeRefused, match=words):
        upgrade_schema(empty, MAIN_SCHEMA, wanted)
    assert read_version(empty) == "1acf2c98e646"


def test_a_database_of_a_newer_release_is_left_alone(empty: Database) -> None:
    upgrade_schema(empty, API_SCHEMA, API_SCHEMA.initial)
    execute(empty, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(
        UpgradeRefused,
        match="is at revision ffffffffffff, which this version of cellkeeper does not know",
    ):
        upgrade_schema(empty, API_SCHEMA)


def test_a_database_of_the_other_schema_is_left_alone(empty: Database) -> None:
    upgrade_schema(empty, API_SCHEMA)
    with pytest.raises(
        UpgradeRefused, match="is of the other schema: see whether connection in section"
    ):
        upgrade_schema(empty, MAIN_SCHEMA)


def test_a_version_table_with_two_rows_is_named(empty: Database) -> None:
    upgrade_schema(empty, API_SCHEMA)
    execute(empty, "INSERT INTO alembic_version VALUES ('d67eeaabee36')")
    with pytest.raises(
        UnsuitableSchema, match="alembic_version has the rows cdeec0c85668, d67eeaabee36"
    ):
        read_version(empty)


def test_the_database_itself_is_not_made(mariadb: MariaDB) -> None:
    mariadb.drop("nowhere")
    with pytest.raises(
        MissingDatabase, match="let an administrator create it first, as in CREATE DATABASE nowhere"
    ):
        upgrade_patiently(
            Database(mariadb.url("nowhere"), "the API database", Timeouts()), API_SCHEMA
        )


def test_it_tells_which_tables_are_read_or_copied_and_how_many_rows_they_have(
    empty: Database, mariadb: MariaDB
) -> None:
    upgrade_schema(empty, MAIN_SCHEMA, MAIN_SCHEMA.initial)
    execute(
        empty,
        "INSERT INTO shadow_instance_type_extra_specs (id, instance_type_id) VALUES (1, 1), (2, 1)",
    )
    mariadb.execute("INSERT INTO migrations (deleted) SELECT 0 FROM seq_1_to_1234", NAME)
    told: list[str] = []
    upgrade_schema(empty, MAIN_SCHEMA, "1acf2c98e646", tell=told.append)
    assert [line for line in told if "rows" in line] == [
        "shadow_instance_type_extra_specs: 2 rows are copied; they cannot be changed meanwhile",
        "migrations: 1,234 rows are read for migrations_dest_compute_id_deleted_idx; they can be "
        "changed meanwhile",
    ]


def test_of_a_large_table_the_rows_are_estimated(
    empty: Database, mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_COUNTED_ROWS", 100)
    upgrade_schema(empty, MAIN_SCHEMA, BEFORE_THE_NEWEST)
    mariadb.execute("INSERT INTO migrations (deleted) SELECT 0 FROM seq_1_to_1200", NAME)
    mariadb.execute("ANALYZE TABLE migrations", NAME)
    told: list[str] = []
    upgrade_schema(empty, MAIN_SCHEMA, "head", tell=told.append)
    (line,) = {line.partition(" are read")[0] for line in told if "are read" in line}
    assert line.startswith("migrations: about 1")


def test_shares_outlive_the_revision_that_allows_each_but_once(empty: Database) -> None:
    upgrade_schema(empty, MAIN_SCHEMA, "13863f4e1612")
    execute(
        empty,
        "INSERT INTO instances (uuid) VALUES ('one')",
        "INSERT INTO share_mapping (instance_uuid, share_id, tag) VALUES ('one', 's1', 'a'), "
        "('one', 's2', 'a')",
    )
    with pytest.raises(
        UnsuitableSchema, match="share_mapping has rows that are the same in instance_uuid and tag"
    ):
        upgrade_schema(empty)
    execute(empty, "UPDATE share_mapping SET tag = 'b' WHERE share_id = 's2'")
    upgrade_schema(empty, MAIN_SCHEMA, "head")
    assert rows(empty, "SELECT share_id, tag FROM share_mapping ORDER BY id") == [
        ("s1", "a"),
        ("s2", "b"),
    ]
    assert described(empty) == at_head(empty, MAIN_SCHEMA)


@pytest.mark.parametrize("collation", ["utf8mb3_unicode_ci", "utf8mb4_unicode_ci"])
def test_a_table_that_comes_later_is_collated_like_the_one_that_it_refers_to(
    empty: Database, collation: str
) -> None:
    """The cloud was made on a server with other defaults, as those of MariaDB were before 11.5."""
    upgrade_schema(empty, MAIN_SCHEMA, BEFORE_SHARES)
    for table, key in rows(
        empty,
        "SELECT table_name, constraint_name FROM information_schema.referential_constraints "
        "WHERE constraint_schema = DATABASE() AND referenced_table_name = 'instances'",
    ):
        execute(empty, f"ALTER TABLE {table} DROP FOREIGN KEY {key}")
    charset, _, _ = collation.partition("_")
    execute(empty, f"ALTER TABLE instances CONVERT TO CHARACTER SET {charset} COLLATE {collation}")
    upgrade_schema(empty, MAIN_SCHEMA, "head")
    found = described(empty)["share_mapping"]
    assert [facts[1] for facts in found["options"]] == [collation]
    assert {facts[5] for facts in found["columns"]} == {None, collation}
    # It is as on any other server otherwise.
    assert found["indexes"] == at_head(empty, MAIN_SCHEMA)["share_mapping"]["indexes"]
    assert found["foreign keys"] == at_head(empty, MAIN_SCHEMA)["share_mapping"]["foreign keys"]


def test_rows_of_a_table_that_sqlite_must_copy_stay(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/api.db", "the API database", Timeouts())
    upgrade_schema(database, API_SCHEMA, API_SCHEMA.initial)
    execute(database, "INSERT INTO build_requests (project_id, instance_uuid) VALUES ('p', 'u')")
    upgrade_schema(database, API_SCHEMA)
    assert rows(database, "SELECT project_id, instance_uuid FROM build_requests") == [("p", "u")]
    with closing(sqlite3.connect(tmp_path / "api.db")) as link:
        assert link.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_table_that_is_in_use_is_waited_for(empty: Database, mariadb: MariaDB) -> None:
    """A transaction that has read it holds it. The wait ends, lest all others queue up behind it,
    and begins anew.
    """
    upgrade_schema(empty, MAIN_SCHEMA, BEFORE_THE_NEWEST)
    brief = empty.with_timeouts(Timeouts(lock_wait=1))
    with closing(mariadb.connect(NAME, autocommit=False)) as reader:
        reader.query("SELECT * FROM migrations")
        tries = count(1)

        def let_go_the_second_time(line: str) -> None:
            if line.startswith("at ") and next(tries) == 2:
                reader.rollback()

        upgrade_patiently(brief, MAIN_SCHEMA, "head", tell=let_go_the_second_time)
    assert next(tries) == 3
    assert described(empty) == at_head(empty, MAIN_SCHEMA)
