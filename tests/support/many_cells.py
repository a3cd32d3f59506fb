"""A cloud of many small cells whose databases share one server with the API database."""

import json
import re
import threading
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pymysql.constants import CLIENT

from tests.support.realcloud import DUMPS, NOVA_CONF, load, read_dump
from tests.support.services import MariaDB

LIMIT: Final = 5
"""Connections to the server, by the configuration."""
# Connections that were closed, which the server has not noticed yet.
LEAVING: Final = 2
LOOKING: Final = 1
"""The connection by which somebody looks whether the server suffers."""
API: Final = "many_api"
CELLS: Final = "many\\_c%"
"""The databases of the cells, as a pattern."""
TABLES: Final = ("instances", "shadow_instances", "instance_extra", "shadow_instance_extra")
SESSION: Final = "SET foreign_key_checks = 0, sql_mode = ''"
OTHERS: Final = (
    "SELECT COUNT(*) FROM information_schema.processlist "
    f"WHERE user = '{MariaDB.USER}' AND id <> CONNECTION_ID() AND db LIKE '{{}}'"
)
INTERVAL: Final = 0.002  # seconds between two looks


class ManyCells:
    """The cloud. As a context manager it drops its databases at the end.

    :ivar server: which has all of them
    :ivar made: how many cells there are
    """

    def __init__(self, server: MariaDB) -> None:
        self.server = server
        self.made = 0
        self._definitions = read_dump(DUMPS / "nova_cell1.sql.gz", "")

    def __enter__(self) -> Self:
        load(self.server, API, "nova_api.sql.gz")
        return self

    def __exit__(self, *_: object) -> None:
        for number in range(self.made):
            self.server.drop(name_of(number))
        self.server.drop(API)

    def have(self, cells: int, instances: int) -> None:
        """Let there be so many cells, each with so many deleted instances, and nothing archived."""
        statements = [
            statement
            for number in range(cells)
            for statement in self._statements(number, instances)
        ]
        rows = ", ".join(
            f"({uuid_of(number)!r}, 'many{number}', 'none:///', "
            f"{self.server.url(name_of(number))!r}, 0)"
            for number in range(cells)
        )
        tables = ("host_mappings", "instance_mappings", "cell_mappings")
        statements += [f"DELETE FROM {API}.{table}" for table in tables]
        statements.append(
            f"INSERT INTO {API}.cell_mappings (uuid, name, transport_url, database_connection, "
            f"disabled) VALUES {rows}"
        )
        options = {"client_flag": CLIENT.MULTI_STATEMENTS, "init_command": SESSION}
        with closing(self.server.connect(**options)) as link, link.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        self.made = max(self.made, cells)

    def _statements(self, number: int, instances: int) -> list[str]:
        """What makes a cell, or empties and fills it again."""
        name = name_of(number)
        if number < self.made:
            made = [f"DELETE FROM {name}.{table}" for table in TABLES]
        else:
            definitions = [self._definitions[table][0] for table in TABLES]
            made = [f"CREATE DATABASE {name} CHARACTER SET utf8mb3", f"USE {name}", *definitions]
        sequence = f"FROM seq_1_to_{instances}"
        return [
            *made,
            f"USE {name}",
            "INSERT INTO instances (uuid, deleted, deleted_at) SELECT UUID(), seq, '2026-01-01' "
            f"{sequence}",
            "INSERT INTO instance_extra (instance_uuid, deleted, deleted_at) "
            "SELECT uuid, id, deleted_at FROM instances",
        ]

    def config(self, folder: Path) -> Path:
        """Write a nova.conf; returns its path."""
        urls = {"api": self.server.url(API), "cell1": self.server.url(name_of(0))}
        path = folder / "nova.conf"
        text = NOVA_CONF.format(locks=folder / "locks", **urls)
        path.write_text(f"{text}concurrency_per_server = {LIMIT}\n")
        return path

    def live(self) -> int:
        """How many deleted instances are left in all cells."""
        counts = " UNION ALL ".join(
            f"SELECT COUNT(*) n FROM {name_of(n)}.instances" for n in range(self.made)
        )
        return int(self.server.execute(f"SELECT SUM(n) FROM ({counts}) cells")[0][0])


def name_of(number: int) -> str:
    """The database of a cell."""
    return f"many_c{number}"


def uuid_of(number: int) -> str:
    """The uuid of a cell."""
    return f"00000000-0000-4000-8000-{number:012}"


class Peak:
    """Watches, as a context manager, what processes have at most.

    :ivar connections: to the databases of the cells and of their API, of whatever process
    :ivar threads: of one of the processes
    :ivar files: that one of them has open
    :ivar memory: of one of them, in KiB
    """

    def __init__(self, server: MariaDB, *processes: int, databases: str = "many%") -> None:
        """:param databases: to which connections are counted, as SQL has patterns"""
        self._look = OTHERS.format(databases)
        self._server = server
        self._processes = processes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.connections = self.threads = self.files = self.memory = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def __str__(self) -> str:
        return json.dumps(
            {name: value for name, value in vars(self).items() if not name.startswith("_")}
        )

    def _watch(self) -> None:
        with closing(self._server.connect()) as link, link.cursor() as cursor:
            while not self._over.wait(INTERVAL):
                cursor.execute(self._look)
                [(connections,)] = cursor.fetchall()
                self.connections = max(self.connections, connections)
                for process in self._processes:
                    self._look_at(process)

    def _look_at(self, process: int) -> None:
        folder = Path(f"/proc/{process}")
        try:
            status = (folder / "status").read_text()
            files = len(list((folder / "fd").iterdir()))
        except OSError:  # it has ended
            return
        found = dict(re.findall(r"^(Threads|VmHWM):\s+(\d+)", status, re.MULTILINE))
        self.files = max(self.files, files)
        self.threads = max(self.threads, int(found.get("Threads", 0)))
        self.memory = max(self.memory, int(found.get("VmHWM", 0)))
