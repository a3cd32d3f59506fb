"""A cloud of a few rows: the API database, cell0 and two cells in Nova's own schema, filled by the
test.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pymysql

from tests.support.realcloud import DUMPS, NOVA_CONF, read_dump
from tests.support.services import MariaDB

CELL0: Final = "00000000-0000-0000-0000-000000000000"
CELLS: Final = {
    "cell1": "ce110000-0000-4000-8000-000000000001",
    "cell2": "ce110000-0000-4000-8000-000000000002",
}
API_TABLES: Final = (
    "cell_mappings", "host_mappings", "instance_mappings", "build_requests", "aggregates", "aggregate_hosts",
)  # fmt: skip
CELL_TABLES: Final = (
    "compute_nodes", "shadow_compute_nodes", "instances", "migrations", "instance_extra", "block_device_mapping",
    "instance_system_metadata",
)  # fmt: skip
SESSION: Final = "SET foreign_key_checks = 0, sql_mode = ''"


class TwoCells:
    """On a private server; columns that a test says nothing of are empty or zero."""

    def __init__(self, server: MariaDB) -> None:
        self.server = server
        self._links: dict[str, pymysql.Connection[Any]] = {}
        api, cell = (
            read_dump(DUMPS / "nova_api.sql.gz", ""),
            read_dump(DUMPS / "nova_cell1.sql.gz", ""),
        )
        self._tables = {
            "two_cells_api": API_TABLES,
            **{f"two_cells_{name}": CELL_TABLES for name in ("cell0", *CELLS)},
        }
        for database, tables in self._tables.items():
            server.drop(database)
            server.create(database)
            definitions = [
                (api if database == "two_cells_api" else cell)[table][0] for table in tables
            ]
            self._run(database, *definitions)

    def empty(self) -> None:
        """Forget everything but the cells."""
        self.server.revive()
        self._links.clear()  # another test may have stopped the server
        for database, tables in self._tables.items():
            self._run(database, *(f"DELETE FROM {table}" for table in tables))
        for number, (name, uuid) in enumerate({"cell0": CELL0, **CELLS}.items(), 1):
            url = self.server.url(f"two_cells_{name}")
            self._insert(
                "api", "cell_mappings", id=number, uuid=uuid, name=name, database_connection=url
            )

    def forget_cells(self) -> None:
        """Map no cell at all."""
        self._run("two_cells_api", "DELETE FROM cell_mappings")

    def lose(self, cell: str, port: int) -> None:
        """Have the database of a cell on a port where nobody listens."""
        url = f"mysql+pymysql://nova:nova@127.0.0.1:{port}/lost"
        self._run(
            "two_cells_api",
            f"UPDATE cell_mappings SET database_connection = '{url}' WHERE name = '{cell}'",
        )

    def reach_by(self, port: int) -> None:
        """Have the databases of all cells on another port: that of a relay."""
        places = f"'@127.0.0.1:{self.server.port}/', '@127.0.0.1:{port}/'"
        change = (
            f"UPDATE cell_mappings SET database_connection = REPLACE(database_connection, {places})"
        )
        self._run("two_cells_api", change)

    def node(
        self, cell: str, uuid: str, host: str, node: str | None = None, **columns: Any
    ) -> None:
        """Add a compute node, which has the host's name unless another is given."""
        self._insert(cell, "compute_nodes", uuid=uuid, host=host, hypervisor_hostname=node or host,
                     **{"deleted": 0} | columns)  # fmt: skip

    def archived_node(self, cell: str, uuid: str, host: str) -> None:
        """Add a compute node that was deleted and archived."""
        self._insert(
            cell, "shadow_compute_nodes", uuid=uuid, host=host, hypervisor_hostname=host, deleted=1
        )

    def instance(
        self, cell: str, uuid: str, host: str | None, node: str | None = None, **columns: Any
    ) -> None:
        """Add an instance; an active one without a task unless the columns say otherwise."""
        defaults = {"deleted": 0, "vm_state": "active", "task_state": None}
        self._insert(
            cell, "instances", uuid=uuid, host=host, node=node or host, **defaults | columns
        )

    def equip(
        self, cell: str, uuid: str, flavor: Mapping[str, Any], *, from_volume: bool = False
    ) -> None:
        """Give an instance a flavor, as ``tests.support.small_cloud.flavor`` makes it, and a root
        disk.
        """
        self._insert(
            cell, "instance_extra", instance_uuid=uuid, flavor=json.dumps(flavor), deleted=0
        )
        kind = "volume" if from_volume else "local"
        self._insert(
            cell,
            "block_device_mapping",
            instance_uuid=uuid,
            boot_index=0,
            destination_type=kind,
            deleted=0,
        )

    def migration(
        self,
        cell: str,
        uuid: str,
        instance: str,
        source: str,
        destination: str | None,
        status: str | None,
        **columns: Any,
    ) -> None:
        """Add a migration between two hosts."""
        places = {
            "source_compute": source,
            "source_node": source,
            "dest_compute": destination,
            "dest_node": destination,
        }
        self._insert(cell, "migrations", uuid=uuid, instance_uuid=instance, status=status,
                     **{"deleted": 0} | places | columns)  # fmt: skip

    def map_host(self, host: str, cell: str) -> None:
        """Map a host to a cell."""
        self._insert("api", "host_mappings", host=host, cell_id=1 + [*CELLS].index(cell) + 1)

    def map_instance(self, uuid: str, cell: str, queued_for_delete: bool = False) -> None:
        """Map an instance to a cell."""
        number = 1 + ["cell0", *CELLS].index(cell)
        self._insert("api", "instance_mappings", instance_uuid=uuid, cell_id=number, project_id="p1",
                     user_id="u1", queued_for_delete=queued_for_delete)  # fmt: skip

    def build(self, uuid: str) -> None:
        """Add an instance that is being built and in no cell yet."""
        self._insert("api", "build_requests", instance_uuid=uuid, project_id="p1")

    def aggregate(self, uuid: str, name: str, *hosts: str) -> None:
        """Add a host aggregate."""
        number = self._insert("api", "aggregates", uuid=uuid, name=name)
        for host in hosts:
            self._insert("api", "aggregate_hosts", aggregate_id=number, host=host)

    def config(self, folder: Path, placement: str) -> Path:
        """Write a nova.conf; returns its path.

        :param placement: its section for Placement
        """
        path = folder / "nova.conf"
        urls = {name: self.server.url(f"two_cells_{name}") for name in ("api", "cell1")}
        path.write_text(NOVA_CONF.format(locks=folder / "locks", **urls) + placement)
        return path

    def _insert(self, database: str, table: str, **columns: Any) -> int:
        names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
        with self._link(f"two_cells_{database}").cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {table} ({names}) VALUES ({marks})", list(columns.values())
            )
            return int(cursor.lastrowid)

    def _run(self, database: str, *statements: str) -> None:
        with self._link(database).cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def _link(self, database: str) -> "pymysql.Connection[Any]":
        """The connection to a database."""
        if database not in self._links:
            self._links[database] = self.server.connect(database, init_command=SESSION)
        return self._links[database]
