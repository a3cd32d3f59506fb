"""Every command and health check of the compose file, run as it stands there: the whole stack,
without containers.
"""

import gzip
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.compose import PATIENCE, ROOT, Host, Stack, variables_of
from tests.support.command import until
from tests.support.realcloud import DUMPED_URL, DUMPS
from tests.support.services import MariaDB

DATABASES: Final = ROOT / "deploy" / "compose" / "databases.sh"
ARCHIVE: Final = "db archive_deleted_rows --all-cells --until-complete"
TWO_CELLS: Final = (
    "SET foreign_key_checks = 0; DELETE FROM cell_mappings WHERE name NOT IN ('cell0', 'cell1')"
)
IN_TURN: Final = ("redis", "worker", "worker-cell1", "beat", "flower", "metrics")


class Image(MariaDB):
    """MariaDB as its image starts it: first on its socket alone, then on its own port."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.port = 3306
        self._host = host
        self._networking = "--skip-networking"

    @property
    def socket(self) -> Path:
        return self.folder / "data" / "server.sock"

    def command(self) -> list[str]:
        return self._host.words([*super().command(), self._networking])

    def answers(self) -> bool:
        return self.socket.exists()

    def go_public(self) -> None:
        self._networking = "--skip-name-resolve"
        self.restart()

    def fill(self, database: str, password: str) -> None:
        """Load the dump of a database."""
        dump = gzip.decompress((DUMPS / f"{database}.sql.gz").read_bytes())
        dump = dump.replace(
            DUMPED_URL.encode(), f"mysql+pymysql://cellkeeper:{password}@mariadb/".encode()
        )
        self._mariadb(database, "cellkeeper", password, dump)

    def sql(self, database: str, user: str, password: str, sql: str) -> str:
        """Run statements by the server's socket."""
        return self._mariadb(database, user, password, sql.encode())

    def _mariadb(self, database: str, user: str, password: str, sql: bytes) -> str:
        words = [
            "mariadb",
            "--no-defaults",
            f"--socket={self.socket}",
            f"--user={user}",
            "--batch",
            "-N",
            database,
        ]
        env = {"MYSQL_PWD": password}
        ended = subprocess.run(words, input=sql, env=env, capture_output=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.decode()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path, ["redis", "mariadb"]) as host:
        yield host


@pytest.fixture
def stack(host: Host, tmp_path: Path) -> Stack:
    subprocess.run(
        [ROOT / "deploy" / "compose" / "new-env", tmp_path], check=True, capture_output=True
    )
    folder = tmp_path / ".nova"
    folder.mkdir()
    shipped = (ROOT / "deploy" / "compose" / "cellkeeper.conf").read_text()
    (folder / "cellkeeper.conf").write_text(
        shipped.replace("#enabled =", "enabled = nightly_archive, weekly_purge")
    )
    return Stack(host, variables_of(tmp_path / ".env"))


def test_the_stack_starts_in_its_order_works_and_stops(host: Host, stack: Stack) -> None:
    secrets = stack.services["mariadb"]["environment"]
    own, root = secrets["MARIADB_PASSWORD"], secrets["MARIADB_ROOT_PASSWORD"]
    with Image(host) as mariadb:
        mariadb.sql("mysql", "root", "", f"ALTER USER root@localhost IDENTIFIED BY '{root}'")
        made = host.run([str(DATABASES)], secrets | {"MYSQL_UNIX_PORT": str(mariadb.socket)})
        assert made.returncode == 0, made.stderr
        assert not stack.is_healthy("mariadb")
        mariadb.go_public()
        until(lambda: stack.is_healthy("mariadb"))
        for database in ("nova_api", "nova_cell0", "nova_cell1"):
            mariadb.fill(database, own)
        mariadb.sql("nova_api", "cellkeeper", own, TWO_CELLS)

        running = {name: stack.start(name) for name in IN_TURN}
        for name, cells in (("worker", ("cell0", "cell1")), ("worker-cell1", ("cell1",))):
            for cell in cells:
                until(
                    lambda name=name, cell=cell: f"serving {cell}" in host.log_of(name).read_text()
                )  # type: ignore[misc]

        ended = host.run(["cellkeeper", *ARCHIVE.split()], stack.services["worker"]["environment"])
        assert (ended.returncode, ended.stderr) == (1, b"")
        left = "SELECT COUNT(*) FROM instances WHERE deleted != 0"
        assert mariadb.sql("nova_cell1", "cellkeeper", own, left).strip() == "0"

        for name in reversed(IN_TURN):
            running[name].send_signal(signal.SIGTERM)
            assert running[name].wait(PATIENCE) == 0, name
            # beat's asks whether it could start anything; that it ended is seen without.
            assert name == "beat" or not stack.is_healthy(name)
