"""``cell_v2 map_instances``: map the instances of a cell to it, deleted ones included.

Without a limit, instances are walked in order of their primary key. With a limit, they are taken
from the oldest to the newest, and a marker in the API database remembers how far that went: it
moves in the transactions that add the mappings.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from functools import partial
from itertools import islice
from typing import Any, ClassVar, Final, Self

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    false,
    insert,
    or_,
    select,
)

from jobs.action import Action, CellResult, Cursor, Outcome, Scope, Step, Target, Unit
from jobs.cell_v2.mapper import BATCH, Mapper
from jobs.estimates import estimate, estimated_rows
from jobs.retry import rollback, transactionally
from novadb.clock import utc_now
from novadb.nova_tables import INSTANCE_MAPPINGS, INSTANCES

COLUMNS: Final = (
    INSTANCES.c.id,
    INSTANCES.c.created_at,
    INSTANCES.c.uuid,
    INSTANCES.c.project_id,
    INSTANCES.c.user_id,
)
# The project and user of the marker row. Its instance_uuid has spaces instead of dashes: the column
# is unique, and the instance that the marker names has a mapping of its own.
MARKER: Final = "INSTANCE_MIGRATION_MARKER"
MAX_NAMED: Final = 10  # refused instances that are named


class Exit(IntEnum):
    """The manual's return codes."""

    ALL_MAPPED = 0
    INSTANCES_LEFT = 1
    INVALID_MAX_COUNT = 127
    ERROR = 255


@dataclass(frozen=True)
class Params:
    """The options of the command.

    :ivar max_count: how many instances to look at; None: all
    :ivar reset: begin with the oldest instance, wherever an earlier run ended
    """

    max_count: int | None = None
    reset: bool = False


