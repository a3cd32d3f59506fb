"""The words that all cell actions share: target, step, result, action."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Self, TypeVar

from sqlalchemy.exc import DBAPIError

from clients.errors import ServiceMisconfigured, ServiceProblem
from clients.hypervisor import HypervisorProblem, Hypervisors
from jobs.transaction_size import TransactionSize
from novadb.cells import Cell
from novadb.engine import Database, server_message
from novadb.errors import DatabaseProblem

if TYPE_CHECKING:
    from clients.services import Services  # what it imports, most actions do without

Cursor = dict[str, Any]
"""Where the work in a cell goes on; a JSON object, so that it can travel."""


class Unit(StrEnum):
    """What an outcome counts, for people."""

    ROWS = "rows"
    """Rows that were written, or removed."""
    WAITING = "rows waiting"
    """Rows that there are to be written; nothing was."""
    INSTANCES = "instances"
    LOOKED_AT = "instances looked at"
    AGGREGATES = "aggregates"
    """Pairs of provider and aggregate."""
    HOSTS = "hosts"
    NOTHING = "nothing"


class Outcome(ABC):
    """What happened in a cell. Outcomes of the parts of a work add up.

    :cvar counts: what ``rows`` counts
    :cvar handles: what ``handled`` counts; None: the same
    """

    counts: ClassVar[Unit] = Unit.ROWS
    handles: ClassVar[Unit | None] = None

    @property
    def unit_of_pace(self) -> Unit:
        """What ``handled`` counts."""
        return self.handles or self.counts

    @abstractmethod
    def __add__(self, other: Self) -> Self: ...

    @property
    @abstractmethod
    def by_table(self) -> Mapping[str, int]:
        """So many so far, by table or kind."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """So many so far."""

    @property
    def handled(self) -> int:
        """How far the work has come: its rate and its rest are told in this."""
        return self.rows

    @property
    def stayed(self) -> int:
        """Rows that had to be left with all that hangs on them."""
        return 0

    @property
    def remarks(self) -> Sequence[str]:
        """What somebody should know or do, a line each, without the cell's name."""
        return ()


P = TypeVar("P")
O = TypeVar("O", bound=Outcome)  # noqa: E741


@dataclass(frozen=True)
class Step(Generic[O]):
    """One transaction or so of work.

    What an action raises as ``Contended`` (``jobs.retry``) is no failure: the work begins again
    behind its last step.

    :ivar outcome: what it did
    :ivar cursor: where to go on after it; None: where it was, for nothing was done, and the work
        only asks whether it may still write
    :ivar remaining: how much is still to be handled in the cell, as far as that is known without
        counting for long; it may be an estimate, or a limit. None: not known
    :ivar ends_batch: whether the action's ``pause`` comes after it
    """

    outcome: O
    cursor: Cursor | None
    remaining: int | None = None
    ends_batch: bool = False

    def is_behind(self, cursor: Cursor | None) -> bool:
        """Whether work that goes on after it does not do the same again as work that begins at this
        cursor.
        """
        return self.outcome.rows > 0 or self.cursor not in (None, cursor)


@dataclass(frozen=True)
class Limits:
    """What the configuration lets a work do.

    :ivar tree_ceiling: rows of the largest tree that is moved
    :ivar purge_chunk: rows deleted in one transaction of a purge, at most
    :ivar transaction_seconds: that a transaction may take; 0: however long the rows take that it
        may have
    """

    tree_ceiling: int = 100_000
    purge_chunk: int = 5_000
    transaction_seconds: float = 0.5


SecondConnection = Callable[[], AbstractContextManager[bool]]
"""A context in which a work may have a second connection to its cell's database, or must do
without: it never waits.
"""


def always_free() -> AbstractContextManager[bool]:
    """A second connection for a work that nothing limits."""
    return nullcontext(True)


NO_HYPERVISORS: Final = HypervisorProblem("The action asks no hypervisors")


@dataclass(frozen=True)
class Target:
    """A cell to work on, and what the work may reach beside it.

    :ivar api: the API database, why it cannot be used, or None where the action does without
    :ivar hypervisors: those of the cloud, or why they cannot be asked
    :ivar services: Placement and Neutron, or None where the action does without
    :ivar walked: the cells that the stock tool walks from here, where it is the cell of the
        configuration alone
    :ivar second: grants a second connection to the cell's database, where its server has one to
        spare
    :ivar size: of the transactions
    """

    cell: Cell
    api: "Database | ApiDatabaseProblem | None"
    limits: Limits = Limits()
    hypervisors: Hypervisors | HypervisorProblem = NO_HYPERVISORS
    services: "Services | None" = None
    walked: tuple[Cell, ...] = ()
    second: SecondConnection = always_free
    size: TransactionSize = field(default_factory=TransactionSize)

    @property
    def database(self) -> Database:
        """The cell's database.

        :raises DatabaseProblem: its URL cannot be used
        """
        if isinstance(self.cell.database, DatabaseProblem):
            raise self.cell.database
        return self.cell.database

    def need_api(self) -> Database:
        """The API database of an action that cannot do without.

        :raises ApiDatabaseProblem: there is none, or it cannot be used
        """
        if self.api is None:
            raise ApiDatabaseProblem("The API database is not configured")
        if isinstance(self.api, ApiDatabaseProblem):
            raise self.api
        return self.api

    def need_hypervisors(self) -> Hypervisors:
        """The hypervisors, for an action that asks them.

        :raises HypervisorProblem: they cannot be asked
        """
        if isinstance(self.hypervisors, HypervisorProblem):
            raise self.hypervisors
        return self.hypervisors

    def need_services(self) -> "Services":
        """The services of an action that cannot do without; whoever starts the action has given
        them.
        """
        assert self.services is not None
        return self.services


