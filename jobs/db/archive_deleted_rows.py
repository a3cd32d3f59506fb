"""``db archive_deleted_rows``: move deleted rows to the shadow tables, and drop the API rows of
archived instances.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from functools import partial
from itertools import islice
from typing import Any, Final, Self

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from jobs.action import Action, CellResult, Cursor, FailureKind, Outcome, Step, Target
from jobs.codec import decode, encode
from jobs.db.api_rows import ApiRows
from jobs.db.due_rows import DueRows
from jobs.db.mover import TableMover
from jobs.db.tree_queue import Batch, TreeQueue
from jobs.db.trees import Forest, Node, read_forest
from jobs.estimates import Forecast, count_within, estimate
from jobs.retry import transactionally
from jobs.sums import add
from novadb.engine import server_message
from novadb.errors import DatabaseProblem, UnsuitableSchema
from novadb.names import fold_name
from novadb.nova_tables import INSTANCES, SHADOW_INSTANCES

MAX_ROWS_LIMIT: Final = 0x7FFFFFFF
API_DATABASE: Final = "the API database"
# How many blocked trees of one cell are named one by one; the rest is counted.
NAMED: Final = 100


class Exit(IntEnum):
    """The manual's return codes."""

    NOTHING_ARCHIVED = 0
    ARCHIVED = 1
    INVALID_MAX_ROWS = 2
    NO_API_DATABASE = 3
    INVALID_BEFORE = 4
    ERROR = 255


@dataclass(frozen=True)
class Params:
    """The options of the command.

    :ivar max_rows: rows in one transaction; without ``until_complete`` also the total over all
        cells. A tree of rows is never split, so the first one of a run may be larger
    :ivar before: move only what was deleted before; naive, in UTC
    :ivar until_complete: go on until nothing is left
    :ivar task_log: also move ``task_log``, whose rows are never deleted
    :ivar sleep: seconds to pause after each ``max_rows`` rows, with ``until_complete``
    :ivar repair: resolve what is known to block: identical twins in the shadow tables, leftover API
        rows
    :ivar begun: an earlier cell of this run has moved rows, so that even the first tree must fit
    """

    max_rows: int = 1000
    before: datetime | None = None
    until_complete: bool = False
    task_log: bool = False
    sleep: float = 0.0
    repair: bool = False
    begun: bool = False


@dataclass(frozen=True)
class Blocked:
    """A tree of rows that could not be moved, and was left as it is.

    :ivar reason: why, and what to do about it
    """

    table: str
    id: int
    reason: str


@dataclass(frozen=True)
class Archived(Outcome):
    """What was done in a cell.

    :ivar moved: rows by table
    :ivar api: rows deleted in the API database by table, present once an instance was moved
    :ivar blocked: the first ``NAMED`` trees that stayed
    :ivar blocked_count: all of them
    :ivar full: the total of ``max_rows`` has no room for the next tree
    :ivar repaired: what ``repair`` removed: shadow twins by shadow table, leftover API rows by
        table
    """

    moved: Mapping[str, int] = field(default_factory=dict)
    api: Mapping[str, int] = field(default_factory=dict)
    blocked: tuple[Blocked, ...] = ()
    blocked_count: int = 0
    full: bool = False
    repaired: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Self) -> Self:
        return replace(
            self,
            moved=add(self.moved, other.moved),
            api=add(self.api, other.api),
            blocked=(self.blocked + other.blocked)[:NAMED],
            blocked_count=self.blocked_count + other.blocked_count,
            full=self.full or other.full,
            repaired=add(self.repaired, other.repaired),
        )

    @property
    def stayed(self) -> int:
        """Trees that could not be moved."""
        return self.blocked_count

    @property
    def remarks(self) -> Sequence[str]:
        """Why trees stayed."""
        return [f"left in {tree.table}: id {tree.id}: {tree.reason}" for tree in self.blocked]

    @property
    def by_table(self) -> Mapping[str, int]:
        """Rows that are in the shadow tables now and were not before."""
        return self.moved

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.moved.values())


