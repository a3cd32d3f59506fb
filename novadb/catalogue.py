"""Which tables, columns and foreign keys a database has, read in three statements.

Nothing here knows a release of Nova: what the database says of itself is what the work goes by.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

SHADOW: Final = "shadow_"

_COLUMNS: Final = {
    "mysql": """
        SELECT table_name, GROUP_CONCAT(column_name ORDER BY ordinal_position),
               GROUP_CONCAT(IF(column_key = 'PRI', column_name, NULL) ORDER BY ordinal_position)
        FROM information_schema.columns
        WHERE table_schema = DATABASE() AND extra NOT LIKE '%GENERATED%'
        GROUP BY table_name""",
    "sqlite": """
        SELECT m.name, GROUP_CONCAT(c.name), GROUP_CONCAT(CASE WHEN c.pk THEN c.name END)
        FROM sqlite_master m, pragma_table_info(m.name) c
        WHERE m.type = 'table' GROUP BY m.name""",
}
# Asked on its own: to join the two, MariaDB goes through the tables of all schemas of the server.
_VIEWS: Final = {
    "mysql": "SELECT table_name FROM information_schema.views WHERE table_schema = DATABASE()",
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'view'",
}
_FOREIGN_KEYS: Final = {
    "mysql": """
        SELECT table_name, column_name, referenced_table_name, referenced_column_name
        FROM information_schema.key_column_usage
        WHERE table_schema = DATABASE() AND referenced_table_name IS NOT NULL""",
    "sqlite": """
        SELECT m.name, k."from", k."table", k."to"
        FROM sqlite_master m, pragma_foreign_key_list(m.name) k
        WHERE m.type = 'table'""",
}


@dataclass(frozen=True, order=True)
class ForeignKey:
    """``table.column`` names a row of ``parent`` by its ``parent_column``."""

    table: str
    column: str
    parent: str
    parent_column: str


@dataclass(frozen=True)
class Catalogue:
    """The tables of one database.

    :ivar columns: the columns of each table, in order, without generated ones
    :ivar primary_keys: the columns of each table's primary key
    :ivar foreign_keys: all foreign keys, sorted
    """

    columns: dict[str, tuple[str, ...]]
    primary_keys: dict[str, tuple[str, ...]]
    foreign_keys: tuple[ForeignKey, ...]

    def shadow(self, table: str) -> str | None:
        """The name of a table's shadow table, where it has one."""
        name = SHADOW + table
        return name if name in self.columns else None

    def shadow_tables(self) -> list[str]:
        """All shadow tables, by name."""
        return sorted(name for name in self.columns if name.startswith(SHADOW))

    def references_to(self, table: str) -> list[ForeignKey]:
        """The foreign keys whose parent the table is; one that names its own table is left out."""
        return [key for key in self.foreign_keys if key.parent == table != key.table]


def read(connection: Connection) -> Catalogue:
    """Read the catalogue of the connected database."""
    dialect = "sqlite" if connection.dialect.name == "sqlite" else "mysql"
    views = set(connection.execute(text(_VIEWS[dialect])).scalars())
    tables = [row for row in connection.execute(text(_COLUMNS[dialect])) if row[0] not in views]
    keys = connection.execute(text(_FOREIGN_KEYS[dialect])).all()
    return Catalogue(
        columns={name: tuple(columns.split(",")) for name, columns, _ in tables},
        primary_keys={name: tuple((primary or "").split(",")) if primary else () for name, _, primary in tables},
        foreign_keys=tuple(sorted(ForeignKey(*key) for key in keys)),
    )
