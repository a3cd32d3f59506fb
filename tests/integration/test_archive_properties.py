"""Whatever a cell holds and wherever the process dies over it: no row is lost, doubled or parted
from its tree.
"""

import itertools
import json
import re
import shutil
import sqlite3
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final, Self

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event

from demo.rows import empty_database
from jobs.action import Cursor, Step, Target
from jobs.db.archive_deleted_rows import Archived, Params, work
from novadb.cells import Cell
from novadb.engine import Database
from novadb.migrations.upgrade import API_SCHEMA, MAIN_SCHEMA
from settings.databases import Timeouts
from tests.support import made_up
from tests.support.forest import (
    API_TABLES,
    SHADOW,
    STAYING,
    Contents,
    Forest,
    Key,
    assert_api_rows_are_right,
    assert_no_tree_is_torn,
    assert_nothing_is_lost_or_doubled,
    moved,
    not_moved_away,
    read,
    rows_by_uuid,
)
from tests.support.realcloud import RealCloud

DELETE: Final = re.compile(r"DELETE FROM [`\"]?(\w+)")
CHANGE: Final = re.compile("INSERT|UPDATE|DELETE")
OURS: Final = frozenset((made_up.HERE, made_up.TWIN_OF_HERE))
# So few keys per statement that a small forest crosses every border between two of them.
FEW: Final = 2
ANY: Final = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Death(BaseException):
    """The process is killed: of what it would do now, nothing happens."""


class Moment(Enum):
    """What a process dies over."""

    STATEMENT = "before it sends a statement"
    CHANGE = "before it sends a statement that changes rows, or commits"
    COMMIT = "before it commits, in the cell or in the API database"
    STEP = "after a step, in peace"


@dataclass(frozen=True)
class Life:
    """A process that does not come to its end.

    :ivar at: the number of the moment that is its last, from 0
    :ivar handed_on: whether the next process goes on behind its last step, and not from the
        beginning
    """

    moment: Moment
    at: int
    handed_on: bool


LIVES: Final = st.lists(
    st.one_of(
        st.builds(Life, st.just(Moment.STATEMENT), st.integers(0, 120), st.booleans()),
        st.builds(Life, st.just(Moment.CHANGE), st.integers(0, 50), st.booleans()),
        st.builds(Life, st.just(Moment.COMMIT), st.integers(0, 9), st.booleans()),
        st.builds(Life, st.just(Moment.STEP), st.integers(0, 9), st.booleans()),
    ),
    min_size=1,
    max_size=3,
)
PARAMS: Final = st.builds(
    Params,
    max_rows=st.sampled_from([1, 2, 3, 5, 8, 13, 30, 200]) | st.integers(1, 200),
    before=st.sampled_from(made_up.DATES),
    until_complete=st.booleans(),
    task_log=st.booleans(),
    repair=st.booleans(),
)


@dataclass
class Transaction:
    """:ivar deleted: rows by table, in the order of the statements"""

    deleted: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        return self.deleted.total()

    @property
    def trees(self) -> int:
        """How many trees it moved: their roots are deleted last."""
        return list(self.deleted.values())[-1]


class Witness:
    """Sees every statement and every commit of the code under test, and puts an end to it at one of
    them.

    :ivar committed: the transactions of the cell that moved rows
    :ivar passed: how many moments of each kind there were
    """

    def __init__(self, cell: Database) -> None:
        self.committed: list[Transaction] = []
        self.passed: Counter[Moment] = Counter()
        self._cell = cell.url
        self._current = Transaction()
        self._last: Life | None = None
        self._dead = False

    def __enter__(self) -> Self:
        for name, listener in self._listeners():
            event.listen(Engine, name, listener)
        return self

    def __exit__(self, *_: object) -> None:
        for name, listener in self._listeners():
            event.remove(Engine, name, listener)

    def _listeners(self) -> Iterator[tuple[str, Any]]:
        yield "before_cursor_execute", self._before_statement
        yield "after_cursor_execute", self._after_statement
        yield "commit", self._before_commit
        yield "rollback", self._before_rollback
        yield "connect", spare_the_disk

    def doom(self, life: Life | None) -> None:
        """A new process begins; None: it lives to its end."""
        self._dead = False
        self._last = life
        self._current = Transaction()
        self.committed = []
        self.passed.clear()

    def pass_by(self, moment: Moment) -> None:
        """:raises Death: this was the last moment"""
        if self._last and self._last.moment is moment and self._last.at == self.passed[moment]:
            self._dead = True
        if self._dead:
            raise Death
        self.passed[moment] += 1

    def _before_statement(
        self, _connection: Connection, _cursor: Any, statement: str, *_: Any
    ) -> None:
        self.pass_by(Moment.STATEMENT)
        if CHANGE.match(statement):
            self.pass_by(Moment.CHANGE)

    def _after_statement(
        self, connection: Connection, cursor: Any, statement: str, *_: Any
    ) -> None:
        match = DELETE.match(statement)
        if (
            match
            and connection.engine.url == self._cell
            and not match[1].startswith(SHADOW)
            and cursor.rowcount
        ):
            self._current.deleted[match[1]] += cursor.rowcount

    def _before_commit(self, connection: Connection) -> None:
        self.pass_by(Moment.COMMIT)
        self.pass_by(Moment.CHANGE)
        if connection.engine.url == self._cell:
            if self._current.deleted:
                self.committed.append(self._current)
            self._current = Transaction()

    def _before_rollback(self, connection: Connection) -> None:
        if connection.engine.url == self._cell:
            self._current = Transaction()