@dataclass(frozen=True)
class Position:
    """Where an archive has come to. It travels as the cursor.

    :ivar table: the table that it is in; empty: it begins
    :ivar after: the id behind which it goes on
    :ivar moved: rows so far
    :ivar batch: rows since the last pause
    :ivar mapping: the id of the instance mapping behind which it looks for leftovers
    :ivar refused: why tables were left, by table
    """

    table: str = ""
    after: int = 0
    moved: int = 0
    batch: int = 0
    mapping: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Archived]]:
    """Move the deleted rows of one cell, table by table, each batch in one transaction.

    :param cursor: the ``Position``, and the ``Forecast``'s part
    :raises Contended: others are at the next tree
    :raises DatabaseProblem: the cell's database cannot be used; or, once the others are archived,
        some of its tables cannot be
    :raises ApiDatabaseProblem: the API database cannot be used
    """
    with (
        target.database.connect() as cell,
        ApiRows(target.need_api(), target.cell.mapping_ids) as api,
    ):
        yield from _CellArchive(target, params, cell, api, cursor).archive_tables()


class _CellArchive:
    """An archive of one cell."""

    def __init__(
        self,
        target: Target,
        params: Params,
        cell: Connection,
        api: ApiRows,
        cursor: Cursor | None,
    ) -> None:
        self._target = target
        self._params = params
        self._cell = cell
        self._api = api
        self._name = str(target.database)
        self._position = decode(Position, cursor or {})
        self._forest = read_forest(cell)
        self._due = due_rows(self._forest, params)
        self._busy_tables = self._due.find_busy_tables(cell)
        self._forecast = Forecast(self._estimate_due_rows, cursor)

    def archive_tables(self) -> Generator[Step[Archived]]:
        """Archive one table after the other, then look for leftovers if that is wanted."""
        for name in self._tables_from(self._position.table):
            if name not in self._busy_tables:
                continue
            if name != self._position.table:
                self._move_on(table=name, after=0)
            self._forecast.come_to(self._tables_from(name))
            is_used_up = yield from self._archive_table()
            if is_used_up:
                return
        if self._params.repair:
            yield from self._remove_leftovers()
        if self._position.refused:
            raise DatabaseProblem(f"{self._name}: {in_words(self._position.refused)}")

    def _archive_table(self) -> Generator[Step[Archived], None, bool]:
        """Archive the current table, or note why it cannot be archived.

        :returns: whether the total of ``max_rows`` has no room for the next tree
        """
        name = self._position.table
        try:
            self._forest.check(name)
            return (yield from self._move_trees(self._forest.tree(name)))
        except (UnsuitableSchema, DBAPIError) as error:
            self._move_on(refused={**self._position.refused, name: _reason_of(error)})
            yield Step(Archived(), encode(self._position))
            return False

    def _move_trees(self, root: Node) -> Generator[Step[Archived], None, bool]:
        """Move the trees of a table, batch by batch.

        :returns: whether the total of ``max_rows`` has no room for the next tree
        """
        until_complete = self._params.until_complete
        is_root = self._due.is_root(root.name)
        repair, size = self._params.repair, self._target.size
        mover = TableMover(self._target, self._cell, self._api, root, is_root, repair=repair)
        page = self._params.max_rows if until_complete else self._room
        after = self._position.after
        with TreeQueue(self._target, self._cell, root, is_root, after=after, page=page) as queue:
            while (room := self._room) > 0:
                if until_complete:
                    self._forecast.look()
                batch = queue.take(size.within(room), room, self._may_exceed_room)
                if batch.last is not None:
                    yield from self._move_batch(mover, batch)
                elif not batch.full:
                    return False
                elif until_complete:
                    self._move_on(batch=0)
                    yield self._step(Archived(), ends_batch=True)
                else:
                    yield self._step(Archived(full=True))
                    return True
        return False

    def _move_batch(self, mover: TableMover, batch: Batch) -> Generator[Step[Archived]]:
        """Move a batch of trees.

        What was moved is gone from the table: only when the whole batch is through may the position
        pass it. And only then is told what stayed, lest it be told twice.
        """
        stayed = _too_large(batch, self._target.limits.tree_ceiling)
        has_told = False
        for moved in mover.move(batch.ids, batch.rows):
            self._count(moved.rows.total())
            stayed |= moved.blocked
            if moved.rows or moved.twins or moved.api:
                outcome = Archived(dict(moved.rows), dict(moved.api), repaired=dict(moved.twins))
                ends_batch = bool(moved.rows) and self._position.batch == 0
                yield self._step(outcome, ends_batch=ends_batch)
                has_told = True
            elif not moved.blocked:
                yield Step(Archived(), None)
        assert batch.last is not None
        self._move_on(after=batch.last)
        if stayed or not has_told:
            yield self._step(_blocked(self._position.table, stayed))

    def _remove_leftovers(self) -> Generator[Step[Archived]]:
        """Delete API rows of instances that were archived without them.

        The stock tool leaves such when it is killed between its two transactions.
        """
        while candidates := self._read_candidates():
            self._move_on(mapping=candidates[-1][0])
            leftovers = self._read_leftovers([uuid for _, uuid in candidates])
            removed = self._delete_api_rows(leftovers) if leftovers else {}
            repaired = {f"API_DB.{name}": rows for name, rows in removed.items() if rows}
            yield Step(Archived(repaired=repaired), encode(self._position))

    def _read_candidates(self) -> list[tuple[int, str]]:
        read = partial(self._api.candidates, self._position.mapping)
        return transactionally(read, name=API_DATABASE)

    def _read_leftovers(self, uuids: Sequence[str]) -> set[str]:
        read = partial(_archived_instances, self._cell, uuids)
        return transactionally(read, self._cell, name=self._name)

    def _delete_api_rows(self, uuids: set[str]) -> Mapping[str, int]:
        return transactionally(partial(self._api.delete, uuids), name=API_DATABASE)

    @property
    def _room(self) -> int:
        """The rows that the next transaction may have."""
        if not self._params.until_complete:
            return self._params.max_rows - self._position.moved
        return max(self._params.max_rows - self._position.batch, 1)

    @property
    def _may_exceed_room(self) -> bool:
        """Whether the next tree moves even if it is larger than the room: trees are never split."""
        if self._params.until_complete:
            return self._position.batch == 0
        return not (self._position.moved or self._params.begun)

    def _count(self, rows: int) -> None:
        """Count rows that were moved. Without pauses each transaction is a batch of its own."""
        batch = self._position.batch + rows
        is_going_on = self._params.sleep > 0 and batch < self._params.max_rows
        self._move_on(moved=self._position.moved + rows, batch=batch if is_going_on else 0)

    def _move_on(self, **changes: Any) -> None:
        self._position = replace(self._position, **changes)

    def _step(self, outcome: Archived, *, ends_batch: bool = False) -> Step[Archived]:
        cursor = encode(self._position)
        if not self._params.until_complete:
            return Step(outcome, cursor, max(self._params.max_rows - self._position.moved, 0))
        return replace(self._forecast.step(outcome, cursor), ends_batch=ends_batch)

    def _tables_from(self, name: str) -> Sequence[str]:
        """A table, and those that are archived after it; all where the archive begins."""
        tables = self._forest.roots
        return tables[tables.index(name) :] if name else tables

    def _estimate_due_rows(self) -> dict[str, int]:
        """The rows that say themselves that they are to be moved, by table from the current one."""
        return estimate(self._count_due_rows, self._cell, self._name)

    def _count_due_rows(self) -> dict[str, int]:
        tables = self._tables_from(self._position.table)
        return count_within(
            self._cell,
            {
                name: (self._forest.tree(name).live, self._due.is_due(name))
                for name in tables
                if name in self._busy_tables
            },
        )


