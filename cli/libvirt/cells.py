"""Which cells the commands of the category look at."""

from collections.abc import Sequence

from novadb.cells import CELL0, Cell
from novadb.names import is_same_name


class UnknownCell(Exception):
    """No mapped cell fits the options; the text says why."""


def choose_cells(mapped: Sequence[Cell], uuid: str | None) -> list[Cell]:
    """The cell with this UUID, or all but cell0, whose instances have never been on a host.

    :raises UnknownCell: no cell with this UUID is mapped
    """
    if uuid is None:
        return [cell for cell in mapped if cell.uuid != CELL0]
    matching = [cell for cell in mapped if is_same_name(cell.uuid, uuid)]
    if not matching:
        raise UnknownCell(f"Cell {uuid} has no mapping: see list_cells")
    return matching
