"""A real Placement whose database is a file: for tests that need no server program."""

import sqlite3
import urllib.error
from contextlib import closing
from typing import ClassVar, Final

from tests.support.demo_cloud import DemoCloud
from tests.support.placement import CONFIG, EMPTIED, Placement
from tests.support.services import Service

SIZES: Final = {"VCPU": 64, "MEMORY_MB": 262_144, "DISK_GB": 10_000}


class SqlitePlacement(Placement):
    """One request at a time, as SQLite's writers get in each other's way."""

    PROGRAMS: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        Service.__init__(self)
        self.token = "admin"
        self._file = self.folder / "placement.sqlite"

    def prepare(self) -> None:
        (self.folder / "placement.conf").write_text(
            CONFIG.format(database=f"sqlite:///{self._file}")
        )

    def command(self) -> list[str]:
        return [*super().command(), "1"]

    def answers(self) -> bool:
        try:
            return super().answers()
        except urllib.error.URLError:
            return False

    def empty(self) -> None:
        with closing(sqlite3.connect(self._file, timeout=30)) as link, link:
            link.execute(
                "UPDATE resource_providers SET root_provider_id = NULL, parent_provider_id = NULL"
            )
            for table in EMPTIED:
                link.execute(f"DELETE FROM {table}")

    def know(self, cloud: DemoCloud, *cells: str) -> None:
        """Have a resource provider for each compute node of cells."""
        for cell in cells:
            nodes = cloud.sql(
                cell, "SELECT uuid, hypervisor_hostname FROM compute_nodes WHERE deleted = 0"
            )
            for uuid, name in nodes:
                self.provide(uuid, name, SIZES)