def spare_the_disk(link: Any, *_: object) -> None:
    """Processes die here, not machines: SQLite need not wait until the disk has what the kernel
    has.
    """
    if isinstance(link, sqlite3.Connection):
        link.execute("PRAGMA synchronous = OFF")


class Bench(ABC):
    """A cell and an API database to be filled again and again."""

    cell: Database
    api: Database
    referrers: tuple[str, ...]

    @abstractmethod
    def fill(self, sheet: made_up.Sheet) -> None:
        """Put these rows in the place of all others."""

    @abstractmethod
    def read(self) -> tuple[Contents, Contents]:
        """The rows of the cell and of the API database."""

    @property
    def target(self) -> Target:
        return Target(
            Cell("76427c32-57d0-40e4-965a-548f913f09d8", "cell1", OURS, self.cell), self.api
        )


def insert(
    link: Any, rows: dict[str, list[dict[str, Any]]], mark: str, stored: Callable[[Any], Any]
) -> None:
    """Write rows.

    :param mark: the driver's sign for a value
    :param stored: the form in which a value is written
    """
    cursor = link.cursor()
    for table, lines in rows.items():
        for line in lines:
            names, marks = ", ".join(f"`{name}`" for name in line), ", ".join([mark] * len(line))
            cursor.execute(
                f"INSERT INTO {table} ({names}) VALUES ({marks})", [*map(stored, line.values())]
            )
    link.commit()


class SQLite(Bench):
    """Two files with the tables of the sample cloud."""

    referrers = ("share_mapping",)

    def __init__(self, folder: Path) -> None:
        self._files = {name: folder / f"{name}.db" for name in ("cell", "api")}
        self._empty = {name: folder / f"{name}.empty" for name in ("cell", "api")}
        for name, schema in (("cell", MAIN_SCHEMA), ("api", API_SCHEMA)):
            self._empty[name].write_bytes(empty_database(schema))
        self.cell, self.api = (
            Database(f"sqlite:///{file}", name, Timeouts()) for name, file in self._files.items()
        )

    def fill(self, sheet: made_up.Sheet) -> None:
        for name, rows in (("cell", sheet.cell), ("api", sheet.api)):
            shutil.copyfile(self._empty[name], self._files[name])
            with self._open(name) as link:
                insert(link, rows, "?", _as_stored)
                for table, number in sheet.refused if name == "cell" else ():
                    link.execute(
                        f"CREATE TRIGGER refuse_{table}_{number} BEFORE DELETE ON {table} WHEN "
                        f"OLD.id = {number} "
                        "BEGIN SELECT RAISE(ABORT, 'this row must stay'); END"
                    )

    def read(self) -> tuple[Contents, Contents]:
        with self._open("cell") as cell, self._open("api") as api:
            return read(cell), read(api)

    def _open(self, name: str) -> "closing[sqlite3.Connection]":
        link = sqlite3.connect(self._files[name], detect_types=sqlite3.PARSE_DECLTYPES)
        spare_the_disk(link)
        return closing(link)


def _as_stored(value: Any) -> Any:
    return value.isoformat(" ", "microseconds") if isinstance(value, datetime) else value


sqlite3.register_converter("DATETIME", lambda text: datetime.fromisoformat(text.decode()))


