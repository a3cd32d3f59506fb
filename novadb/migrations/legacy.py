"""What sqlalchemy-migrate left behind, which kept the versions of Nova's schemas before release 24.0.0."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, inspect, text

LEGACY_TABLE: Final = "migrate_version"


@dataclass(frozen=True)
class LegacyRepository:
    """The versions of one schema, as sqlalchemy-migrate counted them.

    :ivar name: what ``migrate_version.repository_id`` has of it
    :ivar first: the version of release 20 (Train), with the tables of alembic's first revision.
        The later ones, up to those of release 24, are placeholders that change nothing
    """

    name: str
    first: int


def read_legacy_versions(connection: Connection) -> Mapping[str, int]:
    """The versions that a database names, by repository; nothing where sqlalchemy-migrate was never here."""
    if not inspect(connection).has_table(LEGACY_TABLE):
        return {}
    numbered = f"SELECT repository_id, version FROM {LEGACY_TABLE} WHERE version IS NOT NULL"
    rows = connection.execute(text(numbered))
    return {row.repository_id: row.version for row in rows}
