"""``cell_v2 map_instances``: map the instances of a cell to it, deleted ones included.

Without a limit they are walked by their primary key. With one they are taken from the oldest to the newest, and a
marker in the API database remembers how far that went: it moves in the transactions that add the mappings.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from functools import partial
from itertools import islice
from typing import Any, ClassVar, Final, Self

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    DateTime,
    and_,
    column,
    delete,
    false,
    insert,
    or_,
    select,
    table,
)

from jobs.action import Action, CellResult, Cursor, Outcome, Scope, Step, Target, Unit
from jobs.cell_v2.mapper import BATCH, Mapper
from jobs.estimates import estimate, estimated_rows
from jobs.retry import rollback, transactionally
from novadb.mappings import INSTANCE_MAPPINGS as MAPPINGS
from novadb.mappings import now

INSTANCES: Final = table(
    "instances",
    column("id"),
    column("created_at", DateTime),
    column("uuid"),
    column("project_id"),
    column("user_id"),
    column("hidden", Boolean),
)
# The project and user of the row that is the marker; its instance_uuid has spaces for dashes, because it is unique.
MARKER: Final = "INSTANCE_MIGRATION_MARKER"
NAMED: Final = 10  # instances whose mapping is refused that are named


class Exit(IntEnum):
    """The manual's return codes."""

    ALL_MAPPED = 0
    INSTANCES_LEFT = 1
    INVALID_MAX_COUNT = 127
    ERROR = 255


@dataclass(frozen=True)
class Params:
    """The options of the command.

    :ivar max_count: instances to look at; None: all
    :ivar reset: begin with the oldest, wherever an earlier run ended
    """

    max_count: int | None = None
    reset: bool = False


@dataclass(frozen=True)
class Mapped(Outcome):
    """What was done.

    :ivar mapped: mappings made
    :ivar looked_at: instances, those included that were mapped already
    :ivar left: whether there are more instances, behind the limit
    :ivar refused: instances whose mapping the API database refuses
    :ivar named: the first of them, and why
    """

    counts: ClassVar[Unit] = Unit.INSTANCES
    handles: ClassVar[Unit | None] = Unit.LOOKED_AT

    mapped: int = 0
    looked_at: int = 0
    left: bool = False
    refused: int = 0
    named: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.mapped + other.mapped,
            self.looked_at + other.looked_at,
            self.left or other.left,
            self.refused + other.refused,
            dict(islice({**self.named, **other.named}.items(), NAMED)),
        )

    @property
    def by_table(self) -> Mapping[str, int]:
        """The mappings made."""
        return {MAPPINGS.name: self.mapped} if self.mapped else {}

    @property
    def handled(self) -> int:
        """Instances that were looked at."""
        return self.looked_at

    @property
    def rows(self) -> int:
        """The same."""
        return self.mapped


@dataclass(frozen=True)
class Place:
    """A place in the order from the oldest instance to the newest.

    :ivar created_at: in ISO form, so that it can travel; one without comes before all others
    """

    created_at: str | None
    id: int

    @classmethod
    def of(cls, instance: Any) -> Self:
        """The place of an instance."""
        return cls(instance.created_at.isoformat() if instance.created_at else None, instance.id)

    @property
    def behind(self) -> ColumnElement[bool]:
        """The condition that an instance comes behind it."""
        made, later_id = INSTANCES.c.created_at, INSTANCES.c.id > self.id
        if self.created_at is None:
            return or_(made.is_not(None), later_id)
        moment = datetime.fromisoformat(self.created_at)
        return or_(made > moment, and_(made == moment, later_id))


class Marker:
    """How far runs with a limit have come in this cell. Markers of other cells are left alone."""

    def __init__(self, api: Mapper, cell_id: int) -> None:
        self._rows = api.do(self._read)
        mapped_to = api.cells_of([_uuid(row) for row in self._rows])
        self._rows = [row for row in self._rows if mapped_to.get(_uuid(row), cell_id) == cell_id]

    @staticmethod
    def _read(api: Connection) -> list[str]:
        return list(api.execute(select(MAPPINGS.c.instance_uuid).where(MAPPINGS.c.project_id == MARKER)).scalars())

    def place(self, cell: Connection) -> Place | None:
        """Where the instance stands that it names; None: there is none, or it is not there any more."""
        named = select(INSTANCES).where(INSTANCES.c.uuid.in_([_uuid(row) for row in self._rows]))
        row = cell.execute(named.order_by(INSTANCES.c.created_at.desc(), INSTANCES.c.id.desc())).first()
        rollback(cell)
        return Place.of(row) if row else None

    def move(self, api: Connection, uuid: str | None) -> None:
        """Let it name an instance, or nothing."""
        name = [uuid.replace("-", " ")] if uuid else []
        api.execute(delete(MAPPINGS).where(MAPPINGS.c.instance_uuid.in_(self._rows + name)))
        self._rows = name + [row for row in self._rows if row not in name]
        for row in name:
            values = {"instance_uuid": row, "project_id": MARKER, "user_id": MARKER}
            api.execute(insert(MAPPINGS).values(created_at=now(), queued_for_delete=False, **values))