@dataclass(frozen=True)
class Mapped(Outcome):
    """What was done.

    :ivar mapped: mappings made
    :ivar looked_at: instances, including those that were mapped already
    :ivar left: whether the limit was reached and there are more instances
    :ivar refused: how many mappings the API database refuses
    :ivar named: the first instances that are refused, with the reason
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
            dict(islice({**self.named, **other.named}.items(), MAX_NAMED)),
        )

    @property
    def by_table(self) -> Mapping[str, int]:
        """Mappings made."""
        return {INSTANCE_MAPPINGS.name: self.mapped} if self.mapped else {}

    @property
    def handled(self) -> int:
        """Instances that were looked at."""
        return self.looked_at

    @property
    def rows(self) -> int:
        """Mappings made."""
        return self.mapped


@dataclass(frozen=True)
class PlaceByAge:
    """A place in the order from the oldest instance to the newest. Part of cursors, as JSON.

    :ivar created_at: in ISO form; None comes before all others
    """

    created_at: str | None
    id: int

    @classmethod
    def of(cls, instance: Any) -> Self:
        """The place of an instance."""
        return cls(instance.created_at.isoformat() if instance.created_at else None, instance.id)

    @property
    def comes_before(self) -> ColumnElement[bool]:
        """The condition that an instance comes after it."""
        created_at = INSTANCES.c.created_at
        has_later_id = INSTANCES.c.id > self.id
        if self.created_at is None:
            return or_(created_at.is_not(None), has_later_id)
        moment = datetime.fromisoformat(self.created_at)
        return or_(created_at > moment, and_(created_at == moment, has_later_id))


class Marker:
    """How far runs with a limit have got in this cell. Markers of other cells are left alone."""

    def __init__(self, api: Mapper, cell_id: int) -> None:
        rows = api.run(self._read)
        mapped_to = api.cells_of([_instance_uuid(row) for row in rows])
        self._rows = [row for row in rows if mapped_to.get(_instance_uuid(row), cell_id) == cell_id]

    @staticmethod
    def _read(api: Connection) -> list[str]:
        mappings = INSTANCE_MAPPINGS.c
        query = select(mappings.instance_uuid).where(mappings.project_id == MARKER)
        return list(api.execute(query).scalars())

    def find_place(self, cell: Connection) -> PlaceByAge | None:
        """The place of the instance that it names; None: it names none, or one that is gone."""
        uuids = [_instance_uuid(row) for row in self._rows]
        newest_first = INSTANCES.c.created_at.desc(), INSTANCES.c.id.desc()
        query = select(*COLUMNS).where(INSTANCES.c.uuid.in_(uuids)).order_by(*newest_first)
        instance = cell.execute(query).first()
        rollback(cell)
        return PlaceByAge.of(instance) if instance else None

    def move_to(self, api: Connection, uuid: str) -> None:
        """Have it name an instance; the caller commits."""
        new_row = uuid.replace("-", " ")
        self._delete(api, [*self._rows, new_row])
        self._rows = [new_row, *(row for row in self._rows if row != new_row)]
        values = {"instance_uuid": new_row, "project_id": MARKER, "user_id": MARKER}
        statement = insert(INSTANCE_MAPPINGS).values(
            created_at=utc_now(), queued_for_delete=False, **values
        )
        api.execute(statement)

    def remove(self, api: Connection) -> None:
        """Have it name no instance; the caller commits."""
        self._delete(api, self._rows)

    @staticmethod
    def _delete(api: Connection, rows: Sequence[str]) -> None:
        mappings = INSTANCE_MAPPINGS
        api.execute(delete(mappings).where(mappings.c.instance_uuid.in_(rows)))


def _instance_uuid(row: str) -> str:
    """The uuid of the instance that a marker row names."""
    return row.replace(" ", "-")


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Mapped]]:
    """Map the instances of one cell, batch by batch.

    :param cursor: ``since``: the place by age to go on after, or None; ``after``: the id to go on
        after, without a limit; ``left``: how many instances the limit still allows, or None;
        ``rest``: an estimate of how many there still are, or None
    :raises Contended: others are at the mapping of the next instance
    :raises DatabaseProblem: a database cannot be used
    """
    cell_id = min(target.cell.mapping_ids)
    with (
        target.database.connect() as cell,
        Mapper(target.need_api(), INSTANCE_MAPPINGS, "instance_uuid", target.size) as api,
    ):
        in_cell = partial(transactionally, name=str(target.database))
        marker = Marker(api, cell_id)
        if cursor is None and params.reset:
            api.run(marker.remove)
        position = cursor or _first_position(cell, marker, params, str(target.database))
        has_more = True
        while has_more and position["left"] != 0:
            size = min(BATCH, position["left"] or BATCH)
            # One more than is worked on tells whether there are more.
            page = in_cell(partial(_read_page, cell, position, size + 1), cell)
            instances, has_more = page[:size], len(page) > size
            while True:
                yield Step(Mapped(), None)
                rows = target.size.within(BATCH)
                has_more_after_batch = has_more or len(instances) > rows
                batch = _InstanceBatch(
                    api, cell_id, marker, instances[:rows], position, has_more_after_batch
                )
                mapped = yield from batch.map()
                instances = instances[len(batch.instances) :]
                position = _position_after(position, batch.instances)
                mapped = replace(mapped, left=has_more and position["left"] == 0)
                yield Step(mapped, position, _remaining(position))
                if not instances:
                    break


def _first_position(cell: Connection, marker: Marker, params: Params, name: str) -> Cursor:
    place = None if params.reset else marker.find_place(cell)
    rest = None
    if params.max_count is None:
        rows = estimate(partial(estimated_rows, cell, [INSTANCES.name]), cell, name)
        rest = rows.get(INSTANCES.name)
    since = vars(place) if place else None
    return {"since": since, "after": 0, "left": params.max_count, "rest": rest}


def _read_page(cell: Connection, position: Cursor, size: int) -> Sequence[Any]:
    """The next instances.

    Hidden ones are left out: they are copies that a move to another cell has left, or not yet
    finished.
    """
    is_shown = or_(INSTANCES.c.hidden == false(), INSTANCES.c.hidden.is_(None))
    query = select(*COLUMNS).where(is_shown, INSTANCES.c.id > position["after"]).limit(size)
    if position["since"]:
        query = query.where(PlaceByAge(**position["since"]).comes_before)
    if position["left"] is not None:
        query = query.order_by(INSTANCES.c.created_at)
    rows = cell.execute(query.order_by(INSTANCES.c.id)).all()
    rollback(cell)
    return rows


def _position_after(position: Cursor, batch: Sequence[Any]) -> Cursor:
    if not batch:
        return position
    if position["left"] is None:
        rest = position.get("rest") and max(position["rest"] - len(batch), 0)
        return position | {"after": batch[-1].id, "rest": rest}
    since = vars(PlaceByAge.of(batch[-1]))
    return position | {"since": since, "left": position["left"] - len(batch)}


def _remaining(position: Cursor) -> int | None:
    """How many instances are still to be looked at.

    With a limit, what it still allows; otherwise by an estimate. None: that is used up, or there
    is none.
    """
    if position["left"] is not None:
        return int(position["left"])
    return position.get("rest") or None


@dataclass
class _InstanceBatch:
    """Instances whose mappings are added in one transaction.

    :ivar cell_id: the id of the cell's mapping
    :ivar instances: fewer than given, if it turns out that the transaction has to be smaller
    :ivar position: the cursor before them
    :ivar has_more: whether there are instances after them
    """

    api: Mapper
    cell_id: int
    marker: Marker
    instances: Sequence[Any]
    position: Cursor
    has_more: bool

    def map(self) -> Generator[Step[Mapped], None, Mapped]:
        """Add the mappings that are missing, and move the marker along."""
        mapped_to = self.api.cells_of([instance.uuid for instance in self.instances])
        unmapped = [each for each in self.instances if each.uuid not in mapped_to]
        rows = {instance.uuid: self._mapping_for(instance) for instance in unmapped}
        uuids = list(rows)

        def move_marker(connection: Connection, number: int) -> None:
            self._move_marker(connection, uuids[number:])

        ask = Step(Mapped(), None)
        number, unadded = yield from self.api.add_some(list(rows.values()), ask, move_marker)
        self.instances = self._instances_before(uuids[number:])
        return Mapped(
            number - len(unadded.names),
            len(self.instances),
            refused=len(unadded.refused),
            named=dict(islice(sorted(unadded.refused.items()), MAX_NAMED)),
        )

    def _mapping_for(self, instance: Any) -> dict[str, Any]:
        return {
            "instance_uuid": instance.uuid,
            "cell_id": self.cell_id,
            "project_id": instance.project_id,
            "user_id": instance.user_id,
            "queued_for_delete": False,
        }

    def _instances_before(self, postponed: Sequence[str]) -> Sequence[Any]:
        """The instances before the first one that is left for the next transaction."""
        if not postponed:
            return self.instances
        uuids = [instance.uuid for instance in self.instances]
        return self.instances[: uuids.index(postponed[0])]

    def _move_marker(self, api: Connection, postponed: Sequence[str]) -> None:
        """Move the marker along with a limited run; remove it at the end of all instances.

        :param postponed: what is left for the next transaction
        """
        is_limited = self.position["left"] is not None
        if not postponed and not self.has_more:
            self.marker.remove(api)
        elif is_limited:
            last = self._instances_before(postponed)[-1]
            self.marker.move_to(api, last.uuid)


def collapse(results: Sequence[CellResult[Mapped]], _params: Params) -> Exit:
    """The exit code of the run.

    From worst to best: the work failed, or an instance was refused (255); instances are left, or
    it was stopped (1); all are mapped (0).
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
