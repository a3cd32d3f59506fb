"""``cell_v2 create_cell``: map a new cell."""

from cli.cell_v2.cloud import Cloud, UnusableUrl
from cli.cell_v2.options import NewCellOptions
from cli.output import put, say
from jobs.cell_v2.create_cell import Exit, Params, create


def create_cell(options: NewCellOptions) -> int:
    """Check the URLs in the order of the stock tool, create the cell, print its UUID with ``--verbose``."""
    cloud = Cloud.configured()
    try:
        transport = cloud.transport_url(options.transport_url)
        database = cloud.database_connection(options.database_connection)
    except UnusableUrl as error:
        say(str(error))
        return Exit.INVALID_URL
    params = Params(options.name, transport, database, options.disabled)
    code, uuid = create(cloud.api, cloud.defaults, params)
    if code is Exit.NOT_UNIQUE:
        put(taken(uuid))
    elif options.verbose:
        put(uuid)
    return code


def taken(uuid: str) -> str:
    """What is said of URLs that another cell has."""
    return (
        "The specified transport_url and/or database_connection combination already exists for another cell with "
        f"uuid {uuid}."
    )
