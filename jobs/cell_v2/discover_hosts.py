"""``cell_v2 discover_hosts``: map the hosts of a cell that are not mapped yet.

A host is mapped in the API database, then its node is marked in the cell. Before either is
written, a step asks the engine whether this process still may. The cursor of the first of these
steps says what is about to be written, so that after a crash in between the successor counts it
as done by this run.

A mark may be wrong: before release 33 (2026.1), Nova left it when a service was deleted, and the
node keeps it when it comes back. So the hosts of marked nodes are looked up by their names alone,
a thousand in one statement of each of the two databases; their nodes are read only where the
mapping is missing.
"""

from collections.abc import Callable, Generator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from itertools import chain
from typing import Final, Self, TypeVar

from sqlalchemy import Connection, func, null, or_, select, update

from jobs.action import Action, CellResult, Cursor, Outcome, Scope, Step, Target
from jobs.cell_v2.mapper import BATCH, Mapper, Unadded
from jobs.retry import as_large_as_possible, rollback, run_through, transactionally
from novadb.clock import utc_now
from novadb.names import fold_name
from novadb.nova_tables import COMPUTE_NODES, HOST_MAPPINGS, SERVICES

COMPUTE_BINARY: Final = "nova-compute"

T = TypeVar("T")
ComputeNodeRow = tuple[int, str, str | None]
"""The id, host and uuid of a compute node; of a service, the uuid is None."""


class Exit(IntEnum):
    """The manual's return codes."""

    MAPPED = 0
    NOTHING_OR_ERROR = 1
    DUPLICATE = 2


@dataclass(frozen=True)
class Params:
    """The options of the command.

    :ivar strict: it is a failure if no host is mapped
    :ivar by_service: look at services instead of compute nodes
    :ivar verbose: report what was looked at
    """

    strict: bool = False
    by_service: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class CheckedNode:
    """A compute node that was looked at.

    :ivar uuid: None: it was a service
    """

    host: str
    uuid: str | None


@dataclass(frozen=True)
class RefusedHost:
    """A host whose mapping the API database refuses.

    :ivar reason: the words of the database
    """

    host: str
    reason: str


@dataclass(frozen=True)
class Discovered(Outcome):
    """What was found in a cell.

    :ivar looked_at: nodes in order of their ids; empty unless ``verbose``
    :ivar mapped: hosts that were mapped
    :ivar collided: hosts that somebody else mapped at the same moment
    :ivar elsewhere: hosts that are mapped to another cell
    :ivar refused: hosts that could not be mapped
    """

    looked_at: tuple[CheckedNode, ...] = ()
    mapped: tuple[str, ...] = ()
    collided: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    refused: tuple[RefusedHost, ...] = ()

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.looked_at + other.looked_at,
            self.mapped + other.mapped,
            self.collided + other.collided,
            self.elsewhere + tuple(host for host in other.elsewhere if host not in self.elsewhere),
            self.refused + tuple(host for host in other.refused if host not in self.refused),
        )

    @property
    def by_table(self) -> Mapping[str, int]:
        """Mappings made."""
        return {HOST_MAPPINGS.name: len(self.mapped)} if self.mapped else {}

    @property
    def rows(self) -> int:
        """Mappings made."""
        return len(self.mapped)


