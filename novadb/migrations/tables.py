"""A small language to declare tables with.

A table is its columns in order, by kind, followed by its keys and indexes. Their names follow a
rule unless they are given: ``uniq_<table>0<column>0<column>`` and
``<table>_<column>_<column>_idx``.
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
    """Declares columns of one kind, whose names are separated by spaces."""

    def __call__(
        self,
        names: str,
        *,
        required: bool = False,
        key: bool = False,
        default: str | int | None = None,
    ) -> list[SchemaItem]: ...


def _define_kind(type_: TypeEngine[Any]) -> Kind:
    def columns(
        names: str, *, required: bool = False, key: bool = False, default: str | int | None = None
    ) -> list[SchemaItem]:
        return [
            Column(
                name,
                type_,
                primary_key=key,
                nullable=not (required or key),
                server_default=_literal(default),
            )
            for name in names.split()
        ]

    return columns


def _literal(default: str | int | None) -> Any:
    return literal_column(str(default)) if isinstance(default, int) else default


integer: Final = _define_kind(Integer())
bigint: Final = _define_kind(BigInteger())
real: Final = _define_kind(Float())
boolean: Final = _define_kind(Boolean())
datetime: Final = _define_kind(DateTime())
text: Final = _define_kind(Text())
mediumtext: Final = _define_kind(Text().with_variant(MEDIUMTEXT(), *MYSQL))
uuid: Final = _define_kind(String(36))
address: Final = _define_kind(String(39))  # the longest IPv6 address


def string(
    names: str,
    length: int = 255,
    *,
    required: bool = False,
    key: bool = False,
    charset: str | None = None,
    collation: str | None = None,
) -> list[SchemaItem]:
    """Columns of texts of limited length; on MySQL, they may have a character set of their own."""
    type_ = String(length)
    if charset:
        type_ = type_.with_variant(VARCHAR(length, charset=charset, collation=collation), *MYSQL)
    return _define_kind(type_)(names, required=required, key=key)


def enum(
    name: str, *values: str, required: bool = False, default: str | None = None
) -> list[SchemaItem]:
    """A column whose value is one of a list."""
    return _define_kind(Enum(*values))(name, required=required, default=default)


def serial(type_: TypeEngine[Any] | None = None) -> list[SchemaItem]:
    """The number that the database gives to a row."""
    return [Column("id", type_ or Integer(), primary_key=True)]


def deleted() -> list[SchemaItem]:
    """The mark of a deleted row: its own id; 0 in a live row."""
    return integer("deleted")


def unique(names: str, name: str | None = None) -> SchemaItem:
    """A constraint: no two rows have the same values in these columns."""
    return UniqueConstraint(*names.split(), name=name)


def index(
    names: str, name: str | None = None, *, only_one: bool = False, only_mysql: bool = False
) -> SchemaItem:
    """An index; ``column(100)`` is its first hundred characters, if the database supports that.

    :param only_one: no two rows may have the same values
    :param only_mysql: other databases do without it, see ``indexes_of``
    """
    lengths = {column: int(length) for column, length in re.findall(r"(\w+)\((\d+)\)", names)}
    columns = re.sub(r"\(\d+\)", "", names).split()
    options = _per_dialect("length", lengths)
    return Index(name, *columns, unique=only_one, info={ONLY_MYSQL: only_mysql}, **options)


def indexes_of(table: Table, dialect: str) -> list[Index]:
    """The indexes that a table has in a database of this dialect, sorted by name."""
    indexes = (index for index in table.indexes if dialect in MYSQL or not index.info[ONLY_MYSQL])
    return sorted(indexes, key=lambda index: str(index.name))


def foreign(column: str, parent: str, name: str | None = None) -> SchemaItem:
    """The column refers to ``parent``, a ``table.column``. The database names it by default."""
    return ForeignKeyConstraint([column], [parent], name=name)


def _per_dialect(option: str, value: Any) -> dict[str, Any]:
    return {f"{dialect}_{option}": value for dialect in MYSQL} if value else {}


def flatten_parts(parts: Iterable[Part]) -> list[SchemaItem]:
    """The items of all parts, in order."""
    items: list[SchemaItem] = []
    for part in parts:
        if isinstance(part, SchemaItem):
            items.append(part)
        else:
            items += part
    return items


class Tables:
    """The tables of one schema.

    :ivar metadata: as SQLAlchemy has them
    """

    def __init__(self, stamps: str) -> None:
        """:param stamps: the columns that tell when a row was made, changed and so on"""
        rules: dict[str, Any] = {
            "uq": "uniq_%(table_name)s0%(columns_by_0)s",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "columns_by_0": lambda constraint, _: "0".join(
                column.name for column in constraint.columns
            ),
        }
        self.metadata = MetaData(naming_convention=rules)
        self._stamps = stamps

    def stamps(self) -> list[SchemaItem]:
        """The columns with times that nearly all tables have."""
        return datetime(self._stamps)

    def entity(
        self, name: str, *parts: Part, charset: str = "utf8", collation: str | None = None
    ) -> Table:
        """Declare a table that begins with the usual columns, the times and the number."""
        return self.table(
            name, self.stamps(), serial(), *parts, charset=charset, collation=collation
        )

    def table(
        self, name: str, *parts: Part, charset: str = "utf8", collation: str | None = None
    ) -> Table:
        """Declare a table that has these parts and no others."""
        options = _per_dialect("engine", "InnoDB") | _per_dialect("charset", charset)
        return Table(
            name,
            self.metadata,
            *flatten_parts(parts),
            **options,
            **_per_dialect("collate", collation),
        )

    def shadow(self, table: Table, differing: Iterable[SchemaItem] = ()) -> Table:
        """Declare the shadow of a table: its columns and its primary key, and no other constraint.

        :param differing: indexes, and columns that differ from those of the table
        """
        differing_columns = {item.name: item for item in differing if isinstance(item, Column)}
        indexes = [item for item in differing if not isinstance(item, Column)]
        columns = [
            differing_columns.get(column.name, _copy_without_keys(column))
            for column in table.columns
        ]
        return self.table(SHADOW_PREFIX + table.name, columns, indexes)


def _copy_without_keys(column: Column[Any]) -> Column[Any]:
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
