"""How alembic works on the connection that it is given: a transaction per revision, and two processes at once."""

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
        # SQLite can take tables back as well as rows; MySQL commits each change of a table by itself.
        transactional_ddl=connection.dialect.name == "sqlite",
        on_version_apply=_alone_with_it,
    )
    with context.begin_transaction():
        context.run_migrations()


def recorded_heads(connection: Connection, *, locked: bool = False) -> tuple[str, ...]:
    """What the version table says.

    :param locked: read what others have committed up to now, and let nobody change it
    """
    lock = " FOR UPDATE" if locked and connection.dialect.name != "sqlite" else ""
    return tuple(
        connection.execute(text("SELECT version_num FROM alembic_version ORDER BY version_num" + lock)).scalars()
    )


def _alone_with_it(ctx: MigrationContext, step: MigrationInfo, heads: Any, run_args: Any) -> None:
    """Called when a revision is written and not yet committed.

    Two processes that make the first revision at the same time would both insert theirs, where one has gone on: two
    rows, which neither alembic nor Nova can use. The second one looks here, and rolls back.

    :raises Overtaken: the version table has another row as well
    """
    script = step.up_revision
    assert isinstance(script, Script)
    assert ctx.connection is not None
    if recorded_heads(ctx.connection, locked=True) != (script.revision,):
        raise Overtaken
    progress: MigrationProgress = context.config.attributes["progress"]
    progress.applied(script.revision, script.doc)
