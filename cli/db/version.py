"""``db version``: print the version of the configured database."""

from cli import configuration
from cli.output import put
from jobs.db import version as job
from runs.targets import own_database


def version() -> int:
    """Print it."""
    put(str(job.version(own_database(configuration.load()))))
    return job.Exit.PRINTED
