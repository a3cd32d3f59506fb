"""Bringing a database to a revision of its schema, from wherever it stands."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from novadb.engine import Database, number_of
from novadb.error_numbers import MADE
from novadb.errors import DatabaseProblem, UnsuitableSchema
from novadb.migrations.environment import VERSION_TABLE, recorded_heads
from novadb.migrations.progress import Overtaken, Progress

# sqlalchemy-migrate's, which Nova had before release 24.0.0.
LEGACY_TABLE: Final = "migrate_version"
ONE_STATEMENT: Final = 7 * 24 * 3600.0  # seconds: the index of a large table takes hours


class Refused(DatabaseProblem):
    """What was asked for cannot be done; the text says what can."""


class OtherSchema(Refused):
    """The database has the schema that is not meant."""


@dataclass(frozen=True)
class Schema:
    """One of Nova's schemas.

    :ivar name: the folder of its revisions
    :ivar initial: its first revision
    :ivar legacy: the last version of sqlalchemy-migrate, at which a database has the tables of the first revision
    :ivar released: the newest revision that is known to the oldest release in use
    """

    name: str
    initial: str
    legacy: int
    released: str

    @cached_property
    def revisions(self) -> list[str]:
        """All revisions, from the first one on."""
        return [script.revision for script in self.scripts.walk_revisions()][::-1]

    @cached_property
    def scripts(self) -> ScriptDirectory:
        """The revisions, as alembic has them."""
        return ScriptDirectory.from_config(self.config())

    def config(self) -> Config:
        """A configuration for alembic, which needs no file."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / self.name).replace("%", "%%"))
        return config


MAIN: Final = Schema("main", "8f2f1571d55b", 402, "2903cd72dc14")
API: Final = Schema("api", "d67eeaabee36", 67, "cdeec0c85668")


@dataclass(frozen=True)
class Upgraded:
    """What became of a database.

    :ivar before: its revision; None: it had none
    :ivar after: its revision now
    """

    before: str | None
    after: str


@dataclass(frozen=True)
class Standing:
    """Where a database stands.

    :ivar version: as its version table says, with the name of that table; empty: it has none
    :ivar pending: the revisions that ``upgrade`` would go through, in order
    :ivar refusal: why there is no way on from here, or None
    """

    version: str
    pending: Sequence[str] = ()
    refusal: Refused | None = None


def standing(connection: Connection, database: Database, schema: Schema = MAIN) -> Standing:
    """See where a database stands, and change nothing.

    :raises UnsuitableSchema: its version table has several rows
    """
    current, legacy = _versions(connection, database)
    version = f"{VERSION_TABLE} {current}" if current else f"{LEGACY_TABLE} {legacy}" if legacy is not None else ""
    try:
        return Standing(version, _pending(database, schema, current, legacy, None))
    except Refused as refusal:
        return Standing(version, refusal=refusal)


def version(database: Database) -> str | None:
    """The revision of a database; None where it has none.

    :raises DatabaseProblem: it cannot be reached, or its version table has several rows
    """
    with database.connect() as connection:
        return _recorded(connection, database)


