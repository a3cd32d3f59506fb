"""Moving batches of trees of one table, and finding out which trees of a batch cannot move."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, RowMapping, column, delete, select, table
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from jobs.action import Target
from jobs.db.api_rows import ApiRows
from jobs.db.statements import Among, Prepared, chunks
from jobs.db.trees import INSTANCES, Move, Node, Owned, rows_below
from jobs.db.write_sets import Gauge, TooLarge
from jobs.retry import Contended, TryAgain, rollback, transactionally
from novadb.engine import is_too_large, is_transient, server_message
from novadb.errors import DatabaseProblem
from novadb.lazy import lazy_property

LOG = logging.getLogger("cellkeeper.retry")

# How often more a tree is tried that the database refuses for a reason that cannot be seen.
REFUSALS: Final = 3
# How many ids of rows that are in the way are named in one message.
NAMED_IDS: Final = 5


@dataclass
class Moved:
    """What one or more transactions did.

    :ivar rows: moved, by table
    :ivar api: API rows deleted, by table
    :ivar blocked: why trees stayed, by id of the root
    :ivar twins: rows removed from shadow tables, because an identical one was moved there
    """

    rows: Counter[str] = field(default_factory=Counter)
    api: Counter[str] = field(default_factory=Counter)
    blocked: dict[int, str] = field(default_factory=dict)
    twins: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Size:
    """How large a batch is."""

    trees: int = 0
    rows: int = 0

    def rows_of(self, trees: int) -> int:
        """About how many rows so many of the trees have."""
        return self.rows * trees // self.trees


Twins = Mapping[Node, Sequence[int]]
"""Ids of rows that stand identically in a table and in its shadow table."""


@dataclass
class Diagnosis:
    """Why trees cannot move, by id of the root; and what repair can do about it."""

    blocked: dict[int, str] = field(default_factory=dict)
    twins: dict[Node, list[int]] = field(default_factory=lambda: defaultdict(list))


class TableMover:
    """Moves trees of one table; those that cannot be moved are found out, left, and told why."""

    def __init__(
        self,
        target: Target,
        cell: Connection,
        api: ApiRows,
        root: Node,
        is_root: ColumnElement[bool],
        *,
        repair: bool,
    ) -> None:
        """:param target: the cell; the size of its transactions is told how long they take, and
            what is refused
        :param cell: a connection to its database
        :param is_root: the condition that makes a row a root
        :param repair: whether an identical row in a shadow table gives way
        """
        self._cell = cell
        self._api = api
        self._root = root
        keys = select(*(root.live.c[name] for name in root.keys))
        self._claim = Prepared(keys.where(Among(root.live.c.id), is_root).with_for_update())
        self._size = target.size
        self._repair = repair
        self._name = str(target.database)
        self._wary = False
        self._is_measured = False
        self._batch = _Size()

    def move(self, ids: Sequence[int], rows: int) -> Iterator[Moved]:
        """Move the trees of these roots, in one transaction if all goes well.

        After a batch with blocked trees the next one is looked through before it is tried.

        :param rows: that the trees have
        :returns: what each transaction did; nothing where one was refused, and a smaller one comes
            next
        :raises Contended: others are at a single tree
        :raises DatabaseProblem: the cell's or the API database cannot be used
        """
        if not ids:
            return
        self._batch = _Size(len(ids), rows)
        self._is_measured = (
            self._root.name == INSTANCES
            and self._gauge is not None
            and self._gauge.may_matter(rows)
        )
        if not self._wary:
            try:
                yield self._move_in_transaction(ids, {})
                return
            except (Contended, TooLarge) as problem:
                yield from self._move_smaller(ids, {}, problem)
                return
            except (IntegrityError, DataError):
                self._wary = True
        diagnosis = self._diagnose(ids)
        self._wary = bool(diagnosis.blocked or any(diagnosis.twins.values()))
        if diagnosis.blocked:
            yield Moved(blocked=diagnosis.blocked)
        yield from self._move_in_parts(
            [number for number in ids if number not in diagnosis.blocked], diagnosis.twins
        )

    def _move_in_parts(self, ids: Sequence[int], twins: Twins) -> Iterator[Moved]:
        """Move trees, halving the batch around one that the database refuses for a reason not
        foreseen.
        """
        if not ids:
            return
        try:
            moved = self._try_to_move(ids, twins)
        except (Contended, TooLarge) as problem:
            yield from self._move_smaller(ids, twins, problem)
            return
        if moved is None:
            yield from self._move_in_halves(ids, twins)
        else:
            yield moved

    def _try_to_move(self, ids: Sequence[int], twins: Twins) -> Moved | None:
        """Move trees in one transaction; None: the database refuses one of several."""
        try:
            return self._move_in_transaction(ids, twins)
        except (IntegrityError, DataError) as error:
            return self._retry_alone(ids, twins, error) if len(ids) == 1 else None

    def _move_smaller(
        self, ids: Sequence[int], twins: Twins, problem: Contended | TooLarge
    ) -> Iterator[Moved]:
        """Move trees in smaller transactions.

        :param problem: with all in one; a single tree that is too large stays
        :raises Contended: others are at a single tree
        """
        if isinstance(problem, Contended):
            self._size.refused(self._batch.rows_of(len(ids)))
        elif (
            1 < len(ids) == self._batch.trees
        ):  # a part of a batch is refused for a tree, not for its size
            self._size.refused(self._batch.rows)
        if len(ids) > 1:
            LOG.info(
                "%s: %d trees of %s are moved in halves: %s",
                self._name,
                len(ids),
                self._root.name,
                problem,
            )
            yield Moved()
            yield from self._move_in_halves(ids, twins)
        elif isinstance(problem, TooLarge):
            yield Moved(blocked={ids[0]: str(problem)})
        else:
            if untold := self._api.untold():
                self._api.told()
                yield Moved(api=untold)
            raise problem

    def _move_in_halves(self, ids: Sequence[int], twins: Twins) -> Iterator[Moved]:
        """Move the halves of a batch."""
        middle = len(ids) // 2
        yield from self._move_in_parts(ids[:middle], twins)
        yield from self._move_in_parts(ids[middle:], twins)

    def _retry_alone(self, ids: Sequence[int], twins: Twins, error: DBAPIError) -> Moved:
        """Move a tree that the database has refused for no reason that could be seen: it may have
        got a new child.
        """
        refused = DatabaseProblem(f"the database refuses to move it: {server_message(error)}")

        def move() -> Moved:
            try:
                return self._move_once(ids, twins)
            except (IntegrityError, DataError) as again:
                raise TryAgain(refused) from again

        try:
            return transactionally(
                move, self._cell, name=self._name, tries=REFUSALS, gives_way=True
            )
        except DatabaseProblem as problem:
            if problem is not refused and not isinstance(problem, TooLarge):
                raise
            return Moved(blocked={ids[0]: str(problem)})

    def _move_in_transaction(self, ids: Sequence[int], twins: Twins) -> Moved:
        return transactionally(
            lambda: self._move_once(ids, twins), self._cell, name=self._name, gives_way=True
        )

    def _move_once(self, ids: Sequence[int], twins: Twins) -> Moved:
        """Move trees in one transaction.

        :raises TooLarge: the server takes none as large
        """
        try:
            with self._size.measure() as transaction:
                done, is_answered = self._move(ids, twins)
                transaction.rows = done.rows.total() if is_answered else 0
                return done
        except DBAPIError as error:
            if not is_too_large(error):
                raise
            raise TooLarge(
                f"the server takes no transaction as large as this one: {server_message(error)}"
            ) from error

    def _move(self, ids: Sequence[int], twins: Twins) -> tuple[Moved, bool]:
        """The cell's statements, then the API database's and their commit, then the cell's commit.

        A crash in between leaves a deleted instance without API rows; the next run moves it. One
        that is too large to be moved would stay so: it is measured before.

        :returns: what was done, and whether the cell's commit was answered
        """
        done = Moved()
        for node, numbers in twins.items():
            if removed := self._remove_twins(node, numbers):
                done.twins[node.shadow.name] += removed
        move = Move(self._cell, done.rows, self._gauge if self._is_measured else None)
        roots = move.trees(self._root, ids, self._claim)
        if self._root.name == INSTANCES and roots:
            done.api = self._api.delete([root["uuid"] for root in roots])
        is_answered = self._commit(roots)
        self._api.told()
        return done, is_answered

    @lazy_property
    def _gauge(self) -> Gauge | None:
        return transactionally(lambda: Gauge.read(self._cell), self._cell, name=self._name)

    def _commit(self, roots: Sequence[RowMapping]) -> bool:
        """Commit. Where nobody knows whether it came through, a look tells, as soon as one can be
        had.

        :returns: whether it was answered
        """
        try:
            self._cell.commit()
            return True
        except DBAPIError as error:
            if not roots or not is_transient(error):
                raise
            rollback(self._cell)
            if transactionally(lambda: self._is_live(roots[0]["id"]), self._cell, name=self._name):
                raise
            return False

    def _is_live(self, number: int) -> bool:
        live = self._root.live
        return self._cell.execute(select(live.c.id).where(live.c.id == number)).first() is not None

    def _remove_twins(self, node: Node, ids: Iterable[int]) -> int:
        """Delete shadow rows that equal their live row in every column."""
        removed = 0
        for values in chunks(ids):
            equal = self._identical(node, values)
            if equal:
                removed += self._cell.execute(
                    delete(node.shadow).where(node.shadow.c.id.in_(equal))
                ).rowcount
        return removed

    def _identical(self, node: Node, ids: list[int]) -> set[int]:
        """Those of at most one statement's ids whose row is the same in the table and in its shadow
        table.
        """
        live, shadow = (
            {row["id"]: row for row in self._cell.execute(rows.with_for_update()).mappings()}
            for rows in (
                select(*node.live.c).where(node.live.c.id.in_(ids)),
                select(*node.shadow.c).where(node.shadow.c.id.in_(ids)),
            )
        )
        return {number for number, row in shadow.items() if live.get(number) == row}

    def _diagnose(self, ids: Sequence[int]) -> Diagnosis:
        """Look what is in the way of each tree."""
        return transactionally(
            lambda: self._diagnose_once(ids), self._cell, name=self._name, gives_way=True
        )

    def _diagnose_once(self, ids: Sequence[int]) -> Diagnosis:
        diagnosis = Diagnosis()
        root = self._root
        for values in chunks(ids):
            keys = select(*(root.live.c[name] for name in root.keys)).where(
                root.live.c.id.in_(values)
            )
            owned: list[Owned] = [(row, row["id"]) for row in self._cell.execute(keys).mappings()]
            for node, rows in ((root, owned), *rows_below(self._cell, root, owned)):
                self._find_referrers(node, rows, diagnosis)
                self._find_shadows(node, rows, diagnosis)
        return diagnosis

    def _find_referrers(self, node: Node, rows: Sequence[Owned], diagnosis: Diagnosis) -> None:
        for key in node.blockers:
            owners: dict[Any, int] = {row[key.parent_column]: owner for row, owner in rows}
            referrers: Counter[Any] = Counter()
            for values in chunks(owners):
                by = table(key.table, column(key.column)).c[key.column]
                referrers.update(self._cell.execute(select(by).where(by.in_(values))).scalars())
            for value, number in referrers.items():
                diagnosis.blocked.setdefault(
                    owners[value],
                    f"{number} in {key.table} ({key.column} {value}) still refer to it, "
                    f"and {key.table} is not archived: delete what is there once it is of no use, "
                    "then run this again",
                )

    def _find_shadows(self, node: Node, rows: Sequence[Owned], diagnosis: Diagnosis) -> None:
        owners = {row["id"]: owner for row, owner in rows}
        in_the_way: dict[int, list[int]] = defaultdict(list)
        for values in chunks(owners):
            present = (
                select(node.shadow.c.id)
                .where(node.shadow.c.id.in_(values))
                .order_by(node.shadow.c.id)
            )
            numbers = list(self._cell.execute(present).scalars())
            identical = self._identical(node, numbers) if self._repair and numbers else set()
            diagnosis.twins[node] += identical
            for number in numbers:
                if number not in identical:
                    in_the_way[owners[number]].append(number)
        advice = (
            "it differs from the live one: compare the two and delete the wrong one"
            if self._repair
            else "run the command with --repair, which removes it where both are identical"
        )
        for owner, numbers in in_the_way.items():
            named = ", ".join(map(str, numbers[:NAMED_IDS])) + (
                ", ..." if len(numbers) > NAMED_IDS else ""
            )
            diagnosis.blocked.setdefault(
                owner, f"{node.shadow.name} already has a row with id {named}; {advice}"
            )
