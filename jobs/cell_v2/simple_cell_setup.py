"""``cell_v2 simple_cell_setup``: map cell0, one cell with all hosts, and all its instances."""

from collections.abc import Mapping
from enum import IntEnum

from jobs.action import Target
from jobs.cell_v2 import map_instances


class Exit(IntEnum):
    """The manual's return codes, and the one of an error."""

    SET_UP = 0
    NO_HOSTS_OR_INVALID_URL = 1
    REFUSED = 255


def map_all_instances(target: Target) -> Mapping[str, str]:
    """Map every instance of the cell. The other parts of the setup are commands of their own.

    :returns: the first instances whose mapping the API database refuses, with the reason
    :raises DatabaseProblem: a database cannot be used
    """
    steps = map_instances.work(target, map_instances.Params(), None)
    return sum((step.outcome for step in steps), start=map_instances.Mapped()).named
