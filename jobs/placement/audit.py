"""``placement audit``: which allocations belong to no instance and to no migration.

This module reads what the cells know, cell by cell; ``jobs.placement.orphans`` compares that with
what Placement has.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, ClassVar, Final, Self

from sqlalchemy import Row, TextClause, bindparam, text

from jobs.action import Action, CellResult, Cursor, Outcome, Step, Target, Unit
from jobs.placement.instances import host_and_node
from jobs.retry import transactionally
from novadb.cells import CELL0
from novadb.engine import Database
from novadb.names import fold_name

INSTANCES_PER_STATEMENT: Final = 10_000
UUIDS_PER_CONDITION: Final = 500

_COMPUTE_NODES: Final = text(
    "SELECT uuid, host, hypervisor_hostname AS node, deleted FROM compute_nodes "
    "WHERE uuid IS NOT NULL UNION ALL "
    "SELECT uuid, host, hypervisor_hostname, 1 FROM shadow_compute_nodes WHERE uuid IS NOT NULL"
)
# A migration with any of these states is over. An evacuation is "done" once the instance runs
# elsewhere, and "completed" once its old host has come back and cleaned up.
_OPEN_MIGRATIONS: Final = text(
    "SELECT uuid, instance_uuid FROM migrations WHERE deleted = 0 AND (status IS NULL OR "
    "status NOT IN "
    "('confirmed', 'reverted', 'error', 'failed', 'completed', 'cancelled', 'done'))"
)
# An instance that waits to be reclaimed, or that is the hidden copy of a move between cells,
# needs no allocations.
_LIVE_INSTANCES: Final = text(
    "SELECT id, uuid, host, node, "
    "task_state IS NOT NULL OR vm_state = 'building' AS unsettled, "
    "vm_state = 'soft-delete' OR COALESCE(hidden, 0) <> 0 AS resting FROM instances "
    "WHERE deleted = 0 AND id > :after ORDER BY id LIMIT :size"
)
_MIGRATIONS_OF: Final = text(
    "SELECT uuid FROM migrations WHERE deleted = 0 AND instance_uuid IN :uuids"
).bindparams(bindparam("uuids", expanding=True))
_BUILD_REQUESTS: Final = text(
    "SELECT instance_uuid FROM build_requests WHERE instance_uuid IS NOT NULL"
)
_MAPPINGS_OF: Final = text(
    "SELECT m.instance_uuid, m.queued_for_delete, c.uuid FROM instance_mappings m "
    "LEFT JOIN cell_mappings c ON c.id = m.cell_id WHERE m.instance_uuid IN :uuids"
).bindparams(bindparam("uuids", expanding=True))

AskDatabase = Callable[..., Sequence[Row[Any]]]
"""Runs a statement with its values, in a transaction of its own, and returns the rows."""


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
class ComputeNode:
    """Where a compute node is.

    :ivar host: of its service
    :ivar node: the name of its hypervisor
    """

    host: str | None
    node: str | None


@dataclass(frozen=True)
class Stray:
    """A live instance on a host, but on no compute node that its cell knows.

    The host or the node was renamed, or is gone.

    :ivar nodes: the uuids of the compute nodes of its host; the instance may be on any of them
    """

    host: str
    node: str | None
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CellKnowledge(Outcome):
    """What a cell knows about those who may hold allocations.

    All uuids are folded: Placement may spell them differently.

    :ivar nodes: its compute nodes, by the uuid that they share with their resource provider
    :ivar retired: those that are deleted
    :ivar instances: live instances by the uuid of their compute node; those without, under ""
    :ivar moving: open migrations, and instances for which it is not settled where they belong:
        with an open migration, in a task or being built; and the migrations of the latter two
    :ivar strays: the instances without a known compute node that are on a host
    :ivar resting: live instances that need no allocations
    """

    counts: ClassVar[Unit] = Unit.NOTHING

    nodes: Mapping[str, ComputeNode] = field(default_factory=dict)
    retired: Mapping[str, ComputeNode] = field(default_factory=dict)
    instances: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    moving: tuple[str, ...] = ()
    strays: Mapping[str, Stray] = field(default_factory=dict)
    resting: tuple[str, ...] = ()

    def __add__(self, other: Self) -> Self:
        instances = dict(self.instances)
        for node, uuids in other.instances.items():
            instances[node] = instances.get(node, ()) + uuids
        return replace(
            self,
            nodes={**self.nodes, **other.nodes},
            retired={**self.retired, **other.retired},
            instances=instances,
            moving=self.moving + other.moving,
            strays={**self.strays, **other.strays},
            resting=self.resting + other.resting,
        )

    @property
    def by_table(self) -> Mapping[str, int]:
        """Empty: an audit writes no rows."""
        return {}

    @property
    def rows(self) -> int:
        """0: an audit writes no rows."""
        return 0


def work(target: Target, _params: Params, cursor: Cursor | None) -> Generator[Step[CellKnowledge]]:
    """Read a cell: compute nodes and open migrations first, then the live instances.

    In this order the end of a move is not missed: an instance is on its new host before its
    migration is over.

    :param cursor: ``after``: go on with the instances after this id
    :raises DatabaseProblem: the cell's database cannot be used
    """
    with _reading(target.database) as ask:
        node_rows = ask(_COMPUTE_NODES)
        nodes = _compute_nodes(row for row in node_rows if not row.deleted)
        if not cursor:
            deleted = _compute_nodes(row for row in node_rows if row.deleted)
            # A node that is deleted and there again is there.
            retired = {uuid: node for uuid, node in deleted.items() if uuid not in nodes}
            moving = tuple(_uuids_in(ask(_OPEN_MIGRATIONS)))
            cursor = {"after": 0}
            yield Step(CellKnowledge(nodes, retired, moving=moving), cursor)
        while rows := ask(_LIVE_INSTANCES, after=cursor["after"], size=INSTANCES_PER_STATEMENT):
            cursor = {"after": rows[-1].id}
            yield Step(_knowledge_of(rows, nodes, ask), cursor)


def _compute_nodes(rows: Iterable[Row[Any]]) -> dict[str, ComputeNode]:
    return {fold_name(row.uuid): ComputeNode(row.host, row.node) for row in rows}


def _uuids_in(rows: Iterable[Row[Any]]) -> Iterator[str]:
    for row in rows:
        yield from (fold_name(uuid) for uuid in row if uuid)


def _knowledge_of(
    rows: Sequence[Row[Any]], nodes: Mapping[str, ComputeNode], ask: AskDatabase
) -> CellKnowledge:
    """Sort instances by their compute node, and find those that are not settled."""
    by_place = {host_and_node(node.host, node.node): uuid for uuid, node in nodes.items()}
    by_host: dict[str, list[str]] = {}
    for uuid, node in nodes.items():
        by_host.setdefault(fold_name(node.host or ""), []).append(uuid)
    instances: dict[str, list[str]] = {}
    strays: dict[str, Stray] = {}
    for row in rows:
        uuid = fold_name(row.uuid)
        home = by_place.get(host_and_node(row.host, row.node), "")
        instances.setdefault(home, []).append(uuid)
        if not home and row.host:
            nodes_of_host = by_host.get(fold_name(row.host), ())
            strays[uuid] = Stray(row.host, row.node, tuple(nodes_of_host))
    unsettled = [row.uuid for row in rows if row.unsettled]
    migrations = _uuids_in(_ask_in_parts(ask, _MIGRATIONS_OF, unsettled))
    return CellKnowledge(
        instances={node: tuple(uuids) for node, uuids in instances.items()},
        moving=(*map(fold_name, unsettled), *migrations),
        strays=strays,
        resting=tuple(fold_name(row.uuid) for row in rows if row.resting),
    )


@contextmanager
def _reading(database: Database) -> Iterator[AskDatabase]:
    """A connection that only reads."""
    with database.connect() as connection:

        def ask(statement: TextClause, **values: Any) -> Sequence[Row[Any]]:
            return transactionally(
                lambda: connection.execute(statement, values).all(), connection, name=str(database)
            )

        yield ask


def _ask_in_parts(
    ask: AskDatabase, statement: TextClause, uuids: Sequence[str]
) -> Iterator[Row[Any]]:
    for begin in range(0, len(uuids), UUIDS_PER_CONDITION):
        yield from ask(statement, uuids=uuids[begin : begin + UUIDS_PER_CONDITION])


def read_building_instances(api: Database) -> frozenset[str]:
    """The folded uuids of instances that are in no cell yet. They may hold allocations already.

    :raises DatabaseProblem: the API database cannot be used
    """
    with _reading(api) as ask:
        return frozenset(_uuids_in(ask(_BUILD_REQUESTS)))


def read_fates(api: Database, consumers: Collection[str]) -> dict[str, str]:
    """Why consumers that no cell knows are gone, as far as the API database can tell.

    :returns: reasons by folded uuid
    :raises DatabaseProblem: the API database cannot be used
    """
    fates: dict[str, str] = {}
    with _reading(api) as ask:
        for row in _ask_in_parts(ask, _MAPPINGS_OF, sorted(consumers)):
            uuid = fold_name(row.instance_uuid)
            if row.uuid == CELL0:
                fates[uuid] = "the instance never came to a host"
            elif row.queued_for_delete:
                fates[uuid] = "the instance is deleted"
    return fates


@dataclass(frozen=True)
class AuditCounts:
    """What was found in Placement.

    :ivar orphans: allocations that belong to nobody
    :ivar left: those of them that could not be deleted
    :ivar unknown: providers that could not be audited
    """

    orphans: int = 0
    left: int = 0
    unknown: int = 0


def collapse(
    results: Sequence[CellResult[CellKnowledge]],
    params: Params,
    counts: AuditCounts = AuditCounts(),
) -> Exit:
    """The exit code of the command.

    From worst to best: a cell was not read, a provider not audited, or an orphan not deleted (1);
    orphans were deleted (4) or found (3); there are none (0).
    """
    is_every_cell_read = all(result.complete and not result.failure for result in results)
    if not is_every_cell_read or counts.unknown or counts.left:
        return Exit.ERROR
    if not counts.orphans:
        return Exit.NO_ORPHANS
    return Exit.ALL_DELETED if params.delete else Exit.ORPHANS


ACTION: Final = Action(
    name="placement.audit",
    params=Params,
    work=work,
    nothing=CellKnowledge(),
    collapse=collapse,
    good_codes=frozenset({Exit.NO_ORPHANS, Exit.ORPHANS, Exit.ALL_DELETED}),
    writes=False,
)