@dataclass(frozen=True)
class NodeBatch:
    """Some nodes, with what the API database has for their hosts. Part of cursors, as JSON.

    :ivar nodes: in order of their ids
    :ivar missing: the ids of nodes whose hosts are to be mapped: of each host, the first node
    :ivar behind: the cursor with which the work continues after them
    :ivar elsewhere: hosts that are mapped to another cell
    """

    nodes: list[ComputeNodeRow]
    missing: list[int]
    behind: Cursor
    elsewhere: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> dict[str, int]:
        """The hosts to be mapped, with the ids of their nodes."""
        missing = set(self.missing)
        return {host: node_id for node_id, host, _ in self.nodes if node_id in missing}


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Discovered]]:
    """Map the hosts of one cell, batch by batch.

    :param cursor: ``after``: go on after the node with this id; ``host``: all unmarked nodes are
        done, go on with the marked ones after this host; ``begun``: a batch that a predecessor may
        have begun to write
    :raises DatabaseProblem: a database cannot be used
    """
    position = cursor or {"after": 0}
    begun = NodeBatch(**position["begun"]) if "begun" in position else None
    cell_id = min(target.cell.mapping_ids)
    with (
        target.database.connect() as cell,
        Mapper(target.need_api(), HOST_MAPPINGS, "host", target.size) as api,
    ):
        search = _NodeSearch(cell, str(target.database), api, params, cell_id)
        while batch := begun or search.next_batch(position):
            already_mapped: set[str] = set()
            if begun:
                mapped_to = api.cells_of(batch.hosts)
                already_mapped = {
                    host for host, mapped_cell in mapped_to.items() if mapped_cell == cell_id
                }
            elif batch.missing:
                yield Step(Discovered(), position | {"begun": vars(batch)})
            unadded = api.add(
                [
                    {"host": host, "cell_id": cell_id}
                    for host in batch.hosts
                    if host not in already_mapped
                ]
            )
            mapped = batch.hosts.keys() - unadded.names
            if mapped and not params.by_service:
                yield Step(Discovered(), None)
                _mark_all(target, cell, sorted(batch.hosts[host] for host in mapped))
            position = batch.behind
            begun = None
            yield Step(_outcome_of(batch, mapped, unadded, params), position)


@dataclass(frozen=True)
class _NodeSearch:
    """Finds the nodes whose hosts are to be mapped.

    :ivar name: of the cell's database, for messages
    :ivar cell_id: the id of the cell's mapping
    """

    cell: Connection
    name: str
    api: Mapper
    params: Params
    cell_id: int

    def next_batch(self, position: Cursor) -> NodeBatch | None:
        """The next batch after a cursor; None: there are no more nodes."""
        if "host" not in position:
            nodes = self._read(partial(_read_unmarked, self.cell, self.params, position["after"]))
            if nodes:
                return self._look_up(nodes, {"after": nodes[-1][0]})
            if self.params.by_service:
                return None
        return self._next_wrongly_marked(position)

    def _next_wrongly_marked(self, position: Cursor) -> NodeBatch | None:
        """The next nodes that are marked although their hosts are not mapped."""
        after = position.get("host", "")
        while hosts := self._read(partial(_read_marked_hosts, self.cell, after)):
            after = hosts[-1][1]
            mapped_hosts = self.api.cells_of([host for _, host in hosts])
            mapped = {fold_name(host) for host in mapped_hosts}
            unmapped = [node_id for node_id, host in hosts if fold_name(host) not in mapped]
            if unmapped:
                nodes = self._read(partial(_read_nodes, self.cell, unmapped))
                return self._look_up(nodes, {"after": position["after"], "host": after})
        return None

    def _look_up(self, nodes: list[ComputeNodeRow], behind: Cursor) -> NodeBatch:
        """Ask the API database which hosts are mapped, and where."""
        first_nodes = {fold_name(host): node_id for node_id, host, _ in reversed(nodes)}
        mapped_to = self.api.cells_of({host for _, host, _ in nodes})
        mapped = {fold_name(host) for host in mapped_to}
        missing = sorted(node_id for host, node_id in first_nodes.items() if host not in mapped)
        elsewhere = sorted(host for host, cell in mapped_to.items() if cell != self.cell_id)
        return NodeBatch(nodes, missing, behind, elsewhere)

    def _read(self, read: Callable[[], list[T]]) -> list[T]:
        return transactionally(read, self.cell, name=self.name)


def _read_unmarked(cell: Connection, params: Params, after: int) -> list[ComputeNodeRow]:
    """The next nodes or services that may have to be mapped, in order of their ids."""
    if params.by_service:
        rows = SERVICES
        query = select(rows.c.id, rows.c.host, null()).where(rows.c.binary == COMPUTE_BINARY)
    else:
        rows = COMPUTE_NODES
        query = select(rows.c.id, rows.c.host, rows.c.uuid).where(rows.c.mapped < 1)
    query = query.where(rows.c.deleted == 0, rows.c.host.is_not(None), rows.c.id > after)
    nodes = [
        (node_id, host, uuid)
        for node_id, host, uuid in cell.execute(query.order_by(rows.c.id).limit(BATCH))
    ]
    rollback(cell)
    return nodes


