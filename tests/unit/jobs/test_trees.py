"""Trees of rows, on tiny schemas: what hangs on what, what moves together, and what cannot move."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Connection, create_engine, select
from sqlalchemy.pool import NullPool

from demo.rows import empty_database, url_of
from jobs.action import Limits, Target
from jobs.db import archive_deleted_rows
from jobs.db.archive_deleted_rows import Archived, Params
from jobs.db.tree_queue import TreeQueue
from jobs.db.trees import RETIRED, Forest, count_rows, read_forest
from novadb import catalogue
from novadb.cells import Cell
from novadb.engine import Database
from novadb.errors import DatabaseProblem
from novadb.migrations.upgrade import MAIN_SCHEMA
from settings.databases import Timeouts
from tests.support import forest as facts

# What archive needs of the API database to repair; here it is a table of the same file.
API_TABLE: Final = (
    "CREATE TABLE instance_mappings (id INTEGER PRIMARY KEY, instance_uuid, "
    "cell_id, queued_for_delete)"
)


class Tiny:
    """A database of a few small tables.

    :ivar file: it holds them
    """

    def __init__(self, folder: Path, tables: dict[str, str], *more: str) -> None:
        """:param tables: by name, what each has besides ``id`` and ``deleted``. Each gets a shadow
        table
        :param more: statements that make what else there is
        """
        self.file = folder / "tiny.db"
        with closing(sqlite3.connect(self.file)) as link:
            for name, columns in tables.items():
                names = [column.split()[0] for column in columns.split(", ") if column]
                own, bare = ((f", {text}" if text else "") for text in (columns, ", ".join(names)))
                link.execute(
                    f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, deleted INTEGER DEFAULT 0{own})"
                )
                link.execute(
                    f"CREATE TABLE shadow_{name} (id INTEGER PRIMARY KEY, deleted INTEGER{bare})"
                )
            for statement in (API_TABLE, *more):
                link.execute(statement)
            link.commit()

    @property
    def database(self) -> Database:
        return Database(f"sqlite:///{self.file}", "tiny", Timeouts(lock_wait=1))

    def insert(self, table: str, columns: str, *rows: Sequence[Any]) -> None:
        """Insert rows, each as a sequence of values, the first of them its id."""
        with closing(sqlite3.connect(self.file)) as link:
            link.executemany(
                f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(rows[0]))})", rows
            )
            link.commit()

    def ids(self, table: str) -> list[int]:
        with closing(sqlite3.connect(self.file)) as link:
            return [number for (number,) in link.execute(f"SELECT id FROM {table} ORDER BY id")]

    def moved(self, *tables: str) -> dict[str, list[int]]:
        """What is in the shadow tables. What is there is nowhere else, and the foreign keys
        hold.
        """
        found = {table: self.ids(f"shadow_{table}") for table in tables}
        assert not any(set(self.ids(table)) & set(ids) for table, ids in found.items())
        with closing(sqlite3.connect(self.file)) as link:
            assert link.execute("PRAGMA foreign_key_check").fetchall() == []
        return {table: ids for table, ids in found.items() if ids}

    @contextmanager
    def forest(self) -> Iterator[tuple[Connection, Forest]]:
        with self.database.connect() as connection:
            forest = Forest(catalogue.read_catalogue(connection))
            connection.rollback()
            yield connection, forest

    @contextmanager
    def queue(self, *, after: int = 0, page: int = 10) -> Iterator[TreeQueue]:
        """The deleted rows of ``parents`` with their trees."""
        with self.forest() as (connection, forest):
            root = forest.tree("parents")
            due = root.live.c.deleted != 0
            with TreeQueue(
                self.target(100), connection, root, due, after=after, page=page
            ) as queue:
                yield queue

    def target(self, ceiling: int) -> Target:
        return Target(Cell.unmapped(self.database), self.database, Limits(tree_ceiling=ceiling))

    def archive(self, *, ceiling: int = 1000, **params: Any) -> Archived:
        """Archive it until nothing is left to move."""
        steps = archive_deleted_rows.work(
            self.target(ceiling), Params(until_complete=True, **params), None
        )
        return reduce(add, (step.outcome for step in steps), Archived())


GROUPS: Final = {
    "security_groups": "",
    "security_group_rules": (
        "parent_group_id REFERENCES security_groups (id), group_id REFERENCES security_groups (id)"
    ),
}
DIAMOND: Final = {
    "tops": "",
    "lefts": "top_id REFERENCES tops (id)",
    "rights": "top_id REFERENCES tops (id)",
    "bottoms": "left_id REFERENCES lefts (id), right_id REFERENCES rights (id)",
}


def test_the_roots_stand_in_the_order_of_the_stock_tool(tmp_path: Path) -> None:
    file = tmp_path / "cell.db"
    file.write_bytes(empty_database(MAIN_SCHEMA))
    with create_engine(url_of(file), poolclass=NullPool).connect() as connection:
        assert Forest(catalogue.read_catalogue(connection)).roots == list(facts.TABLES)


def test_cells_with_the_same_tables_share_a_forest(tmp_path: Path) -> None:
    tables = {"parents": "", "children": "parent_id REFERENCES parents (id)"}
    forests = []
    for name, more in (("cell1", ""), ("cell2", ""), ("cell3", ", note")):
        folder = tmp_path / name
        folder.mkdir()
        cell = Tiny(folder, tables | {"groups": f"name{more}"})
        with cell.database.connect() as connection:
            forests.append(read_forest(connection))
            assert read_forest(connection) is forests[-1]
    first, same, other = forests
    assert first is same
    assert other is not first
    assert (first.tree("groups").columns, other.tree("groups").columns) == (
        ("id", "deleted", "name"),
        ("id", "deleted", "name", "note"),
    )


@pytest.mark.parametrize("name", ["no_shadow", "no_id", "no_mark", "snapshots", "alembic_version"])
def test_a_table_without_all_that_archiving_needs_is_no_root(tmp_path: Path, name: str) -> None:
    columns = {"no_id": "uuid, deleted", "no_mark": "id", "alembic_version": "version_num"}.get(
        name, "id, deleted"
    )
    shadow = [] if name == "no_shadow" else [f"CREATE TABLE shadow_{name} ({columns})"]
    tiny = Tiny(tmp_path, {"services": ""}, f"CREATE TABLE {name} ({columns})", *shadow)
    with tiny.forest() as (_, forest):
        assert forest.roots == ["services"]


def test_a_row_that_names_one_parent_twice_moves_once(tmp_path: Path) -> None:
    """ARC-11"""
    tiny = Tiny(tmp_path, GROUPS)
    tiny.insert("security_groups", "id, deleted", (1, 1), (2, 0))
    tiny.insert(
        "security_group_rules",
        "id, parent_group_id, group_id",
        (1, 1, 1),
        (2, 1, 2),
        (3, 2, 1),
        (4, 2, 2),
    )
    outcome = tiny.archive()
    assert outcome.moved == {"security_groups": 1, "security_group_rules": 3}
    assert tiny.moved(*GROUPS) == {"security_groups": [1], "security_group_rules": [1, 2, 3]}


@pytest.mark.parametrize("max_rows", [1, 2, 1000])
def test_a_row_that_names_two_parents_moves_with_the_first_of_them(
    tmp_path: Path, max_rows: int
) -> None:
    tiny = Tiny(tmp_path, GROUPS)
    tiny.insert("security_groups", "id, deleted", (1, 1), (2, 2), (3, 0))
    tiny.insert(
        "security_group_rules",
        "id, parent_group_id, group_id",
        (1, 1, 2),
        (2, 2, 1),
        (3, 3, 3),
        (4, None, 2),
    )
    assert tiny.archive(max_rows=max_rows).moved == {
        "security_groups": 2,
        "security_group_rules": 3,
    }
    assert tiny.moved(*GROUPS) == {"security_groups": [1, 2], "security_group_rules": [1, 2, 4]}


def test_a_row_that_is_reached_on_two_ways_moves_once(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path, DIAMOND)
    tiny.insert("tops", "id, deleted", (1, 1), (2, 0))
    tiny.insert("lefts", "id, top_id", (1, 1), (2, 2))
    tiny.insert("rights", "id, top_id", (1, 1), (2, 2))
    tiny.insert(
        "bottoms",
        "id, left_id, right_id",
        (1, 1, 1),
        (2, 1, None),
        (3, None, 1),
        (4, 2, 2),
        (5, None, None),
    )
    assert tiny.archive().moved == {"tops": 1, "lefts": 1, "rights": 1, "bottoms": 3}
    assert tiny.moved(*DIAMOND) == {"tops": [1], "lefts": [1], "rights": [1], "bottoms": [1, 2, 3]}


def test_children_move_whatever_their_own_mark_and_not_without_their_parent(tmp_path: Path) -> None:
    tables = {"parents": "", "children": "parent_id REFERENCES parents (id)"}
    tiny = Tiny(tmp_path, tables)
    tiny.insert("parents", "id, deleted", (1, 1), (2, 0))
    tiny.insert(
        "children",
        "id, deleted, parent_id",
        (1, 0, 1),
        (2, 2, 1),
        (3, 0, 2),
        (4, 4, 2),
        (5, 0, None),
    )
    assert tiny.archive().moved == {"parents": 1, "children": 3}
    assert tiny.moved(*tables) == {"parents": [1], "children": [1, 2, 4]}


COLUMNS: Final = "id INTEGER PRIMARY KEY, deleted INTEGER, elder_id"
UNSUITABLE: Final = {
    "ALTER TABLE parents ADD COLUMN colour TEXT": (
        "shadow_parents lacks the columns colour of parents: run db sync on this database"
    ),
    f"CREATE TABLE shadow_parents ({COLUMNS}, archived_by TEXT NOT NULL)": (
        "shadow_parents takes no row of parents, which lacks its columns archived_by: give them a "
        "default"
    ),
}


@pytest.mark.parametrize("change", UNSUITABLE)
def test_a_shadow_table_that_can_take_no_row_is_named_and_the_other_tables_are_archived(
    tmp_path: Path, change: str
) -> None:
    """Its parents stay with it: a tree is never torn."""
    tables = {"elders": "", "parents": "elder_id REFERENCES elders (id)", "zebras": ""}
    replaced = ["DROP TABLE shadow_parents"] if change.startswith("CREATE") else []
    tiny = Tiny(tmp_path, tables, *replaced, change)
    for name in tables:
        tiny.insert(name, "id, deleted", (1, 1))
    with pytest.raises(DatabaseProblem) as caught:
        tiny.archive()
    assert str(caught.value) == f"{tiny.database}: {UNSUITABLE[change]}; left: elders, parents"
    assert tiny.moved(*tables) == {"zebras": [1]}


def test_a_table_that_the_database_lets_nobody_write_is_named_and_the_others_are_archived(
    tmp_path: Path,
) -> None:
    refusal = (
        "CREATE TRIGGER refuse BEFORE INSERT ON shadow_parents BEGIN SELECT nope FROM nowhere; END"
    )
    tiny = Tiny(tmp_path, {"parents": "", "zebras": ""}, refusal)
    for name in ("parents", "zebras"):
        tiny.insert(name, "id, deleted", (1, 1))
    with pytest.raises(DatabaseProblem) as caught:
        tiny.archive()
    assert str(caught.value) == f"{tiny.database}: no such table: main.nowhere; left: parents"
    assert tiny.moved("parents", "zebras") == {"zebras": [1]}


def test_a_successor_knows_which_tables_were_refused(tmp_path: Path) -> None:
    tiny = Tiny(
        tmp_path, {"parents": "", "zebras": ""}, "ALTER TABLE parents ADD COLUMN colour TEXT"
    )
    for name in ("parents", "zebras"):
        tiny.insert(name, "id, deleted", (1, 1))
    target = Target(Cell.unmapped(tiny.database), tiny.database)
    params = Params(until_complete=True)
    first = next(archive_deleted_rows.work(target, params, None))
    successor = archive_deleted_rows.work(target, params, json.loads(json.dumps(first.cursor)))
    with pytest.raises(DatabaseProblem, match=r"left: parents$"):
        list(successor)
    assert tiny.moved("parents", "zebras") == {"zebras": [1]}


def test_a_shadow_table_with_a_column_more_takes_the_rows(tmp_path: Path) -> None:
    tiny = Tiny(
        tmp_path,
        {"parents": "name"},
        "ALTER TABLE shadow_parents ADD COLUMN archived_at TEXT DEFAULT 'now'",
    )
    tiny.insert("parents", "id, deleted, name", (1, 1, "one"))
    assert tiny.archive().moved == {"parents": 1}
    with closing(sqlite3.connect(tiny.file)) as link:
        assert link.execute("SELECT id, deleted, name FROM shadow_parents").fetchall() == [
            (1, 1, "one")
        ]


def test_columns_in_another_order_keep_their_values(tmp_path: Path) -> None:
    tiny = Tiny(
        tmp_path,
        {},
        'CREATE TABLE parents (id INTEGER PRIMARY KEY, deleted INTEGER, name TEXT, "order" TEXT)',
        'CREATE TABLE shadow_parents ("order" TEXT, name TEXT, deleted INTEGER, id INTEGER PRIMARY KEY)',
    )
    tiny.insert("parents", 'id, deleted, name, "order"', (7, 7, "a name", "an order"))
    assert tiny.archive().moved == {"parents": 1}
    with closing(sqlite3.connect(tiny.file)) as link:
        assert link.execute('SELECT id, deleted, name, "order" FROM shadow_parents').fetchall() == [
            (7, 7, "a name", "an order")
        ]


CYCLE: Final = {"hens": "egg_id REFERENCES eggs (id)", "eggs": "hen_id REFERENCES hens (id)"}


def test_a_circle_of_foreign_keys_is_left_and_comes_to_an_end(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path, CYCLE)
    tiny.insert("hens", "id, deleted, egg_id", (1, 1, 1), (2, 2, None), (3, 3, None))
    tiny.insert("eggs", "id, deleted, hen_id", (1, 0, 1), (2, 0, 2), (3, 3, None))
    outcome = tiny.archive()
    assert tiny.moved(*CYCLE) == {"hens": [2, 3], "eggs": [2, 3]}
    assert [(blocked.table, blocked.id) for blocked in outcome.blocked] == [("hens", 1)]


def test_a_circle_of_three_tables_comes_to_an_end(tmp_path: Path) -> None:
    tables = {
        "papers": "stone_id REFERENCES stones (id)",
        "stones": "scissors_id REFERENCES scissors (id)",
        "scissors": "paper_id REFERENCES papers (id)",
    }
    tiny = Tiny(tmp_path, tables)
    for name, other in (
        ("papers", "stone_id"),
        ("stones", "scissors_id"),
        ("scissors", "paper_id"),
    ):
        tiny.insert(name, f"id, deleted, {other}", (1, 1, 1), (2, 2, None), (3, 0, None))
    outcome = tiny.archive()
    assert tiny.moved(*tables) == {"papers": [2], "stones": [2], "scissors": [2]}
    assert outcome.moved == {"papers": 1, "stones": 1, "scissors": 1}


def test_a_table_that_refers_to_itself_is_moved_where_it_can_be(tmp_path: Path) -> None:
    tables = {"folders": "inside_of REFERENCES folders (id)"}
    tiny = Tiny(tmp_path, tables)
    tiny.insert(
        "folders",
        "id, deleted, inside_of",
        (1, 1, None),
        (2, 2, 1),
        (3, 3, None),
        (4, 0, 3),
        (5, 5, 5),
    )
    outcome = tiny.archive()
    assert tiny.moved(*tables) == {"folders": [1, 2, 5]}
    assert [(blocked.table, blocked.id) for blocked in outcome.blocked] == [("folders", 3)]


@pytest.mark.parametrize(
    ("referrer", "why"),
    [
        pytest.param("share_mapping", "it has no shadow table", id="no shadow table"),
        pytest.param("consoles", "its model is gone", id="retired"),
    ],
)
def test_what_a_row_that_stays_refers_to_stays_whole_while_all_else_moves(
    tmp_path: Path, referrer: str, why: str
) -> None:
    """ARC-7, ARC-9"""
    tables = {"parents": "", "children": "parent_id REFERENCES parents (id)"}
    tiny = Tiny(
        tmp_path,
        tables,
        f"CREATE TABLE {referrer} (id INTEGER PRIMARY KEY, deleted INTEGER, child_id REFERENCES "
        "children (id))",
        "CREATE TABLE shadow_consoles (id INTEGER PRIMARY KEY, deleted INTEGER, child_id INTEGER)",
    )
    tiny.insert("parents", "id, deleted", *((number, number) for number in range(1, 6)))
    tiny.insert("children", "id, deleted, parent_id", *((10 * n, 10 * n, n) for n in range(1, 6)))
    tiny.insert(referrer, "id, child_id", (1, 30), (2, 30), (3, None))
    outcome = tiny.archive()
    assert tiny.moved(*tables) == {"parents": [1, 2, 4, 5], "children": [10, 20, 40, 50]}, why
    assert outcome.moved == {"parents": 4, "children": 4}
    (blocked,) = outcome.blocked
    assert (blocked.table, blocked.id) == ("parents", 3)
    assert blocked.reason.startswith(f"2 in {referrer} (child_id 30) still refer to it")
    assert tiny.archive().rows == 0


def test_hundreds_of_blocked_trees_do_not_hide_those_behind_them(tmp_path: Path) -> None:
    tables = {"parents": ""}
    tiny = Tiny(
        tmp_path,
        tables,
        "CREATE TABLE shares (id INTEGER PRIMARY KEY, parent_id REFERENCES parents (id))",
    )
    tiny.insert("parents", "id, deleted", *((number, number) for number in range(1, 602)))
    tiny.insert("shares", "id, parent_id", *((number, number) for number in range(1, 601)))
    outcome = tiny.archive(max_rows=10)
    assert tiny.moved(*tables) == {"parents": [601]}
    assert outcome.blocked_count == 600


def test_retired_tables_are_never_moved(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path, {"services": "", **dict.fromkeys(sorted(RETIRED), "")})
    for name in ("services", *RETIRED):
        tiny.insert(name, "id, deleted", (1, 1))
    assert tiny.archive().moved == {"services": 1}


SHADOWED: Final = {"parents": "name", "children": "name, parent_id REFERENCES parents (id)"}


@pytest.fixture
def shadowed(tmp_path: Path) -> Tiny:
    """Three trees, of the first of which the child's id is in the shadow table already."""
    tiny = Tiny(tmp_path, SHADOWED)
    tiny.insert("parents", "id, deleted, name", (1, 1, "a"), (2, 2, "b"), (3, 3, "c"))
    tiny.insert("children", "id, deleted, name, parent_id", (10, 10, "x", 1), (20, 20, "y", 2))
    return tiny


