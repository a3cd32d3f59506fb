"""Bringing a database to a revision of its schema, from wherever it stands."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DBAPIError, IntegrityError

from novadb.engine import Database, error_number
from novadb.error_numbers import ALREADY_CHANGED
from novadb.errors import DatabaseProblem, UnsuitableSchema
from novadb.migrations import legacy
from novadb.migrations.environment import VERSION_TABLE, recorded_heads
from novadb.migrations.legacy import LEGACY_TABLE, LegacyRepository
from novadb.migrations.progress import MigrationProgress, Overtaken

ONE_STATEMENT: Final = 7 * 24 * 3600.0  # seconds: the index of a large table takes hours
NEWEST_RELEASE: Final = 34
"""The newest release of Nova whose revisions are known here."""


class UpgradeRefused(DatabaseProblem):
    """What was asked for cannot be done; the text says what can."""


class WrongSchema(UpgradeRefused):
    """The database has the schema that is not meant."""


@dataclass(frozen=True)
class Schema:
    """One of Nova's schemas.

    :ivar name: the folder of its revisions
    :ivar initial: its first revision
    :ivar legacy: its versions from before there were revisions
    :ivar releases: the first release of Nova whose newest revision it is, by revision, in their order
    """

    name: str
    initial: str
    legacy: LegacyRepository
    releases: Mapping[str, int] = field(hash=False)

    @cached_property
    def revisions(self) -> list[str]:
        """All revisions, from the first one on."""
        return [script.revision for script in self.scripts.walk_revisions()][::-1]

    @cached_property
    def scripts(self) -> ScriptDirectory:
        """The revisions, as alembic has them."""
        return ScriptDirectory.from_config(self.config())

    def with_releases(self, revision: str) -> str:
        """A revision and the releases whose newest one it is, for people; a revision between two releases alone."""
        first = self.releases.get(revision)
        if first is None:
            return revision
        following = [release for release in self.releases.values() if release > first]
        last = min(following, default=NEWEST_RELEASE + 1) - 1
        return f"{revision} (Nova {first})" if last == first else f"{revision} (Nova {first} to {last})"

    def config(self) -> Config:
        """A configuration for alembic, which needs no file."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / self.name).replace("%", "%%"))
        return config


MAIN_SCHEMA: Final = Schema(
    "main",
    "8f2f1571d55b",
    LegacyRepository("nova", 402),
    {
        "8f2f1571d55b": 24,
        "16f1fbcab42b": 25,
        "ccb0fa1a2252": 26,
        "960aac0e09ea": 27,
        "1acf2c98e646": 28,
        "13863f4e1612": 29,
        "2903cd72dc14": 31,
        "ab450ba04102": 34,
    },
)
API_SCHEMA: Final = Schema(
    "api",
    "d67eeaabee36",
    LegacyRepository("nova_api", 67),
    {"d67eeaabee36": 24, "b30f573d3377": 25, "cdeec0c85668": 28},
)


@dataclass(frozen=True)
class RecordedVersion:
    """What a database says of its version.

    :ivar revision: alembic's; None: it has none
    :ivar legacy: sqlalchemy-migrate's, where there is no revision
    :ivar repositories: what sqlalchemy-migrate has kept versions of, where there is no revision
    """

    revision: str | None = None
    legacy: int | None = None
    repositories: frozenset[str] = frozenset()

    @property
    def name(self) -> str | None:
        """The one of both that there is, as the stock tool prints it."""
        return self.revision if self.legacy is None else str(self.legacy)


@dataclass(frozen=True)
class UpgradeResult:
    """What became of a database.

    :ivar before: its revision, or its version of sqlalchemy-migrate; None: it had neither
    :ivar after: its revision now
    """

    before: str | None
    after: str


@dataclass(frozen=True)
class SchemaStanding:
    """Where a database stands.

    :ivar version: as its version table says, with the name of that table; empty: it has none
    :ivar place: the same, with the releases that have it
    :ivar pending: the revisions that ``upgrade`` would go through, in order
    :ivar refusal: why there is no way on from here, or None
    """

    version: str
    place: str
    pending: Sequence[str] = ()
    refusal: UpgradeRefused | None = None


