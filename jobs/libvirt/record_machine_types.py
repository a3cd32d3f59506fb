"""``libvirt record_machine_types``: record the machine types that the instances' domains have."""

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
from jobs.libvirt.instances import lacks_machine_type, write_machine_types
from jobs.retry import rollback, transactionally
from jobs.sums import add
from novadb.names import fold_name
from novadb.nova_tables import INSTANCES


class Exit(IntEnum):
    """The return codes; 0 to 3 mean the same as in ``list_unset_machine_type``."""

    NONE_LEFT = 0
    ERROR = 1
    UNKNOWN_CELL = 2
    LEFT = 3
    NO_HYPERVISORS = 4


@dataclass(frozen=True)
class Params:
    """The options of the command.

    :ivar host: only instances on this host; None: on any host
    :ivar dry_run: write nothing
    """

    host: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Recorded(Outcome):
    """What was done in a cell. No host is asked twice.

    :ivar hosts: how many instances were recorded, by host and machine type
    :ivar without_domain: for how many instances their host knows no machine type, by host
    :ivar passed_over: why a host did not answer, or not for all instances, by host
    :ivar unknown: how many instances are on hosts that did not answer for them
    :ivar without_host: how many instances are on no host
    """

    counts: ClassVar[Unit] = Unit.INSTANCES

    handles: ClassVar[Unit | None] = Unit.LOOKED_AT

    hosts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    without_domain: Mapping[str, int] = field(default_factory=dict)
    passed_over: Mapping[str, str] = field(default_factory=dict)
    unknown: int = 0
    without_host: int = 0

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
        """Instances recorded: one row each."""
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
    """Ask the hosts of one cell, several at a time, and record their answers host by host.

    :param cursor: ``host``: go on with the hosts after this one
    :raises DatabaseProblem: the cell's database cannot be used
    :raises HypervisorProblem: hosts cannot be asked at all
    """
    hypervisors = target.need_hypervisors()
    with target.database.connect() as cell:
        if cursor is None and params.host is None:
            yield Step(Recorded(without_host=_count_without_host(cell)), {"host": ""})
        uuids_by_host = _read_by_host(cell, params, cursor["host"] if cursor else "")
        remaining = sum(map(len, uuids_by_host.values()))
        with closing(hypervisors.machine_types(uuids_by_host)) as answers:
            for host, answer in answers:
                uuids = uuids_by_host[host]
                record = partial(_record, cell, host, uuids, answer, params.dry_run)
                outcome = transactionally(record, cell, name=str(target.database))
                remaining -= len(uuids)
                yield Step(outcome, {"host": host}, remaining)


def _count_without_host(cell: Connection) -> int:
    is_without_host = func.coalesce(INSTANCES.c.host, "") == ""
    query = select(func.count()).where(lacks_machine_type(), is_without_host)
    return cell.execute(query).scalar_one()


def _read_by_host(cell: Connection, params: Params, after: str) -> dict[str, list[str]]:
    """The instances without a machine type by their host, in the order of the hosts.

    A host that is spelled in several ways is one host: the cursor goes by its name, and to MySQL
    these spellings are equal.

    :param after: only hosts after this one
    """
    query = select(INSTANCES.c.host, INSTANCES.c.uuid).where(
        lacks_machine_type(), INSTANCES.c.host > after
    )
    if params.host is not None:
        query = query.where(INSTANCES.c.host == params.host)
    uuids_by_host: dict[str, list[str]] = {}
    spellings: dict[str, str] = {}
    for spelling, uuid in cell.execute(query.order_by(INSTANCES.c.host, INSTANCES.c.id)):
        host = spellings.setdefault(fold_name(spelling), spelling)
        uuids_by_host.setdefault(host, []).append(uuid)
    rollback(cell)
    return uuids_by_host


def _record(
    cell: Connection, host: str, uuids: Sequence[str], answer: DomainsAnswer, dry_run: bool
) -> Recorded:
    """Record what a host answered, in one transaction.

    Asking took a while. Instances that were given a machine type, were moved or deleted meanwhile
    are left as they are.
    """
    query = select(INSTANCES.c.uuid).where(
        lacks_machine_type(), INSTANCES.c.uuid.in_(uuids), INSTANCES.c.host == host
    )
    claimed = cell.execute(query.order_by(INSTANCES.c.id).with_for_update()).scalars().all()
    known_types = answer.machine_types
    answered = {uuid: known_types[uuid] for uuid in claimed if uuid in known_types}
    if answered and not dry_run:
        write_machine_types(cell, answered)
        cell.commit()
    unanswered = len(claimed) - len(answered)
    hosts = {host: dict(Counter(answered.values()))} if answered else {}
    if answer.problem:
        return Recorded(hosts, passed_over={host: answer.problem}, unknown=unanswered)
    return Recorded(hosts, without_domain={host: unanswered} if unanswered else {})


def collapse(results: Sequence[CellResult[Recorded]], _params: Params) -> Exit:
    """The exit code of the run.

    From worst to best: a cell failed or was not finished (1); the hypervisors of a cell cannot be
    asked (4); instances are left without a machine type (3); none is (0).
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
