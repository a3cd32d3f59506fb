"""``cell_v2 discover_hosts``: map the hosts of a cell that are not mapped yet.

A host is mapped in the API database, and then its node is marked in the cell. Before either is written, a step asks the
engine whether this process still may; the cursor of the first says what is about to be written, so that whoever takes
over after a death in between counts it as done by this run.

A mark may be wrong: before release 33 (2026.1), Nova left it when a service was deleted, and the node keeps it when it
comes back. So the hosts of marked nodes are looked for by their names alone, a thousand in one statement of each of the
two databases; their nodes are read only where the mapping is missing.
"""

from collections.abc import Callable, Generator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import Final, Self, TypeVar

from sqlalchemy import Connection, DateTime, column, func, null, or_, select, table, update

from jobs.action import Action, CellResult, Cursor, Outcome, Scope, Step, Target
from jobs.cell_v2.mapper import BATCH, Mapper, Unadded
from jobs.retry import as_large_as_possible, rollback, run_through, transactionally
from novadb.mappings import HOST_MAPPINGS, now
from novadb.names import fold_name

NODES: Final = table(
    "compute_nodes",
    column("id"),
    column("updated_at", DateTime),
    column("host"),
    column("uuid"),
    column("mapped"),
    column("deleted"),
)
SERVICES: Final = table("services", column("id"), column("host"), column("binary"), column("deleted"))
COMPUTE: Final = "nova-compute"

T = TypeVar("T")
NodeRow = tuple[int, str, str | None]
"""Of a compute node: id, host and uuid."""


class Exit(IntEnum):
    """The manual's return codes."""

    MAPPED = 0
    NOTHING_OR_ERROR = 1
    DUPLICATE = 2


@dataclass(frozen=True)
class Params:
    """The options of the command.

    :ivar strict: only a host that was mapped is a success
    :ivar by_service: look at the services, not at the compute nodes
    :ivar verbose: tell what was looked at
    """

    strict: bool = False
    by_service: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class Node:
    """A compute node that was looked at; of a service there is the host alone."""

    host: str
    uuid: str | None


@dataclass(frozen=True)
class Refused:
    """A host whose mapping the API database refuses.

    :ivar reason: in the words of the database
    """

    host: str
    reason: str


@dataclass(frozen=True)
class Discovered(Outcome):
    """What was found in a cell.

    :ivar looked_at: in order, if that is to be told
    :ivar mapped: the hosts that were mapped
    :ivar collided: hosts that somebody else mapped at the very moment
    :ivar elsewhere: hosts that are mapped to another cell
    :ivar refused: hosts that could not be mapped
    """

    looked_at: tuple[Node, ...] = ()
    mapped: tuple[str, ...] = ()
    collided: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    refused: tuple[Refused, ...] = ()

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.looked_at + other.looked_at,
            self.mapped + other.mapped,
            self.collided + other.collided,
            self.elsewhere + tuple(host for host in other.elsewhere if host not in self.elsewhere),
            self.refused + tuple(one for one in other.refused if one not in self.refused),
        )

    @property
    def by_table(self) -> Mapping[str, int]:
        """The mappings made."""
        return {HOST_MAPPINGS.name: len(self.mapped)} if self.mapped else {}

    @property
    def rows(self) -> int:
        """All of them."""
        return len(self.mapped)


@dataclass(frozen=True)
class Batch:
    """Some nodes, and what the API database said of their hosts.

    :ivar nodes: (id, host, uuid) in order of id
    :ivar missing: the ids of the nodes whose hosts are to be mapped: the first of each host
    :ivar behind: the cursor with which the work goes on after them
    :ivar elsewhere: the hosts that are mapped to another cell
    """

    nodes: list[NodeRow]
    missing: list[int]
    behind: Cursor
    elsewhere: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> dict[str, int]:
        """The hosts to be mapped, with the ids of their nodes."""
        wanted = set(self.missing)
        return {host: number for number, host, _ in self.nodes if number in wanted}


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Discovered]]:
    """Map the hosts of one cell, batch by batch.

    :param cursor: ``after``: go on behind this node; ``host``: all unmarked nodes are done, go on with the marked ones
        behind this host; ``begun``: a batch whose writing was begun
    :raises DatabaseProblem: a database cannot be used
    """
    at = cursor or {"after": 0}
    begun = Batch(**at["begun"]) if "begun" in at else None
    number = min(target.cell.mapping_ids)
    with target.database.connect() as cell, Mapper(target.need_api(), HOST_MAPPINGS, "host", target.size) as api:
        look = _Look(cell, str(target.database), api, params, number)
        while batch := begun or look.next_batch(at):
            made: set[str] = set()
            if begun:
                made = {host for host, mapped_to in api.cells_of(batch.hosts).items() if mapped_to == number}
            elif batch.missing:
                yield Step(Discovered(), at | {"begun": vars(batch)})
            unadded = api.add([{"host": host, "cell_id": number} for host in batch.hosts if host not in made])
            made = batch.hosts.keys() - unadded.names
            if made and not params.by_service:
                yield Step(Discovered(), None)
                nodes = sorted(batch.hosts[host] for host in made)
                _mark_all(target, cell, nodes)
            at = batch.behind
            begun = None
            yield Step(_outcome(batch, made, unadded, params), at)


