"""Upgrading a schema, with what goes away by itself tried again; for every command that does so."""

from collections.abc import Callable
from functools import partial

from sqlalchemy.exc import DBAPIError

from jobs.retry import transactionally
from novadb.engine import Database, server_message
from novadb.errors import MissingDatabase, UnsuitableSchema
from novadb.migrations import upgrade as migrations
from novadb.migrations.upgrade import Schema, UpgradeResult


def upgrade(
    database: Database,
    schema: Schema,
    revision: str | None = None,
    *,
    tell: Callable[[str], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> UpgradeResult:
    """Bring a database to a revision, from wherever it stands; see ``novadb.migrations.upgrade``.

    :raises DatabaseProblem: it cannot be done; the text says what to do
    :raises Stopped: ``stopped`` said so
    """
    work = partial(
        migrations.upgrade_schema, database, schema, revision, tell=tell, stopped=stopped
    )
    try:
        return transactionally(work, name=str(database))
    except MissingDatabase as problem:
        raise MissingDatabase(
            f"{problem}. This makes tables, not databases: let an administrator create it first, "
            f"as in CREATE DATABASE {database.location.database}"
        ) from problem
    except DBAPIError as error:
        raise UnsuitableSchema(
            f"{database}: {server_message(error)}. What was done stands; when the reason is gone, "
            "run the same command again"
        ) from error
