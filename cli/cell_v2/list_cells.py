"""``cell_v2 list_cells``: print the cells."""

from cli.cell_v2.configured import ConfiguredCloud
from cli.output import put, put_json, stock_table
from cli.run_options import Format
from jobs.cell_v2.list_cells import Exit, read_cells
from novadb.mappings import CellMapping
from novadb.urls import mask_url

HEADER = ("Name", "UUID", "Transport URL", "Database Connection", "Disabled")


def list_cells(output_format: Format, *, verbose: bool) -> int:
    """Print the cells; secrets in their URLs only with ``verbose``."""
    cloud = ConfiguredCloud.load()
    rows = [_row(cell, verbose) for cell in read_cells(cloud.api, cloud.defaults)]
    if output_format == "json":
        keys = [name.lower().replace(" ", "_") for name in HEADER]
        put_json([dict(zip(keys, row, strict=True)) for row in rows])
    else:
        put(stock_table(HEADER, rows, centred=True))
    return Exit.LISTED


def _row(cell: CellMapping, verbose: bool) -> tuple[str, str, str, str, bool]:
    transport = cell.transport_url if verbose else mask_url(cell.transport_url, several_hosts=True)
    database = cell.database_connection if verbose else mask_url(cell.database_connection)
    return cell.name or "", cell.uuid, transport, database, cell.disabled