@dataclass(frozen=True)
class _Look:
    """Looks for the next nodes whose hosts are to be mapped.

    :ivar name: of the cell's database, in messages
    :ivar number: the id of the cell's mapping
    """

    cell: Connection
    name: str
    api: Mapper
    params: Params
    number: int

    def next_batch(self, at: Cursor) -> Batch | None:
        """The next batch behind a cursor; None: there is no more."""
        if "host" not in at:
            if nodes := self._read(partial(_read, self.cell, self.params, at["after"])):
                return self._batch(nodes, {"after": nodes[-1][0]})
            if self.params.by_service:
                return None
        return self._wrongly_marked(at)

    def _wrongly_marked(self, at: Cursor) -> Batch | None:
        """The next nodes that are marked although their hosts are not mapped."""
        after = at.get("host", "")
        while hosts := self._read(partial(_marked_hosts, self.cell, after)):
            after = hosts[-1][1]
            mapped = {fold_name(host) for host in self.api.cells_of([host for _, host in hosts])}
            if unmapped := [number for number, host in hosts if fold_name(host) not in mapped]:
                nodes = self._read(partial(_nodes, self.cell, unmapped))
                return self._batch(nodes, {"after": at["after"], "host": after})
        return None

    def _batch(self, nodes: list[NodeRow], behind: Cursor) -> Batch:
        """Ask which hosts are mapped, and where."""
        first = {fold_name(host): number for number, host, _ in reversed(nodes)}
        mapped_to = self.api.cells_of({host for _, host, _ in nodes})
        there = {fold_name(host) for host in mapped_to}
        missing = sorted(number for host, number in first.items() if host not in there)
        elsewhere = sorted(host for host, cell in mapped_to.items() if cell != self.number)
        return Batch(nodes, missing, behind, elsewhere)

    def _read(self, read: Callable[[], list[T]]) -> list[T]:
        return transactionally(read, self.cell, name=self.name)


def _read(cell: Connection, params: Params, after: int) -> list[NodeRow]:
    """The next nodes that may have to be mapped, in order of id."""
    if params.by_service:
        rows = SERVICES
        found = select(rows.c.id, rows.c.host, null()).where(rows.c.binary == COMPUTE)
    else:
        rows = NODES
        found = select(rows.c.id, rows.c.host, rows.c.uuid).where(rows.c.mapped < 1)
    there = rows.c.deleted == 0, rows.c.host.is_not(None), rows.c.id > after
    nodes = [
        (number, host, uuid)
        for number, host, uuid in cell.execute(found.where(*there).order_by(rows.c.id).limit(BATCH))
    ]
    rollback(cell)
    return nodes


def _marked_hosts(cell: Connection, after: str) -> list[tuple[int, str]]:
    """The next hosts behind a name with nodes that are marked as mapped; the id of one node of each."""
    marked = or_(NODES.c.mapped.is_(None), NODES.c.mapped >= 1)
    hosts = select(func.min(NODES.c.id), NODES.c.host).where(NODES.c.deleted == 0, marked, NODES.c.host > after)
    rows = cell.execute(hosts.group_by(NODES.c.host).order_by(NODES.c.host).limit(BATCH)).all()
    rollback(cell)
    return [(number, host) for number, host in rows]


def _nodes(cell: Connection, numbers: Sequence[int]) -> list[NodeRow]:
    """Nodes that are still there, in order of id."""
    wanted = select(NODES.c.id, NODES.c.host, NODES.c.uuid).where(NODES.c.id.in_(numbers), NODES.c.deleted == 0)
    nodes = [(number, host, uuid) for number, host, uuid in cell.execute(wanted.order_by(NODES.c.id))]
    rollback(cell)
    return nodes


def _mark_all(target: Target, cell: Connection, nodes: Sequence[int]) -> None:
    """Note in the cell that nodes are mapped, in as many transactions as it takes."""
    while nodes:
        mark = partial(_mark, cell, nodes)
        number = run_through(
            as_large_as_possible(mark, target.size, len(nodes), cell, name=str(target.database), ask=None)
        )
        nodes = nodes[number:]


def _mark(cell: Connection, nodes: Sequence[int], number: int) -> int:
    """Note in the cell that the first of some nodes are mapped; returns how many."""
    marked = update(NODES).where(NODES.c.id.in_(nodes[:number]))
    cell.execute(marked.values(mapped=1, updated_at=now()))
    cell.commit()
    return number


def _outcome(batch: Batch, made: Set[str], unadded: Unadded, params: Params) -> Discovered:
    looked_at = [Node(host, uuid) for _, host, uuid in batch.nodes] if params.verbose else []
    return Discovered(
        tuple(looked_at),
        tuple(sorted(made)),
        tuple(sorted(unadded.taken)),
        tuple(batch.elsewhere),
        tuple(Refused(host, why) for host, why in sorted(unadded.refused.items())),
    )


def collisions(results: Sequence[CellResult[Discovered]]) -> set[str]:
    """Hosts that somebody beside this run mapped; one that stands in two cells collides with itself."""
    own = {host for result in results for host in result.outcome.mapped}
    return {host for result in results for host in result.outcome.collided} - own


def collapse(results: Sequence[CellResult[Discovered]], params: Params) -> Exit:
    """The exit code of the whole.

    From worst to best: somebody else mapped a host meanwhile (2); a cell failed or was not looked through, or the API
    database refused a host (1); with ``strict`` no host was mapped (1); all went well (0).
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
    good_codes=frozenset({Exit.MAPPED, Exit.NOTHING_OR_ERROR}),  # a cell that failed is counted as that
    scope=Scope.CLOUD,
    uses_api=True,
)
