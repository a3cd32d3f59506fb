"""Making an order of what a command wants."""

import uuid
from collections.abc import Sequence
from typing import Any

from jobs.action import Action
from jobs.codec import encode
from novadb.cells import Cell
from novadb.errors import DatabaseProblem
from runs.caller import caller_at_host
from runs.records import CellRef, Order, Phase

PhaseOf = tuple[Action[Any, Any], Any]
"""An action and its parameters."""


def order_of(
    phases: Sequence[PhaseOf],
    *,
    until: float | None = None,
    run: str | None = None,
    command: str = "",
    latest: float | None = None,
) -> Order:
    """An order of some actions with their parameters.

    :param until: when its maintenance window closes, in seconds since the epoch
    :param run: its id; None: a new one
    :param command: the command line that orders the same again
    :param latest: until when it may be ordered, in seconds since the epoch; None: at any time
    """
    ordered = tuple(Phase(action.name, encode(params)) for action, params in phases)
    return Order(run or uuid.uuid4().hex[:12], ordered, caller_at_host(), until, command, latest=latest)


def ref_of(cell: Cell, key: str | None = None) -> CellRef:
    """A cell by what may travel.

    :param key: instead of its uuid, which that of the configuration lacks
    """
    database = cell.database
    fingerprint = "" if isinstance(database, DatabaseProblem) else database.fingerprint
    return CellRef(key or cell.uuid or "", cell.label, fingerprint)
