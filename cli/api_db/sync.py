"""``api_db sync``: from the options to the exit code."""

from cli import configuration
from cli.schema import Upgrader
from cli.signals import graceful_stop
from jobs.api_db.sync import Exit
from novadb.migrations.upgrade import API_SCHEMA
from runs.targets import api_database


def sync(revision: str | None, *, wait: bool) -> int:
    """Upgrade the API database."""
    conf = configuration.load()
    with graceful_stop() as stop:
        Upgrader(conf, revision, wait, stop).upgrade(api_database(conf), API_SCHEMA)
    return Exit.SYNCED
