"""``placement audit``: which allocations belong to no instance and to no migration.

What the cells know is read here, by cell; ``jobs.placement.orphans`` compares it with what Placement holds.
"""

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, ClassVar, Final, Self

from sqlalchemy import Row, TextClause, bindparam, text

from jobs.action import Action, CellResult, Cursor, Outcome, Step, Target, Unit
from jobs.placement.instances import place_of
from jobs.retry import transactionally
from novadb.cells import CELL0
from novadb.engine import Database
from novadb.names import fold_name

# Instances read in one statement, and uuids in one condition.
CHUNK: Final = 10_000
NAMED: Final = 500

NODES: Final = text(
    "SELECT uuid, host, hypervisor_hostname AS node, deleted FROM compute_nodes WHERE uuid IS NOT NULL UNION ALL "
    "SELECT uuid, host, hypervisor_hostname, 1 FROM shadow_compute_nodes WHERE uuid IS NOT NULL"
)
# What stands here is over. An evacuation is "done" once the instance runs elsewhere, "completed" once its old host
# came back and cleaned up.
OPEN: Final = text(
    "SELECT uuid, instance_uuid FROM migrations WHERE deleted = 0 AND (status IS NULL OR status NOT IN "
    "('confirmed', 'reverted', 'error', 'failed', 'completed', 'cancelled', 'done'))"
)
# One that waits to be reclaimed, or is the hidden copy of a move between cells, needs no allocations.
INSTANCES: Final = text(
    "SELECT id, uuid, host, node, task_state IS NOT NULL OR vm_state = 'building' AS unsettled, "
    "vm_state = 'soft-delete' OR COALESCE(hidden, 0) <> 0 AS resting FROM instances "
    "WHERE deleted = 0 AND id > :after ORDER BY id LIMIT :size"
)
MIGRATIONS_OF: Final = text("SELECT uuid FROM migrations WHERE deleted = 0 AND instance_uuid IN :uuids").bindparams(
    bindparam("uuids", expanding=True)
)
BUILDS: Final = text("SELECT instance_uuid FROM build_requests WHERE instance_uuid IS NOT NULL")
MAPPINGS: Final = text(
    "SELECT m.instance_uuid, m.queued_for_delete, c.uuid FROM instance_mappings m "
    "LEFT JOIN cell_mappings c ON c.id = m.cell_id WHERE m.instance_uuid IN :uuids"
).bindparams(bindparam("uuids", expanding=True))

Ask = Callable[..., Sequence[Row[Any]]]
"""Reads the rows of a statement with its values."""


class Exit(IntEnum):
    """The manual's return codes."""

    NO_ORPHANS = 0
    ERROR = 1
    ORPHANS = 3
    ALL_DELETED = 4
    INVALID_INPUT = 127


@dataclass(frozen=True)
class Params:
    """The options of the command.

    :ivar provider: the uuid of the only resource provider to audit; None: all
    :ivar delete: whether orphaned allocations are deleted
    """

    provider: str | None = None
    delete: bool = False


@dataclass(frozen=True)
class Node:
    """Where a compute node is.

    :ivar host: of its service
    :ivar node: its hypervisor
    """

    host: str | None
    node: str | None


@dataclass(frozen=True)
class Stray:
    """A live instance on a host, on no compute node that its cell knows: the host or the node was renamed, or is gone.

    :ivar nodes: the uuids of the compute nodes that its host has; it may be on any of them
    """

    host: str
    node: str | None
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known(Outcome):
    """What a cell knows of those who may hold allocations. All uuids are folded: Placement may spell them otherwise.

    :ivar nodes: its compute nodes by uuid, which is their resource provider's
    :ivar retired: those that are deleted
    :ivar instances: live instances by the uuid of the compute node that they are on; under "" those that are on none
    :ivar strays: of those, the ones that are on a host, by uuid
    :ivar resting: live instances that need no allocations
    :ivar moving: open migrations, and instances of which it is not settled where they belong: those with an open
        migration, those in a transition or being built, with their migrations
    """

    counts: ClassVar[Unit] = Unit.NOTHING

    nodes: Mapping[str, Node] = field(default_factory=dict)
    retired: Mapping[str, Node] = field(default_factory=dict)
    instances: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    moving: tuple[str, ...] = ()
    strays: Mapping[str, Stray] = field(default_factory=dict)
    resting: tuple[str, ...] = ()

    def __add__(self, other: Self) -> Self:
        places = {**self.instances, **other.instances}
        return replace(
            self,
            nodes={**self.nodes, **other.nodes},
            retired={**self.retired, **other.retired},
            instances={place: self.instances.get(place, ()) + other.instances.get(place, ()) for place in places},
            moving=self.moving + other.moving,
            strays={**self.strays, **other.strays},
            resting=self.resting + other.resting,
        )

    @property
    def by_table(self) -> Mapping[str, int]:
        """No rows are written."""
        return {}

    @property
    def rows(self) -> int:
        """None."""
        return 0


