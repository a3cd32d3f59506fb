"""``libvirt get_machine_type``: the recorded machine type of an instance."""

from collections.abc import Sequence
from enum import IntEnum

from jobs.libvirt import instances
from novadb.cells import Cell
from novadb.engine import Database


class Exit(IntEnum):
    """The manual's return codes."""

    FOUND = 0
    ERROR = 1
    UNKNOWN_INSTANCE = 2
    NO_MACHINE_TYPE = 3


def get(api: Database, cells: Sequence[Cell], uuid: str) -> str | None:
    """Read the machine type of an instance; None: none is recorded.

    :param cells: the registry
    :raises UnknownInstance: there is no such instance, or no mapping of it
    :raises DatabaseProblem: a database cannot be used
    """
    with instances.database_of(api, cells, uuid).connect() as cell:
        return instances.find(cell, uuid).machine_type