def upgrade(
    database: Database,
    schema: Schema = MAIN,
    revision: str | None = None,
    *,
    tell: Callable[[str], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Upgraded:
    """Bring a database to a revision; from nothing, from any earlier one, and from the middle of an interrupted run.

    It may run twice at the same time, from wherever: whoever comes second finds each change made, or goes on from the
    revision that the other has brought the database to. Alembic keeps what it does in global variables: in one
    process, upgrade one database after the other.

    :param database: must be there, and may be empty. The file of an SQLite database is made
    :param revision: an identifier or its beginning, ``head``, ``+1``; without one it is ``schema.released``, unless the
        database is further already
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
        before = _recorded(connection, database)
        while True:
            with suppress(Overtaken):
                after = _try(connection, database, schema, revision, Progress(tell, stopped, ()))
                return Upgraded(before, after)
            connection.rollback()


def _try(connection: Connection, database: Database, schema: Schema, revision: str | None, progress: Progress) -> str:
    """
    :returns: the revision that the database has now
    :raises Overtaken: somebody else has upgraded it meanwhile
    """
    current, legacy = _versions(connection, database)
    connection.rollback()
    pending = _pending(database, schema, current, legacy, revision)
    if not pending:
        return current or schema.initial
    progress.heads = (current,) if current else ()
    _tell_begin(progress.tell, current, legacy, pending)
    config = schema.config()
    config.attributes.update(connection=connection, progress=progress)
    try:
        if legacy is not None:
            command.stamp(config, schema.initial)
        command.upgrade(config, pending[-1])
    except (DBAPIError, CommandError) as error:  # has somebody else made the version table, or written the revision?
        connection.rollback()
        made = isinstance(error, DBAPIError) and number_of(error) in MADE
        if made or (isinstance(error, IntegrityError | CommandError) and recorded_heads(connection) != progress.heads):
            raise Overtaken from error
        raise
    return pending[-1]


def _versions(connection: Connection, database: Database) -> tuple[str | None, int | None]:
    """The revision of a database; where it has none, its version from before there were revisions."""
    current = _recorded(connection, database)
    return current, _legacy_version(connection) if current is None else None


def _tell_begin(tell: Callable[[str], None], current: str | None, legacy: int | None, pending: list[str]) -> None:
    if legacy is not None:
        tell(f"version {legacy} of sqlalchemy-migrate, which is taken for revision {pending[0]}")
    tell(f"at {current or 'no revision'}; revisions to go: {len(pending)}, up to {pending[-1]}")


def _pending(
    database: Database, schema: Schema, current: str | None, legacy: int | None, wanted: str | None
) -> list[str]:
    """The revisions to go through, in order.

    :raises Refused: there is no way
    """
    revisions = schema.revisions
    if current is not None and any(current in other.revisions for other in (MAIN, API) if other != schema):
        raise OtherSchema(
            f"{database} is of the other schema: see whether connection in section [database] names a cell's database, "
            "and connection in section [api_database] the API database"
        )
    if current is not None and current not in revisions:
        raise Refused(
            f"{database} is at revision {current}, which this version of cellkeeper does not know: it is of a newer "
            f"release of Nova. Install a newer cellkeeper, or use that release's nova-manage"
        )
    if legacy is not None and legacy != schema.legacy:
        raise Refused(
            f"{database} is at version {legacy} of sqlalchemy-migrate; from before {schema.legacy} there is no way "
            "here. Upgrade it with nova-manage of release 23 (Wallaby) first"
        )
    at = revisions.index(current) if current else -1
    target = _target(schema, at, wanted)
    if target < at:
        if not wanted:
            return []
        raise Refused(
            f"{database} is at revision {current}, later than {revisions[target]}: there are no downgrades. "
            "Restore a backup of that time"
        )
    return revisions[at + 1 : target + 1]


def _target(schema: Schema, at: int, wanted: str | None) -> int:
    """The place of the revision that is meant.

    :param at: the place of the current one; -1: there is none
    :raises Refused: there is no such revision
    """
    revisions = schema.revisions
    if not wanted:
        return revisions.index(schema.released)
    if wanted in ("head", "heads"):
        return len(revisions) - 1
    if wanted.isdigit():
        raise Refused(
            f"{wanted} is a version of sqlalchemy-migrate, which Nova has given up; the revisions are now "
            f"{', '.join(revisions)}"
        )
    if re.fullmatch(r"\+\d+", wanted):
        found = [at + int(wanted)] if at + int(wanted) < len(revisions) else []
    else:
        found = [place for place, revision in enumerate(revisions) if revision.startswith(wanted)]
    if len(found) != 1:
        raise Refused(f"There is no revision {wanted}; there are {', '.join(revisions)}, and head")
    return found[0]


def _recorded(connection: Connection, database: Database) -> str | None:
    """
    :raises UnsuitableSchema: there are several revisions, where Nova has one line of them
    """
    heads = recorded_heads(connection) if inspect(connection).has_table(VERSION_TABLE) else ()
    if len(heads) > 1:
        raise UnsuitableSchema(
            f"{database}: its table {VERSION_TABLE} has the rows {', '.join(heads)}: leave the latest of them alone"
        )
    return heads[0] if heads else None


def _legacy_version(connection: Connection) -> int | None:
    """The version that sqlalchemy-migrate has left behind, if it was here."""
    if not inspect(connection).has_table(LEGACY_TABLE):
        return None
    found: int | None = connection.execute(text(f"SELECT MAX(version) FROM {LEGACY_TABLE}")).scalar()
    return found


def _make_file(database: Database) -> None:
    """An SQLite database is its file; a server's must be made by its administrator."""
    file = database.url.database
    if database.url.get_backend_name() == "sqlite" and file and Path(file).parent.is_dir():
        Path(file).touch()
