"""``cell_v2 list_hosts``: print the mapped hosts."""

from cli.cell_v2.configured import ConfiguredCloud, unknown_cell_line
from cli.output import put, put_json, say, stock_table
from cli.run_options import Format
from jobs.cell_v2.list_hosts import Exit, read_mapped_hosts

HEADER = ("Cell Name", "Cell UUID", "Hostname")


def list_hosts(output_format: Format, cell_uuid: str | None) -> int:
    """Print the hosts of one cell, or of all."""
    hosts = read_mapped_hosts(ConfiguredCloud.load().api, cell_uuid)
    is_json = output_format == "json"
    if hosts is None:
        # Standard output of the stock tool; where a document is expected, it holds nothing else.
        print_line = say if is_json else put
        print_line(unknown_cell_line(cell_uuid or ""))
        return Exit.UNKNOWN_CELL
    if is_json:
        put_json([vars(host) for host in hosts])
    else:
        rows = [(host.cell_name, host.cell_uuid, host.host) for host in hosts]
        put(stock_table(HEADER, rows, centred=True))
    return Exit.LISTED
