"""``cell_v2 discover_hosts``: map the hosts of a cell that are not mapped yet.

A host is mapped in the API database, and then its node is marked in the cell. Before either is written, a step asks the
engine whether this process still may; the cursor of the first says what is about to be written, so that whoever takes
over after a death in between counts it as done by this run.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import Final, Self

from sqlalchemy import Connection, DateTime, column, null, select, table, update

from jobs.action import Action, CellResult, Cursor, Scope, Step, Target
from jobs.cell_v2.mapper import BATCH, Mapper
from jobs.retry import rollback, transactionally
from novadb.mappings import HOSTS, now
from novadb.names import fold

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
class Discovered:
    """What was found in a cell.

    :ivar looked_at: in order, if that is to be told
    :ivar mapped: the hosts that were mapped
    :ivar collided: hosts that somebody else mapped at the very moment
    :ivar elsewhere: hosts that are mapped to another cell
    """

    looked_at: tuple[Node, ...] = ()
    mapped: tuple[str, ...] = ()
    collided: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.looked_at + other.looked_at,
            self.mapped + other.mapped,
            self.collided + other.collided,
            self.elsewhere + tuple(host for host in other.elsewhere if host not in self.elsewhere),
        )

    @property
    def by_table(self) -> Mapping[str, int]:
        """The mappings made."""
        return {HOSTS.name: len(self.mapped)} if self.mapped else {}

    @property
    def rows(self) -> int:
        """All of them."""
        return len(self.mapped)


@dataclass(frozen=True)
class Batch:
    """Some nodes, and what the API database said of their hosts.

    :ivar nodes: (id, host, uuid) in order of id
    :ivar missing: the ids of the nodes whose hosts are to be mapped: the first of each host
    :ivar elsewhere: the hosts that are mapped to another cell
    """

    nodes: list[tuple[int, str, str | None]]
    missing: list[int]
    elsewhere: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> dict[str, int]:
        """The hosts to be mapped, with the ids of their nodes."""
        wanted = set(self.missing)
        return {host: number for number, host, _ in self.nodes if number in wanted}


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Discovered]]:
    """Map the hosts of one cell, batch by batch.

    :param cursor: ``after``: go on behind this node; ``begun``: a batch whose writing was begun
    :raises DatabaseProblem: a database cannot be used
    """
    at = cursor or {"after": 0}
    begun = Batch(**at["begun"]) if "begun" in at else None
    number = min(target.cell.mapping_ids)
    with target.database.connect() as cell, Mapper(target.need_api(), HOSTS, "host") as api:
        in_cell = partial(transactionally, name=str(target.database))
        while True:
            batch = begun or _look(in_cell(partial(_read, cell, params, at["after"]), cell), api, number)
            made: set[str] = set()
            if not batch.nodes:
                return
            if begun:
                made = {host for host, mapped_to in api.cells_of(batch.hosts).items() if mapped_to == number}
            elif batch.missing:
                yield Step(Discovered(), at | {"begun": vars(batch)})
            lost = api.add([{"host": host, "cell_id": number} for host in batch.hosts if host not in made])
            made = batch.hosts.keys() - lost
            if made and not params.by_service:
                yield Step(Discovered(), None)
                in_cell(partial(_mark, cell, [batch.hosts[host] for host in made]), cell)
            at = {"after": batch.nodes[-1][0]}
            begun = None
            yield Step(_outcome(batch, made, lost, params), at)


def _read(cell: Connection, params: Params, after: int) -> list[tuple[int, str, str | None]]:
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


def _look(nodes: list[tuple[int, str, str | None]], api: Mapper, cell_id: int) -> Batch:
    """Ask which hosts are mapped, and where."""
    first = {fold(host): number for number, host, _ in reversed(nodes)}
    mapped_to = api.cells_of({host for _, host, _ in nodes})
    there = {fold(host) for host in mapped_to}
    missing = [number for host, number in first.items() if host not in there]
    return Batch(nodes, sorted(missing), sorted(host for host, cell in mapped_to.items() if cell != cell_id))


def _mark(cell: Connection, nodes: Iterable[int]) -> None:
    """Note in the cell that nodes are mapped."""
    marked = update(NODES).where(NODES.c.id.in_(sorted(nodes)))
    cell.execute(marked.values(mapped=1, updated_at=now()))
    cell.commit()


def _outcome(batch: Batch, made: Set[str], lost: Set[str], params: Params) -> Discovered:
    looked_at = [Node(host, uuid) for _, host, uuid in batch.nodes] if params.verbose else []
    return Discovered(tuple(looked_at), tuple(sorted(made)), tuple(sorted(lost)), tuple(batch.elsewhere))


def collisions(results: Sequence[CellResult[Discovered]]) -> set[str]:
    """Hosts that somebody beside this run mapped; one that stands in two cells collides with itself."""
    own = {host for result in results for host in result.outcome.mapped}
    return {host for result in results for host in result.outcome.collided} - own


def collapse(results: Sequence[CellResult[Discovered]], params: Params) -> Exit:
    """The exit code of the whole.

    From worst to best: somebody else mapped a host meanwhile (2); a cell failed or was not looked through (1); with
    ``strict`` no host was mapped (1); all went well (0).
    """
    if collisions(results):
        return Exit.DUPLICATE
    if any(result.failure or not result.complete for result in results):
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
)
