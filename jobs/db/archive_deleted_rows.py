"""``db archive_deleted_rows``: move deleted rows to the shadow tables, and drop the API rows of archived instances."""

from collections.abc import Generator, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from functools import partial
from typing import Final, Self

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    column,
    exists,
    false,
    literal_column,
    not_,
    or_,
    select,
    table,
    text,
    true,
)
from sqlalchemy.exc import DBAPIError

from jobs.action import Action, CellResult, Cursor, FailureKind, Outcome, Step, Target
from jobs.conditions import older_than
from jobs.db.api_rows import ApiRows
from jobs.db.key_walk import KeyWalk
from jobs.db.mover import TableMover
from jobs.db.tree_queue import Batch, TreeQueue
from jobs.db.trees import INSTANCES, Forest, Node
from jobs.estimates import Forecast, count_within, estimate
from jobs.retry import rollback, transactionally
from jobs.sums import add
from novadb import catalogue
from novadb.catalogue import SHADOW_PREFIX
from novadb.engine import Database, server_message
from novadb.errors import DatabaseProblem, UnsuitableSchema
from novadb.names import fold_name

MAX_ROWS_LIMIT: Final = 0x7FFFFFFF
TASK_LOG: Final = "task_log"
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

    :ivar max_rows: rows in one transaction; without ``until_complete`` also the total over all cells. A tree of
        rows is never split, so the first one of a run may be larger
    :ivar before: move only what was deleted before; naive, in UTC
    :ivar until_complete: go on until nothing is left
    :ivar task_log: also move ``task_log``, whose rows are never deleted
    :ivar sleep: seconds to pause after each ``max_rows`` rows, with ``until_complete``
    :ivar repair: resolve what is known to block: identical twins in the shadow tables, leftover API rows
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
    :ivar repaired: what ``repair`` removed: shadow twins by shadow table, leftover API rows by table
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


def _blocked(table: str, reasons: Mapping[int, str]) -> Archived:
    named = tuple(Blocked(table, number, why) for number, why in list(reasons.items())[:NAMED])
    return Archived(blocked=named, blocked_count=len(reasons))


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Archived]]:
    """Move the deleted rows of one cell, table by table, each batch in one transaction.

    :param cursor: ``table`` and ``after``: go on in this table behind this id; ``moved``: rows so far, and ``batch``
        those since the last pause;
        ``mapping``: look for leftovers behind this instance mapping; ``refused``: by table, why it was left;
        ``rest``: what is left by the forecast
    :raises Contended: others are at the next tree
    :raises DatabaseProblem: the cell's database cannot be used; or, once the others are archived, some of its tables
        cannot be
    :raises ApiDatabaseProblem: the API database cannot be used
    """
    at: Cursor = {"batch": 0} | (cursor or {"table": "", "after": 0, "moved": 0, "mapping": 0})
    with target.database.connect() as cell, ApiRows(target.need_api(), target.cell.mapping_ids) as api:
        forest = _forest(cell)
        busy = _busy_tables(cell, forest, params)
        count = partial(_count_due, cell, forest, params, busy)
        forecast = Forecast(lambda: estimate(partial(count, at["table"]), cell, str(target.database)), cursor)
        at.pop("rest", None)
        for name in forest.roots[forest.roots.index(at["table"]) if at["table"] else 0 :]:
            if name not in busy:
                continue
            if name != at["table"]:
                at |= {"table": name, "after": 0}
            forecast.come_to(_from(forest, name))
            try:
                forest.check(name)
                for step in _move_table(cell, api, forest, target, params, at, forecast):
                    yield step
                    if step.outcome.full:
                        return
            except (UnsuitableSchema, DBAPIError) as error:
                at["refused"] = at.get("refused", {}) | {name: _refusal(error)}
                yield Step(Archived(), dict(at))
        if params.repair:
            yield from _remove_leftovers(cell, api, target.database, at)
    if refused := at.get("refused"):
        raise DatabaseProblem(f"{target.database}: {in_words(refused)}")


