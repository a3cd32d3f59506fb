"""Which rows an archive moves: those that say so themselves, and those that hang on such rows."""

from datetime import datetime
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    exists,
    false,
    literal_column,
    not_,
    or_,
    select,
    text,
    true,
)

from jobs.conditions import older_than
from jobs.db.key_walk import KeyWalk
from jobs.db.trees import Forest
from jobs.retry import rollback

TASK_LOG: Final = "task_log"


class DueRows:
    """The rows of a cell that are to be archived, as conditions on its tables."""

    def __init__(self, forest: Forest, before: datetime | None, *, task_log: bool) -> None:
        """:param before: only what was deleted before; naive, in UTC
        :param task_log: also the rows of ``task_log``, which are never deleted
        """
        self._forest = forest
        self._before = before
        self._task_log = task_log

    def is_due(self, name: str) -> ColumnElement[bool]:
        """The condition that a row itself says that it is to be moved.

        Rows of ``task_log`` are never deleted in practice: the option ``--task-log`` takes them
        all, and the date then means ``updated_at``. Those that are deleted move without a look at
        the date, as with the stock tool.
        """
        columns = self._forest.tree(name).live.c
        is_deleted = columns.deleted != 0
        if name == TASK_LOG:
            if not self._task_log:
                return is_deleted
            return older_than(columns.updated_at, self._before) if self._before else true()
        if self._before is None:
            return is_deleted
        return and_(is_deleted, older_than(columns.deleted_at, self._before))

    def is_root(self, name: str) -> ColumnElement[bool]:
        """The condition that a row moves on its own account, and not with one that it hangs on.

        Parents are visited first. What still hangs on a row to be moved belongs to a tree that is
        blocked, or was deleted a moment ago: it moves with its parent or not at all.
        """
        return and_(self.is_due(name), not_(self._hangs_on_moving(name, frozenset())))

    def moves(self, name: str) -> ColumnElement[bool]:
        """The condition that a row moves, on its own account or with a row that it hangs on."""
        return self._moves(name, frozenset())

    def _moves(self, name: str, path: frozenset[str]) -> ColumnElement[bool]:
        """The same.

        :param path: tables from which the question came: rows of theirs are not looked for again
        """
        return or_(self.is_due(name), self._hangs_on_moving(name, path))

    def _hangs_on_moving(self, name: str, path: frozenset[str]) -> ColumnElement[bool]:
        child = self._forest.tree(name).live
        path |= {name}
        conditions: list[ColumnElement[bool]] = [false()]
        for key in self._forest.parents(name):
            if key.parent in path:
                continue
            parent = self._forest.tree(key.parent).live
            refers = parent.c[key.parent_column] == child.c[key.column]
            moves_too = self._moves(key.parent, path)
            conditions.append(
                exists(select(literal_column("1")).select_from(parent).where(refers, moves_too))
            )
        return or_(*conditions)

    def find_busy_tables(self, cell: Connection) -> set[str]:
        """The tables that have any row that is deleted, whenever.

        One statement tells for all small tables.
        """
        walks = {name: KeyWalk(self._forest.tree(name).live.c.id) for name in self._forest.roots}
        looks = [self._look_for_deleted(cell, name, walk) for name, walk in walks.items()]
        first_pieces = cell.execute(text(" UNION ALL ".join(looks))).all() if looks else ()
        rollback(cell)
        busy = set()
        for name, is_busy, following in first_pieces:
            walks[name].go_on(following)
            if is_busy or self._is_busy(cell, name, walks[name]):
                busy.add(name)
        return busy

    def _is_busy(self, cell: Connection, name: str, walk: KeyWalk) -> bool:
        """Whether any piece of a table from the current one on has a row that is deleted."""
        while not walk.is_over:
            look = text(self._look_for_deleted(cell, name, walk))
            _, is_busy, following = cell.execute(look).one()
            rollback(cell)
            if is_busy:
                return True
            walk.go_on(following)
        return False

    def _look_for_deleted(self, cell: Connection, name: str, walk: KeyWalk) -> str:
        """SQL: has the current piece of a table a row that is deleted; where does its walk go
        on.
        """
        quoted = cell.dialect.identifier_preparer.quote(name)
        is_deleted = "" if name == TASK_LOG and self._task_log else " AND deleted != 0"
        first, last = walk.bounds()
        return (
            f"SELECT '{name}', "
            f"EXISTS (SELECT 1 FROM {quoted} WHERE id BETWEEN {first} AND {last}{is_deleted}), "
            f"(SELECT MIN(id) FROM {quoted} WHERE id > {last})"
        )
