"""``cell_v2 delete_cell``: remove a cell's mapping."""

from typing import Final

from cli.cell_v2.configured import ARCHIVE_COMMAND, ConfiguredCloud, unknown_cell_line
from cli.output import put, say
from jobs.cell_v2.delete_cell import Exit, Params, delete_cell_mapping
from jobs.cell_v2.list_cells import read_cells
from novadb.cells import CELL0
from novadb.names import is_same_name

CELL0_UNMAPPED: Final = (
    "Warning: cell0 is no longer mapped, and instances that fail to be scheduled have nowhere to "
    "go; to map it again: cellkeeper cell_v2 map_cell0"
)


def delete_cell(cell_uuid: str, *, force: bool) -> int:
    """Delete the cell, or say why not, in the words of the stock tool."""
    cloud = ConfiguredCloud.load()
    code = delete_cell_mapping(cloud.api, cloud.defaults, Params(cell_uuid, force))
    for line in _stock_lines(code, cell_uuid):
        put(line)
    is_cell0_deleted = code is Exit.DELETED and is_same_name(cell_uuid, CELL0)
    if is_cell0_deleted and read_cells(cloud.api, cloud.defaults):
        say(CELL0_UNMAPPED)
    return code


def _stock_lines(code: Exit, uuid: str) -> list[str]:
    match code:
        case Exit.UNKNOWN_CELL:
            return [unknown_cell_line(uuid)]
        case Exit.HAS_HOSTS:
            return [f"There are existing hosts mapped to cell with uuid {uuid}."]
        case Exit.HAS_INSTANCES:
            return [f"There are existing instances mapped to cell with uuid {uuid}."]
        case Exit.HAS_MAPPINGS:
            return [
                f"There are instance mappings to cell with uuid {uuid}, but all instances have "
                "been deleted in the cell.",
                f"So execute '{ARCHIVE_COMMAND}' to delete the instance mappings.",
            ]
    return []
