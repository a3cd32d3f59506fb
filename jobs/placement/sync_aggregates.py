"""``placement sync_aggregates``: host aggregates mirrored to the aggregates of resource providers.

A cell says which compute node, and so which provider, each of its hosts has; the rest is between the API database and
Placement.
"""

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Final, Self

from sqlalchemy import bindparam, text
from sqlalchemy.exc import DBAPIError

from clients.concurrency import map_bounded
from clients.placement import AGGREGATES_VERSION
from jobs.action import Action, ApiDatabaseProblem, CellResult, Cursor, FailureKind, Outcome, Step, Target, Unit
from jobs.placement.aggregates import Exit as Exit
from jobs.placement.aggregates import Problem, Wish, add
from jobs.retry import transactionally
from novadb.engine import Database, server_message
from novadb.names import fold_name

BATCH: Final = 50  # hosts that are mirrored before the work can be stopped
NODES: Final = text("SELECT host, uuid FROM compute_nodes WHERE deleted = 0 AND host IS NOT NULL ORDER BY id")
MEMBERS: Final = (
    "SELECT a.uuid AS aggregate, a.name, h.host, m.cell_id FROM aggregates a "
    "LEFT JOIN aggregate_hosts h ON h.aggregate_id = a.id LEFT JOIN host_mappings m ON m.host = h.host "
    "{where}ORDER BY a.id, h.id"
)
ALL_MEMBERS: Final = text(MEMBERS.format(where=""))
MEMBERS_IN_CELLS: Final = text(MEMBERS.format(where="WHERE m.cell_id IN :cells ")).bindparams(
    bindparam("cells", expanding=True)
)


BADNESS: Final = (
    Exit.ERROR, Exit.PLACEMENT_ERROR, Exit.UPDATE_FAILED, Exit.SEVERAL_NODES, Exit.NO_PROVIDER, Exit.NO_COMPUTE_NODE,
    Exit.NO_HOST_MAPPING, Exit.SYNCED,
)  # fmt: skip
"""The codes from worst to best: what failed, then what is wrong with the cloud, in the stock tool's order."""


# Other failures of a cell are ``Exit.ERROR``.
FAILURES: Final = (FailureKind.PLACEMENT, FailureKind.MISCONFIGURED)


@dataclass(frozen=True)
class Params:
    """What the command knows before the cells are asked.

    :ivar unmapped: hosts of aggregates that are mapped to no cell
    :ivar at_once: requests of a cell that may be under way at the same time
    """

    unmapped: tuple[str, ...] = ()
    at_once: int = 4


@dataclass(frozen=True)
class Added:
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
    added: tuple[Added, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __add__(self, other: Self) -> Self:
        return replace(
            self,
            hosts=self.hosts + other.hosts,
            added=self.added + other.added,
            problems=self.problems + other.problems,
        )

    @property
    def remarks(self) -> Sequence[str]:
        """What went wrong."""
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
        return sum(len(one.aggregates) for one in self.added)


@dataclass(frozen=True)
class Member:
    """A host in an aggregate.

    :ivar host: None in an aggregate without hosts
    :ivar cell_id: of the mapping that the host's mapping names; None: it is not mapped
    """

    aggregate: str
    name: str
    host: str | None
    cell_id: int | None


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Synced]]:
    """Mirror the hosts of one cell, in the order of their names.

    :param cursor: ``after``: the last host that was dealt with
    :raises DatabaseProblem: the cell's database, or the API database, cannot be used
    :raises ServiceProblem: there is no way to Placement
    """
    placement = target.need_services().placement
    placement.require(AGGREGATES_VERSION, "sync_aggregates")
    wishes, problems = plan(members(target.need_api(), target.cell.mapping_ids), _nodes(target.database))
    if not cursor:
        cursor = {"after": ""}
        yield Step(Synced(len(problems), problems=tuple(problems)), cursor, len(wishes))
    waiting = [wish for wish in wishes if wish.host > cursor["after"]]
    for begin in range(0, len(waiting), BATCH):
        batch = waiting[begin : begin + BATCH]
        ends = map_bounded(partial(add, placement), batch, params.at_once)
        yield Step(_told(batch, ends), {"after": batch[-1].host}, len(waiting) - begin - len(batch))
        unread = all(isinstance(end, Problem) and end.code == Exit.PLACEMENT_ERROR for end in ends)
        if unread and begin + BATCH < len(waiting):
            placement.aggregates(batch[-1].provider)  # raised now: there is no use in asking for each of the others