def work(target: Target, _params: Params, cursor: Cursor | None) -> Generator[Step[Known]]:
    """Read a cell: compute nodes and open migrations first, then the live instances.

    In this order the end of a move is not missed: an instance is on its new host before its migration is over.

    :param cursor: ``after``: go on with the instances behind this id
    :raises DatabaseProblem: the cell's database cannot be used
    """
    with _asking(target.database) as ask:
        places = ask(NODES)
        nodes = {fold_name(row.uuid): Node(row.host, row.node) for row in places if not row.deleted}
        if not cursor:
            retired = {
                fold_name(row.uuid): Node(row.host, row.node) for row in places if fold_name(row.uuid) not in nodes
            }
            moving = tuple(fold_name(uuid) for row in ask(OPEN) for uuid in row if uuid)
            cursor = {"after": 0}
            yield Step(Known(nodes, retired, moving=moving), cursor)
        while rows := ask(INSTANCES, after=cursor["after"], size=CHUNK):
            cursor = {"after": rows[-1].id}
            yield Step(_known(rows, nodes, ask), cursor)


def _known(rows: Sequence[Row[Any]], nodes: Mapping[str, Node], ask: Ask) -> Known:
    """Instances by their compute node, and those of them that are not settled."""
    by_place = {place_of(node.host, node.node): uuid for uuid, node in nodes.items()}
    by_host: dict[str, list[str]] = {}
    for uuid, node in nodes.items():
        by_host.setdefault(fold_name(node.host or ""), []).append(uuid)
    instances: dict[str, list[str]] = {}
    strays: dict[str, Stray] = {}
    for row in rows:
        home = by_place.get(place_of(row.host, row.node), "")
        instances.setdefault(home, []).append(fold_name(row.uuid))
        if not home and row.host:
            strays[fold_name(row.uuid)] = Stray(row.host, row.node, tuple(by_host.get(fold_name(row.host), ())))
    unsettled = [row.uuid for row in rows if row.unsettled]
    migrations = [row.uuid for row in _in_parts(ask, MIGRATIONS_OF, unsettled) if row.uuid]
    moving = tuple(map(fold_name, (*unsettled, *migrations)))
    return Known(
        instances={node: tuple(uuids) for node, uuids in instances.items()},
        moving=moving,
        strays=strays,
        resting=tuple(fold_name(row.uuid) for row in rows if row.resting),
    )


@contextmanager
def _asking(database: Database) -> Iterator[Ask]:
    """A connection that reads, each statement in a transaction of its own."""
    with database.connect() as link:
        yield lambda statement, **values: transactionally(
            lambda: link.execute(statement, values).all(), link, name=str(database)
        )


def _in_parts(ask: Ask, statement: TextClause, uuids: Sequence[str]) -> Iterator[Row[Any]]:
    for begin in range(0, len(uuids), NAMED):
        yield from ask(statement, uuids=uuids[begin : begin + NAMED])


def being_built(api: Database) -> frozenset[str]:
    """The folded uuids of instances that are not in their cells yet. They may hold allocations already.

    :raises DatabaseProblem: the API database cannot be used
    """
    with _asking(api) as ask:
        return frozenset(fold_name(row.instance_uuid) for row in ask(BUILDS))


def fates(api: Database, consumers: Collection[str]) -> dict[str, str]:
    """Why consumers that no cell knows are gone, as far as the API database can tell; by folded uuid.

    :raises DatabaseProblem: it cannot be used
    """
    with _asking(api) as ask:
        rows = list(_in_parts(ask, MAPPINGS, sorted(consumers)))
    deleted = {fold_name(row.instance_uuid): "the instance is deleted" for row in rows if row.queued_for_delete}
    return deleted | {
        fold_name(row.instance_uuid): "the instance never came to a host" for row in rows if row.uuid == CELL0
    }


@dataclass(frozen=True)
class Tally:
    """What was found in Placement.

    :ivar orphans: allocations that belong to nobody
    :ivar left: those of them that could not be deleted
    :ivar unknown: providers that could not be audited
    """

    orphans: int = 0
    left: int = 0
    unknown: int = 0


def collapse(results: Sequence[CellResult[Known]], params: Params, tally: Tally = Tally()) -> Exit:
    """The exit code of the whole.

    From worst to best: a cell was not read, a provider not audited, an orphan not deleted (1); orphans were deleted
    (4) or only found (3); there are none (0).
    """
    if any(result.failure or not result.complete for result in results) or tally.unknown or tally.left:
        return Exit.ERROR
    if not tally.orphans:
        return Exit.NO_ORPHANS
    return Exit.ALL_DELETED if params.delete else Exit.ORPHANS


ACTION: Final = Action(
    name="placement.audit",
    params=Params,
    work=work,
    nothing=Known(),
    collapse=collapse,
    good_codes=frozenset({Exit.NO_ORPHANS, Exit.ORPHANS, Exit.ALL_DELETED}),
    writes=False,
)
