"""``cell_v2 map_cell0``: map cell0."""

from cli.cell_v2.configured import ConfiguredCloud, UnusableUrl
from cli.output import put
from jobs.cell_v2.map_cell0 import Exit, default_url, map_cell0_to
from novadb.errors import DatabaseProblem


def map_cell0(database_connection: str | None) -> int:
    """Map cell0, and say so if it is mapped already."""
    map_cell0_in(ConfiguredCloud.load(), database_connection)
    return Exit.MAPPED


def map_cell0_in(cloud: ConfiguredCloud, database_connection: str | None) -> None:
    """Map cell0 to a database, by default to the configured one's name with ``_cell0`` appended.

    :raises DatabaseProblem: that is not a database URL, or the API database cannot be used
    """
    url = database_connection or default_url(cloud.defaults)
    try:
        cloud.check_database(url)
    except UnusableUrl as error:
        raise DatabaseProblem(str(error)) from error
    if not map_cell0_to(cloud.api, url):
        put("Cell0 is already setup")