def _from(forest: Forest, name: str) -> Sequence[str]:
    """A table, and those that come behind it."""
    return forest.roots[forest.roots.index(name) :]


def _count_due(cell: Connection, forest: Forest, params: Params, busy: Set[str], table: str) -> dict[str, int]:
    """The rows that say themselves that they are to be moved, in a table and those behind it."""
    nodes = [forest.tree(name) for name in _from(forest, table) if name in busy]
    return count_within(cell, {node.name: (node.live, _is_due(node, params)) for node in nodes})


def _refusal(error: UnsuitableSchema | DBAPIError) -> str:
    """Why a table cannot be archived.

    :raises DBAPIError: the connection is lost, so that nothing can
    """
    if isinstance(error, UnsuitableSchema):
        return str(error)
    if error.connection_invalidated:
        raise error
    return server_message(error)


def unsuitable_tables(cell: Connection, forest: Forest, params: Params) -> dict[str, str]:
    """The tables that have deleted rows and cannot be archived, with the reason."""
    busy = _busy_tables(cell, forest, params)
    unsuitable = {}
    for name in filter(busy.__contains__, forest.roots):
        try:
            forest.check(name)
        except UnsuitableSchema as problem:
            unsuitable[name] = str(problem)
    return unsuitable


def in_words(refused: Mapping[str, str]) -> str:
    """Each reason with the tables that it concerns."""
    tables: dict[str, list[str]] = {}
    for name, why in refused.items():
        tables.setdefault(why, []).append(name)
    return "; ".join(f"{why}; left: {', '.join(names)}" for why, names in tables.items())


def _move_table(
    cell: Connection, api: ApiRows, forest: Forest, target: Target, params: Params, at: Cursor, forecast: Forecast
) -> Iterator[Step[Archived]]:
    """Move the deleted rows of one table, with their trees.

    :param at: the cursor; it is moved along
    """

    def step(outcome: Archived, *, ends_batch: bool = False) -> Step[Archived]:
        if params.until_complete:
            return replace(forecast.step(outcome, dict(at)), ends_batch=ends_batch)
        return Step(outcome, dict(at), max(params.max_rows - at["moved"], 0))

    root = forest.tree(at["table"])
    condition = roots(forest, root.name, params)
    ceiling, database = target.limits.tree_ceiling, target.database
    mover = TableMover(cell, api, root, condition, target.size, repair=params.repair, name=str(database))
    page = params.max_rows if params.until_complete else _room(params, at)
    with TreeQueue(
        cell, database, root, condition, second=target.second, after=at["after"], page=page, ceiling=ceiling
    ) as queue:
        while (room := _room(params, at)) > 0:
            if params.until_complete:
                forecast.look()
            rows, at_least_one = target.size.within(room), _may_exceed(params, at)
            batch = queue.take(rows, room, at_least_one=at_least_one)
            if batch.last is None:
                if not batch.full:
                    return
                if not params.until_complete:
                    yield step(Archived(full=True))
                    return
                at["batch"] = 0
                yield step(Archived(), ends_batch=True)
                continue
            # What was moved is gone from the table: only when the whole batch is through may the cursor pass it.
            # And only then is told what stayed, lest it be told twice.
            stayed, has_told = _too_large(batch, ceiling), False
            for done in mover.move(batch.ids, batch.rows):
                _count(params, at, done.rows.total())
                stayed |= done.blocked
                if done.rows or done.twins or done.api:
                    outcome = Archived(dict(done.rows), dict(done.api), repaired=dict(done.twins))
                    yield step(outcome, ends_batch=bool(done.rows) and at["batch"] == 0)
                    has_told = True
                elif not done.blocked:
                    yield Step(Archived(), None)
            at["after"] = batch.last
            if stayed or not has_told:
                yield step(_blocked(root.name, stayed))


