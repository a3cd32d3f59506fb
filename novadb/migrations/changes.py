"""Changes of a schema that may be made again: each looks at what is there, and tells before it reads or copies rows.

MySQL commits every change of a table by itself, so a migration that is interrupted leaves some of them behind; and
another process may be making the same ones right now.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from alembic import context, op
from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable
from sqlalchemy.sql.compiler import DDLCompiler

from novadb.engine import error_number, server_message
from novadb.error_numbers import ALREADY_CHANGED
from novadb.errors import UnsuitableSchema
from novadb.migrations.environment import recorded_heads
from novadb.migrations.progress import MigrationProgress
from novadb.migrations.tables import MYSQL, Part, flatten_parts, indexes_of

# The versions of MariaDB and MySQL from which on a column is added without copying the table.
ADDS_AT_ONCE: Final = {True: (10, 3), False: (8, 0, 12)}
COUNTED: Final = 100_000  # rows; beyond, the server's estimate must do


class CreateWhole(CreateTable):
    """A table and its indexes in one statement, where the database takes that: it is there whole or not at all."""


@compiles(CreateWhole, *MYSQL)
def _with_indexes(create: CreateWhole, compiler: DDLCompiler, **options: Any) -> str:
    statement: str = compiler.visit_create_table(create, **options)  # type: ignore[no-untyped-call]
    head, end, tail = statement.rpartition("\n)")
    for index in indexes_of(create.element, compiler.dialect.name):
        _, _, columns = compiler.process(CreateIndex(index)).partition(" (")
        kind = "UNIQUE KEY" if index.unique else "KEY"
        head += f", \n\t{kind} {compiler.preparer.format_index(index)} ({columns}"
    return head + end + tail


def create_tables(metadata: MetaData) -> None:
    """Make the tables that are missing, and the indexes that those have not which are there.

    :raises UnsuitableSchema: a table is there, and lacks columns: it is no table of this revision
    """
    present = set(inspect(_connection()).get_table_names())
    for table in metadata.sorted_tables:
        if table.name in present:
            _complete(table)
        else:
            _create(table)


def create_table(table: Table) -> None:
    """Make one table."""
    if _has_table(table.name):
        _complete(table)
    else:
        _create(table)


def drop_table(name: str) -> None:
    """Drop a table, with all that is in it, where there is one."""
    if _has_table(name):
        with _change():
            op.drop_table(name)


def add_columns(table: str, *parts: Part) -> None:
    """Add columns behind those of a table."""
    columns = {item.name: item for item in flatten_parts(parts) if isinstance(item, Column)}
    if not columns.keys() - _columns(table).keys():
        _found()
    while missing := [column for name, column in columns.items() if name not in _columns(table)]:
        with _change():
            if not _adds_at_once():
                _tell_copy(table)
            _alter(table, [f"ADD COLUMN {CreateColumn(column).compile(_connection())}" for column in missing])


def drop_columns(table: str, names: str) -> None:
    """Drop columns, with all that is in them."""
    if not _columns(table).keys() & names.split():
        _found()
    while surplus := [name for name in names.split() if name in _columns(table)]:
        with _change():
            _tell_copy(table)
            if _is_mysql():
                _alter(table, [f"DROP COLUMN {_quoted(name)}" for name in surplus])
                continue
            with op.batch_alter_table(table) as batch:  # SQLite drops columns since 3.35 only
                for name in surplus:
                    batch.drop_column(name)


def lengthen_column(table: str, column: str, length: int) -> None:
    """Let a column take longer texts."""
    type_ = _columns(table)[column]
    if isinstance(type_, String) and type_.length == length:
        return _found()
    with _change():
        _tell_copy(table)
        with op.batch_alter_table(table) as batch:
            batch.alter_column(column, type_=String(length), existing_type=type_)
    return None


def collate_by_bytes(table: str) -> None:
    """Let the texts of a table differ where their bytes do, on MySQL. Elsewhere they do so anyway."""
    if not _is_mysql():
        return None
    if str(_table_fact("table_collation", table)).endswith("_bin"):
        return _found()
    with _change():
        _tell_copy(table)
        _alter(table, ["CONVERT TO CHARACTER SET utf8 COLLATE utf8_bin"])
    return None


def add_index(table: str, names: str, name: str) -> None:
    """Add an index on the columns ``names``."""
    if name in _indexes(table):
        return _found()
    with _change():
        _tell_read(table, name)
        op.create_index(name, table, names.split())
    return None


def drop_index(table: str, name: str) -> None:
    """Drop an index."""
    if name not in _indexes(table):
        return _found()
    with _change():
        op.drop_index(name, table)
    return None


def add_unique(table: str, names: str, name: str) -> None:
    """Forbid two rows with the same values in the columns ``names``.

    :raises UnsuitableSchema: there are such rows
    """
    if name in _indexes(table):
        return _found()
    with _change():
        _tell_read(table, name)
        try:
            with op.batch_alter_table(table) as batch:
                batch.create_unique_constraint(name, names.split())
        except IntegrityError as error:
            raise UnsuitableSchema(
                f"{table} has rows that are the same in {' and '.join(names.split())}, of which the new constraint "
                f"{name} allows one: delete the others and run this again: {server_message(error)}"
            ) from error
    return None


def make_utf8_the_default() -> None:
    """Let tables that do not say otherwise be of the character set that Nova has, on MySQL."""
    if _is_mysql():
        with _change():
            op.execute("ALTER DATABASE DEFAULT CHARACTER SET utf8")


@contextmanager
def _change() -> Iterator[None]:
    """Around one change: whether it is still ours to make; and that somebody else has just made it is no error."""
    _progress().before_change(recorded_heads(_connection()))
    try:
        yield
    except DBAPIError as error:
        if error_number(error) not in ALREADY_CHANGED:
            raise


def _found() -> None:
    _progress().found += 1


def _create(table: Table) -> None:
    with _change():
        _connection().execute(CreateWhole(_collated_like_its_parent(table)))
        if not _is_mysql():
            for index in indexes_of(table, _connection().dialect.name):
                _connection().execute(CreateIndex(index))


def _collated_like_its_parent(table: Table) -> Table:
    """A table whose foreign key names a text is of the character set and collation of that text: MySQL takes no other.

    What a server gives by default may have changed since the parent was made, as with MariaDB 11.5.
    """
    texts = [key.column for key in table.foreign_keys if isinstance(key.column.type, String)]
    if not texts or not _is_mysql():
        return table
    character_set = _character_set(texts[0])
    if character_set is None:
        return table
    charset, collation = character_set
    metadata = MetaData(naming_convention=table.metadata.naming_convention)
    for parent in {key.column.table for key in table.foreign_keys}:
        parent.to_metadata(metadata)
    collated = table.to_metadata(metadata)
    dialect = _connection().dialect.name
    collated.kwargs.update({f"{dialect}_charset": charset, f"{dialect}_collate": collation})
    return collated


def _complete(table: Table) -> None:
    """Add the indexes that a table lacks: the stock tool makes them after it, and may have been interrupted."""
    there = _columns(table.name)
    missing = [column.name for column in table.columns if column.name not in there]
    if missing:
        raise UnsuitableSchema(
            f"There is a table {table.name} already, and it is not Nova's: it has no {', '.join(missing)}. "
            "Nova needs a database of its own"
        )
    present = _indexes(table.name)
    lacking = [index for index in indexes_of(table, _connection().dialect.name) if index.name not in present]
    if not lacking:
        _found()
    for index in lacking:
        with _change():
            _tell_read(table.name, str(index.name))
            _connection().execute(CreateIndex(index))


def _tell_read(table: str, index: str) -> None:
    if rows := _rows(table):
        _progress().tell(f"{table}: {rows} are read for {index}; they can be changed meanwhile")


def _tell_copy(table: str) -> None:
    if rows := _rows(table):
        _progress().tell(f"{table}: {rows} are copied; they cannot be changed meanwhile")


def _rows(table: str) -> str:
    """How many rows a table has, in words; nothing where it has none."""
    some = f"SELECT COUNT(*) FROM (SELECT 1 FROM {_quoted(table)} LIMIT {COUNTED + 1}) AS some"
    rows = _connection().execute(text(some)).scalar_one()
    if rows <= COUNTED:
        return f"{rows:,} rows" if rows else ""
    if not _is_mysql():
        return f"more than {COUNTED:,} rows"
    return f"about {max(_table_fact('table_rows', table) or 0, rows):,} rows"


def _table_fact(column: str, table: str) -> Any:
    """What MySQL's catalogue of tables has in a column; None while another process has the table rewritten."""
    facts = f"SELECT {column} FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = :table"
    return _connection().execute(text(facts), {"table": table}).scalar()


