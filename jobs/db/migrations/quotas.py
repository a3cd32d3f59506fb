"""Limits of quotas that still lie in a cell's database and belong into the API database."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, TableClause, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from jobs.action import ApiDatabaseProblem
from jobs.db.migrations.migration import Batch, Migration, Place, Tally, none_is_left
from jobs.retry import TryAgain
from novadb.clock import utc_now
from novadb.names import fold_name
from novadb.nova_tables import CELL_MAPPINGS, nova_table

LOG = logging.getLogger("cellkeeper.migrations")


@dataclass(frozen=True)
class Limits:
    """A table of limits, of the same name in both databases.

    :ivar key: the columns that name a limit
    """

    name: str
    key: tuple[str, ...]

    @property
    def source(self) -> TableClause:
        """The table of the cell."""
        return nova_table(self.name, "deleted", "deleted_at", "hard_limit", *self.key)

    @property
    def destination(self) -> TableClause:
        """The table of the API database."""
        return nova_table(self.name, "created_at", "hard_limit", *self.key)


OF_PROJECTS: Final = Limits("quotas", ("project_id", "resource"))
OF_USERS: Final = Limits("project_user_quotas", ("project_id", "user_id", "resource"))
OF_CLASSES: Final = Limits("quota_classes", ("class_name", "resource"))


def move_limits(place: Place, size: int, _after: int) -> Batch:
    """Move limits of projects, and when there are no more, those of users."""
    batch = _move(place, OF_PROJECTS, size)
    if batch.tally.found == size:
        return batch
    users = _move(place, OF_USERS, size - batch.tally.found)
    return Batch(batch.tally + users.tally, users.after)


def move_classes(place: Place, size: int, _after: int) -> Batch:
    """Move the limits of quota classes."""
    return _move(place, OF_CLASSES, size)


def _move(place: Place, limits: Limits, size: int) -> Batch:
    """Copy limits into the API database, then soft-delete them here. A crash in between costs
    nothing: see ``_copy``.

    What is moved is deleted, so that the next batch begins at the beginning.
    """
    source = limits.source
    due = select(source.c.id, source.c.hard_limit, *(source.c[name] for name in limits.key))
    rows = place.cell.execute(
        due.where(source.c.deleted == 0).order_by(source.c.id).limit(size)
    ).all()
    place.rollback()
    if not rows:
        return Batch(Tally(), None)
    # Copied again, the limits are there and nothing is counted.
    with place.writing_to_api(len(rows), lambda _api: False) as api:
        _copy(api, limits, rows)
    live = source.c.id.in_([row.id for row in rows]) & (source.c.deleted == 0)
    gone = update(source).where(live)
    with place.writing(len(rows), none_is_left(select(source.c.id).where(live))) as cell:
        done = cell.execute(gone.values(deleted=source.c.id, deleted_at=utc_now())).rowcount
    return Batch(Tally(len(rows), done), 0 if len(rows) == size else None)


def _copy(api: Connection, limits: Limits, rows: Sequence[Row[Any]]) -> None:
    """Insert the limits that the API database does not have; those that it has stay, and only they
    are passed over.

    Not all of the tables have a unique key, so that cells take turns, by the row of the first cell.

    :raises TryAgain: somebody else has just inserted one of them
    """
    api.execute(select(CELL_MAPPINGS.c.id).order_by(CELL_MAPPINGS.c.id).limit(1).with_for_update())
    known = _known(api, limits, rows)
    new: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        key = _key(limits, row)
        if key not in known and key not in new:
            new[key] = {name: getattr(row, name) for name in (*limits.key, "hard_limit")} | {
                "created_at": utc_now()
            }
        elif known.get(key, row.hard_limit) != row.hard_limit:
            LOG.warning(
                "%s: the API database has %s for %s already, which stays; the cell's was %s",
                limits.name, known[key], "/".join(map(str, key)), row.hard_limit,
            )  # fmt: skip
    if not new:
        return
    try:
        api.execute(insert(limits.destination), [values for _, values in sorted(new.items())])
    except IntegrityError as error:
        raise TryAgain(
            ApiDatabaseProblem(f"{limits.name}: the API database refuses a limit as a duplicate")
        ) from error


def _known(api: Connection, limits: Limits, rows: Sequence[Row[Any]]) -> dict[tuple[str, ...], int]:
    """The limits of the API database that may be those of the rows, by key."""
    destination, first = limits.destination, limits.key[0]
    owners = {getattr(row, first) for row in rows}
    owned = destination.c[first].in_(sorted(owner for owner in owners if owner is not None))
    same = or_(owned, destination.c[first].is_(None)) if None in owners else owned
    found = select(destination.c.hard_limit, *(destination.c[name] for name in limits.key)).where(
        same
    )
    return {_key(limits, row): row.hard_limit for row in api.execute(found)}


def _key(limits: Limits, row: Row[Any]) -> tuple[str, ...]:
    """What names a limit, as the databases compare text."""
    return tuple(fold_name(getattr(row, name) or "") for name in limits.key)


def _columns(*moved: Limits) -> tuple[str, ...]:
    return tuple(f"{limits.name}.hard_limit" for limits in moved)


MIGRATE_QUOTA_LIMITS: Final = Migration(
    "migrate_quota_limits_to_api_db", move_limits, cell_columns=_columns(OF_PROJECTS, OF_USERS)
)
MIGRATE_QUOTA_CLASSES: Final = Migration(
    "migrate_quota_classes_to_api_db", move_classes, cell_columns=_columns(OF_CLASSES)
)
