"""``placement sync_aggregates``: mirror host aggregates to the aggregates of resource providers.

A cell tells which compute node, and so which provider, each of its hosts has. Everything else
happens between the API database and Placement.
"""

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Final, Self

from sqlalchemy import bindparam, text
from sqlalchemy.exc import DBAPIError

from clients.placement import AGGREGATES_VERSION
from jobs.action import (
    Action,
    ApiDatabaseProblem,
    CellResult,
    Cursor,
    FailureKind,
    Outcome,
    Step,
    Target,
    Unit,
)
from jobs.placement.aggregates import AggregateTarget, Exit, SyncProblem, add_missing_aggregates
from jobs.placement.request_pool import RequestPool
from jobs.retry import transactionally
from novadb.engine import Database, server_message
from novadb.names import fold_name

HOSTS_PER_STEP: Final = 50  # hosts that are mirrored before the work can be stopped
_COMPUTE_NODES: Final = text(
    "SELECT host, uuid FROM compute_nodes WHERE deleted = 0 AND host IS NOT NULL ORDER BY id"
)
_MEMBERS: Final = (
    "SELECT a.uuid AS aggregate, a.name, h.host, m.cell_id FROM aggregates a "
    "LEFT JOIN aggregate_hosts h ON h.aggregate_id = a.id "
    "LEFT JOIN host_mappings m ON m.host = h.host "
    "{where}ORDER BY a.id, h.id"
)
_ALL_MEMBERS: Final = text(_MEMBERS.format(where=""))
_MEMBERS_IN_CELLS: Final = text(_MEMBERS.format(where="WHERE m.cell_id IN :cells ")).bindparams(
    bindparam("cells", expanding=True)
)


BADNESS: Final = (
    Exit.ERROR,
    Exit.PLACEMENT_ERROR,
    Exit.UPDATE_FAILED,
    Exit.SEVERAL_NODES,
    Exit.NO_PROVIDER,
    Exit.NO_COMPUTE_NODE,
    Exit.NO_HOST_MAPPING,
    Exit.SYNCED,
)
"""The codes from worst to best.

First what failed, then what is wrong with the cloud, in the order of the stock tool.
"""

# Cells with these failures count as ``Exit.PLACEMENT_ERROR``, all others as ``Exit.ERROR``.
SERVICE_FAILURES: Final = (FailureKind.PLACEMENT, FailureKind.MISCONFIGURED)


@dataclass(frozen=True)
class Params:
    """What the command knows before the cells are asked.

    :ivar unmapped: hosts of aggregates that are mapped to no cell
    :ivar at_once: requests of a cell that may be under way at the same time
    """

    unmapped: tuple[str, ...] = ()
    at_once: int = 4


@dataclass(frozen=True)
class AddedAggregates:
    """The aggregates that a host's provider was put into."""

    host: str
    provider: str
    aggregates: tuple[str, ...]


@dataclass(frozen=True)
class Synced(Outcome):
    """What was done in a cell.

    :ivar hosts: how many were looked at
    """

    counts: ClassVar[Unit] = Unit.AGGREGATES
    handles: ClassVar[Unit | None] = Unit.HOSTS

    hosts: int = 0
    added: tuple[AddedAggregates, ...] = ()
    problems: tuple[SyncProblem, ...] = ()

    def __add__(self, other: Self) -> Self:
        return replace(
            self,
            hosts=self.hosts + other.hosts,
            added=self.added + other.added,
            problems=self.problems + other.problems,
        )

    @property
    def remarks(self) -> Sequence[str]:
        """Why hosts were not mirrored."""
        return [problem.text for problem in self.problems]

    @property
    def by_table(self) -> Mapping[str, int]:
        """Pairs of host and aggregate that were added."""
        return {"added": self.rows} if self.added else {}

    @property
    def handled(self) -> int:
        """Hosts that were looked at."""
        return self.hosts

    @property
    def rows(self) -> int:
        """How many pairs of host and aggregate were added."""
        return sum(len(each.aggregates) for each in self.added)


@dataclass(frozen=True)
class AggregateMember:
    """A host in an aggregate.

    :ivar name: of the aggregate
    :ivar host: None: the aggregate has no hosts
    :ivar cell_id: the ``cell_mappings.id`` of the host's cell; None: the host is not mapped
    """

    aggregate: str
    name: str
    host: str | None
    cell_id: int | None


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Synced]]:
    """Mirror the hosts of one cell, in the order of their names.

    :param cursor: ``after``: the last host that was dealt with
    :raises DatabaseProblem: the cell's database, or the API database, cannot be used
    :raises ServiceProblem: Placement cannot be used
    """
    placement = target.need_services().placement
    placement.require(AGGREGATES_VERSION, "sync_aggregates")
    members = read_members(target.need_api(), target.cell.mapping_ids)
    targets, problems = find_targets(members, _compute_nodes_by_host(target.database))
    if not cursor:
        cursor = {"after": ""}
        yield Step(Synced(len(problems), problems=tuple(problems)), cursor, len(targets))
    waiting = [each for each in targets if each.host > cursor["after"]]
    requests = RequestPool(params.at_once)
    for begin in range(0, len(waiting), HOSTS_PER_STEP):
        batch = waiting[begin : begin + HOSTS_PER_STEP]
        answers = requests.map(partial(add_missing_aggregates, placement), batch)
        remaining = len(waiting) - begin - len(batch)
        yield Step(_outcome_of(batch, answers), {"after": batch[-1].host}, remaining)
        if remaining and all(map(_is_unread, answers)):
            # Raised now: it is no use to ask for each of the other hosts.
            placement.aggregates(batch[-1].provider)