def _read_marked_hosts(cell: Connection, after: str) -> list[tuple[int, str]]:
    """The next hosts with nodes that are marked as mapped, each with the id of one such node.

    :param after: only hosts after this one
    """
    nodes = COMPUTE_NODES.c
    is_marked = or_(nodes.mapped.is_(None), nodes.mapped >= 1)
    query = select(func.min(nodes.id), nodes.host).where(
        nodes.deleted == 0, is_marked, nodes.host > after
    )
    query = query.group_by(nodes.host).order_by(nodes.host).limit(BATCH)
    hosts = [(node_id, host) for node_id, host in cell.execute(query)]
    rollback(cell)
    return hosts


def _read_nodes(cell: Connection, node_ids: Sequence[int]) -> list[ComputeNodeRow]:
    """Those nodes that are still there, in order of their ids."""
    nodes = COMPUTE_NODES.c
    query = select(nodes.id, nodes.host, nodes.uuid).where(
        nodes.id.in_(node_ids), nodes.deleted == 0
    )
    rows = [(node_id, host, uuid) for node_id, host, uuid in cell.execute(query.order_by(nodes.id))]
    rollback(cell)
    return rows


def _mark_all(target: Target, cell: Connection, node_ids: Sequence[int]) -> None:
    """Note in the cell that nodes are mapped, in as many transactions as it takes."""
    name = str(target.database)
    while node_ids:
        mark = partial(_mark_first, cell, node_ids)
        marked = run_through(
            as_large_as_possible(mark, target.size, len(node_ids), cell, name=name, ask=None)
        )
        node_ids = node_ids[marked:]


def _mark_first(cell: Connection, node_ids: Sequence[int], number: int) -> int:
    """Note in the cell that the first of some nodes are mapped; returns how many."""
    statement = update(COMPUTE_NODES).where(COMPUTE_NODES.c.id.in_(node_ids[:number]))
    cell.execute(statement.values(mapped=1, updated_at=utc_now()))
    cell.commit()
    return number


def _outcome_of(batch: NodeBatch, mapped: Set[str], unadded: Unadded, params: Params) -> Discovered:
    looked_at: list[CheckedNode] = []
    if params.verbose:
        looked_at = [CheckedNode(host, uuid) for _, host, uuid in batch.nodes]
    refused = [RefusedHost(host, reason) for host, reason in sorted(unadded.refused.items())]
    return Discovered(
        tuple(looked_at),
        tuple(sorted(mapped)),
        tuple(sorted(unadded.taken)),
        tuple(batch.elsewhere),
        tuple(refused),
    )


def collisions(results: Sequence[CellResult[Discovered]]) -> set[str]:
    """Hosts that somebody else mapped; a host that is in two cells collides with itself."""
    mapped_here = chain.from_iterable(result.outcome.mapped for result in results)
    collided = chain.from_iterable(result.outcome.collided for result in results)
    return set(collided).difference(mapped_here)


def collapse(results: Sequence[CellResult[Discovered]], params: Params) -> Exit:
    """The exit code of the run.

    From worst to best: somebody else mapped a host meanwhile (2); a cell failed or was not
    searched to its end, or the API database refused a host (1); with ``strict`` no host was mapped
    (1); all went well (0).
    """
    if collisions(results):
        return Exit.DUPLICATE
    if any(result.failure or not result.complete or result.outcome.refused for result in results):
        return Exit.NOTHING_OR_ERROR
    mapped = any(result.outcome.mapped for result in results)
    return Exit.NOTHING_OR_ERROR if params.strict and not mapped else Exit.MAPPED


ACTION: Final = Action(
    name="cell_v2.discover_hosts",
    params=Params,
    work=work,
    nothing=Discovered(),
    collapse=collapse,
    good_codes=frozenset(
        {Exit.MAPPED, Exit.NOTHING_OR_ERROR}
    ),  # a cell that failed is counted as that
    scope=Scope.CLOUD,
    uses_api=True,
)
