"""``cell_v2 delete_cell``: remove a cell's mapping."""

from cli.cell_v2.cloud import Cloud, unknown_cell
from cli.output import put, say
from jobs.cell_v2.delete_cell import Exit, Params, delete_mapping


def delete_cell(cell_uuid: str, force: int) -> int:
    """Delete the cell if nothing speaks against it; else say what does, in the words of the stock tool."""
    cloud = Cloud.configured()
    code = delete_mapping(cloud.api, cloud.defaults, Params(cell_uuid, force))
    for line in _lines(code, cell_uuid):
        put(line)
    if code is Exit.CELL0:
        say("This is cell0: instances that no host takes need it. Say --force twice to delete it all the same")
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
                "So execute 'nova-manage db archive_deleted_rows' to delete the instance mappings.",
            ]
    return []