class RealSchema(Bench):
    """The databases that Nova's migrations made, on MariaDB, without the rows."""

    referrers = STAYING

    def __init__(self, cloud: RealCloud) -> None:
        self._cloud = cloud
        self._names = {"cell": cloud.cell1, "api": cloud.api}
        self.cell, self.api = (
            Database(cloud.url(name), which, Timeouts(2, 30, 1))
            for which, name in self._names.items()
        )
        self._tables = {
            which: {table for (table,) in cloud.rows(name, "SHOW TABLES")}
            for which, name in self._names.items()
        }
        self._written = dict(self._tables)

    def fill(self, sheet: made_up.Sheet) -> None:
        for which, rows in (("cell", sheet.cell), ("api", sheet.api)):
            with self._open(which) as link:
                link.query("SET foreign_key_checks = 0")
                for table in self._written[which]:
                    link.query(f"DELETE FROM `{table}`")
                insert(link, rows, "%s", lambda value: value)
                self._written[which] = {
                    name for table in rows for name in (table, SHADOW + table)
                } & self._tables[which]

    def read(self) -> tuple[Contents, Contents]:
        with self._open("cell") as cell, self._open("api") as api:
            return read(cell), read(api)

    def _open(self, which: str) -> "closing[Any]":
        return closing(self._cloud.server.connect(self._names[which], autocommit=False))


class Trial:
    """One cell, the processes that work in it, and what is true after each of them."""

    def __init__(self, bench: Bench, plan: made_up.Cell, params: Params, witness: Witness) -> None:
        sheet = made_up.sheet(plan)
        bench.fill(sheet)
        self.bench = bench
        self.params = params
        self.witness = witness
        self.first_cell, self.first_api = self.cell, self.api = bench.read()
        self.forest = Forest(
            self.cell, params.before, params.task_log, params.repair, sheet.refused
        )
        self.leftovers = self._leftovers() if params.repair else set()
        self.archived = self._ours(self.forest.moving)

    def _leftovers(self) -> set[str]:
        """Instances that are archived and not there, and whose mapping to this cell says that they
        were deleted.
        """
        there = {row["uuid"] for row in self.cell["instances"].values()}
        archived = {row["uuid"] for row in self.cell["shadow_instances"].values()}
        mapped = [row for row in self.api["instance_mappings"].values() if row["cell_id"] in OURS]
        return {r["instance_uuid"] for r in mapped if r["queued_for_delete"]} & (archived - there)

    def _ours(self, keys: Collection[Key]) -> set[str]:
        """The instances among some rows whose API rows go with them."""
        return not_moved_away(self.first_api, OURS, self.forest.uuids(keys))

    def run(self, cursor: Cursor | None, life: Life | None = None) -> list[Step[Archived]]:
        """One process, from a cursor to its end, and a look at what it left."""
        self.witness.doom(life)
        seen: list[Step[Archived]] = []
        steps = work(self.bench.target, self.params, cursor)
        try:
            for step in steps:
                seen.append(step)
                self.witness.pass_by(Moment.STEP)
        except Death:
            steps.close()
        self.cell, self.api = self.bench.read()
        self._check_always()
        return seen

    def _check_always(self) -> None:
        """What is true whenever a process ended."""
        gone = moved(self.first_cell, self.cell)
        assert_nothing_is_lost_or_doubled(self.first_cell, self.cell, repair=self.params.repair)
        assert_no_tree_is_torn(self.forest, gone)
        assert_api_rows_are_right(
            self.first_api,
            self.api,
            gone=self._ours(gone),
            may_be_gone=self.archived | self.leftovers,
        )
        for transaction in self.witness.committed:
            assert transaction.rows <= self.params.max_rows or transaction.trees == 1

    def finish(self, cursor: Cursor | None) -> None:
        """Run as an operator's script does, until there is nothing left, and check the end."""
        done = self._run_whole(cursor)
        if self.params.until_complete:
            self.check_end()
        while cursor or done.rows:
            cursor = None
            done = self._run_whole(cursor)
        self.check_end()
        assert {(blocked.table, blocked.id) for blocked in done.blocked} == self.forest.blocked
        assert done.blocked_count == len(self.forest.blocked)

    def check_end(self) -> None:
        """What is true when all is done."""
        assert moved(self.first_cell, self.cell) == self.forest.moving
        assert_api_rows_are_right(self.first_api, self.api, gone=self.archived | self.leftovers)

    def has_instances_without_api_rows(self) -> bool:
        """Whether an instance is in the cell whose API rows are gone."""
        had, have = rows_by_uuid(self.first_api), rows_by_uuid(self.api)
        return any(
            row["uuid"] in had.keys() - have.keys() for row in self.cell["instances"].values()
        )

    def _run_whole(self, cursor: Cursor | None) -> Archived:
        cell, api = self.cell, self.api
        done = sum((step.outcome for step in self.run(cursor)), Archived())
        self._check_report(cell, api, done)
        # Without until_complete, max_rows is for the whole run.
        if not self.params.until_complete:
            assert (
                done.rows <= self.params.max_rows
                or sum(each.trees for each in self.witness.committed) == 1
            )
        return done

    def _check_report(self, cell: Contents, api: Contents, done: Archived) -> None:
        """What is told is what was done since these were the rows."""
        assert Counter(done.moved) == Counter(table for table, _ in moved(cell, self.cell))
        removed = Counter(done.api)
        removed.update(
            {
                name.removeprefix("API_DB."): rows
                for name, rows in done.repaired.items()
                if "API_DB" in name
            }
        )
        assert removed == Counter(
            {table: len(api[table]) - len(self.api[table]) for table in API_TABLES}
        )
        twins = sum(rows for name, rows in done.repaired.items() if name.startswith(SHADOW))
        assert shadows(self.cell) == shadows(cell) - twins + done.rows