def due_rows(forest: Forest, params: Params) -> DueRows:
    """The rows that an archive with these options moves."""
    return DueRows(forest, params.before, task_log=params.task_log)


def unsuitable_tables(cell: Connection, forest: Forest, params: Params) -> dict[str, str]:
    """The tables that have deleted rows and cannot be archived, with the reason."""
    busy_tables = due_rows(forest, params).find_busy_tables(cell)
    unsuitable = {}
    for name in filter(busy_tables.__contains__, forest.roots):
        try:
            forest.check(name)
        except UnsuitableSchema as problem:
            unsuitable[name] = str(problem)
    return unsuitable


def in_words(refused: Mapping[str, str]) -> str:
    """Each reason with the tables that it concerns."""
    tables: dict[str, list[str]] = {}
    for name, reason in refused.items():
        tables.setdefault(reason, []).append(name)
    return "; ".join(f"{reason}; left: {', '.join(names)}" for reason, names in tables.items())


def _reason_of(error: UnsuitableSchema | DBAPIError) -> str:
    """Why a table cannot be archived.

    :raises DBAPIError: the connection is lost, so that nothing can
    """
    if isinstance(error, UnsuitableSchema):
        return str(error)
    if error.connection_invalidated:
        raise error
    return server_message(error)


def _blocked(table: str, reasons: Mapping[int, str]) -> Archived:
    first_reasons = islice(reasons.items(), NAMED)
    blocked = tuple(Blocked(table, root_id, reason) for root_id, reason in first_reasons)
    return Archived(blocked=blocked, blocked_count=len(reasons))


