"""What a database server suffers, as a query of the operator's sees it: a test sets it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.services import MariaDB

SCHEMA = "pressure"
LIMIT = 5


class Pressure:
    """A number in a table of the server. From ``LIMIT`` on the work pauses."""

    def __init__(self, server: MariaDB) -> None:
        self._server = server

    def configure(self, config: Path) -> None:
        """Have a configuration ask for it."""
        section = f"\n[throttle]\nquery = SELECT value FROM {SCHEMA}.now\nmax_query = {LIMIT}\n"
        config.write_text(config.read_text() + section)

    def rise(self) -> None:
        """Let the work pause."""
        self._server.execute("UPDATE now SET value = 9", SCHEMA)

    def fall(self) -> None:
        """Let the work go on."""
        self._server.execute("UPDATE now SET value = 0", SCHEMA)


@contextmanager
def pressure_on(server: MariaDB) -> Iterator[Pressure]:
    """A server without pressure."""
    server.drop(SCHEMA)
    server.create(SCHEMA)
    server.execute("CREATE TABLE now AS SELECT 0 AS value", SCHEMA)
    try:
        yield Pressure(server)
    finally:
        server.revive()
        server.drop(SCHEMA)