@pytest.mark.parametrize(
    ("repair", "twin", "moved", "reason"),
    [
        pytest.param(
            False, (10, 10, "x", 1), [2, 3], "run the command with --repair", id="identical"
        ),
        pytest.param(
            False, (10, 10, "other", 1), [2, 3], "run the command with --repair", id="different"
        ),
        pytest.param(True, (10, 10, "x", 1), [1, 2, 3], None, id="identical, repair"),
        pytest.param(
            True,
            (10, 10, "other", 1),
            [2, 3],
            "it differs from the live one",
            id="different, repair",
        ),
        pytest.param(
            True,
            (10, 10, None, 1),
            [2, 3],
            "it differs from the live one",
            id="different by NULL, repair",
        ),
    ],
)
def test_a_row_that_is_in_the_shadow_table_already(
    shadowed: Tiny, repair: bool, twin: tuple[Any, ...], moved: list[int], reason: str | None
) -> None:
    """ARC-8"""
    shadowed.insert("shadow_children", "id, deleted, name, parent_id", twin)
    outcome = shadowed.archive(repair=repair)
    assert shadowed.ids("shadow_parents") == moved
    assert shadowed.ids("parents") == [number for number in (1, 2, 3) if number not in moved]
    assert shadowed.ids("shadow_children") == [10, 20]
    assert shadowed.ids("children") == ([] if 1 in moved else [10])
    if reason:
        (blocked,) = outcome.blocked
        assert (blocked.table, blocked.id) == ("parents", 1)
        assert blocked.reason.startswith("shadow_children already has a row with id 10; ")
        assert reason in blocked.reason
        assert not any(outcome.repaired.values())
    else:
        assert outcome.blocked == ()
        assert outcome.repaired == {"shadow_children": 1}
        assert outcome.moved == {"parents": 3, "children": 2}


