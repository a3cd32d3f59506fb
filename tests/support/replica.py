"""A MariaDB server with a replica that really replicates."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.services import HOST, MariaDB


class Primary(MariaDB):
    """A server that writes a binary log."""

    def __init__(self) -> None:
        super().__init__("--log-bin=binlog", "--server-id=1", "--gtid-strict-mode=1")


class Replica(MariaDB):
    """A replica of it, which reports to it where it is."""

    def __init__(self, primary: Primary) -> None:
        super().__init__("--server-id=2", f"--report-host={HOST}")
        self._options = (*self._options, f"--report-port={self.port}")
        self._primary = primary

    def replicate(self) -> None:
        """Begin to apply all that the primary has done since its first start."""
        self.execute(
            f"CHANGE MASTER TO master_host='{HOST}', master_port={self._primary.port}, "
            f"master_user='{self.USER}', master_password='{self.PASSWORD}', "
            "master_use_gtid=slave_pos"
        )
        self.execute("START SLAVE")


@contextmanager
def replicated() -> Iterator[tuple[Primary, Replica]]:
    """A primary and its replica, from their start to their end."""
    with Primary() as primary, Replica(primary) as replica:
        primary.execute("RESET MASTER")  # both have made their users themselves
        replica.replicate()
        yield primary, replica