def _character_set(column: Column[Any]) -> tuple[str, str] | None:
    """The character set and the collation of a column of text; None while another process has the table rewritten."""
    facts = text(
        "SELECT character_set_name, collation_name FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND table_name = :table AND column_name = :column"
    )
    row = _connection().execute(facts, {"table": column.table.name, "column": column.name}).first()
    return (row[0], row[1]) if row else None


def _alter(table: str, clauses: list[str]) -> None:
    """Make several changes of a table: in one statement, where the database takes that, so that it is copied once."""
    for together in [", ".join(clauses)] if _is_mysql() else clauses:
        _connection().exec_driver_sql(f"ALTER TABLE {_quoted(table)} {together}")


def _quoted(name: str) -> str:
    return _connection().dialect.identifier_preparer.quote(name)


def _has_table(name: str) -> bool:
    return inspect(_connection()).has_table(name)


def _columns(table: str) -> dict[str, Any]:
    """The columns of a table, and their types."""
    return {column["name"]: column["type"] for column in inspect(_connection()).get_columns(table)}


def _indexes(table: str) -> set[str | None]:
    inspector = inspect(_connection())
    named = [*inspector.get_indexes(table), *inspector.get_unique_constraints(table)]
    return {index["name"] for index in named}


def _is_mysql() -> bool:
    return _connection().dialect.name in MYSQL


def _adds_at_once() -> bool:
    if not _is_mysql():
        return True
    dialect: Any = _connection().dialect
    return tuple(dialect.server_version_info) >= ADDS_AT_ONCE[dialect.is_mariadb]


def _connection() -> Connection:
    return op.get_bind()


def _progress() -> MigrationProgress:
    progress: MigrationProgress = context.config.attributes["progress"]
    return progress
