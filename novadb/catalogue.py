"""Which tables, columns and foreign keys a database has, read in three statements.

Nothing here knows a release of Nova: what the database says of itself is what the work goes by.
"""

from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, text

SHADOW_PREFIX: Final = "shadow_"

_COLUMNS: Final = {
    "mysql": """
        SELECT table_name, GROUP_CONCAT(column_name ORDER BY ordinal_position),
               GROUP_CONCAT(IF(column_key = 'PRI', column_name, NULL) ORDER BY ordinal_position),
               GROUP_CONCAT(IF(is_nullable = 'NO' AND column_default IS NULL AND extra = '', column_name, NULL))
        FROM information_schema.columns
        WHERE table_schema = DATABASE() AND REPLACE(extra, 'DEFAULT_GENERATED', '') NOT LIKE '%GENERATED%'
        GROUP BY table_name""",
    "sqlite": """
        SELECT m.name, GROUP_CONCAT(c.name), GROUP_CONCAT(CASE WHEN c.pk THEN c.name END),
               GROUP_CONCAT(CASE WHEN c."notnull" AND c.dflt_value IS NULL AND NOT c.pk THEN c.name END)
        FROM sqlite_master m, pragma_table_info(m.name) c
        WHERE m.type = 'table' GROUP BY m.name""",
}
# Each view, and each table with its engine if that knows no transactions. Asked on its own: to join it with the
# columns, MariaDB goes through the tables of all schemas of the server.
_ODD: Final = {
    "mysql": """
        SELECT table_name, table_type = 'VIEW', engine
        FROM information_schema.tables
        WHERE table_schema = DATABASE() AND (engine IS NULL OR engine NOT IN
              (SELECT engine FROM information_schema.engines WHERE transactions = 'YES'))""",
    "sqlite": "SELECT name, 1, NULL FROM sqlite_master WHERE type = 'view'",
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
    :ivar required: the columns of each table to which a new row must give a value
    :ivar plain_engines: by table, its engine where that knows no transactions, as MyISAM and Aria do not
    """

    columns: dict[str, tuple[str, ...]]
    primary_keys: dict[str, tuple[str, ...]]
    foreign_keys: tuple[ForeignKey, ...]
    required: dict[str, tuple[str, ...]] = field(default_factory=dict)
    plain_engines: dict[str, str] = field(default_factory=dict)

    def shadow(self, table: str) -> str | None:
        """The name of a table's shadow table, where it has one."""
        name = SHADOW_PREFIX + table
        return name if name in self.columns else None

    def shadow_tables(self) -> list[str]:
        """All shadow tables, by name."""
        return sorted(name for name in self.columns if name.startswith(SHADOW_PREFIX))

    def references_to(self, table: str) -> list[ForeignKey]:
        """The foreign keys whose parent the table is; one that names its own table is left out."""
        return [key for key in self.foreign_keys if key.parent == table != key.table]


def read_catalogue(connection: Connection) -> Catalogue:
    """Read the catalogue of the connected database."""
    dialect = "sqlite" if connection.dialect.name == "sqlite" else "mysql"
    odd_tables = connection.execute(text(_ODD[dialect])).all()
    views = {name for name, is_view, _ in odd_tables if is_view}
    tables = [row for row in connection.execute(text(_COLUMNS[dialect])) if row[0] not in views]
    keys = connection.execute(text(_FOREIGN_KEYS[dialect])).all()
    return Catalogue(
        columns={name: _names(columns) for name, columns, _, _ in tables},
        primary_keys={name: _names(primary) for name, _, primary, _ in tables},
        foreign_keys=tuple(sorted(ForeignKey(*key) for key in keys)),
        required={name: _names(required) for name, _, _, required in tables},
        plain_engines={name: engine for name, is_view, engine in odd_tables if engine and not is_view},
    )


def _names(listed: str | None) -> tuple[str, ...]:
    return tuple(listed.split(",")) if listed else ()
