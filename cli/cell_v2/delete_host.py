"""``cell_v2 delete_host``: remove a host's mapping."""

from cli.cell_v2.configured import ConfiguredCloud, unknown_cell_line
from cli.output import put
from jobs.cell_v2.delete_host import Exit, delete_host_mapping


def delete_host(cell_uuid: str, host: str) -> int:
    """Delete the mapping, or say why not, in the words of the stock tool."""
    cloud = ConfiguredCloud.load()
    code = delete_host_mapping(cloud.api, cloud.defaults, cell_uuid, host)
    lines = {
        Exit.UNKNOWN_CELL: unknown_cell_line(cell_uuid),
        Exit.UNKNOWN_HOST: f"The host {host} was not found.",
        Exit.IN_ANOTHER_CELL: f"The host {host} was not found in the cell {cell_uuid}.",
        Exit.HAS_INSTANCES: f"There are instances on the host {host}.",
    }
    if code in lines:
        put(lines[code])
    return code
