"""Instance mappings of the API database that lack what their instance in the cell tells."""

from itertools import islice
from typing import Any, Final

from sqlalchemy import ColumnElement, case, func, or_, select

from jobs.db.migrations.migration import (
    CHUNK,
    FAKE,
    NAMED,
    Batch,
    Left,
    Migration,
    Place,
    Tally,
    all_have,
    fill,
    left_for,
)
from novadb.names import fold_name
from novadb.nova_tables import CELL_MAPPINGS, INSTANCE_MAPPINGS, INSTANCES

Mapped = list[tuple[int, str]]
"""Mappings: id and instance uuid."""

NOT_SCHEDULED: Final = "mappings of instances that are in no cell: not scheduled yet, or never"
NO_INSTANCE: Final = (
    "mappings of instances that are not in their cell: being built, or archived without the mapping"
)
NO_USER: Final = "mappings of instances without a user"


def set_queued_for_delete(place: Place, size: int, after: int) -> Batch:
    """Mark mappings whose instance is deleted or soft-deleted as queued for deletion, all others as
    not.
    """
    mapped = _lacking(place, "queued_for_delete", size, after)
    gone = or_(INSTANCES.c.deleted != 0, INSTANCES.c.vm_state == "soft-delete")
    deleted = _of_instances(place, mapped, case((gone, 1), else_=0))
    done = _write(
        place,
        "queued_for_delete",
        {number: deleted.get(fold_name(uuid), 0) for number, uuid in mapped},
    )
    return Batch(Tally(len(mapped), done), mapped[-1][0] if len(mapped) == size else None)


def set_user_ids(place: Place, size: int, after: int) -> Batch:
    """Give mappings the user of their instance; count those whose instance cannot be asked.

    So many mappings are looked at that the ones without an instance take no room from the others.
    """
    mapped = _lacking(place, "user_id", CHUNK, after, INSTANCE_MAPPINGS.c.project_id != FAKE)
    users = _of_instances(place, mapped, INSTANCES.c.user_id)
    known_users = ((number, users.get(fold_name(uuid))) for number, uuid in mapped)
    values = dict(islice(((number, user) for number, user in known_users if user), size))
    done = _write(place, "user_id", values)
    if len(values) == size:  # what lies behind is looked at next time
        last = max(values)
        mapped = [(number, uuid) for number, uuid in mapped if number <= last]
    tally = Tally(len(values), done)
    tally += left_for(NO_INSTANCE, (uuid for _, uuid in mapped if fold_name(uuid) not in users))
    tally += left_for(
        NO_USER,
        (uuid for _, uuid in mapped if users.get(fold_name(uuid), "somebody") in (None, "")),
    )
    if len(values) == size or len(mapped) == CHUNK:
        return Batch(tally, mapped[-1][0])
    return Batch(tally + _not_scheduled(place), None)


def _lacking(place: Place, name: str, size: int, after: int, *more: ColumnElement[bool]) -> Mapped:
    """The next mappings of this cell that lack a value."""
    lacking = (
        select(INSTANCE_MAPPINGS.c.id, INSTANCE_MAPPINGS.c.instance_uuid)
        .where(
            INSTANCE_MAPPINGS.c.id > after,
            INSTANCE_MAPPINGS.c[name].is_(None),
            INSTANCE_MAPPINGS.c.cell_id.in_(sorted(place.mapping_ids)),
            *more,
        )
        .order_by(INSTANCE_MAPPINGS.c.id)
        .limit(size)
    )
    with place.api.transaction() as api:
        return [(number, uuid) for number, uuid in api.execute(lacking)]


def _of_instances(place: Place, mapped: Mapped, what: ColumnElement[Any]) -> dict[str, Any]:
    """Something of each mapped instance that is in the cell, by its folded uuid. A cell without any
    is not asked.
    """
    if not mapped:
        return {}
    wanted = select(INSTANCES.c.uuid, what).where(
        INSTANCES.c.uuid.in_(sorted(uuid for _, uuid in mapped))
    )
    values = {fold_name(uuid): value for uuid, value in place.cell.execute(wanted)}
    place.rollback()
    return values


def _write(place: Place, name: str, values: dict[int, Any]) -> int:
    if not values:
        return 0
    with place.writing_to_api(len(values), all_have(INSTANCE_MAPPINGS, name, values)) as api:
        return fill(api, INSTANCE_MAPPINGS, name, values)


def _not_scheduled(place: Place) -> Tally:
    """Mappings without a cell belong to none: whoever works on the first cell counts them, so that
    it is done once.
    """
    lacking = (
        INSTANCE_MAPPINGS.c.user_id.is_(None),
        INSTANCE_MAPPINGS.c.cell_id.is_(None),
        INSTANCE_MAPPINGS.c.project_id != FAKE,
    )
    with place.api.transaction() as api:
        if api.execute(select(func.min(CELL_MAPPINGS.c.id))).scalar() not in place.mapping_ids:
            return Tally()
        count = api.execute(
            select(func.count()).select_from(INSTANCE_MAPPINGS).where(*lacking)
        ).scalar_one()
        named = api.execute(
            select(INSTANCE_MAPPINGS.c.instance_uuid)
            .where(*lacking)
            .order_by(INSTANCE_MAPPINGS.c.id)
            .limit(NAMED)
        )
        names = tuple(named.scalars())
    return Tally(count, left={NOT_SCHEDULED: Left(count, names)}) if count else Tally()


POPULATE_QUEUED_FOR_DELETE: Final = Migration(
    "populate_queued_for_delete",
    set_queued_for_delete,
    api_columns=("instance_mappings.queued_for_delete",),
    walks=True,
)
POPULATE_USER_ID: Final = Migration(
    "populate_user_id", set_user_ids, api_columns=("instance_mappings.user_id",), walks=True
)
