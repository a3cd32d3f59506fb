"""Several runs at once, and other writers beside them: each row moves once, and nobody's change is
lost.
"""

import itertools
import random
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import pymysql
import pytest

from tests.support.forest import (
    SHADOW,
    Contents,
    Forest,
    Key,
    assert_nothing_is_lost_or_doubled,
    read,
)
from tests.support.inventory import Inventory
from tests.support.late_rows import FOREIGN_KEY, LOCK_WAIT, add_late, deleted_instances
from tests.support.program import Moment, Program
from tests.support.realcloud import RealCloud

ARCHIVE: Final = ("db", "archive_deleted_rows", "--all-cells", "--until-complete", "--max_rows")
NOTHING_ARCHIVED, ARCHIVED, ERROR = 0, 1, 255
RUNS: Final = 3
DEADLOCK: Final = 1213
FAULT: Final = (
    "INSERT INTO instance_faults (created_at, deleted, instance_uuid, code) VALUES "
    "('2026-11-01', 0, %s, 1)"
)


@pytest.fixture
def program(realcloud: RealCloud, tmp_path: Path) -> Program:
    return Program(realcloud.config(tmp_path), realcloud.api)


@pytest.fixture
def unguarded(realcloud: RealCloud, tmp_path: Path) -> Program:
    """The program with nothing that keeps two runs apart."""
    config = realcloud.config(tmp_path)
    with config.open("a") as file:
        file.write("exclusion = false\n")
    return Program(config, realcloud.api)


def test_a_second_run_waits_for_the_first_and_names_it(
    realcloud: RealCloud, program: Program
) -> None:
    inventory = Inventory(realcloud)
    with program.start_and_hold(Moment.BETWEEN_THE_COMMITS, 5, *ARCHIVE, "50") as first:
        first.wait_until_held()
        with program.start(*ARCHIVE, "50") as second:
            line = second.wait_for("Waiting for another run")
            assert "db.archive_deleted_rows" in line
            assert f"process {first.process.pid}," in line
            first.go_on()
            assert first.end() == (ARCHIVED, "", "")
            assert second.end() == (NOTHING_ARCHIVED, "", f"{line}\n")
    inventory.check_complete()


def test_a_run_that_must_not_wait_ends_at_once_and_names_the_other(
    realcloud: RealCloud, program: Program
) -> None:
    inventory = Inventory(realcloud)
    with program.start_and_hold(Moment.BETWEEN_THE_COMMITS, 5, *ARCHIVE, "50") as first:
        first.wait_until_held()
        code, out, err = program.run(*ARCHIVE, "50", "--no-wait")
        assert (code, out) == (ERROR, "")
        assert err.count("\n") == 1
        assert f"db.archive_deleted_rows, process {first.process.pid}," in err
        first.go_on()
        assert first.end() == (ARCHIVED, "", "")
    inventory.check_complete()


def test_a_waiting_run_takes_over_when_the_first_is_killed(
    realcloud: RealCloud, program: Program
) -> None:
    inventory = Inventory(realcloud)
    with program.start_and_hold(Moment.BETWEEN_THE_COMMITS, 5, *ARCHIVE, "50") as first:
        first.wait_until_held()
        with program.start(*ARCHIVE, "50") as second:
            second.wait_for("Waiting for another run")
            first.process.kill()
            assert second.end().code == ARCHIVED
    inventory.check_complete()


def test_runs_that_nothing_keeps_apart_move_each_row_once(
    realcloud: RealCloud, unguarded: Program
) -> None:
    inventory = Inventory(realcloud)
    with ExitStack() as stack:
        runs = [
            stack.enter_context(
                unguarded.start_and_hold(
                    Moment.CELL_STATEMENT, 0, *ARCHIVE, str(rows), "--format", "json"
                )
            )
            for rows in range(30, 30 + RUNS)
        ]
        for run in runs:
            run.wait_until_held()
        for run in runs:
            run.go_on()
        ends = [run.end() for run in runs]
    assert [end.err for end in ends] == [""] * RUNS
    assert {end.code for end in ends} <= {ARCHIVED, NOTHING_ARCHIVED}
    inventory.check_complete()
    told, told_api = told_rows(end.data for end in ends)
    assert told == inventory.rows_to_move()
    assert told_api == inventory.api_rows_to_go()


def told_rows(
    documents: Iterable[Mapping[str, Any]],
) -> tuple[dict[str, Counter[str]], Counter[str]]:
    """What several runs say that they have moved, by cell and table, and deleted in the API
    database.
    """
    moved: dict[str, Counter[str]] = {}
    deleted: Counter[str] = Counter()
    for document in documents:
        for cell in document["cells"]:
            moved.setdefault(cell["cell"], Counter()).update(cell["archived"])
            deleted.update(cell["api_rows_deleted"])
    return moved, deleted


