"""``cell_v2 list_hosts``: print the mapped hosts."""

from cli.cell_v2.cloud import Cloud, unknown_cell
from cli.output import put, put_json, say, table
from cli.run_options import Format
from jobs.cell_v2.list_hosts import Exit, hosts

HEADER = ("Cell Name", "Cell UUID", "Hostname")


def list_hosts(form: Format, cell_uuid: str | None) -> int:
    """Print the hosts of one cell, or of all."""
    found = hosts(Cloud.configured().api, cell_uuid)
    if found is None:
        (say if form == "json" else put)(unknown_cell(cell_uuid or ""))
        return Exit.UNKNOWN_CELL
    if form == "json":
        put_json([vars(host) for host in found])
    else:
        put(table(HEADER, [(host.cell_name, host.cell_uuid, host.host) for host in found], centred=True))
    return Exit.LISTED