def _too_large(batch: Batch, ceiling: int) -> dict[int, str]:
    """Why trees stay that are larger than the ceiling, by id of the root."""
    return {
        root_id: f"it brings along {rows} rows, more than tree_ceiling ({ceiling}) "
        "in section [cellkeeper]: raise it"
        for root_id, rows in batch.too_large.items()
    }


def _archived_instances(cell: Connection, uuids: Sequence[str]) -> set[str]:
    """Those of some instances that are in ``shadow_instances`` and no more in ``instances``.

    Absence alone proves nothing: an instance that is being created is absent, too.
    """
    live, shadow = INSTANCES.c.uuid, SHADOW_INSTANCES.c.uuid
    live_uuids = cell.execute(select(live).where(live.in_(uuids))).scalars()
    present = {fold_name(uuid) for uuid in live_uuids}
    absent = [uuid for uuid in uuids if fold_name(uuid) not in present]
    if not absent:
        return set()
    return set(cell.execute(select(shadow).where(shadow.in_(absent))).scalars())


def has_work(target: Target, params: Params) -> bool:
    """Whether a cell may have anything to do."""
    if params.repair or params.max_rows == 0:
        return params.repair
    with target.database.connect() as cell:
        return bool(due_rows(read_forest(cell), params).find_busy_tables(cell))


def collapse(results: Sequence[CellResult[Archived]], _params: Params) -> Exit:
    """The exit code of the whole.

    From worst to best: a cell failed (255); the API database failed (3); rows were archived (1);
    there were none (0). Blocked rows do not count: a script that runs the command while it says 1
    must come to an end.
    """
    kinds = {result.failure.kind for result in results if result.failure}
    if kinds - {FailureKind.API_DATABASE}:
        return Exit.ERROR
    if kinds:
        return Exit.NO_API_DATABASE
    return (
        Exit.ARCHIVED if any(result.outcome.rows for result in results) else Exit.NOTHING_ARCHIVED
    )


def next_params(params: Params, done: Archived) -> Params | None:
    """What is left of the total for the next cell; None when it is used up."""
    left = 0 if done.full else params.max_rows - done.rows
    return (
        replace(params, max_rows=left, begun=params.begun or bool(done.rows)) if left > 0 else None
    )


def _read_max_rows(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_ROWS_LIMIT:
        raise ValueError(f"it must lie between 1 and {MAX_ROWS_LIMIT}")
    return int(text)


def _read_sleep(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 1e6:
        raise ValueError("it must be a number of seconds, and no more than 1000000")
    return seconds


ACTION: Final = Action(
    name="db.archive_deleted_rows",
    params=Params,
    work=work,
    nothing=Archived(),
    collapse=collapse,
    good_codes=frozenset({Exit.NOTHING_ARCHIVED, Exit.ARCHIVED}),
    in_turn=lambda params: not params.until_complete,
    next_params=next_params,
    adjustable={"max_rows": _read_max_rows, "sleep": _read_sleep},
    has_work=has_work,
    pause=lambda params: params.sleep if params.until_complete else 0.0,
    uses_api=True,
    reads_ahead=True,
)
