"""The databases of a small real cloud, in the state of their dumps at the start of each test."""

import gzip
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import pymysql
from pymysql.constants import CLIENT

from tests.support.services import MariaDB

Link: TypeAlias = "pymysql.Connection[Any]"

DUMPS: Final = Path(__file__).parents[1] / "data" / "realcloud"
DATABASES: Final = ("nova_api", "nova_cell0", "nova_cell1", "nova_cell2", "nova_cell3")
PLACEMENT: Final = "placement"
DUMPED_URL: Final = "mysql+pymysql://nova:nova@127.0.0.1/"
STATEMENT: Final = re.compile(r"(?:CREATE TABLE|INSERT INTO) `(\w+)`")
SESSION: Final = (
    "SET foreign_key_checks = 0, unique_checks = 0, sql_mode = "
    "'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'"
)
NOVA_CONF: Final = """\
[database]
connection = {cell1}
[api_database]
connection = {api}
[cellkeeper]
lock_path = {locks}
lock_wait_timeout = 1
"""


class State(NamedTuple):
    """What two tables have in common when they are the same to the last row, key and next automatic
    id.
    """

    definition: str
    checksum: int


class RealCloud:
    """The API database, cell0 and three cells, on a private server.

    :ivar server: the server; a test may kill or pause it, the next one finds it running
    :ivar databases: which of the dumps are loaded
    :ivar uuids: the UUID of each cell by its name
    """

    api, cell0, cell1, cell2, cell3 = DATABASES

    def __init__(self, server: MariaDB, databases: tuple[str, ...] = DATABASES) -> None:
        self.server = server
        self.databases = databases
        self._dumps = {
            name: read_dump(DUMPS / f"{name}.sql.gz", server.url("")) for name in databases
        }
        self._pristine: dict[str, dict[str, State]] = {name: {} for name in databases}
        self.restore()
        self._pristine = self.states()
        self.uuids: dict[str, str] = dict(
            self.rows(self.api, "SELECT name, uuid FROM cell_mappings")
        )

    def restore(self) -> None:
        """Undo whatever a test did to the server and to these databases.

        Connections that are still open are cut off: their locks would be waited for.
        """
        self.server.revive()
        _cut_off_connections(self.server)
        with ThreadPoolExecutor(len(self.databases)) as pool:
            list(pool.map(self._restore, self.databases))

    def url(self, database: str) -> str:
        """The URL of a database as nova.conf has it."""
        return self.server.url(database)

    def rows(self, database: str, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement in a database, in a transaction of its own; returns its rows."""
        return self.server.execute(sql, database)

    def states(self) -> dict[str, dict[str, State]]:
        """The definition and checksum of each table of each database."""
        found = {}
        for database in self.databases:
            with closing(self._connect(database)) as link:
                found[database] = _states(link)
        return found

    def checksums(self) -> dict[tuple[str, str], int]:
        """By database and table, a number that other rows would change."""
        states = self.states()
        return {
            (name, table): state.checksum
            for name, tables in states.items()
            for table, state in tables.items()
        }

    def config(self, folder: Path) -> Path:
        """Write a nova.conf as on a controller of cell1; returns its path."""
        path = folder / "nova.conf"
        urls = {"cell1": self.url(self.cell1), "api": self.url(self.api)}
        path.write_text(NOVA_CONF.format(locks=folder / "locks", **urls))
        return path

    def _connect(self, database: str) -> Link:
        return self.server.connect(
            database, client_flag=CLIENT.MULTI_STATEMENTS, init_command=SESSION
        )

    def _restore(self, database: str) -> None:
        """Give one database its dumped content: the rows that differ, or the whole table if more
        does.
        """
        dump, pristine = self._dumps[database], self._pristine[database]
        self.server.execute(f"CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb3")
        with closing(self._connect(database)) as link:
            _drop_triggers(link)
            states = _states(link)
            for table in states.keys() - dump.keys():
                _run(link, f"DROP TABLE `{table}`")
            intact = [
                t
                for t in states.keys() & pristine.keys()
                if states[t].definition == pristine[t].definition
            ]
            changed = [table for table in intact if states[table] != pristine[table]]
            _refill(link, {table: dump[table] for table in changed})
            for table, statements in dump.items():
                if table not in intact:
                    _run(link, f"DROP TABLE IF EXISTS `{table}`", *statements)


def load(server: MariaDB, database: str, dump: str) -> None:
    """Make a database of a dump of this folder; one of its name is replaced."""
    server.drop(database)
    server.create(database)
    options = {"client_flag": CLIENT.MULTI_STATEMENTS, "init_command": SESSION}
    with closing(server.connect(database, **options)) as link:
        for statements in read_dump(DUMPS / dump, server.url("")).values():
            _run(link, *statements)


def read_dump(path: Path, url: str) -> dict[str, list[str]]:
    """The statements that make and fill each table of a dump; the others serve its own client
    only.
    """
    found: dict[str, list[str]] = {}
    # A line end inside of a value is written as \n, so this one ends a statement.
    for statement in gzip.decompress(path.read_bytes()).decode().split(";\n"):
        if match := STATEMENT.match(statement):
            found.setdefault(match[1], []).append(statement.replace(DUMPED_URL, url))
    return found


def _run(link: Link, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements in one journey; returns the rows of them all."""
    with link.cursor() as cursor:
        cursor.execute(";".join(statements))
        rows = list(cursor.fetchall())
        while cursor.nextset():
            rows += cursor.fetchall()
        return rows


def _states(link: Link) -> dict[str, State]:
    tables = [table for (table,) in _run(link, "SHOW TABLES")]
    if not tables:
        return {}
    definitions = _run(link, *(f"SHOW CREATE TABLE `{table}`" for table in tables))
    checksums = _run(link, "CHECKSUM TABLE " + ", ".join(f"`{table}`" for table in tables))
    return {t: State(d[1], c[1]) for t, d, c in zip(tables, definitions, checksums, strict=True)}


def _refill(link: Link, dump: dict[str, list[str]]) -> None:
    link.begin()
    for table, (_definition, *inserts) in dump.items():
        _run(link, f"DELETE FROM `{table}`", *inserts)
    link.commit()


def _drop_triggers(link: Link) -> None:
    for trigger, *_ in _run(link, "SHOW TRIGGERS"):
        _run(link, f"DROP TRIGGER `{trigger}`")


def _cut_off_connections(server: MariaDB) -> None:
    others = (
        "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND user = '{}'"
    )
    for (number,) in server.execute(others.format(MariaDB.USER)):
        with suppress(pymysql.Error):  # it ended by itself
            server.execute(f"KILL {number}")
