"""What a store keeps of runs: values alone. What may happen to them is in ``runs.rules``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from jobs.action import Cursor, Failure
from runs.outcomes import Ending, RunFacts

FORMAT: Final = 2
"""The version of bells and records. A worker refuses one that it does not know."""


@dataclass(frozen=True)
class CellRef:
    """A cell of a run, by what may travel: no URL.

    :ivar label: its name for people
    :ivar fingerprint: of the database that is meant; a worker whose configuration names another one
        refuses
    :ivar servers: to which the work in it has a connection: first that of its own database
    """

    uuid: str
    label: str
    fingerprint: str
    servers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Phase:
    """One action over all cells of a run.

    :ivar params: the action's parameters, encoded
    """

    action: str
    params: dict[str, Any]


@dataclass(frozen=True)
class Order:
    """What somebody wants to be run.

    :ivar id: a run is started once, however often it is ordered
    :ivar phases: one after the other; a later one only if the first wrote rows
    :ivar by: who ordered it
    :ivar until: when its maintenance window closes, in seconds since the epoch; None: never
    :ivar command: the command line that orders the same again, without secrets
    :ivar retry_of: the run whose failed cells it works again
    :ivar latest: until when it may be ordered, in seconds since the epoch; None: at any time
    :ivar throttle: whether it pauses while a database server suffers
    """

    id: str
    phases: tuple[Phase, ...]
    by: str
    until: float | None = None
    command: str = ""
    retry_of: str | None = None
    throttle: bool = True
    format: int = FORMAT
    latest: float | None = None


class RunState(StrEnum):
    """Where a run stands."""

    WAITING = "waiting"
    """Others hold its databases; it has a place in the queue."""
    RUNNING = "running"
    ENDED = "ended"


class Wish(StrEnum):
    """What somebody has asked a run to come to after the current steps."""

    NOTHING = ""
    PAUSE = "pause"
    CANCEL = "cancel"


@dataclass(frozen=True)
class Steering:
    """Something that somebody did to a run while it went on.

    :ivar what: pause, resume, cancel, or set with what was set
    :ivar at: seconds since the epoch
    """

    what: str
    by: str
    at: float


@dataclass(frozen=True)
class RunRecord:
    """A run. Its cells are records of their own.

    :ivar cells: how many cells it has
    :ivar ordered: seconds since the epoch, as are the other times
    :ivar woken: when its cells were last rung all at once: at the begin of a phase, and when it was
        resumed
    :ivar until: when its maintenance window closes; what the order says unless it was set later
    :ivar turn: with a shared budget, how many cells have had their turn
    :ivar budget: the parameters for the next cell in turn, encoded; None: nothing is left, or no
        budget is shared
    :ivar facts: what decides how it ended; None: it goes on
    :ivar guards: the signals that have guarded the servers of its cells so far, in short words
    """

    order: Order
    cells: int
    ordered: float
    state: RunState = RunState.WAITING
    wish: Wish = Wish.NOTHING
    phase: int = 0
    started: float | None = None
    woken: float = 0.0
    finished: float | None = None
    until: float | None = None
    turn: int = 0
    budget: dict[str, Any] | None = None
    exit_code: int | None = None
    facts: RunFacts | None = None
    steering: tuple[Steering, ...] = ()
    guards: tuple[str, ...] = ()


class Stage(StrEnum):
    """Where a cell stands in a phase."""

    LOOK = "look"
    """A worker is to see whether it has anything to do: if so, it queues for its turn."""
    QUEUED = "queued"
    """It has something to do, and its turn has not come."""
    WORK = "work"
    DONE = "done"


@dataclass(frozen=True)
class CellRecord:
    """A cell in a phase of a run.

    :ivar number: its place in the run
    :ivar holder: the token of the claim; empty: nobody works on it
    :ivar worker: who claimed it last, for people
    :ivar lease_until: when the claim lapses unless it is renewed, in seconds since the epoch, as
        are the other times
    :ivar look_at: when somebody should look whether its bell was lost
    :ivar rings: how often it was rung again since it was last claimed
    :ivar attempts: claims since the last recorded step, or the last slice that ended in order
    :ivar slices: slices that ended with more to do
    :ivar cursor: where the next slice goes on
    :ivar outcome: what was done so far; None: nothing. Encoded, where it comes from a store that is
        no memory
    :ivar complete: whether it was worked to its end
    :ivar second: whether its claim includes a second connection to the server of its database
    :ivar waits_since: since when it waits for a connection; 0: it does not
    :ivar called: whether its bell was rung since, as there was room: it stands in line no more
    :ivar pace: what was handled lately, see ``runs.pace``
    :ivar remaining: how much is still to be handled, as far as that is known
    :ivar throttled: why its work pauses, by what its database server suffers; empty: it does not
    :ivar contended: by what others hold up the next of its transactions; empty: they do not
    :ivar contended_at: when a try was held up last
    :ivar contended_for: seconds since the first try that was, without pauses of the run
    :ivar contentions: how many tries these were, one after the other
    :ivar transaction_rows: how many rows its next transaction may have by the duration of those
        before; None: there were none
    """

    number: int
    ref: CellRef
    stage: Stage
    holder: str = ""
    worker: str = ""
    lease_until: float = 0.0
    look_at: float = 0.0
    rings: int = 0
    attempts: int = 0
    slices: int = 0
    cursor: Cursor | None = None
    outcome: Any = None
    failure: Failure | None = None
    complete: bool = False
    started: float | None = None
    touched: float = 0.0
    finished: float | None = None
    second: bool = False
    waits_since: float = 0.0
    called: bool = False
    pace: dict[int, int] = field(default_factory=dict)
    remaining: int | None = None
    throttled: str = ""
    contended: str = ""
    contended_at: float = 0.0
    contended_for: float = 0.0
    contentions: int = 0
    transaction_rows: int | None = None


NEVER: Final = 1e18
"""A time that does not come, in seconds; finite, for JSON knows no infinity."""


@dataclass(frozen=True)
class Hold:
    """The switch that lets all runs pause.

    :ivar until: when it ends by itself, in seconds since the epoch; None: when somebody releases it
    """

    reason: str
    by: str
    since: float
    until: float | None = None


@dataclass(frozen=True)
class View:
    """A cell of a run, and what must be known with it.

    :ivar now: the time of the store, in seconds since the epoch
    :ivar version: of the cell's record
    :ivar read_at: when this was so by the clock of this process, ``time.monotonic``
    :ivar busy: connections that all other cells have to the servers of this one; None: they were
        not counted
    :ivar waiting: cells that wait for connections which this one has just given back
    """

    run: RunRecord
    cell: CellRecord
    hold: Hold | None
    now: float
    version: int = 0
    read_at: float = 0.0
    busy: Mapping[str, int] | None = None
    waiting: int = 0


@dataclass(frozen=True)
class Place:
    """A run in the queue, in the order of arrival.

    :ivar admitted: whether it holds its databases
    :ivar paused: whether it was asked to pause while it waits: then it lets others pass
    """

    run: str
    admitted: bool = False
    paused: bool = False


@dataclass(frozen=True)
class Bell:
    """What travels to a worker: a cell of a run is due. The store decides what that means when it
    is heard.

    :ivar number: of the cell in the run
    :ivar cell: its uuid, which names the queue
    :ivar slices: that were worked before it, for people, as are the rows
    """

    run: str
    phase: int
    action: str
    number: int
    cell: str
    label: str
    slices: int = 0
    rows: int = 0
    format: int = FORMAT


@dataclass(frozen=True)
class Progress:
    """How far a phase is, summed up over its cells.

    :ivar rows: written so far; of a phase that only reads, counted
    :ivar open: cells that are not done
    :ivar failed: cells that failed
    :ivar at_work: cells that somebody works on right now
    :ivar remaining: how much is still to be handled in the cells of which that is known
    :ivar foreseen: how many these are
    :ivar pace: what was handled lately, see ``runs.pace``
    """

    rows: int
    open: int
    failed: int
    at_work: int
    remaining: int = 0
    foreseen: int = 0
    pace: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """What remains of a run long after it has ended.

    :ivar action: of its first phase
    :ivar started: None: it never came to run
    """

    run: str
    action: str
    by: str
    ordered: float
    started: float | None
    finished: float
    exit_code: int
    ending: Ending
    facts: RunFacts