def test_what_the_database_refuses_for_a_reason_of_its_own_costs_one_tree(shadowed: Tiny) -> None:
    with closing(sqlite3.connect(shadowed.file)) as link:
        link.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON shadow_parents WHEN NEW.name = 'b' "
            "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )
    outcome = shadowed.archive()
    assert shadowed.moved(*SHADOWED) == {"parents": [1, 3], "children": [10]}
    (blocked,) = outcome.blocked
    assert (blocked.table, blocked.id) == ("parents", 2)
    assert "not this one" in blocked.reason


def trees(folder: Path, sizes: Iterable[int]) -> Tiny:
    """Trees of so many rows, their roots with the ids 1, 2, 3, ..."""
    tiny = Tiny(folder, {"parents": "", "children": "parent_id REFERENCES parents (id)"})
    roots = list(enumerate(sizes, 1))
    tiny.insert("parents", "id, deleted", *((number, number) for number, _ in roots))
    owners = [(parent,) for parent, size in roots for _ in range(size - 1)]
    if owners:
        tiny.insert("children", "parent_id", *owners)
    return tiny


@pytest.mark.parametrize(
    ("sizes", "room", "batches"),
    [
        pytest.param([1, 1, 1], 3, [[1, 2, 3]], id="they fit to the row"),
        pytest.param([1, 1, 1], 2, [[1, 2], [3]], id="one is over"),
        pytest.param([3, 2, 2, 1], 4, [[1], [2, 3], [4]], id="children count"),
        pytest.param([2, 9, 2], 4, [[1], [2], [3]], id="a tree larger than a batch goes alone"),
        pytest.param([9, 9], 1, [[1], [2]], id="room for a single row"),
        pytest.param([], 4, [], id="nothing"),
    ],
)
def test_batches_are_cut_by_rows_and_never_through_a_tree(
    tmp_path: Path, sizes: list[int], room: int, batches: list[list[int]]
) -> None:
    tiny = trees(tmp_path, sizes) if sizes else Tiny(tmp_path, {"parents": ""})
    with tiny.queue(page=room) as queue:
        taken = []
        while (batch := queue.take(room, room, at_least_one=True)).last is not None:
            taken.append(batch.ids)
    assert taken == batches