def _uuid(row: str) -> str:
    return row.replace(" ", "-")


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Mapped]]:
    """Map the instances of one cell, batch by batch.

    :param cursor: ``since``: the place to go on behind, or None; ``after``: the same by id, without a limit;
        ``left``: of the limit, or None; ``rest``: how many there are still, estimated, or None
    :raises Contended: others are at the mapping of the next instance
    :raises DatabaseProblem: a database cannot be used
    """
    number = min(target.cell.mapping_ids)
    with (
        target.database.connect() as cell,
        Mapper(target.need_api(), MAPPINGS, "instance_uuid", target.size) as api,
    ):
        in_cell = partial(transactionally, name=str(target.database))
        marker = Marker(api, number)
        if cursor is None and params.reset:
            api.do(lambda connection: marker.move(connection, None))
        at = cursor or _beginning(cell, marker, params, str(target.database))
        more = True
        while more and at["left"] != 0:
            size = min(BATCH, at["left"] or BATCH)
            page = in_cell(partial(_page, cell, at, size + 1), cell)
            instances, more = page[:size], len(page) > size
            while True:
                yield Step(Mapped(), None)
                rows = target.size.within(BATCH)
                batch = _Batch(api, number, marker, instances[:rows], at, more=more or len(instances) > rows)
                mapped = yield from batch.map()
                instances = instances[len(batch.instances) :]
                at = _behind(at, batch.instances)
                yield Step(replace(mapped, left=more and at["left"] == 0), at, _remaining(at))
                if not instances:
                    break


def _beginning(cell: Connection, marker: Marker, params: Params, name: str) -> Cursor:
    place = None if params.reset else marker.place(cell)
    rest = None
    if params.max_count is None:
        rows = estimate(partial(estimated_rows, cell, [INSTANCES.name]), cell, name)
        rest = rows.get(INSTANCES.name)
    return {"since": vars(place) if place else None, "after": 0, "left": params.max_count, "rest": rest}


def _page(cell: Connection, at: Cursor, size: int) -> Sequence[Any]:
    """The next instances. A hidden one is the copy that a move to another cell has left, or not yet finished."""
    shown = or_(INSTANCES.c.hidden == false(), INSTANCES.c.hidden.is_(None))
    found = select(INSTANCES).where(shown, INSTANCES.c.id > at["after"]).limit(size)
    if at["since"]:
        found = found.where(Place(**at["since"]).behind)
    by_age = (INSTANCES.c.created_at, INSTANCES.c.id) if at["left"] is not None else (INSTANCES.c.id,)
    rows = cell.execute(found.order_by(*by_age)).all()
    rollback(cell)
    return rows


def _behind(at: Cursor, batch: Sequence[Any]) -> Cursor:
    if not batch:
        return at
    if at["left"] is None:
        rest = at.get("rest") and max(at["rest"] - len(batch), 0)
        return at | {"after": batch[-1].id, "rest": rest}
    return at | {"since": vars(Place.of(batch[-1])), "left": at["left"] - len(batch)}


def _remaining(at: Cursor) -> int | None:
    """How many are still to be looked at: by the limit at most, else by an estimate; when that is used up, unknown."""
    left: int | None = at["left"] if at["left"] is not None else at.get("rest") or None
    return left


@dataclass
class _Batch:
    """Instances whose mappings are added in one transaction.

    :ivar number: the id of the cell's mapping
    :ivar instances: fewer, once it has turned out that a transaction is to be smaller
    :ivar at: the cursor before them
    :ivar more: whether there are instances behind them
    """

    api: Mapper
    number: int
    marker: Marker
    instances: Sequence[Any]
    at: Cursor
    more: bool

    def map(self) -> Generator[Step[Mapped], None, Mapped]:
        """Add the mappings that are not there, and let the marker follow."""
        there = self.api.cells_of([instance.uuid for instance in self.instances])
        rows = {
            instance.uuid: {
                "instance_uuid": instance.uuid,
                "cell_id": self.number,
                "project_id": instance.project_id,
                "user_id": instance.user_id,
                "queued_for_delete": False,
            }
            for instance in self.instances
            if instance.uuid not in there
        }
        unmapped = list(rows)
        ask = Step(Mapped(), None)
        added, unadded = yield from self.api.add_some(
            list(rows.values()), ask, lambda connection, added: self._move_marker(connection, unmapped[added:])
        )
        self.instances = self._before(unmapped[added:])
        named = dict(islice(sorted(unadded.refused.items()), NAMED))
        return Mapped(added - len(unadded.names), len(self.instances), refused=len(unadded.refused), named=named)

    def _before(self, left: Sequence[str]) -> Sequence[Any]:
        """The instances before the first of those that are left for the next transaction."""
        uuids = [instance.uuid for instance in self.instances]
        return self.instances[: uuids.index(left[0])] if left else self.instances

    def _move_marker(self, api: Connection, left: Sequence[str]) -> None:
        """Let the marker follow a limited run, and take it away at the end of all instances."""
        is_limited = self.at["left"] is not None
        if left and is_limited:
            self.marker.move(api, self._before(left)[-1].uuid)
        elif not left and not self.more:
            self.marker.move(api, None)
        elif not left and is_limited:
            self.marker.move(api, self.instances[-1].uuid)


def collapse(results: Sequence[CellResult[Mapped]], _params: Params) -> Exit:
    """The exit code: the work failed, or an instance was refused (255); instances are left, or it was stopped (1); all
    are mapped (0).
    """
    if any(result.failure or result.outcome.refused for result in results):
        return Exit.ERROR
    left = any(result.outcome.left or not result.complete for result in results)
    return Exit.INSTANCES_LEFT if left else Exit.ALL_MAPPED


ACTION: Final = Action(
    name="cell_v2.map_instances",
    params=Params,
    work=work,
    nothing=Mapped(),
    collapse=collapse,
    good_codes=frozenset({Exit.ALL_MAPPED, Exit.INSTANCES_LEFT}),
    scope=Scope.CLOUD,
    uses_api=True,
)
