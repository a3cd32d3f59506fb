"""``cell_v2 update_cell``: change a cell."""

from typing import Final

from cli.cell_v2.configured import ConfiguredCloud, UnusableUrl, unknown_cell_line
from cli.cell_v2.create_cell import urls_taken_line
from cli.cell_v2.options import UpdateOptions
from cli.output import put, say
from jobs.cell_v2.update_cell import Exit, Params, Updated, change_cell

UNCHANGED: Final = "Nothing was changed: the cell {} already has these values"


def update_cell(options: UpdateOptions) -> int:
    """Check in the order of the stock tool, then make all changes or none.

    URLs that are not given are taken from the configuration, as documented, for cell0 as well:
    that is how a deployment whose configuration names cell0's database corrects its mapping.
    """
    cloud = ConfiguredCloud.load()
    uuid = options.cell_uuid
    if cloud.find_cell(uuid) is None:
        put(unknown_cell_line(uuid))
        return Exit.UNKNOWN_CELL
    try:
        params = _params(cloud, options)
    except UnusableUrl as error:
        say(f"Unable to update CellMapping: {error}")
        return Exit.CANNOT_BE_SET
    updated = change_cell(cloud.api, cloud.defaults, uuid, params)
    if updated.exit is Exit.CANNOT_BE_SET:
        say(f"Unable to update CellMapping: {updated.problem}")
    elif line := _stock_line(updated, uuid):
        put(line)
    elif not updated.changed:
        say(UNCHANGED.format(uuid))
    return updated.exit


def _params(cloud: ConfiguredCloud, options: UpdateOptions) -> Params:
    """The changes to make.

    :raises UnusableUrl: a URL, given or configured, cannot be used
    """
    transport_url = database_url = None
    if options.transport_url or (cloud.defaults.transport and not options.keep_urls):
        transport_url = cloud.usable_transport_url(options.transport_url)
    if options.database_connection or (cloud.defaults.database and not options.keep_urls):
        database_url = cloud.usable_database_url(options.database_connection)
    return Params(options.name, transport_url, database_url, options.disable, options.enable)


def _stock_line(updated: Updated, uuid: str) -> str:
    """What the stock tool prints; empty: nothing."""
    match updated.exit:
        case Exit.UNKNOWN_CELL:
            return unknown_cell_line(uuid)
        case Exit.NOT_UNIQUE:
            return urls_taken_line(updated.twin)
        case Exit.BOTH_SWITCHES:
            return "Cell cannot be disabled and enabled at the same time."
        case Exit.CELL0:
            return "Cell0 cannot be disabled."
    return f"Cell {uuid} is already {updated.already}" if updated.already else ""