class ApiDatabaseProblem(DatabaseProblem):
    """The API database, not the cell's, is what failed: it has exit codes of its own."""


class Scope(Enum):
    """What two runs of one action keep each other off."""

    DATABASES = "each database that they work on"
    CLOUD = "the whole cloud: what they write lies in the API database"


class FailureKind(StrEnum):
    """Why the work in a cell ended early. The words travel with runs: they do not change."""

    CELL = "cell"
    """The cell's database cannot be used."""
    API_DATABASE = "api_database"
    """The API database cannot be used."""
    HYPERVISORS = "hypervisors"
    """The hypervisors cannot be asked."""
    PLACEMENT = "placement"
    """Placement cannot be used."""
    NEUTRON = "neutron"
    """Neutron cannot be used."""
    MISCONFIGURED = "misconfigured"
    """There is no way to a service."""
    UNEXPECTED = "unexpected"
    """An error nobody thought of."""


@dataclass(frozen=True)
class Failure:
    """The work in a cell ended early; what was done before stands.

    :ivar reason: one line without secrets
    :ivar error: an unexpected one, for the debugger
    """

    kind: FailureKind
    reason: str
    error: Exception | None = field(default=None, compare=False, repr=False)


def failure_of(error: Exception, target: Target | None) -> Failure:
    """Put an error that ended the work in a cell into words without secrets."""
    if isinstance(error, ApiDatabaseProblem):
        return Failure(FailureKind.API_DATABASE, str(error))
    if isinstance(error, DatabaseProblem):
        return Failure(FailureKind.CELL, str(error))
    if isinstance(error, HypervisorProblem):
        return Failure(FailureKind.HYPERVISORS, str(error))
    if isinstance(error, ServiceMisconfigured):
        return Failure(FailureKind.MISCONFIGURED, str(error))
    if isinstance(error, ServiceProblem):
        return Failure(FailureKind[error.service.upper()], str(error))
    if isinstance(error, DBAPIError):
        return Failure(
            FailureKind.CELL,
            f"{target.database if target else 'a database'}: {server_message(error)}",
        )
    return Failure(
        FailureKind.UNEXPECTED,
        f"unexpected {type(error).__name__}; --debug logs where it comes from",
        error,
    )


@dataclass(frozen=True)
class CellResult(Generic[O]):
    """What became of one cell.

    :ivar complete: False when the work was stopped, failed, or ran out of its budget
    :ivar seconds: that the work took
    """

    cell: Cell
    outcome: O
    failure: Failure | None = None
    complete: bool = True
    seconds: float = 0.0


@dataclass(frozen=True)
class Action(Generic[P, O]):
    """A cell action: one entry of the table of what a run can do.

    :ivar name: category and command, as in ``db.purge``
    :ivar params: the class of the parameters
    :ivar work: does the work in one cell and yields after each transaction; may be given the cursor
        of an earlier step. Closing it ends the work; a transaction is never left half done
    :ivar nothing: the outcome of no work
    :ivar collapse: the exit code from all cells' results
    :ivar good_codes: the exit codes that report no failure
    :ivar in_turn: whether the cells share one budget and are therefore worked one after another
    :ivar next_params: the parameters for the next cell in turn after so much was done; None: the
        budget is gone
    :ivar has_work: a cheap look whether a cell has anything to do, also where its turn does not
        come; None: there is no such look
    :ivar pause: seconds to wait after a step that ends a batch
    :ivar adjustable: the parameters that may be changed while it goes on, with what reads their
        values; it raises ValueError with what is wrong
    :ivar writes: whether it changes anything: then two runs of it keep each other off
    :ivar scope: of what
    :ivar uses_api: whether the work in a cell has a connection to the API database, too
    :ivar reads_ahead: whether it has use for a second connection to the cell's database
    """

    name: str
    params: type[P]
    work: Callable[[Target, P, Cursor | None], Generator[Step[O]]]
    nothing: O
    collapse: Callable[[Sequence[CellResult[O]], P], IntEnum]
    good_codes: frozenset[int] = frozenset({0})
    in_turn: Callable[[P], bool] = lambda _: False
    next_params: Callable[[P, O], P | None] = lambda params, _: params
    has_work: Callable[[Target, P], bool] | None = None
    pause: Callable[[P], float] = lambda _: 0.0
    adjustable: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)
    writes: bool = True
    scope: Scope = Scope.DATABASES
    uses_api: bool = False
    reads_ahead: bool = False
