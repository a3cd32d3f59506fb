"""Changes of a schema that can be repeated: each checks what is there before it does anything.

MySQL commits every change of a table by itself, so an interrupted migration leaves some of them
made; and another process may be making the same ones right now. The operator is told before rows
are read or copied.
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

# The first versions that add a column without copying the table, by whether it is MariaDB.
INSTANT_COLUMNS: Final = {True: (10, 3), False: (8, 0, 12)}
# Rows are counted up to this number; beyond it, the server's estimate is shown.
MAX_COUNTED_ROWS: Final = 100_000


class CreateTableWithIndexes(CreateTable):
    """A table and its indexes in one statement, so that none or all of it is there."""


@compiles(CreateTableWithIndexes, *MYSQL)
def _compile_with_indexes(
    create: CreateTableWithIndexes, compiler: DDLCompiler, **options: Any
) -> str:
    statement: str = compiler.visit_create_table(create, **options)  # type: ignore[no-untyped-call]
    head, end, tail = statement.rpartition("\n)")
    for index in indexes_of(create.element, compiler.dialect.name):
        _, _, columns = compiler.process(CreateIndex(index)).partition(" (")
        kind = "UNIQUE KEY" if index.unique else "KEY"
        head += f", \n\t{kind} {compiler.preparer.format_index(index)} ({columns}"
    return head + end + tail


def create_tables(metadata: MetaData) -> None:
    """Create the tables that are missing, and the missing indexes of those that are not.

    :raises UnsuitableSchema: a table exists and lacks columns: it is not that of this revision
    """
    present = set(inspect(_connection()).get_table_names())
    for table in metadata.sorted_tables:
        if table.name in present:
            _add_missing_indexes(table)
        else:
            _create_with_indexes(table)


def create_table(table: Table) -> None:
    """Create one table, if it is missing, or its missing indexes."""
    if _has_table(table.name):
        _add_missing_indexes(table)
    else:
        _create_with_indexes(table)


def drop_table(name: str) -> None:
    """Drop a table with its rows, if there is one."""
    if _has_table(name):
        with _changing():
            op.drop_table(name)


def add_columns(table: str, *parts: Part) -> None:
    """Add columns after those of a table."""
    columns = {item.name: item for item in flatten_parts(parts) if isinstance(item, Column)}
    if not columns.keys() - _columns_of(table).keys():
        _note_present()
    while missing := [column for name, column in columns.items() if name not in _columns_of(table)]:
        with _changing():
            if not _adds_columns_instantly():
                _announce_copy(table)
            _alter(
                table,
                [f"ADD COLUMN {CreateColumn(column).compile(_connection())}" for column in missing],
            )


def drop_columns(table: str, names: str) -> None:
    """Drop columns with their values.

    :param names: separated by spaces
    """
    if not _columns_of(table).keys() & names.split():
        _note_present()
    while surplus := [name for name in names.split() if name in _columns_of(table)]:
        with _changing():
            _announce_copy(table)
            if _is_mysql():
                _alter(table, [f"DROP COLUMN {_quote(name)}" for name in surplus])
                continue
            with op.batch_alter_table(table) as batch:  # SQLite drops columns since 3.35 only
                for name in surplus:
                    batch.drop_column(name)


def lengthen_column(table: str, column: str, length: int) -> None:
    """Let a column hold longer texts."""
    type_ = _columns_of(table)[column]
    if isinstance(type_, String) and type_.length == length:
        _note_present()
        return
    with _changing():
        _announce_copy(table)
        with op.batch_alter_table(table) as batch:
            batch.alter_column(column, type_=String(length), existing_type=type_)


def collate_by_bytes(table: str) -> None:
    """Compare the texts of a table by their bytes, on MySQL; other databases do so anyway."""
    if not _is_mysql():
        return
    if str(_table_fact("table_collation", table)).endswith("_bin"):
        _note_present()
        return
    with _changing():
        _announce_copy(table)
        _alter(table, ["CONVERT TO CHARACTER SET utf8 COLLATE utf8_bin"])


def add_index(table: str, names: str, name: str) -> None:
    """Add an index.

    :param names: of its columns, separated by spaces
    """
    if name in _indexes_of(table):
        _note_present()
        return
    with _changing():
        _announce_read(table, name)
        op.create_index(name, table, names.split())


def drop_index(table: str, name: str) -> None:
    """Drop an index."""
    if name not in _indexes_of(table):
        _note_present()
        return
    with _changing():
        op.drop_index(name, table)


def add_unique(table: str, names: str, name: str) -> None:
    """Forbid two rows with the same values in some columns.

    :param names: of the columns, separated by spaces
    :raises UnsuitableSchema: there are such rows
    """
    if name in _indexes_of(table):
        _note_present()
        return
    with _changing():
        _announce_read(table, name)
        try:
            with op.batch_alter_table(table) as batch:
                batch.create_unique_constraint(name, names.split())
        except IntegrityError as error:
            raise UnsuitableSchema(
                f"{table} has rows that are the same in {' and '.join(names.split())}, of which "
                f"the new constraint {name} allows one: delete the others and run this again: "
                f"{server_message(error)}"
            ) from error


def make_utf8_the_default() -> None:
    """Make Nova's character set the default of new tables, on MySQL."""
    if _is_mysql():
        with _changing():
            op.execute("ALTER DATABASE DEFAULT CHARACTER SET utf8")


