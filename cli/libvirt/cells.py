"""Which cells the commands of the category look at."""

from collections.abc import Sequence

from novadb.cells import CELL0, Cell
from novadb.names import is_same_name


class UnknownCell(Exception):
    """No cell has this UUID."""


def chosen(mapped: Sequence[Cell], uuid: str | None) -> list[Cell]:
    """The named cell, or all: cell0 is left out, its instances have never been on a host.

    :raises UnknownCell: the named cell is not mapped
    """
    if uuid is None:
        return [cell for cell in mapped if cell.uuid != CELL0]
    named = [cell for cell in mapped if is_same_name(cell.uuid, uuid)]
    if not named:
        raise UnknownCell(f"Cell {uuid} has no mapping: see list_cells")
    return named
