"""``cell_v2 list_cells``: the cells by name."""

from enum import IntEnum

from jobs.retry import one_transaction
from novadb.engine import Database
from novadb.mappings import CellMapping, DefaultUrls, read_cell_mappings


class Exit(IntEnum):
    """What the command always returns."""

    LISTED = 0


def read_cells(api: Database, defaults: DefaultUrls) -> list[CellMapping]:
    """All cells, sorted by name; a cell without a name comes first."""
    mappings = one_transaction(api, lambda connection: read_cell_mappings(connection, defaults))
    return sorted(mappings, key=lambda cell: cell.name or "")