def test_the_next_tree_does_not_fit_into_what_is_left(tmp_path: Path) -> None:
    with trees(tmp_path, [2, 3]).queue(after=1) as queue:
        assert queue.take(2, 2, at_least_one=False).full
        assert queue.take(3, 3, at_least_one=False).ids == [2]


def test_a_batch_has_few_rows_or_a_single_tree_that_fits_into_the_room(tmp_path: Path) -> None:
    with trees(tmp_path, [1, 1, 1, 3, 5]).queue() as queue:
        batches = [queue.take(2, 4, at_least_one=False) for _ in range(4)]
    assert [(batch.ids, batch.rows) for batch in batches] == [
        ([1, 2], 2),
        ([3], 1),
        ([4], 3),
        ([], 0),
    ]
    assert batches[-1].full


def test_a_tree_above_the_ceiling_is_left_and_named_with_its_size(tmp_path: Path) -> None:
    tiny = trees(tmp_path, [2, 6, 5])
    outcome = tiny.archive(ceiling=5)
    assert tiny.moved("parents") == {"parents": [1, 3]}
    (blocked,) = outcome.blocked
    assert (blocked.table, blocked.id) == ("parents", 2)
    assert "6 rows" in blocked.reason
    assert "tree_ceiling" in blocked.reason


