"""Descriptions of schemas: what a database says of its tables, and what it said after the stock
tool's migrations.
"""

import json
import lzma
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Inspector, inspect, text

RECORDED: Final = Path(__file__).parents[1] / "data" / "schemas.json.xz"
DEFAULT: Final = "utf8mb3_general_ci"  # of the servers that were recorded

Description: TypeAlias = dict[str, Any]
"""By table: all there is to say of it. A thing of JSON."""

# One row per table, column, column of an index, column of a foreign key, check: the first value is
# the table.
_ASPECTS: Final = {
    "options": """
        SELECT table_name, engine, table_collation, row_format, table_comment, create_options
        FROM information_schema.tables WHERE table_schema = DATABASE()""",
    "columns": """
        SELECT table_name, column_name, column_default, is_nullable, column_type, character_set_name, collation_name,
               extra, column_comment, generation_expression
        FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position""",
    "indexes": """
        SELECT table_name, index_name, non_unique, seq_in_index, column_name, collation, sub_part, index_type, comment
        FROM information_schema.statistics WHERE table_schema = DATABASE()
        ORDER BY table_name, index_name, seq_in_index""",
    "foreign keys": """
        SELECT k.table_name, constraint_name, column_name, k.referenced_table_name, referenced_column_name,
               update_rule, delete_rule
        FROM information_schema.key_column_usage k
        JOIN information_schema.referential_constraints r USING (constraint_schema, constraint_name)
        WHERE constraint_schema = DATABASE() AND k.table_name = r.table_name
        ORDER BY k.table_name, constraint_name, k.ordinal_position""",
    "constraints": """
        SELECT table_name, constraint_name, constraint_type
        FROM information_schema.table_constraints WHERE table_schema = DATABASE()
        ORDER BY table_name, constraint_name""",
    "checks": """
        SELECT table_name, constraint_name, check_clause
        FROM information_schema.check_constraints WHERE constraint_schema = DATABASE()
        ORDER BY table_name, constraint_name""",
}  # fmt: skip
# MySQL does not say there which table a check is of; its names are unique in a database.
_CHECKS_OF_MYSQL: Final = """
    SELECT table_name, constraint_name, check_clause
    FROM information_schema.check_constraints JOIN information_schema.table_constraints
    USING (constraint_schema, constraint_name)
    WHERE constraint_schema = DATABASE() AND constraint_type = 'CHECK' ORDER BY table_name, constraint_name"""


def describe(connection: Connection) -> Description:
    """What the connected database says of its tables; of its contents nothing."""
    if connection.dialect.name == "sqlite":
        return _by_inspection(inspect(connection))
    described: defaultdict[str, Description] = defaultdict(dict)
    aspects = (
        _ASPECTS if engine_of(connection) == "mariadb" else _ASPECTS | {"checks": _CHECKS_OF_MYSQL}
    )
    for aspect, statement in aspects.items():
        for table, *facts in connection.execute(text(statement)):
            described[table].setdefault(aspect, []).append(facts)
    database = (
        "SELECT default_character_set_name, default_collation_name FROM "
        "information_schema.schemata "
        "WHERE schema_name = DATABASE()"
    )
    described["(database)"] = {"defaults": list(connection.execute(text(database)).one())}
    return dict(described)


def engine_of(connection: Connection) -> str:
    """Of which engine a database is: ``mariadb``, ``mysql``, or ``sqlite``."""
    is_mariadb = connection.dialect.name == "mysql" and connection.dialect.is_mariadb  # type: ignore[attr-defined]
    return "mariadb" if is_mariadb else connection.dialect.name


def _by_inspection(inspector: Inspector) -> Description:
    """The same of SQLite, which has no such tables: as SQLAlchemy reads it."""
    return {
        table: {
            "columns": [
                [column["name"], str(column["type"]), column["nullable"], column["default"]]
                for column in inspector.get_columns(table)
            ],
            "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
            "unique": _sorted(inspector.get_unique_constraints(table)),
            "indexes": _sorted(inspector.get_indexes(table)),
            "foreign keys": _sorted(inspector.get_foreign_keys(table)),
            "checks": _sorted(inspector.get_check_constraints(table)),
        }
        for table in inspector.get_table_names()
    }


def _sorted(things: Any) -> list[Any]:
    return sorted((dict(thing) for thing in things), key=repr)


@cache
def recorded(engine: str, schema: str) -> dict[str, Description]:
    """What the stock tool made, by revision, from the first one on.

    :param engine: ``mariadb``, ``mysql``, or ``sqlite``
    :param schema: ``main`` or ``api``
    """
    with lzma.open(RECORDED, "rt") as file:
        by_revision: dict[str, Description] = json.load(file)[engine][schema]
    return by_revision


def recorded_on(connection: Connection, schema: str) -> dict[str, Description]:
    """The same as on the connected server, which has a default of its own where the stock tool
    names no collation.

    :param schema: ``main`` or ``api``
    """
    engine = engine_of(connection)
    made = recorded(engine, schema)
    if engine == "sqlite":
        return made
    default = connection.execute(text("SELECT COLLATION(_utf8mb3'')")).scalar_one()
    translated: dict[str, Description] = json.loads(
        json.dumps(made).replace(f'"{DEFAULT}"', f'"{default}"')
    )
    return translated
