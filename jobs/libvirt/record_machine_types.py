"""``libvirt record_machine_types``: record the machine types that the domains of instances really have."""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import ClassVar, Final, Self

from sqlalchemy import Connection, func, select

from clients.hypervisor import DomainsAnswer
from jobs.action import Action, CellResult, Cursor, FailureKind, Outcome, Step, Target, Unit
from jobs.libvirt.instances import INSTANCES, unset, write
from jobs.retry import rollback, transactionally
from jobs.sums import add
from novadb.names import fold_name


class Exit(IntEnum):
    """The return codes; those that ``list_unset_machine_type`` has, too, mean the same."""

    NONE_LEFT = 0
    ERROR = 1
    UNKNOWN_CELL = 2
    LEFT = 3
    NO_HYPERVISORS = 4


@dataclass(frozen=True)
class Params:
    """The options of the command.

    :ivar host: only instances on this host; None: on all
    :ivar dry_run: write nothing
    """

    host: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Recorded(Outcome):
    """What was done in a cell. No host is asked twice.

    :ivar hosts: instances recorded, by host and by machine type
    :ivar without_domain: instances of which their host knows no machine type, by host
    :ivar passed_over: why a host did not tell all, by host
    :ivar unknown: instances on hosts that did not tell
    :ivar without_host: instances that are on no host
    """

    counts: ClassVar[Unit] = Unit.INSTANCES

    hosts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    without_domain: Mapping[str, int] = field(default_factory=dict)
    passed_over: Mapping[str, str] = field(default_factory=dict)
    unknown: int = 0
    without_host: int = 0

    handles: ClassVar[Unit | None] = Unit.LOOKED_AT

    def __add__(self, other: Self) -> Self:
        return type(self)(
            {**self.hosts, **other.hosts},
            add(self.without_domain, other.without_domain),
            {**self.passed_over, **other.passed_over},
            self.unknown + other.unknown,
            self.without_host + other.without_host,
        )

    @property
    def by_table(self) -> Mapping[str, int]:
        """Rows written."""
        return {"instance_system_metadata": self.rows} if self.rows else {}

    @property
    def rows(self) -> int:
        """Instances recorded."""
        return sum(sum(types.values()) for types in self.hosts.values())

    @property
    def handled(self) -> int:
        """Instances whose hosts were asked."""
        return self.rows + sum(self.without_domain.values()) + self.unknown

    @property
    def left(self) -> int:
        """Instances that still have no machine type."""
        return sum(self.without_domain.values()) + self.unknown + self.without_host


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Recorded]]:
    """Ask the hosts of one cell, several at a time, and record host by host what they tell.

    :param cursor: ``host``: go on with the hosts behind this one
    :raises DatabaseProblem: the cell's database cannot be used
    :raises HypervisorProblem: no host can be asked
    """
    hypervisors = target.need_hypervisors()
    with target.database.connect() as cell:
        if cursor is None and params.host is None:
            nowhere = cell.execute(select(func.count()).where(unset(), func.coalesce(INSTANCES.c.host, "") == ""))
            yield Step(Recorded(without_host=nowhere.scalar_one()), {"host": ""})
        wanted = _by_host(cell, params, cursor["host"] if cursor else "")
        remaining = sum(len(uuids) for uuids in wanted.values())
        with closing(hypervisors.machine_types(wanted)) as answers:
            for host, answer in answers:
                step = partial(_record, cell, host, wanted[host], answer, params.dry_run)
                remaining -= len(wanted[host])
                yield Step(transactionally(step, cell, name=str(target.database)), {"host": host}, remaining)


def _by_host(cell: Connection, params: Params, after: str) -> dict[str, list[str]]:
    """The instances without a machine type, by their host, in the order of the hosts.

    Spellings of one host are one host: what comes next is told by its name alone.
    """
    found = select(INSTANCES.c.host, INSTANCES.c.uuid).where(unset(), INSTANCES.c.host > after)
    if params.host is not None:
        found = found.where(INSTANCES.c.host == params.host)
    wanted: dict[str, list[str]] = {}
    spellings: dict[str, str] = {}
    for host, uuid in cell.execute(found.order_by(INSTANCES.c.host, INSTANCES.c.id)):
        wanted.setdefault(spellings.setdefault(fold_name(host), host), []).append(uuid)
    rollback(cell)
    return wanted


def _record(cell: Connection, host: str, uuids: Sequence[str], answer: DomainsAnswer, dry_run: bool) -> Recorded:
    """Record what a host told, in one transaction.

    Asking took a while: who was given a machine type, moved away or was deleted meanwhile is left as it is.
    """
    still = select(INSTANCES.c.uuid).where(unset(), INSTANCES.c.uuid.in_(uuids), INSTANCES.c.host == host)
    claimed = cell.execute(still.order_by(INSTANCES.c.id).with_for_update()).scalars().all()
    told = {uuid: answer.machine_types[uuid] for uuid in claimed if uuid in answer.machine_types}
    if told and not dry_run:
        write(cell, told)
        cell.commit()
    untold = len(claimed) - len(told)
    return Recorded(
        hosts={host: dict(Counter(told.values()))} if told else {},
        without_domain={host: untold} if untold and not answer.problem else {},
        passed_over={host: answer.problem} if answer.problem else {},
        unknown=untold if answer.problem else 0,
    )


def collapse(results: Sequence[CellResult[Recorded]], _params: Params) -> Exit:
    """The exit code of the whole.

    From worst to best: a cell failed, or was not worked to its end (1); the hypervisors of a cell cannot be asked
    (4); instances are left without a machine type (3); there are none (0).
    """
    failures = [result.failure for result in results if result.failure]
    if any(failure.kind is not FailureKind.HYPERVISORS for failure in failures):
        return Exit.ERROR
    if failures:
        return Exit.NO_HYPERVISORS
    if not all(result.complete for result in results):
        return Exit.ERROR
    return Exit.LEFT if any(result.outcome.left for result in results) else Exit.NONE_LEFT


ACTION: Final = Action(
    name="libvirt.record_machine_types",
    params=Params,
    work=work,
    nothing=Recorded(),
    collapse=collapse,
    good_codes=frozenset({Exit.NONE_LEFT, Exit.LEFT}),
)
