"""Rows on their way into a database: collected first, numbered as Nova would, written in bulk."""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import UUID

from sqlalchemy import MetaData, create_engine, insert
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from novadb.engine import Database
from novadb.migrations.upgrade import Schema, upgrade_schema
from settings.databases import Timeouts

MARKS: Final = ("id", "deleted", "deleted_at")


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
        """A moment that lies between ``low`` and ``high`` days before another one, to the
        second.
        """
        return moment - timedelta(seconds=round(self.uniform(low, high) * 86400))


class Sheet:
    """The rows of one database, not yet written."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)

    def add(self, table: str, *, gone: datetime | None = None, **values: Any) -> int:
        """Note a row.

        :param gone: when it was marked as deleted; None: it is alive
        :returns: its id
        """
        rows = self._rows[table]
        number = len(rows) + 1
        rows.append(dict(zip(MARKS, (number, number if gone else 0, gone), strict=True)) | values)
        return number

    def write(self, file: Path) -> None:
        """Make a database file with all tables and the noted rows."""
        file.write_bytes(empty_database(self._schema))
        with create_engine(url_of(file), poolclass=NullPool).begin() as connection:
            for table in tables(self._schema).sorted_tables:
                if rows := self._rows[table.name]:
                    blank: dict[str, Any] = dict.fromkeys(table.columns.keys())
                    connection.execute(
                        insert(table), [blank | _without_surplus_marks(row, blank) for row in rows]
                    )


def _without_surplus_marks(row: dict[str, Any], columns: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name in columns or name not in MARKS}


@cache
def empty_database(schema: Schema) -> bytes:
    """The file of a database as the migrations make it."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "empty.db"
        upgrade_schema(
            Database(url_of(file).render_as_string(), "an empty database", Timeouts()), schema
        )
        return file.read_bytes()


@cache
def tables(schema: Schema) -> MetaData:
    """The tables that the migrations make."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "empty.db"
        file.write_bytes(empty_database(schema))
        found = MetaData()
        found.reflect(create_engine(url_of(file), poolclass=NullPool))
        return found


def url_of(file: Path) -> URL:
    """The URL of a database file."""
    return URL.create("sqlite", database=str(file))