@pytest.mark.parametrize("moment", [Moment.BEFORE_THE_INSTANCES_GO, Moment.BETWEEN_THE_COMMITS])
def test_a_row_that_comes_late_to_an_instance_is_refused_or_moves_with_it(
    realcloud: RealCloud, program: Program, moment: Moment
) -> None:
    inventory = Inventory(realcloud)
    with program.start_and_hold(moment, 5, *ARCHIVE, "30") as run:
        run.wait_until_held()
        accepted, refused = add_late(realcloud, inventory, FAULT)
        run.go_on()
        assert run.end() == (ARCHIVED, "", "")
    assert refused.keys() <= {LOCK_WAIT, FOREIGN_KEY}
    assert refused[FOREIGN_KEY], "no instance had been archived before"
    for name, ids in accepted.items():
        late = "SELECT id FROM {}instance_faults WHERE code = 1 ORDER BY id"
        assert realcloud.rows(name, late.format(SHADOW)) == [(number,) for number in ids]
        assert realcloud.rows(name, late.format("")) == []
        assert realcloud.rows(name, "SELECT count(*) FROM instances WHERE deleted <> 0") == [(0,)]


class Writer:
    """Adds rows to deleted instances of a cell and changes some, as Nova's services do.

    :ivar changed: rows of which the server said that they have a new value: the column and the
        latest value
    :ivar added: the same of new rows
    """

    def __init__(self, cloud: RealCloud, database: str, rows: Contents, seed: int) -> None:
        self.changed: dict[Key, tuple[str, str]] = {}
        self.added: dict[Key, tuple[str, str]] = {}
        self._cloud = cloud
        self._database = database
        self._dice = random.Random(seed)
        self._uuids = sorted(deleted_instances(rows))
        actions = rows["instance_actions"].values()
        self._actions = [
            action["id"] for action in actions if action["instance_uuid"] in self._uuids
        ]
        columns = {
            "instances": "display_name",
            "instance_system_metadata": "value",
            "instance_info_caches": "network_info",
        }
        self._targets = [
            ((table, number), column)
            for table, column in columns.items()
            for number, row in rows[table].items()
            if row["deleted"]
        ]

    def write(self, enough: threading.Event) -> None:
        """Write until it is enough."""
        with closing(self._cloud.server.connect(self._database)) as link, link.cursor() as cursor:
            cursor.execute("SET innodb_lock_wait_timeout = 1")
            for number in itertools.count():
                if enough.is_set():
                    return
                try:
                    self._write(cursor, f"written {number}")
                except pymysql.Error as error:
                    if error.args[0] not in (FOREIGN_KEY, LOCK_WAIT, DEADLOCK):
                        raise

    def _write(self, cursor: Any, value: str) -> None:
        kind = self._dice.randrange(3)
        if kind == 0:
            fault = "INSERT INTO instance_faults (instance_uuid, code, message) VALUES (%s, 1, %s)"
            cursor.execute(fault, (self._dice.choice(self._uuids), value))
            self.added["instance_faults", cursor.lastrowid] = "message", value
        elif kind == 1:
            event = "INSERT INTO instance_actions_events (action_id, event) VALUES (%s, %s)"
            cursor.execute(event, (self._dice.choice(self._actions), value))
            self.added["instance_actions_events", cursor.lastrowid] = "event", value
        else:
            key, column = self._dice.choice(self._targets)
            if cursor.execute(f"UPDATE {key[0]} SET {column} = %s WHERE id = %s", (value, key[1])):
                self.changed[key] = column, value


def test_what_others_write_meanwhile_is_neither_lost_nor_doubled(
    realcloud: RealCloud, program: Program
) -> None:
    inventory = Inventory(realcloud)
    writers = [
        Writer(realcloud, name, inventory.cells[name], n)
        for n, name in enumerate((realcloud.cell1, realcloud.cell2))
    ]
    enough = threading.Event()
    with (
        ThreadPoolExecutor(len(writers)) as pool,
        program.start_and_hold(Moment.CELL_STATEMENT, 0, *ARCHIVE, "10") as run,
    ):
        run.wait_until_held()
        writing = [pool.submit(writer.write, enough) for writer in writers]
        try:
            run.go_on()
            ended = run.end()
        finally:
            enough.set()
        for each in writing:
            each.result()
    assert (ended.code, ended.err) == (ARCHIVED, "")
    assert program.run(*ARCHIVE, "10").code in (ARCHIVED, NOTHING_ARCHIVED)
    for name, writer in zip((realcloud.cell1, realcloud.cell2), writers, strict=True):
        with closing(realcloud.server.connect(name)) as link:
            after = read(link)
        assert_nothing_is_lost_or_doubled(
            with_writings(inventory.cells[name], after, writer), after
        )
        assert not Forest(after).trees
        assert any(number in after[SHADOW + table] for table, number in writer.changed)
        assert any(number in after[SHADOW + table] for table, number in writer.added)


def with_writings(before: Contents, after: Contents, writer: Writer) -> Contents:
    """The rows of a cell, had the writer written before they were archived.

    :param after: where its new rows are found, whose other columns have their defaults
    """
    rows = {table: dict(found) for table, found in before.items()}
    for (table, number), (column, value) in writer.changed.items():
        rows[table][number] = {**rows[table][number], column: value}
    for (table, number), (column, value) in writer.added.items():
        row = after[table].get(number) or after[SHADOW + table].get(number)
        assert row is not None, f"{table} {number}"
        assert row[column] == value
        rows[table][number] = row
    return rows
