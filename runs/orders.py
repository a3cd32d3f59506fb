"""Making an order of what a command wants."""

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from jobs.action import Action, Target
from jobs.codec import encode
from novadb.cells import Cell
from novadb.engine import Database
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
    throttle: bool = True,
) -> Order:
    """An order of some actions with their parameters.

    :param until: when its maintenance window closes, in seconds since the epoch
    :param run: its id; None: a new one
    :param command: the command line that orders the same again
    :param latest: until when it may be ordered, in seconds since the epoch; None: at any time
    :param throttle: whether it pauses while a database server suffers
    """
    ordered = tuple(Phase(action.name, encode(params)) for action, params in phases)
    order_id = run or uuid.uuid4().hex[:12]
    return Order(order_id, ordered, caller_at_host(), until, command, latest=latest, throttle=throttle)


def ref_of(cell: Cell, api: Database | DatabaseProblem | None = None) -> CellRef:
    """A cell by what may travel.

    :param api: the API database, where the work in the cell has a connection to it, too
    """
    database = cell.database
    fingerprint = "" if isinstance(database, DatabaseProblem) else database.fingerprint
    return CellRef(cell.uuid or "", cell.label, fingerprint, tuple(_servers(database, api)))


def refs_of(targets: Sequence[Target], phases: Sequence[PhaseOf]) -> list[CellRef]:
    """The cells of a run by what may travel."""
    uses_api = any(action.uses_api for action, _ in phases)
    return [ref_of(target.cell, target.api if uses_api else None) for target in targets]


def _servers(*databases: Database | DatabaseProblem | None) -> Iterator[str]:
    for database in databases:
        if isinstance(database, Database) and database.location.port is not None:  # an SQLite file has no server
            yield database.server