def _room(params: Params, at: Cursor) -> int:
    """The rows that the next transaction may have."""
    if not params.until_complete:
        return params.max_rows - int(at["moved"])
    return max(params.max_rows - _rows_of_batch(params, at), 1)


def _may_exceed(params: Params, at: Cursor) -> bool:
    """Whether the next tree moves although it is larger than the room: a tree is never split."""
    if params.until_complete:
        return _rows_of_batch(params, at) == 0
    return not (at["moved"] or params.begun)


def _rows_of_batch(params: Params, at: Cursor) -> int:
    """The rows that were moved since the last pause. Without pauses each transaction is a batch."""
    return int(at["batch"]) if params.sleep else 0


def _count(params: Params, at: Cursor, rows: int) -> None:
    """Count rows that were moved; once a batch is full, the next one begins."""
    at["moved"] += rows
    batch = _rows_of_batch(params, at) + rows
    at["batch"] = batch if params.sleep and batch < params.max_rows else 0


def has_work(target: Target, params: Params) -> bool:
    """Whether a cell may have anything to do."""
    if params.repair or params.max_rows == 0:
        return params.repair
    with target.database.connect() as cell:
        return bool(_busy_tables(cell, _forest(cell), params))


def _busy_tables(cell: Connection, forest: Forest, params: Params) -> set[str]:
    """The tables that have any row that is deleted, whenever. Of small tables one statement tells."""
    walks = {name: KeyWalk(forest.tree(name).live.c.id) for name in forest.roots}
    looks = [_look_for_deleted(cell, name, walk, params) for name, walk in walks.items()]
    found = cell.execute(text(" UNION ALL ".join(looks))).all() if looks else ()
    rollback(cell)
    busy = set()
    for name, is_busy, following in found:
        walks[name].go_on(following)
        if is_busy or _is_busy(cell, name, walks[name], params):
            busy.add(name)
    return busy


def _look_for_deleted(cell: Connection, name: str, walk: KeyWalk, params: Params) -> str:
    """Asks whether the current piece of a table has any row that is deleted; and for what its walk goes on by."""
    quoted = cell.dialect.identifier_preparer.quote(name)
    is_deleted = "" if name == TASK_LOG and params.task_log else " AND deleted != 0"
    first, last = walk.bounds()
    return (
        f"SELECT '{name}', EXISTS (SELECT 1 FROM {quoted} WHERE id BETWEEN {first} AND {last}{is_deleted}), "
        f"(SELECT MIN(id) FROM {quoted} WHERE id > {last})"
    )


def _is_busy(cell: Connection, name: str, walk: KeyWalk, params: Params) -> bool:
    """Whether any piece of a table from the current one on has a row that is deleted."""
    while not walk.is_over:
        _, is_busy, following = cell.execute(text(_look_for_deleted(cell, name, walk, params))).one()
        rollback(cell)
        if is_busy:
            return True
        walk.go_on(following)
    return False


def roots(forest: Forest, name: str, params: Params) -> ColumnElement[bool]:
    """The condition that a row moves on its own account, and not with a row that it hangs on.

    Parents are visited first. What still hangs on a row to be moved belongs to a tree that is blocked, or was deleted
    a moment ago: it moves with its parent or not at all.
    """
    return and_(_is_due(forest.tree(name), params), not_(_hangs_on_moving(forest, name, params)))


def moves(forest: Forest, name: str, params: Params, path: frozenset[str] = frozenset()) -> ColumnElement[bool]:
    """The condition that a row moves, on its own account or with a row that it hangs on."""
    return or_(_is_due(forest.tree(name), params), _hangs_on_moving(forest, name, params, path))


