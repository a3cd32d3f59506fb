"""Making an order of what a command wants."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from oslo_config import cfg

from jobs.action import Action, Target
from jobs.codec import encode
from novadb.cells import Cell
from novadb.engine import Database
from novadb.errors import DatabaseProblem
from runs.caller import caller_at_host
from runs.records import CellRef, Order, Phase
from runs.targets import api_database, mapped_cells

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
    return Order(
        order_id, ordered, caller_at_host(), until, command, latest=latest, throttle=throttle
    )


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


class MappedNow:
    """The cells of a run that was ordered before, as they are mapped now: a database may have been
    moved since.
    """

    def __init__(self, conf: cfg.ConfigOpts, actions: Mapping[str, Action[Any, Any]]) -> None:
        self._conf = conf
        self._actions = actions
        self._cells: dict[str | None, Cell] | None = None

    def __call__(self, ref: CellRef, phases: Sequence[Phase]) -> CellRef:
        """A cell for some phases; one that is mapped no more as it was.

        :raises ApiDatabaseProblem: the API database cannot be read
        """
        api = api_database(self._conf)
        if self._cells is None:
            self._cells = {cell.uuid: cell for cell in mapped_cells(self._conf, api)}
        cell = self._cells.get(ref.uuid)
        if cell is None:
            return ref
        uses_api = any(self._actions[phase.action].uses_api for phase in phases)
        return ref_of(cell, api if uses_api else None)


def _servers(*databases: Database | DatabaseProblem | None) -> Iterator[str]:
    for database in databases:
        # An SQLite file has no server.
        if isinstance(database, Database) and database.location.port is not None:
            yield database.server