def shadows(cell: Contents) -> int:
    """The rows in all shadow tables."""
    return sum(len(rows) for table, rows in cell.items() if table.startswith(SHADOW))


def go_through(
    bench: Bench, plan: made_up.Cell, params: Params, lives: list[Life], few: bool
) -> None:
    """Lead the processes through their lives, and one to the end."""
    with Witness(bench.cell) as witness, pytest.MonkeyPatch.context() as patch:
        if few:
            take_few_keys(patch)
        trial = Trial(bench, plan, params, witness)
        cursor: Cursor | None = None
        for life in lives:
            steps = trial.run(cursor, life)
            cursor = (as_handed_on(steps) or cursor) if life.handed_on else None
        trial.finish(cursor)


def as_handed_on(steps: list[Step[Archived]]) -> Cursor | None:
    """The last cursor as it comes out of a message."""
    cursor: Cursor | None = json.loads(json.dumps(steps[-1].cursor)) if steps else None
    return cursor


def take_few_keys(patch: pytest.MonkeyPatch) -> None:
    for name in (
        "statements.KEYS_PER_STATEMENT",
        "tree_queue.KEYS_PER_STATEMENT",
        "api_rows.UUIDS_PER_STATEMENT",
    ):
        patch.setattr(f"jobs.db.{name}", FEW)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> SQLite:
    return SQLite(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def real_schema(loaded_realcloud: RealCloud) -> RealSchema:
    return RealSchema(loaded_realcloud)


def test_no_row_is_lost_at_any_moment_of_a_run(
    sqlite: SQLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process after the other dies, each over another change of the same rows, and hands on to
    a second one.
    """
    monkeypatch.setattr("jobs.db.api_rows.UUIDS_PER_STATEMENT", FEW)
    params = Params(max_rows=30, until_complete=True, task_log=True, repair=True)
    bare = 0
    with Witness(sqlite.cell) as witness:
        for at in itertools.count():
            trial = Trial(sqlite, made_up.RICH, params, witness)
            steps = trial.run(None, Life(Moment.CHANGE, at, handed_on=True))
            if witness.passed[Moment.CHANGE] < at:
                break
            bare += trial.has_instances_without_api_rows()
            trial.run(as_handed_on(steps))
            trial.check_end()
    assert at > 60, "there was not much to die over"
    assert bare, "no process died between the two commits"


@settings(ANY, max_examples=100)
@given(
    plan=made_up.cells(SQLite.referrers, refusals=1), params=PARAMS, lives=LIVES, few=st.booleans()
)
def test_no_row_is_lost_whatever_there_is_and_wherever_the_process_dies(
    sqlite: SQLite, plan: made_up.Cell, params: Params, lives: list[Life], few: bool
) -> None:
    go_through(sqlite, plan, params, lives, few)


@settings(ANY, max_examples=20)
@given(
    plan=made_up.cells(RealSchema.referrers, refusals=0),
    params=PARAMS,
    lives=LIVES,
    few=st.booleans(),
)
def test_no_row_is_lost_wherever_the_process_dies_on_mariadb(
    real_schema: RealSchema, plan: made_up.Cell, params: Params, lives: list[Life], few: bool
) -> None:
    go_through(real_schema, plan, params, lives, few)
