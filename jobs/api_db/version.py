"""``api_db version``: the version of the API database."""

from jobs.db import version as main
from jobs.db.version import Exit
from novadb.engine import Database
from novadb.migrations.upgrade import API_SCHEMA

__all__ = ["Exit", "version"]


def version(database: Database) -> str | None:
    """As the main database's, of the schema of the API database.

    :raises DatabaseProblem: it cannot be used
    """
    return main.version(database, API_SCHEMA)
