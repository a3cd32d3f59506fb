"""Words to declare tables with.

A table is its columns in order, by kind, and its keys and indexes. These are named by a rule unless they say otherwise:
``uniq_<table>0<column>0<column>`` and ``<table>_<column>_<column>_idx``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Enum,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
)
from sqlalchemy.dialects.mysql import MEDIUMTEXT, VARCHAR
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

from novadb.catalogue import SHADOW_PREFIX

Part: TypeAlias = SchemaItem | Sequence[SchemaItem]
MYSQL: Final = ("mysql", "mariadb")
ONLY_MYSQL: Final = "only_mysql"


class Kind(Protocol):
    """Makes columns of one kind; several names stand in one text, separated by spaces."""

    def __call__(
        self, names: str, *, required: bool = False, key: bool = False, default: str | int | None = None
    ) -> list[SchemaItem]: ...


def _kind(type_: TypeEngine[Any]) -> Kind:
    def columns(
        names: str, *, required: bool = False, key: bool = False, default: str | int | None = None
    ) -> list[SchemaItem]:
        return [
            Column(name, type_, primary_key=key, nullable=not (required or key), server_default=_literal(default))
            for name in names.split()
        ]

    return columns


def _literal(default: str | int | None) -> Any:
    return literal_column(str(default)) if isinstance(default, int) else default


integer: Final = _kind(Integer())
bigint: Final = _kind(BigInteger())
real: Final = _kind(Float())
boolean: Final = _kind(Boolean())
datetime: Final = _kind(DateTime())
text: Final = _kind(Text())
mediumtext: Final = _kind(Text().with_variant(MEDIUMTEXT(), *MYSQL))
uuid: Final = _kind(String(36))
address: Final = _kind(String(39))  # of IPv6, at its longest


def string(
    names: str,
    length: int = 255,
    *,
    required: bool = False,
    key: bool = False,
    charset: str | None = None,
    collation: str | None = None,
) -> list[SchemaItem]:
    """Columns of text of a limited length; MySQL may be told another character set than the table's."""
    plain = String(length)
    own = plain.with_variant(VARCHAR(length, charset=charset, collation=collation), *MYSQL)
    return _kind(own if charset else plain)(names, required=required, key=key)


def enum(name: str, *values: str, required: bool = False, default: str | None = None) -> list[SchemaItem]:
    """A column of one of some values."""
    return _kind(Enum(*values))(name, required=required, default=default)


def serial(type_: TypeEngine[Any] | None = None) -> list[SchemaItem]:
    """The number that a row gets by itself."""
    return [Column("id", type_ or Integer(), primary_key=True)]


def deleted() -> list[SchemaItem]:
    """The mark of a deleted row: its own id; 0 in a row that is alive."""
    return integer("deleted")


def unique(names: str, name: str | None = None) -> SchemaItem:
    """No two rows have the same values in these columns."""
    return UniqueConstraint(*names.split(), name=name)


def index(names: str, name: str | None = None, *, only_one: bool = False, only_mysql: bool = False) -> SchemaItem:
    """An index; ``column(100)`` takes the first hundred characters, where the database can.

    :param only_one: no two rows have the same values
    :param only_mysql: other databases do without, see ``indexes_of``
    """
    lengths = {column: int(length) for column, length in re.findall(r"(\w+)\((\d+)\)", names)}
    columns = re.sub(r"\(\d+\)", "", names).split()
    return Index(name, *columns, unique=only_one, info={ONLY_MYSQL: only_mysql}, **_per_dialect("length", lengths))


def indexes_of(table: Table, dialect: str) -> list[Index]:
    """The indexes that a table has in a database of this dialect, by name."""
    wanted = (index for index in table.indexes if dialect in MYSQL or not index.info[ONLY_MYSQL])
    return sorted(wanted, key=lambda index: str(index.name))


def foreign(column: str, parent: str, name: str | None = None) -> SchemaItem:
    """The column names a row of ``parent``, a ``table.column``. Without a name the database finds one."""
    return ForeignKeyConstraint([column], [parent], name=name)


def _per_dialect(option: str, value: Any) -> dict[str, Any]:
    return {f"{dialect}_{option}": value for dialect in MYSQL} if value else {}


def flatten_parts(parts: Iterable[Part]) -> list[SchemaItem]:
    """All items of some parts, in order."""
    return [item for part in parts for item in ([part] if isinstance(part, SchemaItem) else part)]


class Tables:
    """The tables of one schema.

    :ivar metadata: as SQLAlchemy has them
    """

    def __init__(self, stamps: str) -> None:
        """:param stamps: the columns that tell when a row was made, changed and so on"""
        rules: dict[str, Any] = {
            "uq": "uniq_%(table_name)s0%(columns_by_0)s",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "columns_by_0": lambda constraint, _: "0".join(column.name for column in constraint.columns),
        }
        self.metadata = MetaData(naming_convention=rules)
        self._stamps = stamps

    def stamps(self) -> list[SchemaItem]:
        """The columns of times that nearly all tables have."""
        return datetime(self._stamps)

    def entity(self, name: str, *parts: Part, charset: str = "utf8", collation: str | None = None) -> Table:
        """Declare a table that begins as most do: with the times and the number."""
        return self.table(name, self.stamps(), serial(), *parts, charset=charset, collation=collation)

    def table(self, name: str, *parts: Part, charset: str = "utf8", collation: str | None = None) -> Table:
        """Declare a table of these parts alone."""
        options = _per_dialect("engine", "InnoDB") | _per_dialect("charset", charset)
        return Table(name, self.metadata, *flatten_parts(parts), **options, **_per_dialect("collate", collation))

    def shadow(self, table: Table, differing: Iterable[SchemaItem] = ()) -> Table:
        """Declare the shadow of a table: its columns, and nothing that could refuse a row but the primary key.

        :param differing: columns that are declared otherwise than in the table, and indexes
        """
        own = {item.name: item for item in differing if isinstance(item, Column)}
        more = [item for item in differing if not isinstance(item, Column)]
        columns = [own.get(column.name, _bare(column)) for column in table.columns]
        return self.table(SHADOW_PREFIX + table.name, columns, more)


def _bare(column: Column[Any]) -> Column[Any]:
    return Column(
        column.name,
        column.type,
        primary_key=column.primary_key,
        nullable=column.nullable,
        server_default=column.server_default and column.server_default.arg,  # type: ignore[attr-defined]
    )


def declare_shadow_tables(tables: Tables, differing: Mapping[str, Sequence[SchemaItem]]) -> None:
    """Declare a shadow of every table whose rows are marked as deleted."""
    for table in list(tables.metadata.tables.values()):
        if "deleted" in table.columns:
            tables.shadow(table, differing.get(table.name, ()))
