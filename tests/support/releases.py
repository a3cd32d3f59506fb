"""Databases as releases of Nova make them: their recorded tables, filled with the rows of the real
cloud.
"""

import json
import lzma
from collections.abc import Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.support import unmigrated
from tests.support.realcloud import NOVA_CONF, SESSION, load
from tests.support.services import MariaDB

RECORDED: Final = Path(__file__).parents[1] / "data" / "releases.json.xz"
API, CELL0, CELL = "release_api", "release_cell0", "release_cell3"
DUMPS: Final = {API: "nova_api", CELL0: "nova_cell0", CELL: "nova_cell3"}
CELLS: Final = (CELL0, CELL)
VERSION_TABLES: Final = ("alembic_version", "migrate_version")
# The column that not every release has.
NEWER_COLUMN: Final = "compute_id"


@cache
def recorded() -> Mapping[str, Any]:
    """What is known of each release, by its version; see tests/data/README.md."""
    with lzma.open(RECORDED, "rt") as file:
        by_release: Mapping[str, Any] = json.load(file)
    return by_release


def schema_of(database: str) -> str:
    """The name of a database's schema."""
    return "api" if database == API else "main"


class ReleasedCloud:
    """An API database, cell0 and a cell, as a release has made them.

    :ivar server: where they are
    """

    def __init__(self, server: MariaDB) -> None:
        self.server = server
        for database, dump in DUMPS.items():
            load(server, _source(database), f"{dump}.sql.gz")

    def make(self, tables: Mapping[str, Mapping[str, str]]) -> None:
        """Make the databases anew, with the rows of the real cloud as far as there are columns for
        them.

        :param tables: by schema, the statement that makes each table; those that fill the version
            table
        """
        for database in DUMPS:
            self.server.drop(database)
            # The default of the servers of those releases, and of the tables that were recorded.
            self.server.execute(
                f"CREATE DATABASE {database} CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci"
            )
            with (
                closing(self.server.connect(database, init_command=SESSION)) as link,
                link.cursor() as cursor,
            ):
                for statement in tables[schema_of(database)].values():
                    cursor.execute(statement)
                for copy in self._copies(database):
                    cursor.execute(copy)
        self._map_cells()

    def drop(self) -> None:
        """Remove the databases, and those that their rows come from."""
        for database in DUMPS:
            self.server.drop(database)
            self.server.drop(_source(database))

    def _copies(self, database: str) -> list[str]:
        """The statements that fill a database from the dump of the real cloud."""
        columns_of = (
            "SELECT table_name, column_name FROM information_schema.columns WHERE "
            "table_schema = '{}'"
        )
        shared = (
            "SELECT table_name, GROUP_CONCAT(CONCAT('`', column_name, '`')) "
            f"FROM ({columns_of.format(database)}) AS its "
            f"JOIN ({columns_of.format(_source(database))}) AS source USING (table_name, "
            "column_name) "
            "WHERE table_name <> 'alembic_version' GROUP BY table_name"
        )
        return [
            f"INSERT INTO `{table}` ({columns}) SELECT {columns} FROM "
            f"`{_source(database)}`.`{table}`"
            for table, columns in self.server.execute(shared)
        ]

    def _map_cells(self) -> None:
        """Let the mappings name these databases, and no others."""
        names = {database.removeprefix("release_"): database for database in CELLS}
        kept = ", ".join(f"'{name}'" for name in names)
        gone = f"SELECT id FROM cell_mappings WHERE name NOT IN ({kept})"
        for table in ("instance_mappings", "host_mappings"):
            self.rows(API, f"DELETE FROM {table} WHERE cell_id IN ({gone})")
        self.rows(API, f"DELETE FROM cell_mappings WHERE name NOT IN ({kept})")
        for name, database in names.items():
            url = self.server.url(database)
            self.rows(
                API, f"UPDATE cell_mappings SET database_connection = '{url}' WHERE name = '{name}'"
            )

    def rows(self, database: str, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement in a database; returns its rows."""
        return self.server.execute(sql, database)

    def config(self, folder: Path, cell: str = CELL) -> Path:
        """Write a nova.conf as on a controller of a cell; returns its path."""
        path = folder / f"{cell}.conf"
        urls = {"cell1": self.server.url(cell), "api": self.server.url(API)}
        path.write_text(NOVA_CONF.format(locks=folder / "locks", **urls))
        return path

    def counts(self) -> dict[str, int]:
        """How many rows there are, by database and table, but for empty tables and version
        tables.
        """
        counts = {}
        for database in DUMPS:
            tables = [
                table
                for (table,) in self.rows(database, "SHOW TABLES")
                if table not in VERSION_TABLES
            ]
            each = " UNION ALL ".join(
                f"SELECT '{table}', COUNT(*) FROM `{table}`" for table in tables
            )
            counts |= {
                f"{database}.{table}": count for table, count in self.rows(database, each) if count
            }
        return counts

    def put_back(self) -> None:
        """Undo the work of all online data migrations, as far as there are columns for it."""
        for cell in CELLS:
            for statement in (
                *unmigrated.IN_CELL,
                *(limit.format(cell) for limit in unmigrated.LIMITS),
            ):
                if NEWER_COLUMN not in statement or self._has_newer_column(cell):
                    self.rows(cell, statement)
        for statement in unmigrated.IN_API:
            self.rows(API, statement)

    def look(self) -> dict[str, list[str | None]]:
        """What online data migrations change: the values of each thing, by its database and
        name.
        """
        values = {}
        for database in DUMPS:
            for statement in self._looks(database):
                for name, *facts in self.rows(database, statement):
                    values[f"{database}: {name}"] = [
                        None if fact is None else str(fact) for fact in facts
                    ]
        return values

    def _looks(self, database: str) -> list[str]:
        statements = unmigrated.LOOKS[schema_of(database).replace("main", "cell")]
        if self._has_newer_column(database):
            return list(statements)
        return [statement.replace(NEWER_COLUMN, "NULL") for statement in statements]

    def _has_newer_column(self, database: str) -> bool:
        named = f"table_schema = '{database}' AND column_name = '{NEWER_COLUMN}'"
        return bool(self.rows(database, f"SELECT 1 FROM information_schema.columns WHERE {named}"))


def _source(database: str) -> str:
    """The database that holds the rows for another one."""
    return f"source_of_{database}"
