"""The category ``api_db``.

What a command needs to work is imported when it runs: ``--help`` must be quick.
"""

import click

from cli.grammar import Category, Command
from cli.options import NO_WAIT

api_db = Category("api_db", help="Commands for managing the API database.")


@api_db.command("version", cls=Command)
def version() -> int:
    """Print the current version of the API database.

    It is a revision, or a number where the database is from before release 24; None where there is
    neither.

    \b
    Return codes:
      0    The version was printed.
      255  An unexpected error occurred.
    """
    from cli.api_db.version import version as print_version

    return print_version()


@api_db.command("sync", cls=Command)
@click.argument("revision", required=False, metavar="[VERSION]")
@NO_WAIT
def sync(revision: str | None, no_wait: bool) -> int:
    """Upgrade the schema of the API database.

    It goes up to VERSION, a revision, or to the newest one. The database itself must be there. Run
    it before db sync; it may be run again at any time, also after it was interrupted.

    \b
    Return codes:
      0    Successfully synced database schema.
      255  An unexpected error occurred.
    """
    from cli.api_db.sync import sync as run_sync

    return run_sync(revision, wait=not no_wait)
