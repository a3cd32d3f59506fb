"""``cell_v2 map_cell0``: map cell0."""

from cli.cell_v2.cloud import Cloud, UnusableUrl
from cli.output import put
from jobs.cell_v2 import map_cell0 as job
from novadb.errors import DatabaseProblem


def map_cell0(database_connection: str | None) -> int:
    """Map cell0, and say so if it was mapped."""
    map_to(Cloud.configured(), database_connection)
    return job.Exit.MAPPED


def map_to(cloud: Cloud, database_connection: str | None) -> None:
    """Map cell0 to a database, by default to the one beside the configured one.

    :raises DatabaseProblem: that is no database URL, or the API database cannot be used
    """
    url = database_connection or job.default_url(cloud.defaults)
    try:
        cloud.check_database(url)
    except UnusableUrl as error:
        raise DatabaseProblem(str(error)) from error
    if not job.map_cell0(cloud.api, url):
        put("Cell0 is already setup")
