"""``libvirt get_machine_type``: the recorded machine type of an instance."""

from collections.abc import Sequence
from enum import IntEnum

from jobs.libvirt.instances import find_database, find_instance
from novadb.cells import Cell
from novadb.engine import Database


class Exit(IntEnum):
    """The manual's return codes."""

    FOUND = 0
    ERROR = 1
    UNKNOWN_INSTANCE = 2
    NO_MACHINE_TYPE = 3


def read_machine_type(api: Database, cells: Sequence[Cell], uuid: str) -> str | None:
    """The recorded machine type of an instance; None: none is recorded.

    :param cells: all mapped cells
    :raises UnknownInstance: there is no such instance, or no mapping of it
    :raises DatabaseProblem: a database cannot be used
    """
    with find_database(api, cells, uuid).connect() as cell:
        return find_instance(cell, uuid).machine_type