def read_standing(connection: Connection, database: Database, schema: Schema = MAIN_SCHEMA) -> SchemaStanding:
    """See where a database stands, and change nothing.

    :raises UnsuitableSchema: its version table has several rows
    """
    recorded = _recorded(connection, database, schema)
    version = place = ""
    if recorded.revision:
        version = f"{VERSION_TABLE} {recorded.revision}"
        place = f"{VERSION_TABLE} {schema.with_releases(recorded.revision)}"
    elif recorded.legacy is not None:
        version = f"{LEGACY_TABLE} {recorded.legacy}"
        place = f"{version} (before Nova 24)"
    try:
        return SchemaStanding(version, place, _pending(database, schema, recorded, None))
    except UpgradeRefused as refusal:
        return SchemaStanding(version, place, refusal=refusal)


def read_version(database: Database, schema: Schema = MAIN_SCHEMA) -> str | None:
    """The revision of a database, or else its version of sqlalchemy-migrate; None where it has neither.

    :raises DatabaseProblem: it cannot be reached, or its version table has several rows
    """
    with database.connect() as connection:
        return _recorded(connection, database, schema).name


def is_before(release: int, connection: Connection, database: Database, schema: Schema = MAIN_SCHEMA) -> bool:
    """Whether a database is certainly of an earlier release than this one.

    :raises UnsuitableSchema: its version table has several rows
    """
    recorded = _recorded(connection, database, schema)
    if recorded.revision is None:
        return recorded.legacy is not None
    older = [revision for revision, first in schema.releases.items() if first < release]
    between = schema.revisions[: schema.revisions.index(older[-1]) + 1]
    return recorded.revision in between


