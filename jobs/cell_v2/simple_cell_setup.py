"""``cell_v2 simple_cell_setup``: cell0, one cell with all hosts, and all its instances mapped."""

from enum import IntEnum

from jobs.action import Target
from jobs.cell_v2 import map_instances


class Exit(IntEnum):
    """The manual's return codes."""

    SET_UP = 0
    NO_HOSTS_OR_INVALID_URL = 1


def map_all_instances(target: Target) -> None:
    """Map every instance of the cell. Its parts before are commands of their own.

    :raises DatabaseProblem: a database cannot be used
    """
    for _ in map_instances.work(target, map_instances.Params(), None):
        pass
