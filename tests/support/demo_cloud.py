"""The demo's cloud on SQLite, and the program carried out on it in the process of the test."""

import contextlib
import io
import json
import os
import shlex
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from unittest import mock

from cli import main
from cli.output import begin_printing
from demo.cloud import CELL0_UUID, build, databases

NOTHING_READY: Final[Mapping[str, Any]] = MappingProxyType({})
# What a terminal is for tables, and no home with files of a configuration.
ENVIRONMENT: Final = {"HOME": "/dev/null", "COLUMNS": "80"}


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, and what it printed on standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON that is all of its standard output."""
        return json.loads(self.out)


def carry_out(line: str, config: Path | None = None, ready: Mapping[str, Any] = NOTHING_READY) -> Ended:
    """Carry a command line out in this process, and in this thread.

    :param config: goes before its words as ``--config-file``
    :param ready: what was made for the command before, as ``cli.main.execute`` takes it
    """
    words = [f"--config-file={config}"] if config else []
    out, err = io.StringIO(), io.StringIO()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ, kept | ENVIRONMENT, clear=True),
    ):
        begin_printing()
        words += shlex.split(line)
        code = main.execute(words, ready) if ready else main.run(words)
    return Ended(code, out.getvalue(), err.getvalue())


class DemoCloud:
    """cell0 and three cells with some instances each, half of them deleted; one of those is blocked in cell2.

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
        return carry_out(line, self.config, ready)

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
        self.sql("API", "UPDATE cell_mappings SET database_connection = ? WHERE name = ?", url, cell)


CELL0: Final = CELL0_UUID
