"""Brings a database to a revision of its schema, wherever it stands."""

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

# Seconds that one statement may take: building an index of a large table takes hours.
STATEMENT_TIMEOUT: Final = 7 * 24 * 3600.0
NEWEST_RELEASE: Final = 34
"""The newest release of Nova whose revisions are known here."""


class UpgradeRefused(DatabaseProblem):
    """The upgrade that was asked for is impossible; the text says what to do instead."""


class WrongSchema(UpgradeRefused):
    """The database has the other one of Nova's two schemas."""


@dataclass(frozen=True)
class Schema:
    """One of Nova's schemas.

    :ivar name: the folder of its revisions
    :ivar initial: its first revision
    :ivar legacy: its versions from before there were revisions
    :ivar releases: by revision, the first release of Nova that has it as its newest; in order
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
        """A revision, and the releases that have it as their newest, for messages."""
        first = self.releases.get(revision)
        if first is None:
            return revision
        following = [release for release in self.releases.values() if release > first]
        last = min(following, default=NEWEST_RELEASE + 1) - 1
        releases = f"{first}" if last == first else f"{first} to {last}"
        return f"{revision} (Nova {releases})"

    def config(self) -> Config:
        """A configuration for alembic, which needs no file."""
        config = Config()
        folder = Path(__file__).parent / self.name
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
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
    """The version that is recorded in a database.

    :ivar revision: alembic's; None: there is none
    :ivar legacy: sqlalchemy-migrate's, if there is no revision
    :ivar repositories: all that sqlalchemy-migrate kept versions of, if there is no revision
    """

    revision: str | None = None
    legacy: int | None = None
    repositories: frozenset[str] = frozenset()

    @property
    def name(self) -> str | None:
        """Whichever of the two there is, as the stock tool prints it."""
        return self.revision if self.legacy is None else str(self.legacy)


@dataclass(frozen=True)
class UpgradeResult:
    """What an upgrade has done.

    :ivar before: the revision, or version of sqlalchemy-migrate, before it; None: there was neither
    :ivar after: the revision after it
    """

    before: str | None
    after: str


@dataclass(frozen=True)
class SchemaStanding:
    """Where a database stands.

    :ivar version: as recorded, after the name of the version table; empty: there is none
    :ivar place: the version with the releases that have it
    :ivar pending: the revisions that ``upgrade_schema`` would apply, in order
    :ivar refusal: why it could not be upgraded from here, or None
    """

    version: str
    place: str
    pending: Sequence[str] = ()
    refusal: UpgradeRefused | None = None


def read_standing(
    connection: Connection, database: Database, schema: Schema = MAIN_SCHEMA
) -> SchemaStanding:
    """See where a database stands, without changing anything.

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
    """The revision of a database, or its version of sqlalchemy-migrate; None: it has neither.

    :raises DatabaseProblem: it cannot be reached, or its version table has several rows
    """
    with database.connect() as connection:
        return _recorded(connection, database, schema).name


def is_before(
    release: int, connection: Connection, database: Database, schema: Schema = MAIN_SCHEMA
) -> bool:
    """Whether a database certainly belongs to an earlier release than this one.

    :raises UnsuitableSchema: its version table has several rows
    """
    recorded = _recorded(connection, database, schema)
    if recorded.revision is None:
        return recorded.legacy is not None
    earlier = [revision for revision, first in schema.releases.items() if first < release]
    last_earlier = schema.revisions.index(earlier[-1])
    return recorded.revision in schema.revisions[: last_earlier + 1]