@contextmanager
def _changing() -> Iterator[None]:
    """Around one change: it must still be ours to make, and may have been made by somebody else.

    :raises Overtaken: another process has brought the database to another revision
    """
    _progress().before_change(recorded_heads(_connection()))
    try:
        yield
    except DBAPIError as error:
        if error_number(error) not in ALREADY_CHANGED:
            raise


def _note_present() -> None:
    _progress().changes_present += 1


def _create_with_indexes(table: Table) -> None:
    with _changing():
        _connection().execute(CreateTableWithIndexes(_with_collation_of_parent(table)))
        if not _is_mysql():
            for index in indexes_of(table, _connection().dialect.name):
                _connection().execute(CreateIndex(index))


def _with_collation_of_parent(table: Table) -> Table:
    """A table in the character set and collation of the texts its foreign keys refer to.

    MySQL accepts no other, and the server's default may have changed since the parent was created,
    as it did with MariaDB 11.5.
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


def _add_missing_indexes(table: Table) -> None:
    """Add the indexes that a table lacks.

    The stock tool creates them after the table, and may have been interrupted.

    :raises UnsuitableSchema: the table lacks columns
    """
    present_columns = _columns_of(table.name)
    missing = [column.name for column in table.columns if column.name not in present_columns]
    if missing:
        raise UnsuitableSchema(
            f"There is a table {table.name} already, and it is not Nova's: it has no "
            f"{', '.join(missing)}. Nova needs a database of its own"
        )
    present_indexes = _indexes_of(table.name)
    expected_indexes = indexes_of(table, _connection().dialect.name)
    missing_indexes = [index for index in expected_indexes if index.name not in present_indexes]
    if not missing_indexes:
        _note_present()
    for index in missing_indexes:
        with _changing():
            _announce_read(table.name, str(index.name))
            _connection().execute(CreateIndex(index))


def _announce_read(table: str, index: str) -> None:
    if rows := _count_rows(table):
        _progress().tell(f"{table}: {rows} are read for {index}; they can be changed meanwhile")


def _announce_copy(table: str) -> None:
    if rows := _count_rows(table):
        _progress().tell(f"{table}: {rows} are copied; they cannot be changed meanwhile")


def _count_rows(table: str) -> str:
    """How many rows a table has, in words; empty: it has none."""
    limited = f"SELECT 1 FROM {_quote(table)} LIMIT {MAX_COUNTED_ROWS + 1}"
    count = text(f"SELECT COUNT(*) FROM ({limited}) AS counted")
    rows = _connection().execute(count).scalar_one()
    if rows <= MAX_COUNTED_ROWS:
        return f"{rows:,} rows" if rows else ""
    if not _is_mysql():
        return f"more than {MAX_COUNTED_ROWS:,} rows"
    estimate = _table_fact("table_rows", table) or 0
    return f"about {max(estimate, rows):,} rows"


def _table_fact(column: str, table: str) -> Any:
    """A column of MySQL's list of tables; None while another process rebuilds the table."""
    facts = text(
        f"SELECT {column} FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND table_name = :table"
    )
    return _connection().execute(facts, {"table": table}).scalar()


def _character_set(column: Column[Any]) -> tuple[str, str] | None:
    """The character set and the collation of a column; None while a process rebuilds the table."""
    facts = text(
        "SELECT character_set_name, collation_name FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND table_name = :table AND column_name = :column"
    )
    names = {"table": column.table.name, "column": column.name}
    row = _connection().execute(facts, names).first()
    return (row[0], row[1]) if row else None


def _alter(table: str, clauses: list[str]) -> None:
    """Make several changes of a table; on MySQL in one statement, to copy it only once."""
    if _is_mysql():
        clauses = [", ".join(clauses)]
    for clause in clauses:
        _connection().exec_driver_sql(f"ALTER TABLE {_quote(table)} {clause}")


def _quote(name: str) -> str:
    return _connection().dialect.identifier_preparer.quote(name)


def _has_table(name: str) -> bool:
    return inspect(_connection()).has_table(name)


def _columns_of(table: str) -> dict[str, Any]:
    """The types of a table's columns, by name."""
    return {column["name"]: column["type"] for column in inspect(_connection()).get_columns(table)}


def _indexes_of(table: str) -> set[str | None]:
    inspector = inspect(_connection())
    named = [*inspector.get_indexes(table), *inspector.get_unique_constraints(table)]
    return {index["name"] for index in named}


def _is_mysql() -> bool:
    return _connection().dialect.name in MYSQL


def _adds_columns_instantly() -> bool:
    if not _is_mysql():
        return True
    dialect: Any = _connection().dialect
    return tuple(dialect.server_version_info) >= INSTANT_COLUMNS[dialect.is_mariadb]


def _connection() -> Connection:
    return op.get_bind()


def _progress() -> MigrationProgress:
    progress: MigrationProgress = context.config.attributes["progress"]
    return progress
