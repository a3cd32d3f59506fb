"""The traces of sqlalchemy-migrate, which kept the versions of Nova's schemas before 24.0.0."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, inspect, text

LEGACY_TABLE: Final = "migrate_version"


@dataclass(frozen=True)
class LegacyRepository:
    """The versions of one schema, as sqlalchemy-migrate counted them.

    :ivar name: as it stands in ``migrate_version.repository_id``
    :ivar first: the version of release 20 (Train), with the tables of alembic's first revision.
        Later versions, up to those of release 24, are placeholders that change nothing
    """

    name: str
    first: int


def read_legacy_versions(connection: Connection) -> Mapping[str, int]:
    """The versions in a database, by repository; empty: sqlalchemy-migrate was never used."""
    if not inspect(connection).has_table(LEGACY_TABLE):
        return {}
    versions = f"SELECT repository_id, version FROM {LEGACY_TABLE} WHERE version IS NOT NULL"
    rows = connection.execute(text(versions))
    return {row.repository_id: row.version for row in rows}
