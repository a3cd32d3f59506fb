"""A small cloud on SQLite: as much of Nova's tables as the commands of the category ``placement``
read.
"""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, Final

API: Final = """
CREATE TABLE cell_mappings (id INTEGER PRIMARY KEY, uuid TEXT, name TEXT, transport_url TEXT, database_connection TEXT,
    disabled INTEGER DEFAULT 0);
CREATE TABLE instance_mappings (id INTEGER PRIMARY KEY, instance_uuid TEXT UNIQUE, cell_id INTEGER, project_id TEXT,
    user_id TEXT, queued_for_delete INTEGER DEFAULT 0);
"""
CELL: Final = """
CREATE TABLE instances (id INTEGER PRIMARY KEY, uuid TEXT UNIQUE, project_id TEXT, user_id TEXT, host TEXT, node TEXT,
    task_state TEXT, vm_state TEXT, image_ref TEXT, hidden INTEGER DEFAULT 0, deleted INTEGER DEFAULT 0);
CREATE TABLE instance_extra (id INTEGER PRIMARY KEY, instance_uuid TEXT, flavor TEXT, deleted INTEGER DEFAULT 0);
CREATE TABLE instance_system_metadata (id INTEGER PRIMARY KEY, instance_uuid TEXT, key TEXT, value TEXT,
    deleted INTEGER DEFAULT 0);
CREATE TABLE block_device_mapping (id INTEGER PRIMARY KEY, instance_uuid TEXT, boot_index INTEGER,
    destination_type TEXT, deleted INTEGER DEFAULT 0);
CREATE TABLE compute_nodes (id INTEGER PRIMARY KEY, uuid TEXT, host TEXT, hypervisor_hostname TEXT,
    deleted INTEGER DEFAULT 0);
"""
CELL0: Final = "00000000-0000-0000-0000-000000000000"
NOVA_CONF: Final = """\
[database]
connection = {cell}
[api_database]
connection = {api}
[cellkeeper]
lock_path = {locks}
"""
PROJECT, USER = "p1", "u1"
SMALL: Final = {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 10}
"""What an instance of the flavor that ``flavor()`` makes needs."""


def flavor(extra_specs: Mapping[str, str] | None = None, **sizes: int) -> dict[str, Any]:
    """A flavor as ``instance_extra`` has it."""
    plain = {"vcpus": 1, "memory_mb": 512, "root_gb": 10, "ephemeral_gb": 0, "swap": 0}
    data = {"name": "small", **plain, **sizes, "extra_specs": dict(extra_specs or {})}
    return {
        "cur": {"nova_object.name": "Flavor", "nova_object.data": data},
        "old": None,
        "new": None,
    }


class SmallCloud:
    """cell0 and some cells, each with one host of its name: ``host1`` in ``cell1``.

    :ivar config: its nova.conf; without services
    """

    def __init__(self, folder: Path, cells: int = 2) -> None:
        self._folder = folder
        self._numbers = count(1)
        self._make("api", API)
        for number in range(cells + 1):
            name = f"cell{number}"
            self._make(name, CELL)
            uuid = self.cell_uuid(number)
            columns = "(uuid, name, transport_url, database_connection)"
            self.run(
                "api",
                f"INSERT INTO cell_mappings {columns} VALUES (?, ?, 'none:///', ?)",
                uuid,
                name,
                self._url(name),
            )
            if number:
                self.add_node(number, f"host{number}")
        self.config = folder / "nova.conf"
        self.config.write_text(
            NOVA_CONF.format(cell=self._url("cell1"), api=self._url("api"), locks=folder / "locks")
        )

    def configure(self, text: str) -> None:
        """Add to nova.conf."""
        self.config.write_text(self.config.read_text() + text)

    @staticmethod
    def cell_uuid(number: int) -> str:
        """The UUID of a cell."""
        return f"dddddddd-0000-4000-8000-{number:012}" if number else CELL0

    @staticmethod
    def node_uuid(number: int) -> str:
        """The UUID of the compute node of a cell's host."""
        return f"cccccccc-0000-4000-8000-{number:012}"

    def add_node(self, cell: int, host: str, uuid: str = "") -> str:
        """Add a compute node; returns its UUID."""
        uuid = uuid or self.node_uuid(cell)
        self.run(
            f"cell{cell}",
            "INSERT INTO compute_nodes (uuid, host, hypervisor_hostname) VALUES (?, ?, ?)",
            uuid,
            host,
            host,
        )
        return uuid

    def add(
        self,
        cell: int = 1,
        stored: dict[str, Any] | None = None,
        mapped: bool = True,
        volume: bool = False,
        **columns: Any,
    ) -> str:
        """Add an instance; returns its UUID.

        :param stored: its flavor
        :param volume: whether it boots from a volume
        :param columns: of ``instances``
        """
        uuid = f"11111111-0000-4000-8000-{next(self._numbers):012}"
        plain = {"uuid": uuid, "project_id": PROJECT, "user_id": USER, "host": f"host{cell}", "node": f"host{cell}",
                 "vm_state": "active", "image_ref": "" if volume else "image"}  # fmt: skip
        row = plain | columns
        database = f"cell{cell}"
        marks = ", ".join("?" for _ in row)
        self.run(
            database, f"INSERT INTO instances ({', '.join(row)}) VALUES ({marks})", *row.values()
        )
        self.run(
            database,
            "INSERT INTO instance_extra (instance_uuid, flavor) VALUES (?, ?)",
            uuid,
            json.dumps(stored or flavor()),
        )
        self.run(
            database, "INSERT INTO block_device_mapping (instance_uuid, boot_index, "
            "destination_type) VALUES (?, 0, ?)",
            uuid, "volume" if volume else "local",
        )  # fmt: skip
        if mapped:
            self.run(
                "api", "INSERT INTO instance_mappings (instance_uuid, cell_id, project_id, "
                "user_id) SELECT ?, id, ?, ? "
                "FROM cell_mappings WHERE uuid = "
                "?", uuid, row["project_id"], row["user_id"], self.cell_uuid(cell),
            )  # fmt: skip
        return uuid

    def run(self, database: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement in ``api`` or a cell."""
        with (
            closing(sqlite3.connect(self._folder / f"{database}.sqlite", timeout=30)) as link,
            link,
        ):
            return link.execute(sql, values).fetchall()

    def _make(self, name: str, statements: str) -> None:
        with closing(sqlite3.connect(self._folder / f"{name}.sqlite")) as link, link:
            link.executescript(statements)

    def _url(self, name: str) -> str:
        return f"sqlite:///{self._folder / name}.sqlite"
