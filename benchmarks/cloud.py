"""A cloud to measure on: a private MariaDB with the API database and cells, in the schema of a real
cloud.
"""

import gzip
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Final

from pymysql.constants import CLIENT

from benchmarks.data import API_TABLES, ROWS, ROWS_PER_INSTANCE, Link, fill_api, fill_cell
from jobs.action import Target
from novadb.cells import Cell
from novadb.engine import Database
from settings.databases import Timeouts
from tests.support.realcloud import DUMPS
from tests.support.services import MariaDB

# As durable as the server of a cloud, and with room for all the data, as there.
SETTINGS: Final = (
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-flush-method=O_DIRECT",
    "--innodb-file-per-table=1",
    "--innodb-buffer-pool-size=1G",
    "--innodb-log-file-size=512M",
    "--max-connections=200",
)
API: Final = "nova_api"
# The shadow tables are emptied with the others; the rest of the schema stays empty.
EMPTIED: Final = (
    *(prefix + table for table in ROWS for prefix in ("", "shadow_")),
    "security_groups",
)
# So few old row versions wait to be purged that it disturbs no measurement, and so long is waited
# for that.
QUIET_HISTORY: Final = 20
PATIENCE: Final = 120.0  # seconds
NOVA_CONF: Final = """\
[database]
connection = {cell}
[api_database]
connection = {api}
[cellkeeper]
lock_path = {locks}
"""


class WrongResult(Exception):
    """What was measured did not do what it was to do."""


class Cloud:
    """The databases of one benchmark. Cells are named ``cell1`` and so on; their mapping ids are 1
    and so on.
    """

    def __init__(self, server: MariaDB, cells: int) -> None:
        self.server = server
        self.cells = [f"cell{number}" for number in range(1, cells + 1)]
        schemas = {name: schema(DUMPS / f"{name}.sql.gz") for name in ("nova_api", "nova_cell1")}
        make_database(server, API, schemas["nova_api"])
        for cell in self.cells:
            make_database(server, cell, schemas["nova_cell1"])
        self.map_cells(server.port)

    def map_cells(self, port: int) -> None:
        """Name the cells in the API database, as reached by this port."""
        map_cells(self.server, {cell: self.url(cell, port) for cell in self.cells})

    def fill(self, deleted: int, live: int = 0) -> None:
        """Give every cell the same number of instances anew, and the API database their rows."""
        self._empty(API, API_TABLES)
        for number, cell in enumerate(self.cells, start=1):
            self._empty(cell, EMPTIED)
            with self.link(cell) as link:
                fill_cell(link, deleted, live, salt=cell)
            with self.link(API) as link:
                fill_api(link, deleted + live, number, salt=cell)
        self._quieten()

    def _empty(self, database: str, tables: Sequence[str]) -> None:
        with self.link(database) as link, link.cursor() as cursor:
            cursor.execute("SET SESSION foreign_key_checks = 0")
            for table in tables:
                cursor.execute(f"TRUNCATE TABLE {table}")

    def _quieten(self) -> None:
        """Wait until the server has cleaned up behind whatever was done before."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            ((_, length),) = self.server.execute(
                "SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length'"
            )
            if int(length) <= QUIET_HISTORY:
                return
            time.sleep(0.2)

    def rows(self, cell: str, prefix: str = "") -> int:
        """Rows in the tables of one cell's instances; with the prefix ``shadow_`` in their shadow
        tables.
        """
        counts = " + ".join(f"(SELECT COUNT(*) FROM {prefix}{table})" for table in ROWS)
        return int(self.server.execute(f"SELECT {counts}", cell)[0][0])

    def api_rows(self) -> int:
        """Rows of instances in the API database."""
        counts = " + ".join(f"(SELECT COUNT(*) FROM {table})" for table in API_TABLES)
        return int(self.server.execute(f"SELECT {counts}", API)[0][0])

    def check_archived(self, instances: int) -> None:
        """Check that all instances of the first cell are archived: whoever is quick by doing less
        has not won.

        :raises WrongResult: they are not
        """
        cell = self.cells[0]
        left, moved, api = self.rows(cell), self.rows(cell, "shadow_"), self.api_rows()
        if (left, moved, api) != (0, instances * ROWS_PER_INSTANCE, 0):
            raise WrongResult(
                f"{left} rows are left, {moved} in shadow tables, {api} left in the API database"
            )

    def processor(self) -> float:
        """Seconds of CPU that the server has used so far."""
        number = (self.server.folder / "pid").read_text()
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def link(self, database: str) -> AbstractContextManager[Link]:
        """A connection without autocommit."""
        return transaction(self.server, database)

    def url(self, database: str, port: int | None = None) -> str:
        """The URL of a database, perhaps by way of another port."""
        return self.server.url(database).replace(
            f":{self.server.port}/", f":{port or self.server.port}/"
        )

    def target(self, number: int, port: int | None = None) -> Target:
        """What an action needs to work in the cell of this number, from 1 on."""
        name, limits = self.cells[number - 1], Timeouts()
        database = Database(self.url(name, port), name, limits)
        api = Database(self.url(API, port), "the API database", limits)
        return Target(Cell(uuid_of(number), name, frozenset({number}), database), api)

    def config(self, folder: Path, cell: str = "cell1") -> Path:
        """Write a nova.conf as on a controller of this cell; returns its path."""
        path = folder / "nova.conf"
        path.write_text(
            NOVA_CONF.format(cell=self.url(cell), api=self.url(API), locks=folder / "locks")
        )
        return path


def uuid_of(number: int) -> str:
    """The UUID of a cell's mapping, by the number of the cell from 1 on."""
    return f"00000000-0000-4000-8000-{number:012}"


@contextmanager
def transaction(server: MariaDB, database: str) -> Iterator[Link]:
    """A connection whose transaction is committed at the end."""
    options = {"autocommit": False, "client_flag": CLIENT.MULTI_STATEMENTS}
    with closing(server.connect(database, **options)) as link:
        yield link
        link.commit()


def make_database(server: MariaDB, database: str, statements: Sequence[str]) -> None:
    """Make a database by the statements of a schema; one of its name is replaced."""
    server.drop(database)
    server.create(database)
    with transaction(server, database) as link, link.cursor() as cursor:
        cursor.execute("SET SESSION foreign_key_checks = 0")
        for statement in statements:
            cursor.execute(statement)


def map_cells(server: MariaDB, urls: Mapping[str, str]) -> None:
    """Let the API database of a server know these cells and none other.

    :param urls: of their databases, by their names
    """
    with transaction(server, API) as link, link.cursor() as cursor:
        cursor.execute("SET SESSION foreign_key_checks = 0")
        cursor.execute("DELETE FROM cell_mappings")
        for number, (cell, url) in enumerate(urls.items(), start=1):
            columns = "(id, uuid, name, transport_url, database_connection, disabled)"
            values = (number, uuid_of(number), cell, "none:///", url, 0)
            cursor.execute(f"INSERT INTO cell_mappings {columns} VALUES %s", [values])


@contextmanager
def cloud(cells: int) -> Iterator[Cloud]:
    """A cloud on a server of its own."""
    with MariaDB(*SETTINGS) as server:
        yield Cloud(server, cells)


def schema(dump: Path) -> list[str]:
    """The statements of a dump that make its tables."""
    statements = gzip.decompress(dump.read_bytes()).decode().split(";\n")
    return [statement for statement in statements if statement.startswith("CREATE TABLE")]
