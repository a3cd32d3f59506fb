"""Write tests/data/releases.json.xz anew: what the nova-manage of each release of Nova makes, and
does.

    .venv/bin/python tools/record_releases.py FOLDER...

Each FOLDER is a virtual environment with one release of Nova and PyMySQL. By the newest of them,
the databases of all are upgraded; release 24 must be there, which takes databases over from
sqlalchemy-migrate.
"""

import json
import lzma
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from novadb.engine import Database
from settings.databases import Timeouts
from tests.support.releases import API, CELL, CELLS, DUMPS, RECORDED, ReleasedCloud, schema_of
from tests.support.schemas import Description, describe
from tests.support.services import MariaDB

# What is recorded of the row of a version table: of sqlalchemy-migrate's not the folder of an
# installation.
VERSION_ROWS: Final = {
    "alembic_version": "version_num",
    "migrate_version": "repository_id, 'migrate_repo', version",
}
# The first release with alembic.
UNDER_ALEMBIC: Final = 24
VERSION_COMMANDS: Final = {"api": "api_db version", "main": "db version"}


class StockTool(NamedTuple):
    """The nova-manage of a release."""

    program: Path
    version: str

    @classmethod
    def in_folder(cls, folder: Path) -> "StockTool":
        program = folder / "bin" / "nova-manage"
        asked = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        return cls(program, asked.stdout.split()[-1])

    @property
    def number(self) -> int:
        """Of the release."""
        return int(self.version.partition(".")[0])

    def run(self, config: Path, line: str, codes: Sequence[int] = (0,)) -> str:
        """Run a command line; returns what it prints."""
        command = [self.program, "--config-file", config, *line.split()]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode in codes, (
            f"{self.version}: {line}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        )
        return ended.stdout

    def version_of(self, config: Path, command: str) -> str:
        """What a command prints as the version of a schema, below its log."""
        return self.run(config, command).splitlines()[-1]

    def sync(self, config: Path) -> None:
        """Bring all databases to its revisions."""
        self.run(config, "api_db sync")
        self.run(config, "db sync")


def main(folders: Sequence[str]) -> None:
    tools = sorted(
        (StockTool.in_folder(Path(folder)) for folder in folders), key=lambda tool: tool.number
    )
    between = next(tool for tool in tools if tool.number == UNDER_ALEMBIC)
    with MariaDB() as server, tempfile.TemporaryDirectory() as folder:
        cloud = ReleasedCloud(server)
        known = {}
        for tool in tools:
            print(tool.version)
            later = [between, tools[-1]] if tool.number < UNDER_ALEMBIC else [tools[-1]]
            known[tool.version] = record(cloud, cloud.config(Path(folder)), tool, later)
    with lzma.open(RECORDED, "wt", preset=9) as file:
        json.dump(known, file, sort_keys=True, indent=0)


def record(
    cloud: ReleasedCloud, config: Path, tool: StockTool, later: Sequence[StockTool]
) -> dict[str, Any]:
    """What there is to know of a release.

    :param later: the tools that upgrade its databases to the newest revisions, in turn
    """
    make_with(cloud, config, tool)
    versions = {
        schema: tool.version_of(config, command) for schema, command in VERSION_COMMANDS.items()
    }
    tables = {schema_of(database): dump(cloud, database) for database in (API, CELL)}
    cloud.make(tables)
    for newer in later:
        newer.sync(config)
    heads = {schema_of(database): description(cloud, database) for database in (API, CELL)}
    cloud.make(tables)
    return {"versions": versions, "tables": tables, "heads": heads} | work_of(cloud, config, tool)


def make_with(cloud: ReleasedCloud, config: Path, tool: StockTool) -> None:
    """Let a release make its databases."""
    for database in DUMPS:
        cloud.server.drop(database)
        cloud.server.create(database)
    tool.run(config, "api_db sync")
    tool.run(config, f"cell_v2 map_cell0 --database_connection {cloud.server.url(CELLS[0])}")
    tool.run(config, "db sync")


def dump(cloud: ReleasedCloud, database: str) -> dict[str, str]:
    """The statements that make a database's tables, and fill its version table."""
    statements = {}
    for (table,) in cloud.rows(database, "SHOW TABLES"):
        [(_, statement)] = cloud.rows(database, f"SHOW CREATE TABLE `{table}`")
        statements[table] = statement
    for table in statements.keys() & VERSION_ROWS.keys():
        [values] = cloud.rows(database, f"SELECT {VERSION_ROWS[table]} FROM {table}")
        statements[f"row of {table}"] = f"INSERT INTO {table} VALUES {values!r}".replace(",)", ")")
    return statements


def description(cloud: ReleasedCloud, database: str) -> Description:
    """What a database says of its tables."""
    with Database(cloud.server.url(database), database, Timeouts()).connect() as connection:
        return describe(connection)


def work_of(cloud: ReleasedCloud, config: Path, tool: StockTool) -> dict[str, Any]:
    """What a release makes of the rows of the real cloud."""
    cloud.put_back()
    for cell in CELLS:
        tool.run(cloud.config(config.parent, cell), "db online_data_migrations")
    migrated = cloud.look()
    tool.run(config, "db archive_deleted_rows --all-cells --until-complete", codes=(1,))
    archived = cloud.counts()
    tool.run(config, "db purge --all --all-cells")
    return {"migrated": migrated, "archived": archived, "purged": cloud.counts()}


if __name__ == "__main__":
    main(sys.argv[1:])
