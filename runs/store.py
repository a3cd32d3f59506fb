"""What a run needs of a store. Each change is one decision: a rule is given what is so, and what it
returns is kept only if that was still so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from runs.records import CellRecord, Hold, Place, Progress, RunRecord, Summary, View
from runs.rules import Conditional, Refusal
from throttle.readings import ServerState


class RunGone(Exception):
    """The store does not know the run: it has expired, or the store was emptied."""


class RunDamaged(RunGone):
    """What the store has of the run cannot be read. The text names the run."""


class TooLate(Exception):
    """The run was ordered after its deadline, or after its window had closed; nothing was
    started
    """

    def __str__(self) -> str:
        return (self.__doc__ or "").strip()


class StoreAway(Exception):
    """The store does not answer. The text is for the operator; the run goes on without the one who
    waits for it.
    """


class BrokerAway(Exception):
    """What carries the bells cannot be used. The text names it without its login."""


CellKey = tuple[str, int, int]
"""A cell of a run: the run, its phase, the number of the cell."""


@dataclass(frozen=True)
class Line:
    """The cells that wait for connections to a server.

    :ivar busy: connections that cells have there
    :ivar first: the cells that have waited longest, in order
    """

    server: str
    busy: int
    first: list[CellKey]


@dataclass(frozen=True)
class Increments:
    """What a change of a cell adds to the sums over its run, and to the tally, which outlives the
    run.

    :ivar rows: that were written
    :ivar counters: of ``runs.tally``, by name: what is added to each
    :ivar handled: how far the work has come, see ``jobs.action.Outcome``
    """

    rows: int = 0
    counters: Mapping[str, float] = field(default_factory=dict)
    handled: int = 0


NO_INCREMENTS: Final = Increments()
LOOK_EXPIRES: Final = 60
"""Seconds after which nobody goes by what was seen of a server."""
NOTHING: Final[Mapping[str, float]] = MappingProxyType({})
CellRule = Callable[[View], CellRecord | Conditional | Refusal | None]
"""What becomes of a cell; None or a refusal: nothing. Where it is provided for other connections,
it is asked again.
"""
RunRule = Callable[[RunRecord, float], RunRecord | None]
"""What becomes of a run at this time; None: nothing."""
QueueRule = Callable[[Sequence[Place], Mapping[str, frozenset[str]]], Sequence[Place]]
"""What becomes of the queue, given what each of its runs keeps others off."""


class RunStore(Protocol):
    """Runs, their cells, and the queue of runs.

    :ivar away: what is raised where the store does not answer, or takes no writes
    """

    away: tuple[type[Exception], ...]

    def now(self) -> float:
        """The time, in seconds since the epoch."""

    def try_write(self) -> None:
        """Raise one of ``away`` where nothing can be written."""

    # -- the queue

    def create(
        self,
        run: RunRecord,
        cells: Sequence[CellRecord],
        exclusions: frozenset[str],
        rule: QueueRule,
    ) -> bool:
        """Keep a new run with the cells of its first phase, and put it at the end of the queue.

        :param exclusions: what it keeps others off
        :param rule: what becomes of the queue with it; what it raises keeps the run out
        :returns: False: there is a run of this id, which stays as it is
        :raises TooLate: there is none, and the time until which it may be ordered has passed
        """

    def queue(self) -> list[Place]:
        """The runs that have not ended, in the order of their arrival."""

    def change_queue(self, rule: QueueRule) -> list[Place]:
        """Change the queue; as it is then."""

    # -- runs

    def run(self, run: str) -> RunRecord:
        """:raises RunGone: there is none"""

    def change_run(
        self,
        run: str,
        rule: RunRule,
        opening: Sequence[CellRecord] = (),
        entries: Mapping[str, float] = NOTHING,
    ) -> RunRecord | None:
        """Change a run. One that ends leaves its summary behind, and expires.

        :param opening: the cells of the phase that begins with the change
        :param entries: of ``runs.tally``, by name, that are made with it
        :returns: the run as changed; None: the rule wanted no change
        :raises RunGone: there is none
        """

    def progress(self, run: str, phase: int) -> Progress:
        """How far a phase is."""

    def recent(self, limit: int | None = None) -> list[str]:
        """The ids of the runs that are kept, the newest first."""

    # -- cells

    def change_cell(
        self,
        run: str,
        phase: int,
        number: int,
        rule: CellRule,
        known: View | None = None,
        increments: Increments = NO_INCREMENTS,
    ) -> View | Refusal | None:
        """Change a cell.

        :param known: the cell as the caller left it, where nobody else is likely to have changed it
        :returns: what is so after the change; or what the rule answered instead of a change
        :raises RunGone: there is no such run, phase or cell
        """

    def cell(self, run: str, phase: int, number: int) -> CellRecord:
        """:raises RunGone: there is no such run, phase or cell"""

    def cells(self, run: str, phase: int) -> list[CellRecord]:
        """All cells of a phase, in their order.

        :raises RunGone: the run has not come to that phase, or is gone
        """

    def changes(self, run: str, phase: int, since: int) -> tuple[int, list[CellRecord]]:
        """The cells that have changed since a mark, and the mark to ask with next time; 0: all that
        ever changed.
        """

    def open_cells(self, run: str, phase: int) -> list[int]:
        """The numbers of the cells that are not done."""

    def count_open(self, run: str, phase: int) -> int:
        """How many cells are not done."""

    def silent(self, run: str, phase: int, limit: int) -> list[int]:
        """Cells at which somebody should look now, the longest silent first."""

    # -- connections to the servers of the cells

    def lines(self, length: int, servers: Sequence[str] = ()) -> list[Line]:
        """The lines in which cells wait for connections.

        :param length: cells of each that are told, at most
        :param servers: whose lines; empty: of all servers for which cells wait
        """

    def leave_line(self, server: str, cell: CellKey) -> None:
        """Take a cell out of a line to which it does not belong: its record does not say that it
        waits.
        """

    # -- what outlives the runs

    def tally(self) -> dict[str, float]:
        """Numbers by name, see ``runs.tally``."""

    def history(self, since: float, limit: int | None = None) -> list[Summary]:
        """The runs that have ended since a moment, or the newest of them; the oldest first."""

    # -- steering

    def hold(self) -> Hold | None:
        """The switch that lets all runs pause, if it is set."""

    def set_hold(self, hold: Hold | None) -> None:
        """Set or release it."""

    def wait(self, seconds: float) -> None:
        """Wait for a change, or so long."""

    # -- what the servers of the cells suffer

    def claim_look(self, server: str, every: float) -> tuple[bool, ServerState | None]:
        """Ask for the right to look at a server; it is granted once in so many seconds, to one of
        all processes.

        :returns: whether it is granted, and what was seen last
        """

    def keep_look(self, server: str, state: ServerState) -> None:
        """Tell the others what was seen; they forget it after ``LOOK_EXPIRES`` seconds."""
