"""Rows on their way into a database: collected first, numbered as Nova would, written in bulk."""

from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import MetaData, Table, create_engine, insert
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool


class Dice(Random):
    """The one source of all that is arbitrary: the same seed gives the same cloud."""

    def uuid(self) -> str:
        """A random UUID, as Nova writes them."""
        return str(UUID(int=self.getrandbits(128), version=4))

    def hex(self) -> str:
        """A random UUID without dashes, as Keystone writes them."""
        return UUID(int=self.getrandbits(128), version=4).hex

    def mac(self) -> str:
        """A random address in the range that Neutron hands out."""
        return "fa:16:3e:" + ":".join(f"{self.getrandbits(8):02x}" for _ in range(3))

    def before(self, moment: datetime, low: float, high: float) -> datetime:
        """A moment that lies between ``low`` and ``high`` days before another one, to the second."""
        return moment - timedelta(seconds=round(self.uniform(low, high) * 86400))


class Sheet:
    """The rows of one database, not yet written."""

    def __init__(self, metadata: MetaData) -> None:
        self._metadata = metadata
        self._rows: dict[Table, list[dict[str, Any]]] = {table: [] for table in metadata.sorted_tables}

    def add(self, table: Table, *, gone: datetime | None = None, **values: Any) -> int:
        """Note a row.

        :param gone: when it was marked as deleted; None: it is alive
        :returns: its id
        """
        rows = self._rows[table]
        row: dict[str, Any] = dict.fromkeys(table.columns.keys())
        marks = {"id": len(rows) + 1, "deleted": len(rows) + 1 if gone else 0, "deleted_at": gone}
        rows.append(row | {name: value for name, value in marks.items() if name in row} | values)
        return len(rows)

    def write(self, file: Path) -> None:
        """Make a database file with all tables and the noted rows."""
        engine = create_engine(url_of(file), poolclass=NullPool)
        with engine.begin() as connection:
            # Without it the driver commits each CREATE TABLE by itself, and waits for the disk each time.
            connection.exec_driver_sql("BEGIN")
            self._metadata.create_all(connection)
            for table, rows in self._rows.items():
                if rows:
                    connection.execute(insert(table), rows)


def url_of(file: Path) -> URL:
    """The URL of a database file."""
    return URL.create("sqlite", database=str(file))