def upgrade_schema(
    database: Database,
    schema: Schema = MAIN_SCHEMA,
    revision: str | None = None,
    *,
    tell: Callable[[str], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> UpgradeResult:
    """Bring a database to a revision; from nothing, from any earlier one, and from the middle of an interrupted run.

    It may run twice at the same time, from wherever: whoever comes second finds each change made, or goes on from the
    revision that the other has brought the database to. Alembic keeps what it does in global variables: in one
    process, upgrade one database after the other.

    :param database: must be there, and may be empty. The file of an SQLite database is made
    :param revision: an identifier or its beginning, ``head``, ``+1``; without one it is the newest
    :param tell: is given lines for the operator: where the database stands, what is about to be read or copied, what
        is done
    :param stopped: asked before each change whether to end
    :raises Refused: the revision is unknown, or lies behind; the database is of an unknown revision or too old
    :raises DatabaseProblem: the database cannot be used
    :raises Stopped: ``stopped`` said so
    :raises DBAPIError: any other error of the database; after whatever error the same may be called again
    """
    _make_file(database)
    patient = database.with_timeouts(replace(database.timeouts, read=ONE_STATEMENT))
    with patient.connect() as connection:
        before = _recorded(connection, database, schema).name
        while True:
            with suppress(Overtaken):
                after = _try(connection, database, schema, revision, MigrationProgress(tell, stopped, ()))
                return UpgradeResult(before, after)
            connection.rollback()


def _try(
    connection: Connection, database: Database, schema: Schema, revision: str | None, progress: MigrationProgress
) -> str:
    """
    :returns: the revision that the database has now
    :raises Overtaken: somebody else has upgraded it meanwhile
    """
    recorded = _recorded(connection, database, schema)
    connection.rollback()
    pending = _pending(database, schema, recorded, revision)
    if not pending:
        return recorded.revision or schema.initial
    progress.heads = (recorded.revision,) if recorded.revision else ()
    _tell_begin(progress.tell, schema, recorded, pending)
    config = schema.config()
    config.attributes.update(connection=connection, progress=progress)
    try:
        if recorded.legacy is not None:
            command.stamp(config, schema.initial)
        command.upgrade(config, pending[-1])
    except (DBAPIError, CommandError) as error:  # has somebody else made the version table, or written the revision?
        connection.rollback()
        made = isinstance(error, DBAPIError) and error_number(error) in ALREADY_CHANGED
        if made or (isinstance(error, IntegrityError | CommandError) and recorded_heads(connection) != progress.heads):
            raise Overtaken from error
        raise
    return pending[-1]


def _tell_begin(tell: Callable[[str], None], schema: Schema, recorded: RecordedVersion, pending: list[str]) -> None:
    if recorded.legacy is not None:
        tell(f"version {recorded.legacy} of sqlalchemy-migrate, which is taken for revision {schema.initial}")
    place = schema.with_releases(recorded.revision) if recorded.revision else "no revision"
    tell(f"at {place}; revisions to go: {len(pending)}, up to {schema.with_releases(pending[-1])}")


def _pending(database: Database, schema: Schema, recorded: RecordedVersion, wanted: str | None) -> list[str]:
    """The revisions to go through, in order.

    :raises Refused: there is no way
    """
    _check(database, schema, recorded)
    revisions = schema.revisions
    current = recorded.revision
    if recorded.legacy is not None:
        return revisions[: _target(schema, 0, wanted) + 1]
    at = revisions.index(current) if current else -1
    target = _target(schema, at, wanted)
    if target < at:
        raise UpgradeRefused(
            f"{database} is at revision {current}, later than {revisions[target]}: there are no downgrades. "
            "Restore a backup of that time"
        )
    return revisions[at + 1 : target + 1]


def _check(database: Database, schema: Schema, recorded: RecordedVersion) -> None:
    """
    :raises Refused: there is no way on from where the database stands
    """
    other = API_SCHEMA if schema == MAIN_SCHEMA else MAIN_SCHEMA
    current, version = recorded.revision, recorded.legacy
    if current in other.revisions or recorded.repositories == {other.legacy.name}:
        raise WrongSchema(
            f"{database} is of the other schema: see whether connection in section [database] names a cell's database, "
            "and connection in section [api_database] the API database"
        )
    if recorded.repositories and schema.legacy.name not in recorded.repositories:
        raise UpgradeRefused(
            f"{database} is not Nova's: its table {LEGACY_TABLE} names {', '.join(sorted(recorded.repositories))}"
        )
    if current is not None and current not in schema.revisions:
        raise UpgradeRefused(
            f"{database} is at revision {current}, which this version of cellkeeper does not know: it is of a newer "
            f"release of Nova. Install a newer cellkeeper, or use that release's nova-manage"
        )
    if version is not None and version < schema.legacy.first:
        raise UpgradeRefused(_too_old(database, schema, version))


def _too_old(database: Database, schema: Schema, version: int) -> str:
    """What to do about a database that sqlalchemy-migrate has not brought to the version of release 20 (Train)."""
    place = f"{database} is at version {version} of sqlalchemy-migrate"
    if version == schema.legacy.first - 1:
        return (
            f"{place}, at which nova-manage 23 (Wallaby) begins with an empty database: its first sync "
            "was interrupted. If no data is in it yet, make it anew, as an empty database, and run this again"
        )
    return (
        f"{place}, from before release 20 (Train), whose version is {schema.legacy.first}: "
        "upgrade it with nova-manage of release 20, 21 or 22 first. That of 23 cannot"
    )


def _target(schema: Schema, at: int, wanted: str | None) -> int:
    """The place of the revision that is meant.

    :param at: the place of the current one; -1: there is none
    :raises Refused: there is no such revision
    """
    revisions = schema.revisions
    if not wanted or wanted in ("head", "heads"):
        return len(revisions) - 1
    if wanted.isdigit():
        raise UpgradeRefused(
            f"{wanted} is a version of sqlalchemy-migrate, which Nova has given up; the revisions are now "
            f"{', '.join(revisions)}"
        )
    if re.fullmatch(r"\+0*[1-9]\d*", wanted):
        found = [at + int(wanted)] if at + int(wanted) < len(revisions) else []
    else:
        found = [place for place, revision in enumerate(revisions) if revision.startswith(wanted)]
    if len(found) != 1:
        raise UpgradeRefused(f"There is no revision {wanted}; there are {', '.join(revisions)}, and head")
    return found[0]


def _recorded(connection: Connection, database: Database, schema: Schema) -> RecordedVersion:
    """What a database says of its version.

    :raises UnsuitableSchema: there are several revisions, where Nova has one line of them
    """
    heads = recorded_heads(connection) if inspect(connection).has_table(VERSION_TABLE) else ()
    if len(heads) > 1:
        raise UnsuitableSchema(
            f"{database}: its table {VERSION_TABLE} has the rows {', '.join(heads)}: leave the latest of them alone"
        )
    if heads:
        return RecordedVersion(revision=heads[0])
    versions = legacy.read_legacy_versions(connection)
    return RecordedVersion(None, versions.get(schema.legacy.name), frozenset(versions))


def _make_file(database: Database) -> None:
    """An SQLite database is its file; a server's must be made by its administrator."""
    file = database.url.database
    if database.url.get_backend_name() == "sqlite" and file and Path(file).parent.is_dir():
        Path(file).touch()