def _told(batch: Sequence[Wish], ends: Sequence[frozenset[str] | Problem]) -> Synced:
    return Synced(
        len(batch),
        tuple(
            Added(wish.host, wish.provider, tuple(sorted(end)))
            for wish, end in zip(batch, ends, strict=True)
            if not isinstance(end, Problem) and end
        ),
        tuple(end for end in ends if isinstance(end, Problem)),
    )


def _nodes(database: Database) -> dict[str, tuple[str, ...]]:
    """The uuids of a cell's compute nodes by the folded name of the host."""
    with database.connect() as cell:
        rows = transactionally(lambda: cell.execute(NODES).all(), cell, name=str(database))
    by_host: dict[str, tuple[str, ...]] = {}
    for host, uuid in rows:
        by_host[fold_name(host)] = (*by_host.get(fold_name(host), ()), uuid)
    return by_host


def members(api: Database, cells: Collection[int] | None = None) -> list[Member]:
    """The hosts of all aggregates, in the order of the stock tool.

    :param cells: ids of mappings of cells: only the hosts there; without them, all
    :raises ApiDatabaseProblem: the API database cannot be used
    """
    statement, values = (ALL_MEMBERS, {}) if cells is None else (MEMBERS_IN_CELLS, {"cells": sorted(cells)})
    try:
        with api.connect() as link:
            rows = transactionally(lambda: link.execute(statement, values).all(), link, name=str(api))
    except DBAPIError as error:
        raise ApiDatabaseProblem(f"{api}: {server_message(error)}") from error
    return [Member(*row) for row in rows]


def unmapped(found: Sequence[Member], cells: Collection[int]) -> tuple[str, ...]:
    """The hosts that are mapped to no cell.

    :param cells: the ids of all mappings of cells
    """
    hosts: dict[str, str] = {}
    for member in found:
        if member.host and member.cell_id not in cells:
            hosts.setdefault(fold_name(member.host), member.host)
    return tuple(hosts.values())


def plan(found: Sequence[Member], nodes: Mapping[str, tuple[str, ...]]) -> tuple[list[Wish], list[Problem]]:
    """Find the provider of each host of a cell, in the order of their names.

    :param found: the members that are in the cell
    :param nodes: the uuids of its compute nodes by the folded name of the host
    """
    wanted: dict[str, set[str]] = {}
    spellings: dict[str, str] = {}
    for member in found:
        if member.host:
            host = spellings.setdefault(fold_name(member.host), member.host)
            wanted.setdefault(host, set()).add(member.aggregate)
    wishes, problems = [], []
    for host, aggregates in sorted(wanted.items()):
        uuids = nodes.get(fold_name(host), ())
        if len(uuids) == 1:
            wishes.append(Wish(host, uuids[0], frozenset(aggregates)))
        elif uuids:
            said = (
                f"Unexpected number of compute node records ({len(uuids)}) found for host {host}. There should only be "
                "a one-to-one mapping."
            )
            problems.append(Problem(host, Exit.SEVERAL_NODES, said))
        else:
            problems.append(Problem(host, Exit.NO_COMPUTE_NODE, f"The cell has no compute node for host {host}"))
    return wishes, problems


def collapse(results: Sequence[CellResult[Synced]], params: Params) -> Exit:
    """The exit code of the whole: the worst of what went wrong, by ``BADNESS``."""
    found = {Exit(problem.code) for result in results for problem in result.outcome.problems}
    if params.unmapped:
        found.add(Exit.NO_HOST_MAPPING)
    for result in results:
        if result.failure:
            found.add(Exit.PLACEMENT_ERROR if result.failure.kind in FAILURES else Exit.ERROR)
        elif not result.complete:
            found.add(Exit.ERROR)
    return min(found or {Exit.SYNCED}, key=BADNESS.index)


ACTION: Final = Action(
    name="placement.sync_aggregates",
    params=Params,
    work=work,
    nothing=Synced(),
    collapse=collapse,
    uses_api=True,
)
