"""``db version``: the version of the main database."""

from enum import IntEnum

from novadb.engine import Database
from novadb.migrations import upgrade
from novadb.migrations.upgrade import MAIN_SCHEMA, Schema


class Exit(IntEnum):
    """The return codes; the manual has none."""

    PRINTED = 0
    ERROR = 255


def version(database: Database, schema: Schema = MAIN_SCHEMA) -> str | None:
    """Its revision, or its version of sqlalchemy-migrate from before release 24; None: it has
    neither.

    :raises DatabaseProblem: it cannot be used
    """
    return upgrade.read_version(database, schema)
