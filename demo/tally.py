"""How many rows a cloud has, alive, marked as deleted and archived, cell by cell."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Table, create_engine, func, select
from sqlalchemy.pool import NullPool

from demo.cloud import databases
from demo.rows import tables, url_of
from novadb.catalogue import SHADOW_PREFIX
from novadb.migrations.upgrade import Schema


@dataclass(frozen=True)
class Tally:
    """The rows of one database.

    :ivar live: not marked as deleted
    :ivar deleted: marked as deleted, and still in their tables
    :ivar shadow: in the shadow tables
    """

    live: int
    deleted: int
    shadow: int


def count(folder: Path) -> dict[str, Tally]:
    """Count the rows of each database of a cloud."""
    return {name: _count(file, schema) for name, (file, schema) in databases(folder).items()}


def _count(file: Path, schema: Schema) -> Tally:
    with create_engine(url_of(file), poolclass=NullPool).connect() as connection:
        all_tables = tables(schema).sorted_tables
        shadows = [table for table in all_tables if table.name.startswith(SHADOW_PREFIX)]
        live = [table for table in all_tables if table not in shadows]
        total = sum(_rows(connection, table) for table in live)
        deleted = sum(_deleted(connection, table) for table in live if "deleted" in table.columns)
        return Tally(total - deleted, deleted, sum(_rows(connection, table) for table in shadows))


def _rows(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _deleted(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).where(table.columns.deleted != 0)).scalar_one()


def as_text(tallies: dict[str, Tally]) -> str:
    """A table for people, with the sum of all databases in its last line."""
    total = Tally(*(sum(column) for column in zip(*map(_numbers, tallies.values()), strict=True)))
    lines = [f"{'database':<10}{'live':>8}{'deleted':>10}{'in shadow tables':>19}"]
    for name, tally in [*tallies.items(), ("total", total)]:
        live, deleted, shadow = _numbers(tally)
        lines.append(f"{name:<10}{live:>8}{deleted:>10}{shadow:>19}")
    return "\n".join(lines)


def _numbers(tally: Tally) -> tuple[int, int, int]:
    return tally.live, tally.deleted, tally.shadow
