"""``api_db sync`` and ``api_db version``: from the options to the exit code."""

from cli import configuration
from cli.output import put
from cli.schema import Upgrader
from cli.signals import graceful_stop
from novadb.migrations import upgrade as migrations
from runs.targets import api_database


def sync(revision: str | None, no_wait: bool) -> int:
    """Upgrade the API database."""
    conf = configuration.load()
    with graceful_stop() as stop:
        Upgrader(conf, revision, not no_wait, stop).upgrade(api_database(conf), migrations.API)
    return 0


def version() -> int:
    """Print the revision of the API database."""
    put(str(migrations.version(api_database(configuration.load()))))
    return 0