def _hangs_on_moving(
    forest: Forest, name: str, params: Params, path: frozenset[str] = frozenset()
) -> ColumnElement[bool]:
    live = forest.tree(name).live
    path |= {name}
    ways = [
        exists(
            select(literal_column("1"))
            .select_from(parent := forest.tree(key.parent).live)
            .where(parent.c[key.parent_column] == live.c[key.column], moves(forest, key.parent, params, path))
        )
        for key in forest.parents(name)
        if key.parent not in path
    ]
    return or_(false(), *ways)


def _is_due(node: Node, params: Params) -> ColumnElement[bool]:
    """The condition that a row itself says that it is to be moved.

    Rows of ``task_log`` are never deleted in practice: the option ``--task-log`` takes them all, and the date then
    means ``updated_at``. Those that are deleted move without a look at the date, as with the stock tool.
    """
    is_deleted = node.live.c.deleted != 0
    if node.name == TASK_LOG:
        if not params.task_log:
            return is_deleted
        return older_than(node.live.c.updated_at, params.before) if params.before else true()
    if params.before is None:
        return is_deleted
    return and_(is_deleted, older_than(node.live.c.deleted_at, params.before))


def _forest(cell: Connection) -> Forest:
    forest = Forest(catalogue.read_catalogue(cell))
    rollback(cell)
    return forest


def _too_large(batch: Batch, ceiling: int) -> dict[int, str]:
    return {
        number: f"it brings along {rows} rows, more than tree_ceiling ({ceiling}) in section [cellkeeper]: raise it"
        for number, rows in batch.too_large.items()
    }


def _remove_leftovers(cell: Connection, api: ApiRows, database: Database, at: Cursor) -> Generator[Step[Archived]]:
    """Delete API rows of instances that were archived without them: the stock tool was killed in between.

    Such an instance is mapped to this cell and queued for deletion, absent from ``instances`` and present in
    ``shadow_instances``. Absence alone proves nothing: an instance that is being created is absent, too.
    """
    live, shadow = (table(name, column("uuid")).c.uuid for name in (INSTANCES, SHADOW_PREFIX + INSTANCES))
    while candidates := transactionally(partial(api.candidates, at["mapping"]), name="the API database"):
        at["mapping"] = candidates[-1][0]

        def look() -> set[str]:
            mapped = {uuid for _, uuid in candidates}
            present = {fold_name(uuid) for uuid in cell.execute(select(live).where(live.in_(mapped))).scalars()}
            absent = [uuid for uuid in mapped if fold_name(uuid) not in present]
            return set(cell.execute(select(shadow).where(shadow.in_(absent))).scalars()) if absent else set()

        leftovers = transactionally(look, cell, name=str(database))
        removed = transactionally(partial(api.delete, leftovers), name="the API database") if leftovers else {}
        yield Step(Archived(repaired={f"API_DB.{name}": rows for name, rows in removed.items() if rows}), dict(at))


def collapse(results: Sequence[CellResult[Archived]], _params: Params) -> Exit:
    """The exit code of the whole.

    From worst to best: a cell failed (255); the API database failed (3); rows were archived (1); there were none (0).
    Blocked rows do not count: a script that runs the command while it says 1 must come to an end.
    """
    kinds = {result.failure.kind for result in results if result.failure}
    if kinds - {FailureKind.API_DATABASE}:
        return Exit.ERROR
    if kinds:
        return Exit.NO_API_DATABASE
    return Exit.ARCHIVED if any(result.outcome.rows for result in results) else Exit.NOTHING_ARCHIVED


def next_params(params: Params, done: Archived) -> Params | None:
    """What is left of the total for the next cell; None when it is used up."""
    left = 0 if done.full else params.max_rows - done.rows
    return replace(params, max_rows=left, begun=params.begun or bool(done.rows)) if left > 0 else None


def _read_max_rows(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_ROWS_LIMIT:
        raise ValueError(f"it must lie between 1 and {MAX_ROWS_LIMIT}")
    return int(text)


def _read_sleep(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise ValueError("it must be a number of seconds")
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
