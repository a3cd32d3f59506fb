"""``api_db version``: print the version of the API database."""

from cli import configuration
from cli.output import put
from jobs.api_db import version as job
from runs.targets import api_database


def version() -> int:
    """Print it."""
    put(str(job.version(api_database(configuration.load()))))
    return job.Exit.PRINTED