def test_trees_are_counted_with_all_that_hangs_on_them(tmp_path: Path) -> None:
    tables = {
        "parents": "",
        "children": "parent_id REFERENCES parents (id)",
        "grandchildren": "child_id REFERENCES children (id)",
    }
    tiny = Tiny(tmp_path, tables)
    tiny.insert("parents", "id, deleted", (1, 1), (2, 2), (3, 3))
    tiny.insert("children", "id, parent_id", (1, 1), (2, 1), (3, 2))
    tiny.insert("grandchildren", "id, child_id", (1, 1), (2, 1), (3, 2), (4, None))
    with tiny.forest() as (connection, forest):
        root = forest.tree("parents")
        rows = connection.execute(select(root.live.c.id)).mappings().all()
        assert count_rows(connection, root, rows) == {1: 6, 2: 2, 3: 1}


def test_a_row_that_names_its_root_twice_counts_once(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path, GROUPS)
    tiny.insert("security_groups", "id, deleted", (1, 1))
    tiny.insert("security_group_rules", "id, parent_group_id, group_id", (1, 1, 1))
    with tiny.forest() as (connection, forest):
        root = forest.tree("security_groups")
        rows = connection.execute(select(root.live.c.id)).mappings().all()
        assert count_rows(connection, root, rows) == {1: 2}
