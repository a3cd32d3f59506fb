"""``db sync``, ``db version``, ``api_db sync``, ``api_db version``: codes, lines, and what an
interruption leaves.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from novadb.cells import CELL0
from novadb.engine import Database
from novadb.migrations.upgrade import API_SCHEMA, MAIN_SCHEMA, read_version, upgrade_schema
from settings.databases import Timeouts
from tests.support.command import Running, call, until
from tests.support.schemas import describe, recorded
from tests.support.services import MariaDB, free_port

NAMES: Final = ("bare_api", "bare_cell0", "bare_cell1", "bare_cell2")
OLDER, HEAD = MAIN_SCHEMA.revisions[-2:]
UUIDS: Final = dict(
    zip(
        NAMES[1:],
        (CELL0, *(f"{n}0000000-0000-0000-0000-000000000000" for n in (1, 2))),
        strict=True,
    )
)


@dataclass(frozen=True)
class Bare:
    """Databases without a table; cell1's is the configured one.

    :ivar config: their nova.conf
    """

    server: MariaDB
    config: Path

    def database(self, name: str) -> Database:
        return Database(self.server.url(name), name, Timeouts())

    def revision(self, name: str) -> str | None:
        return read_version(self.database(name))

    def tables(self, name: str) -> int:
        counted = f"SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '{name}'"
        return int(self.server.execute(counted)[0][0])

    def map(self, **urls: str) -> None:
        """Give the API database its tables, and map cells."""
        upgrade_schema(self.database("bare_api"), API_SCHEMA)
        for cell, url in urls.items():
            self.server.execute(
                "INSERT INTO cell_mappings (uuid, name, transport_url, database_connection, "
                "disabled) "
                f"VALUES ('{UUIDS[f'bare_{cell}']}', '{cell}', 'none:///', '{url}', 0)",
                "bare_api",
            )

    def map_all(self) -> None:
        self.map(**{cell: self.server.url(f"bare_{cell}") for cell in ("cell0", "cell1", "cell2")})

    def dead_url(self) -> str:
        """Where no server is."""
        return f"mysql+pymysql://nova:{MariaDB.PASSWORD}@127.0.0.1:{free_port()}/bare_cell0"


@pytest.fixture
def bare(mariadb: MariaDB, tmp_path: Path) -> Iterator[Bare]:
    for name in NAMES:
        mariadb.drop(name)
        mariadb.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
    config = tmp_path / "nova.conf"
    config.write_text(
        f"[database]\nconnection = {mariadb.url('bare_cell1')}\n"
        f"[api_database]\nconnection = {mariadb.url('bare_api')}\n"
        f"[cellkeeper]\nlock_path = {tmp_path}/locks\n"
    )
    yield Bare(mariadb, config)
    for name in NAMES:
        mariadb.drop(name)


def test_from_nothing_cell0_first(bare: Bare) -> None:
    too_early = call("db sync", config=bare.config)
    assert too_early.code == 1
    assert too_early.line.startswith(
        "cell0 cannot be upgraded, and the configured database was left as it is: "
    )
    assert bare.tables("bare_cell1") == 0
    assert call("api_db version", config=bare.config).out == "None\n"

    synced = call("api_db sync", config=bare.config)
    assert (synced.code, synced.out) == (0, "")
    assert call("api_db version", config=bare.config).out == "cdeec0c85668\n"

    bare.map(cell0=bare.server.url("bare_cell0"))
    synced = call("db sync", config=bare.config)
    assert (synced.code, synced.out) == (0, "")
    ends = [line for line in synced.err.splitlines() if f"{HEAD}: " in line]
    assert [line.partition(":")[0] for line in ends] == ["cell0", "the configured database"]
    assert call("db version", config=bare.config).out == f"{HEAD}\n"
    with bare.database("bare_cell0").connect() as cell0:
        assert describe(cell0).keys() == recorded("mariadb", "main")[HEAD].keys()
    assert call("db sync", config=bare.config).err == "", "what is up to date is worth no word"


def test_a_cell0_that_is_dead_is_1_and_keeps_the_hands_off_the_rest(bare: Bare) -> None:
    bare.map(cell0=bare.dead_url())
    ended = call("db sync", config=bare.config)
    assert ended.code == 1
    assert "Connection refused" in ended.line
    assert bare.tables("bare_cell1") == 0
    assert call("db sync --local_cell", config=bare.config).code == 0
    assert bare.revision("bare_cell1") == HEAD


def test_a_cell0_that_is_not_mapped_is_said_and_passed_over(bare: Bare) -> None:
    bare.map()
    ended = call("db sync 16f1fbcab42b", config=bare.config)
    assert ended.code == 0
    assert ended.err.startswith("cell0 is not mapped, and is not upgraded")
    assert bare.revision("bare_cell1") == "16f1fbcab42b"


@pytest.mark.parametrize(("line", "code"), [("db sync 402", 1), ("db sync --local_cell 402", 255)])
def test_a_number_of_the_old_tool_is_refused(bare: Bare, line: str, code: int) -> None:
    bare.map(cell0=bare.server.url("bare_cell0"))
    ended = call(line, config=bare.config)
    assert ended.code == code
    assert "is a version of sqlalchemy-migrate, which Nova has given up" in ended.line
    assert bare.tables("bare_cell0") == bare.tables("bare_cell1") == 0


def test_api_db_sync_says_that_the_database_is_missing(bare: Bare) -> None:
    bare.server.drop("bare_api")
    ended = call("api_db sync", config=bare.config)
    assert ended.code == 255
    assert "Unknown database 'bare_api'" in ended.line
    assert ended.line.endswith("create it first, as in CREATE DATABASE bare_api")


def test_one_cell_that_fails_does_not_stop_the_others(bare: Bare) -> None:
    dead = bare.dead_url()
    bare.map(cell0=dead, cell1=bare.server.url("bare_cell1"), cell2=bare.server.url("bare_cell2"))
    ended = call(f"db sync --all-cells {OLDER}", config=bare.config)
    assert ended.code == 1, "cell0's own code, as no other has failed"
    assert sorted(ended.out.splitlines()) == [
        "cell0: failed",
        f"cell1: {OLDER}, was None",
        f"cell2: {OLDER}, was None",
    ]
    assert bare.revision("bare_cell1") == bare.revision("bare_cell2") == OLDER
    assert "Connection refused" in ended.err.splitlines()[-1]
    assert f"cell2: {OLDER}: consoles have a port for TLS" in ended.err.splitlines()

    again = call("db sync --all-cells -f json", config=bare.config)
    assert again.code == again.document["exit_code"] == 1
    cells = {cell["cell"]: (cell["before"], cell["after"]) for cell in again.document["cells"]}
    assert cells == {"cell0": (None, None), "cell1": (OLDER, HEAD), "cell2": (OLDER, HEAD)}


def test_one_cell_can_be_named(bare: Bare) -> None:
    bare.map_all()
    assert call("db sync --cell cell2", config=bare.config).code == 0
    assert [bare.revision(name) for name in NAMES[1:]] == [None, None, HEAD]
    assert call("db sync --cell cell7", config=bare.config).line == "No cell is mapped as cell7"


def test_a_killed_run_is_gone_on_with(bare: Bare) -> None:
    with Running("db sync --local_cell", config=bare.config) as running:
        until(lambda: bare.tables("bare_cell1") > 10)
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
    begun = bare.tables("bare_cell1")
    ended = call("db sync --local_cell", config=bare.config)
    assert ended.code == 0
    assert begun < 100
    assert "changes of this revision that were made before: " in ended.err
    with bare.database("bare_cell1").connect() as cell1:
        assert describe(cell1).keys() == recorded("mariadb", "main")[HEAD].keys()


@pytest.mark.parametrize("line", ["db sync --local_cell", "db sync --all-cells"])
def test_ctrl_c_ends_after_the_current_change(bare: Bare, line: str) -> None:
    bare.map_all()
    with Running(line, config=bare.config) as running:
        until(lambda: bare.tables("bare_cell1") > 10)
        running.interrupt()
        ended = running.end()
    assert ended.code == 130
    assert "stopped; what was done stands, and the same command goes on from there" in ended.err
    assert bare.revision("bare_cell1") != HEAD
    connections = "SELECT COUNT(*) FROM information_schema.processlist WHERE db LIKE 'bare%'"
    # The server sees it a moment after the end.
    until(lambda: bare.server.execute(connections) == [(0,)])


def test_on_sqlite_the_files_are_made(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.db" for name in ("api", "cell1")}
    config = tmp_path / "nova.conf"
    config.write_text(
        f"[database]\nconnection = sqlite:///{files['cell1']}\n[api_database]\nconnection = "
        f"sqlite:///{files['api']}\n"
        f"[cellkeeper]\nlock_path = {tmp_path}/locks\n"
    )
    assert call("api_db sync", config=config).code == 0
    assert call("db sync", config=config).code == 0
    assert call("db version", config=config).out == f"{HEAD}\n"