def _is_unread(answer: frozenset[str] | SyncProblem) -> bool:
    return isinstance(answer, SyncProblem) and answer.code == Exit.PLACEMENT_ERROR


def _outcome_of(
    batch: Sequence[AggregateTarget], answers: Sequence[frozenset[str] | SyncProblem]
) -> Synced:
    added: list[AddedAggregates] = []
    problems: list[SyncProblem] = []
    for target, answer in zip(batch, answers, strict=True):
        if isinstance(answer, SyncProblem):
            problems.append(answer)
        elif answer:
            added.append(AddedAggregates(target.host, target.provider, tuple(sorted(answer))))
    return Synced(len(batch), tuple(added), tuple(problems))


def _compute_nodes_by_host(database: Database) -> dict[str, tuple[str, ...]]:
    """The uuids of a cell's compute nodes, by the folded name of the host."""
    with database.connect() as cell:
        rows = transactionally(lambda: cell.execute(_COMPUTE_NODES).all(), cell, name=str(database))
    by_host: dict[str, tuple[str, ...]] = {}
    for host, uuid in rows:
        by_host[fold_name(host)] = (*by_host.get(fold_name(host), ()), uuid)
    return by_host


def read_members(api: Database, cells: Collection[int] | None = None) -> list[AggregateMember]:
    """The hosts of all aggregates, in the order of the stock tool.

    :param cells: only hosts that are mapped to these ``cell_mappings.id``; None: all hosts
    :raises ApiDatabaseProblem: the API database cannot be used
    """
    statement, values = _ALL_MEMBERS, {}
    if cells is not None:
        statement, values = _MEMBERS_IN_CELLS, {"cells": sorted(cells)}
    try:
        with api.connect() as connection:
            rows = transactionally(
                lambda: connection.execute(statement, values).all(), connection, name=str(api)
            )
    except DBAPIError as error:
        raise ApiDatabaseProblem(f"{api}: {server_message(error)}") from error
    return [AggregateMember(*row) for row in rows]


def unmapped_hosts(members: Sequence[AggregateMember], cells: Collection[int]) -> tuple[str, ...]:
    """The hosts that are mapped to no cell.

    :param cells: every ``cell_mappings.id`` that there is
    """
    hosts: dict[str, str] = {}
    for member in members:
        if member.host and member.cell_id not in cells:
            hosts.setdefault(fold_name(member.host), member.host)
    return tuple(hosts.values())


def find_targets(
    members: Sequence[AggregateMember], compute_nodes: Mapping[str, tuple[str, ...]]
) -> tuple[list[AggregateTarget], list[SyncProblem]]:
    """Find the provider of each host of a cell, in the order of the host names.

    :param members: those whose hosts are in the cell
    :param compute_nodes: the uuids of the cell's compute nodes, by the folded name of the host
    """
    aggregates_by_host: dict[str, set[str]] = {}
    spellings: dict[str, str] = {}
    for member in members:
        if member.host:
            host = spellings.setdefault(fold_name(member.host), member.host)
            aggregates_by_host.setdefault(host, set()).add(member.aggregate)
    targets: list[AggregateTarget] = []
    problems: list[SyncProblem] = []
    for host, aggregates in sorted(aggregates_by_host.items()):
        uuids = compute_nodes.get(fold_name(host), ())
        if len(uuids) == 1:
            targets.append(AggregateTarget(host, uuids[0], frozenset(aggregates)))
        elif uuids:
            reason = (
                f"Unexpected number of compute node records ({len(uuids)}) found for host {host}. "
                "There should only be a one-to-one mapping."
            )
            problems.append(SyncProblem(host, Exit.SEVERAL_NODES, reason))
        else:
            reason = f"The cell has no compute node for host {host}"
            problems.append(SyncProblem(host, Exit.NO_COMPUTE_NODE, reason))
    return targets, problems


def collapse(results: Sequence[CellResult[Synced]], params: Params) -> Exit:
    """The exit code of the run: the worst of what went wrong, by ``BADNESS``."""
    codes = {Exit.SYNCED}
    if params.unmapped:
        codes.add(Exit.NO_HOST_MAPPING)
    for result in results:
        codes.update(Exit(problem.code) for problem in result.outcome.problems)
        if result.failure and result.failure.kind in SERVICE_FAILURES:
            codes.add(Exit.PLACEMENT_ERROR)
        elif result.failure or not result.complete:
            codes.add(Exit.ERROR)
    return min(codes, key=BADNESS.index)


ACTION: Final = Action(
    name="placement.sync_aggregates",
    params=Params,
    work=work,
    nothing=Synced(),
    collapse=collapse,
    uses_api=True,
)
