"""The real cloud with one cell, behind a relay; what a command leaves in it."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.acceptance.test_ironic_compute_node_move import NODE
from tests.support.command import Ended, call_here
from tests.support.hypervisors import Hosts, reachable
from tests.support.mysql_relay import Cut, MysqlRelay
from tests.support.realcloud import RealCloud
from tests.support.services import HOST, MariaDB

DATABASES: Final = (RealCloud.api, RealCloud.cell1)
# What differs from one run to the next.
MOMENTS: Final = ("created_at", "updated_at", "deleted_at")
# What a row gets that was added twice, the first time in vain; that it is deleted is told by its
# number.
NUMBERS: Final = ("id", "cell_id", "deleted")
OTHER_CELLS: Final = "(SELECT id FROM (SELECT id FROM cell_mappings WHERE name <> 'cell1') others)"
ONE_CELL: Final = (
    f"DELETE FROM host_mappings WHERE cell_id IN {OTHER_CELLS}",
    f"DELETE FROM instance_mappings WHERE cell_id IN {OTHER_CELLS}",
    "DELETE FROM cell_mappings WHERE name <> 'cell1'",
)
DIGEST: Final = (
    "SELECT COUNT(*), COALESCE(BIT_XOR(CAST(CRC32(CONCAT_WS('|', {columns})) AS "
    "UNSIGNED)), 0) FROM `{table}`"
)

State = dict[str, tuple[int, int]]
"""By table: how many rows, and a number that other rows would change."""


class CutCloud:
    """The API database and cell1, which is reached through the relay alone."""

    def __init__(self, server: MariaDB, relay: MysqlRelay, folder: Path) -> None:
        self.cloud = RealCloud(server, DATABASES)
        self.relay = relay
        self._server = server
        self.words = self._words()
        self.config = self.cloud.config(folder)
        self.config.write_text(self.config.read_text().replace(*self._detour))
        hosts = Hosts(folder)
        hosts.have_all(self.cloud, self.cloud.cell1)
        reachable(self.config, hosts.template)

    @property
    def _detour(self) -> tuple[str, str]:
        return f"@{HOST}:{self._server.port}/", f"@{HOST}:{self.relay.port}/"

    def prepare(self, statements: Sequence[tuple[str, str]]) -> None:
        """Put the dumped rows back, and change some.

        :param statements: each with the name of its database
        """
        self.cloud.restore()
        before, behind = self._detour
        reached = (
            "UPDATE cell_mappings SET database_connection = REPLACE(database_connection, "
            f"'{before}', '{behind}')"
        )
        for statement in (*ONE_CELL, reached):
            self.cloud.rows(self.cloud.api, statement)
        for database, statement in statements:
            self.cloud.rows(database, statement)

    def _words(self) -> dict[str, str]:
        """What command lines may name."""
        [[host]] = self.cloud.rows(
            self.cloud.api, "SELECT host FROM host_mappings WHERE host LIKE '%-c1-%' LIMIT 1"
        )
        [[node]] = self.cloud.rows(self.cloud.cell1, NODE)
        [[instance]] = self.cloud.rows(
            self.cloud.cell1, "SELECT uuid FROM instances WHERE deleted = 0 LIMIT 1"
        )
        return {"host": host, "instance": instance, "node": node, **self.cloud.uuids}

    def run(self, line: str, cut_at: int | None = None, cut: Cut = Cut.BEFORE) -> Ended:
        """Run a command in this process, and cut a line on the way."""
        self.relay.reset(cut_at, cut)
        return call_here(line, config=self.config)

    def state(self, *, numbered: bool) -> State:
        """What the databases hold, but for moments of time.

        :param numbered: with the numbers of the cell's rows
        """
        found: State = {}
        for database in DATABASES:
            passed_over = MOMENTS if numbered and database != self.cloud.api else MOMENTS + NUMBERS
            with closing(self._server.connect(database)) as link, link.cursor() as cursor:
                cursor.execute(
                    "SELECT table_name, GROUP_CONCAT(CONCAT('IFNULL(HEX(`', column_name, '`), "
                    "\\'-\\')')) "
                    "FROM information_schema.columns WHERE table_schema = DATABASE() "
                    f"AND column_name NOT IN {passed_over} GROUP BY table_name"
                )
                for table, columns in cursor.fetchall():
                    cursor.execute(DIGEST.format(columns=columns, table=table))
                    [row] = cursor.fetchall()
                    found[f"{database}.{table}"] = row
        return found
