"""``cell_v2 update_cell``: change a cell."""

from typing import Final

from cli.cell_v2.cloud import Cloud, UnusableUrl, unknown_cell
from cli.cell_v2.create_cell import taken
from cli.cell_v2.options import UpdateOptions
from cli.output import put, say
from jobs.cell_v2.update_cell import Exit, Params, Updated, update

UNCHANGED: Final = "Nothing was changed: the cell {} has all that was given already"


def update_cell(options: UpdateOptions) -> int:
    """Check in the order of the stock tool, then change the cell, or nothing of it.

    URLs that are not given are the configured ones, as documented, for cell0 as well: that is how a deployment whose
    configuration names cell0's database corrects its mapping.
    """
    cloud = Cloud.configured()
    uuid = options.cell_uuid
    if cloud.cell(uuid) is None:
        put(unknown_cell(uuid))
        return Exit.UNKNOWN_CELL
    try:
        new_transport = options.transport_url or (not options.keep_urls and cloud.defaults.transport)
        new_database = options.database_connection or (not options.keep_urls and cloud.defaults.database)
        params = Params(
            options.name,
            cloud.transport_url(options.transport_url) if new_transport else None,
            cloud.database_connection(options.database_connection) if new_database else None,
            options.disable,
            options.enable,
        )
    except UnusableUrl as error:
        say(f"Unable to update CellMapping: {error}")
        return Exit.CANNOT_BE_SET
    updated = update(cloud.api, cloud.defaults, uuid, params)
    if updated.exit is Exit.CANNOT_BE_SET:
        say(f"Unable to update CellMapping: {updated.problem}")
    elif line := _line(updated, uuid):
        put(line)
    elif not updated.changed:
        say(UNCHANGED.format(uuid))
    return updated.exit


def _line(updated: Updated, uuid: str) -> str:
    """What the stock tool says of it."""
    match updated.exit:
        case Exit.UNKNOWN_CELL:
            return unknown_cell(uuid)
        case Exit.NOT_UNIQUE:
            return taken(updated.twin)
        case Exit.BOTH_SWITCHES:
            return "Cell cannot be disabled and enabled at the same time."
        case Exit.CELL0:
            return "Cell0 cannot be disabled."
    return f"Cell {uuid} is already {updated.already}" if updated.already else ""
