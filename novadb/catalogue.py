"""Which tables, columns and foreign keys a database has, read in three statements.

Nothing here knows the releases of Nova: only what the database says of itself counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, text

SHADOW_PREFIX: Final = "shadow_"
CATALOGUES: Final = 4
"""How many are kept: most cells have the same schema, others while they are upgraded."""

_COLUMNS: Final = {
    "mysql": """
        SELECT table_name, GROUP_CONCAT(column_name ORDER BY ordinal_position),
               GROUP_CONCAT(IF(column_key = 'PRI', column_name, NULL) ORDER BY ordinal_position),
               GROUP_CONCAT(IF(is_nullable = 'NO' AND column_default IS NULL AND extra = '',
                               column_name, NULL))
        FROM information_schema.columns
        WHERE table_schema = DATABASE()
          AND REPLACE(extra, 'DEFAULT_GENERATED', '') NOT LIKE '%GENERATED%'
        GROUP BY table_name""",
    "sqlite": """
        SELECT m.name, GROUP_CONCAT(c.name), GROUP_CONCAT(CASE WHEN c.pk THEN c.name END),
               GROUP_CONCAT(CASE WHEN c."notnull" AND c.dflt_value IS NULL AND NOT c.pk
                                 THEN c.name END)
        FROM sqlite_master m, pragma_table_info(m.name) c
        WHERE m.type = 'table' GROUP BY m.name""",
}
# All views, and the tables whose engine has no transactions. A statement of its own: for a join
# with the columns, MariaDB would go through the tables of all schemas of the server.
_UNUSUAL_TABLES: Final = {
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
    """``table.column`` refers to ``parent.parent_column``."""

    table: str
    column: str
    parent: str
    parent_column: str


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The tables of a database. Databases that have the same share it, so nothing in it may change.

    :ivar columns: the columns of each table, in order, without generated ones
    :ivar primary_keys: the columns of each table's primary key
    :ivar foreign_keys: all foreign keys, sorted
    :ivar required: the columns of each table that a new row must give a value
    :ivar plain_engines: the engines without transactions, such as MyISAM and Aria, by table
    """

    columns: dict[str, tuple[str, ...]]
    primary_keys: dict[str, tuple[str, ...]]
    foreign_keys: tuple[ForeignKey, ...]
    required: dict[str, tuple[str, ...]] = field(default_factory=dict)
    plain_engines: dict[str, str] = field(default_factory=dict)

    def shadow(self, table: str) -> str | None:
        """The name of a table's shadow table; None: it has none."""
        name = SHADOW_PREFIX + table
        return name if name in self.columns else None

    def shadow_tables(self) -> list[str]:
        """All shadow tables, by name."""
        return sorted(name for name in self.columns if name.startswith(SHADOW_PREFIX))

    def references_to(self, table: str) -> list[ForeignKey]:
        """The foreign keys by which other tables refer to this one."""
        return [key for key in self.foreign_keys if key.parent == table and key.table != table]


def read_catalogue(connection: Connection) -> Catalogue:
    """Read the catalogue of the connected database."""
    dialect = "sqlite" if connection.dialect.name == "sqlite" else "mysql"
    unusual_tables, columns, keys = (
        _sorted_rows(connection.execute(text(statement[dialect])))
        for statement in (_UNUSUAL_TABLES, _COLUMNS, _FOREIGN_KEYS)
    )
    return _catalogue_of(unusual_tables, columns, keys)


_Rows = tuple[tuple[Any, ...], ...]


def _sorted_rows(rows: Iterable[Iterable[Any]]) -> _Rows:
    return tuple(sorted(map(tuple, rows)))


@lru_cache(maxsize=CATALOGUES)
def _catalogue_of(unusual_tables: _Rows, columns: _Rows, keys: _Rows) -> Catalogue:
    """The catalogue that three answers make."""
    views = {name for name, is_view, _ in unusual_tables if is_view}
    tables = [row for row in columns if row[0] not in views]
    return Catalogue(
        columns={name: _split_names(names) for name, names, _, _ in tables},
        primary_keys={name: _split_names(primary_key) for name, _, primary_key, _ in tables},
        foreign_keys=tuple(sorted(ForeignKey(*key) for key in keys)),
        required={name: _split_names(required) for name, _, _, required in tables},
        plain_engines={
            name: engine for name, is_view, engine in unusual_tables if engine and not is_view
        },
    )


def _split_names(names: str | None) -> tuple[str, ...]:
    return tuple(names.split(",")) if names else ()
