"""``db version``: the revision of the main database."""

from enum import IntEnum

from novadb.engine import Database
from novadb.migrations import upgrade


class Exit(IntEnum):
    """The return codes; the manual has none."""

    PRINTED = 0
    ERROR = 255


def version(database: Database) -> str | None:
    """The revision; None where the database has none.

    :raises DatabaseProblem: it cannot be used
    """
    return upgrade.version(database)
