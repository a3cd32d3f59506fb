"""``cell_v2 delete_cell``: remove a cell's mapping."""

from typing import Final

from cli.cell_v2.cloud import ARCHIVE, Cloud, unknown_cell
from cli.output import put, say
from jobs.cell_v2 import list_cells
from jobs.cell_v2.delete_cell import Exit, Params, delete_mapping
from novadb.cells import CELL0
from novadb.names import is_same_name

CELL0_IS_GONE: Final = (
    "Warning: cell0 is mapped no more, and a build that no host takes has nowhere to go; to map it again: "
    "cellkeeper cell_v2 map_cell0"
)


def delete_cell(cell_uuid: str, *, force: bool) -> int:
    """Delete the cell if nothing speaks against it; else say what does, in the words of the stock tool."""
    cloud = Cloud.configured()
    code = delete_mapping(cloud.api, cloud.defaults, Params(cell_uuid, force))
    for line in _lines(code, cell_uuid):
        put(line)
    if code is Exit.DELETED and is_same_name(cell_uuid, CELL0) and list_cells.cells(cloud.api, cloud.defaults):
        say(CELL0_IS_GONE)
    return code


def _lines(code: Exit, uuid: str) -> list[str]:
    match code:
        case Exit.UNKNOWN_CELL:
            return [unknown_cell(uuid)]
        case Exit.HAS_HOSTS:
            return [f"There are existing hosts mapped to cell with uuid {uuid}."]
        case Exit.HAS_INSTANCES:
            return [f"There are existing instances mapped to cell with uuid {uuid}."]
        case Exit.HAS_MAPPINGS:
            return [
                f"There are instance mappings to cell with uuid {uuid}, but all instances have been deleted in the "
                "cell.",
                f"So execute '{ARCHIVE}' to delete the instance mappings.",
            ]
    return []
