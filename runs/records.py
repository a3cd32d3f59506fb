"""What the store knows of a run."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

FORMAT: Final = 1
"""The version of messages and records. A worker refuses one that it does not know."""


@dataclass(frozen=True)
class CellRef:
    """A cell of a run, by what may travel: no URL.

    :ivar label: its name for people
    :ivar fingerprint: of the database that is meant; a worker whose configuration names another one refuses
    """

    uuid: str
    label: str
    fingerprint: str


@dataclass(frozen=True)
class Phase:
    """One action over all cells of a run.

    :ivar params: the action's parameters, encoded
    """

    action: str
    params: dict[str, Any]


@dataclass(frozen=True)
class Order:
    """A run as it is started.

    :ivar id: a run is started once, however often it is ordered
    :ivar phases: one after the other; a later one only if the first wrote rows
    :ivar by: who started it
    :ivar until: when its maintenance window closes, in seconds since the epoch; None: never
    """

    id: str
    phases: tuple[Phase, ...]
    cells: tuple[CellRef, ...]
    by: str
    until: float | None = None
    format: int = FORMAT


class CellState(StrEnum):
    """Where a cell stands in a phase."""

    QUEUED = "queued"
    """It is not its turn yet."""
    WAITING = "waiting"
    """A message is on its way to a worker."""
    WORKING = "working"
    """A worker has claimed it, at least once."""
    DONE = "done"


@dataclass(frozen=True)
class CellRecord:
    """A cell in a phase.

    :ivar cursor: where the next slice goes on
    :ivar outcome: what was done so far, encoded
    :ivar failure: kind and reason, or None
    :ivar touched: seconds since the epoch, of the last sign of life
    :ivar idle: seconds since then
    :ivar leased: whether somebody holds a live claim
    """

    ref: CellRef
    state: CellState
    sequence: int = 0
    cursor: dict[str, Any] | None = None
    outcome: dict[str, Any] | None = None
    failure: tuple[str, str] | None = None
    complete: bool = False
    worker: str | None = None
    started: float | None = None
    touched: float = 0.0
    finished: float | None = None
    idle: float = 0.0
    leased: bool = False


@dataclass(frozen=True)
class RunRecord:
    """A run.

    :ivar phase: the number of the phase it is in
    :ivar exit_code: None while it goes on
    :ivar closed: whether its maintenance window closed before it ended
    """

    order: Order
    phase: int
    started: float
    cancelled: bool
    exit_code: int | None
    finished: float | None
    closed: bool = False
    cells: tuple[CellRecord, ...] = field(default=())

    @property
    def state(self) -> str:
        """The state for people."""
        if self.exit_code is not None:
            return "cancelled" if self.cancelled else "window closed" if self.closed else "finished"
        return "cancelling" if self.cancelled else "window closing" if self.closed else "running"

    @property
    def stopping(self) -> bool:
        """Whether nothing new is to begin."""
        return self.cancelled or self.closed
