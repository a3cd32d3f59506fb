"""``cell_v2 create_cell``: map a new cell."""

from cli.cell_v2.configured import ConfiguredCloud, UnusableUrl
from cli.cell_v2.options import NewCellOptions
from cli.output import put, say
from jobs.cell_v2.create_cell import Exit, Params, create_cell_mapping


def create_cell(options: NewCellOptions) -> int:
    """Check the URLs in the order of the stock tool, create the cell, print its UUID if asked."""
    cloud = ConfiguredCloud.load()
    try:
        transport = cloud.usable_transport_url(options.transport_url)
        database = cloud.usable_database_url(options.database_connection)
    except UnusableUrl as error:
        say(str(error))
        return Exit.INVALID_URL
    params = Params(options.name, transport, database, options.disabled)
    code, uuid = create_cell_mapping(cloud.api, cloud.defaults, params)
    if code is Exit.NOT_UNIQUE:
        put(urls_taken_line(uuid))
    elif options.verbose:
        put(uuid)
    return code


def urls_taken_line(uuid: str) -> str:
    """The stock tool's line about URLs that another cell has."""
    return (
        "The specified transport_url and/or database_connection combination already exists for "
        f"another cell with uuid {uuid}."
    )