def upgrade_schema(
    database: Database,
    schema: Schema = MAIN_SCHEMA,
    revision: str | None = None,
    *,
    tell: Callable[[str], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> UpgradeResult:
    """Bring a database to a revision, also from nothing or after an interrupted upgrade.

    It may run twice at the same time, from any state: the second process finds each change made, or
    continues from the revision that the first has reached. Alembic keeps its state in global
    variables: within one process, upgrade one database after the other.

    :param database: must exist, and may be empty. The file of an SQLite database is created
    :param revision: an identifier or its beginning, ``head``, ``+1``; None: the newest
    :param tell: is given lines for the operator: where the database stands, what is about to be
        read or copied, what is done
    :param stopped: asked before each change whether to end
    :raises UpgradeRefused: the revision is unknown or earlier than that of the database, which may
        also be unknown or too old
    :raises DatabaseProblem: the database cannot be used
    :raises UpgradeStopped: ``stopped`` said so
    :raises DBAPIError: any other error of the database. After any error, call this again to
        continue
    """
    _make_file(database)
    patient_database = database.with_timeouts(replace(database.timeouts, read=STATEMENT_TIMEOUT))
    with patient_database.connect() as connection:
        before = _recorded(connection, database, schema).name
        while True:
            with suppress(Overtaken):
                progress = MigrationProgress(tell, stopped, ())
                after = _try_upgrade(connection, database, schema, revision, progress)
                return UpgradeResult(before, after)
            connection.rollback()


def _try_upgrade(
    connection: Connection,
    database: Database,
    schema: Schema,
    revision: str | None,
    progress: MigrationProgress,
) -> str:
    """
    :returns: the revision that the database has now
    :raises Overtaken: another process has upgraded it meanwhile
    """
    recorded = _recorded(connection, database, schema)
    connection.rollback()
    pending = _pending(database, schema, recorded, revision)
    if not pending:
        return recorded.revision or schema.initial
    progress.heads = (recorded.revision,) if recorded.revision else ()
    _announce_upgrade(progress.tell, schema, recorded, pending)
    config = schema.config()
    config.attributes.update(connection=connection, progress=progress)
    try:
        if recorded.legacy is not None:
            command.stamp(config, schema.initial)
        command.upgrade(config, pending[-1])
    except (DBAPIError, CommandError) as error:
        connection.rollback()
        if _was_overtaken(error, connection, progress):
            raise Overtaken from error
        raise
    return pending[-1]


def _was_overtaken(
    error: DBAPIError | CommandError, connection: Connection, progress: MigrationProgress
) -> bool:
    """Whether another process has created the version table, or recorded the revision."""
    if isinstance(error, DBAPIError) and error_number(error) in ALREADY_CHANGED:
        return True
    may_be_recorded = isinstance(error, IntegrityError | CommandError)
    return may_be_recorded and recorded_heads(connection) != progress.heads


def _announce_upgrade(
    tell: Callable[[str], None], schema: Schema, recorded: RecordedVersion, pending: list[str]
) -> None:
    if recorded.legacy is not None:
        tell(
            f"version {recorded.legacy} of sqlalchemy-migrate, which is taken for revision "
            f"{schema.initial}"
        )
    place = schema.with_releases(recorded.revision) if recorded.revision else "no revision"
    newest = schema.with_releases(pending[-1])
    tell(f"at {place}; revisions to go: {len(pending)}, up to {newest}")


def _pending(
    database: Database, schema: Schema, recorded: RecordedVersion, wanted: str | None
) -> list[str]:
    """The revisions to apply, in order.

    :raises UpgradeRefused: the database cannot be brought to that revision
    """
    _check_recorded(database, schema, recorded)
    revisions = schema.revisions
    current = recorded.revision
    if recorded.legacy is not None:
        return revisions[: _find_target(schema, 0, wanted) + 1]
    at = revisions.index(current) if current else -1
    target = _find_target(schema, at, wanted)
    if target < at:
        raise UpgradeRefused(
            f"{database} is at revision {current}, later than {revisions[target]}: there are no "
            "downgrades. Restore a backup of that time"
        )
    return revisions[at + 1 : target + 1]


def _check_recorded(database: Database, schema: Schema, recorded: RecordedVersion) -> None:
    """
    :raises UpgradeRefused: the database cannot be upgraded from where it stands
    """
    other = API_SCHEMA if schema == MAIN_SCHEMA else MAIN_SCHEMA
    current, version = recorded.revision, recorded.legacy
    if current in other.revisions or recorded.repositories == {other.legacy.name}:
        raise WrongSchema(
            f"{database} is of the other schema: see whether connection in section [database] "
            "names a cell's database, and connection in section [api_database] the API database"
        )
    if recorded.repositories and schema.legacy.name not in recorded.repositories:
        raise UpgradeRefused(
            f"{database} is not Nova's: its table {LEGACY_TABLE} names "
            f"{', '.join(sorted(recorded.repositories))}"
        )
    if current is not None and current not in schema.revisions:
        raise UpgradeRefused(
            f"{database} is at revision {current}, which this version of cellkeeper does not "
            "know: it is of a newer release of Nova. Install a newer cellkeeper, or use that "
            "release's nova-manage"
        )
    if version is not None and version < schema.legacy.first:
        raise UpgradeRefused(_too_old(database, schema, version))


def _too_old(database: Database, schema: Schema, version: int) -> str:
    """What to do about a database from before release 20 (Train), in words."""
    place = f"{database} is at version {version} of sqlalchemy-migrate"
    if version == schema.legacy.first - 1:
        return (
            f"{place}, at which nova-manage 23 (Wallaby) begins with an empty database: its first "
            "sync was interrupted. If no data is in it yet, make it anew, as an empty database, "
            "and run this again"
        )
    return (
        f"{place}, from before release 20 (Train), whose version is {schema.legacy.first}: "
        "upgrade it with nova-manage of release 20, 21 or 22 first. That of 23 cannot"
    )


def _find_target(schema: Schema, at: int, wanted: str | None) -> int:
    """The index of the wanted revision.

    :param at: the index of the current one; -1: there is none
    :raises UpgradeRefused: there is no such revision
    """
    revisions = schema.revisions
    if not wanted or wanted in ("head", "heads"):
        return len(revisions) - 1
    if wanted.isdigit():
        raise UpgradeRefused(
            f"{wanted} is a version of sqlalchemy-migrate, which Nova has given up; the revisions "
            f"are now {', '.join(revisions)}"
        )
    if re.fullmatch(r"\+0*[1-9]\d*", wanted):
        target = at + int(wanted)
        matches = [target] if target < len(revisions) else []
    else:
        matches = [number for number, name in enumerate(revisions) if name.startswith(wanted)]
    if len(matches) != 1:
        raise UpgradeRefused(
            f"There is no revision {wanted}; there are {', '.join(revisions)}, and head"
        )
    return matches[0]


def _recorded(connection: Connection, database: Database, schema: Schema) -> RecordedVersion:
    """The version that is recorded in a database.

    :raises UnsuitableSchema: there are several revisions
    """
    heads = recorded_heads(connection) if inspect(connection).has_table(VERSION_TABLE) else ()
    if len(heads) > 1:
        raise UnsuitableSchema(
            f"{database}: its table {VERSION_TABLE} has the rows {', '.join(heads)}: leave the "
            "latest of them alone"
        )
    if heads:
        return RecordedVersion(revision=heads[0])
    versions = legacy.read_legacy_versions(connection)
    return RecordedVersion(None, versions.get(schema.legacy.name), frozenset(versions))


def _make_file(database: Database) -> None:
    """Create the file of an SQLite database. On a server, an administrator creates the database."""
    file = database.url.database
    if database.url.get_backend_name() == "sqlite" and file and Path(file).parent.is_dir():
        Path(file).touch()
