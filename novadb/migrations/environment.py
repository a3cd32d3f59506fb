"""How alembic uses the connection it is given: a transaction per revision, safe in parallel."""

from typing import Any, Final

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script
from sqlalchemy import Connection, text

from novadb.migrations.progress import MigrationProgress, Overtaken

VERSION_TABLE: Final = "alembic_version"


def run_migrations() -> None:
    """Carry out what alembic was asked for. Called by the ``env.py`` of each schema."""
    connection: Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        transaction_per_migration=True,
        # SQLite rolls back changes of tables, too; MySQL commits each of them by itself.
        transactional_ddl=connection.dialect.name == "sqlite",
        on_version_apply=_check_recorded_revision,
    )
    with context.begin_transaction():
        context.run_migrations()


def recorded_heads(connection: Connection, *, locked: bool = False) -> tuple[str, ...]:
    """The revisions in the version table.

    :param locked: read what others have committed until now, and keep them from changing it
    """
    can_lock = connection.dialect.name != "sqlite"
    lock = " FOR UPDATE" if locked and can_lock else ""
    versions = text("SELECT version_num FROM alembic_version ORDER BY version_num" + lock)
    return tuple(connection.execute(versions).scalars())


def _check_recorded_revision(
    ctx: MigrationContext, step: MigrationInfo, heads: Any, run_args: Any
) -> None:
    """Called when a revision is written and not yet committed.

    Two processes that make the first revision at the same time would both insert their row, and
    neither alembic nor Nova can use a table of two rows. The second one notices here, and rolls
    back.

    :raises Overtaken: the version table has another row as well
    """
    script = step.up_revision
    assert isinstance(script, Script)
    assert ctx.connection is not None
    if recorded_heads(ctx.connection, locked=True) != (script.revision,):
        raise Overtaken
    progress: MigrationProgress = context.config.attributes["progress"]
    progress.applied(script.revision, script.doc)
