"""The demo's cloud on SQLite, and the program run on it in the process of the test."""

import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from demo.cloud import CELL0_UUID, build, databases
from tests.support.command import NOTHING_READY, Ended, call_here


class DemoCloud:
    """cell0 and three cells with some instances each, half of them deleted; one of those is blocked
    in cell2.

    :ivar config: its nova.conf
    """

    def __init__(self, folder: Path, instances: int = 12) -> None:
        self.folder = folder
        self.config = build(folder, instances=instances)

    def copy(self, folder: Path) -> "DemoCloud":
        """The same cloud in another place."""
        shutil.copytree(self.folder, folder)
        copied = DemoCloud.__new__(DemoCloud)
        copied.folder, copied.config = folder, folder / self.config.name
        copied.config.write_text(copied.config.read_text().replace(str(self.folder), str(folder)))
        copied.sql(
            "API",
            "UPDATE cell_mappings SET database_connection = replace(database_connection, ?, ?)",
            str(self.folder),
            str(folder),
        )
        return copied

    def configure(self, text: str) -> None:
        """Add to nova.conf."""
        self.config.write_text(f"{self.config.read_text()}\n{text}\n")

    def call(self, line: str, ready: Mapping[str, Any] = NOTHING_READY) -> Ended:
        """Carry out a command line with its configuration."""
        return call_here(line, config=self.config, ready=ready)

    def sql(self, database: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Carry out a statement.

        :param database: ``API``, or the name of a cell
        """
        file, _ = databases(self.folder)[database]
        with closing(sqlite3.connect(file, timeout=30)) as link, link:
            return link.execute(statement, values).fetchall()

    def scalar(self, database: str, statement: str, *values: Any) -> Any:
        """The only value that a statement gives."""
        ((value,),) = self.sql(database, statement, *values)
        return value

    def uuid(self, cell: str) -> str:
        """The UUID of a cell."""
        uuid = self.scalar("API", "SELECT uuid FROM cell_mappings WHERE name = ?", cell)
        assert isinstance(uuid, str)
        return uuid

    def lose(self, cell: str) -> None:
        """Have the database of a cell in a folder that is not there."""
        url = f"sqlite:///{self.folder}/nowhere/{cell}.db"
        self.sql(
            "API", "UPDATE cell_mappings SET database_connection = ? WHERE name = ?", url, cell
        )


CELL0: Final = CELL0_UUID
