"""``db online_data_migrations``: bring rows of older releases up to date, by the migrations of
``migrations.order``.
"""

import logging
from collections.abc import Generator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import partial
from typing import Any, Final, Self

from sqlalchemy import text

from jobs.action import Action, CellResult, Cursor, Outcome, Step, Target, failure_of
from jobs.db.migrations.migration import CHUNK, Batch, Defaults, Migration, Place, Tally
from jobs.db.migrations.order import MIGRATIONS
from jobs.retry import Contended, as_large_as_possible, transactionally
from novadb.cells import Cell

LOG = logging.getLogger("cellkeeper.migrations")


class Exit(IntEnum):
    """The manual's return codes."""

    COMPLETE = 0
    PARTIAL = 1
    FAILED = 2
    INVALID_MAX_COUNT = 127
    ERROR = 255


@dataclass(frozen=True)
class Params:
    """The options of the command.

    :ivar max_count: the most rows that are changed, in all cells together; None: all there are
    :ivar defaults: what nova.conf gives to rows without a value; the caller's, for all cells
    """

    max_count: int | None = None
    defaults: Defaults = field(default_factory=Defaults)


@dataclass(frozen=True)
class Migrated(Outcome):
    """What was done in a cell.

    :ivar tallies: by migration, those that were come to
    :ivar not_there: migrations that the databases have nothing for, with the column that they lack
    """

    tallies: Mapping[str, Tally] = field(default_factory=dict)
    not_there: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: Self) -> Self:
        tallies = dict(self.tallies)
        for name, tally in other.tallies.items():
            tallies[name] = tallies.get(name, Tally()) + tally
        return replace(self, tallies=tallies, not_there={**self.not_there, **other.not_there})

    @property
    def by_table(self) -> Mapping[str, int]:
        """Rows that were changed, by migration."""
        return {name: tally.done for name, tally in self.tallies.items()}

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.by_table.values())

    @property
    def failed(self) -> bool:
        """Whether a migration failed, and did so again when it was tried again."""
        return any(tally.failures for tally in self.tallies.values())

    @property
    def unseen(self) -> bool:
        """Whether a budget ended the look at what there is to do."""
        return any(tally.unseen for tally in self.tallies.values())


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Migrated]]:
    """Run the migrations in a cell, one after the other, each to its end or the end of the budget.

    One that fails is put back. Without a budget, those that were put back are tried again, where
    they stopped, as long as the others get something done: they may depend on it.

    :param cursor: ``due`` and ``put_back``: migrations with the number of the cell and the id to go
        on behind; ``done``: rows so far, and ``done_before`` this round; ``looked``: rows that a
        budget of looks has gone to, and ``uncounted`` those that it has gone to for the migration
        whose turn it is, in this cell alone
    :raises Contended: others are at the next row
    :raises DatabaseProblem: the cell's database cannot be used
    """
    beginning = {"due": _all(target), "put_back": [], "done": 0, "done_before": 0, "looked": 0}
    at: Cursor = {"uncounted": 0} | (cursor or beginning)
    with _Places(target, params.defaults) as places:
        places.check_own()
        while at["due"] and (params.max_count is None or at["done"] < params.max_count):
            name, number, _ = at["due"][0]
            migration = MIGRATIONS[name]
            cell = target.walked[number] if migration.walks and target.walked else target.cell
            try:
                outcome = yield from _next_batch(places.of(cell), migration, params, at)
            except Contended:
                raise
            except Exception as error:
                LOG.debug("%s: %s failed", cell.identity, name, exc_info=True)
                reason = failure_of(error, replace(target, cell=cell)).reason
                outcome = Migrated({name: Tally(errors={cell.identity: reason})})
                at["put_back"].append(_pass_on(at))
                places.check_own()
            if not at["due"] and params.max_count is None and at["done"] > at["done_before"]:
                at |= {"due": at["put_back"], "put_back": [], "done_before": at["done"]}
            room = None if params.max_count is None else max(params.max_count - at["done"], 0)
            yield Step(outcome, deepcopy(at), room)


def _all(target: Target) -> list[list[Any]]:
    """All migrations, those that walk once for each cell, from the beginning."""
    cells = range(len(target.walked) or 1)
    return [
        [name, number, 0]
        for name, one in MIGRATIONS.items()
        for number in (cells if one.walks else [0])
    ]


def _pass_on(at: Cursor) -> list[Any]:
    """Take the first migration that is due off the list, and return it."""
    at["uncounted"] = 0
    due: list[Any] = at["due"].pop(0)
    return due


def _next_batch(
    place: Place, migration: Migration, params: Params, at: Cursor
) -> Generator[Step[Migrated], None, Migrated]:
    """Do one batch of the migration whose turn it is; at its end, the turn passes on.

    :param at: the cursor; it is moved along
    """
    name = migration.name
    if lacking := transactionally(partial(migration.lacks, place), name=place.name):
        _pass_on(at)
        return Migrated(not_there={name: lacking})
    room = None
    if params.max_count is not None:
        looked = at["looked"] + at["uncounted"]
        room = params.max_count - at["done"] - (looked if migration.looks else 0)
    if room == 0:
        _pass_on(at)
        return Migrated({name: Tally(unseen=True)})
    bound = CHUNK if room is None else min(CHUNK, room)
    step, ask = partial(_step, place, migration, at["due"][0][2]), Step(Migrated(), None)
    batch = yield from as_large_as_possible(step, place.size, bound, name=place.name, ask=ask)
    tally = (
        batch.tally if room is None else replace(batch.tally, found=min(batch.tally.found, room))
    )
    at["done"] += tally.done
    if migration.looks:
        at["looked"] += tally.found - tally.done
        at["uncounted"] += batch.looked_at - tally.found
    if batch.after is not None:
        at["due"][0][2] = batch.after
    else:
        _pass_on(at)
        if at["done_before"]:  # it may have failed in an earlier round
            tally += Tally(errors={place.identity: ""})
    return Migrated({name: tally})


def _step(place: Place, migration: Migration, after: int, size: int) -> Batch:
    try:
        return migration.step(place, size, after)
    finally:
        place.rollback()


class _Places:
    """The cell of a target, and one at a time of those that are walked from it."""

    def __init__(self, target: Target, defaults: Defaults) -> None:
        self._target = target
        self._defaults = defaults
        self._own = Place(target, defaults)
        self._other: Place | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._own.close()
        self._leave()

    def of(self, cell: Cell) -> Place:
        """The place of a cell; that of another walked one is closed."""
        if cell is self._target.cell:
            return self._own
        if self._other is None or self._other.identity != cell.identity:
            self._leave()
            self._other = Place(replace(self._target, cell=cell), self._defaults)
        return self._other

    def check_own(self) -> None:
        """Look whether the target's database is there: that it is not is one failure, and not one
        per migration.
        """
        self._own.rollback()
        self._own.cell.execute(text("SELECT 1"))
        self._own.rollback()

    def _leave(self) -> None:
        if self._other is not None:
            self._other.close()
            self._other = None


def collapse(results: Sequence[CellResult[Migrated]], params: Params) -> Exit:
    """The exit code of the whole: that of the stock tool, over all cells as over one.

    Without a budget, from worst to best: in any cell a migration failed, or the cell did (2); the
    run was stopped (1); nothing is left that can be done (0). So one cell's 2 outweighs all others:
    it takes somebody to look.

    With a budget: rows were changed anywhere (1), whatever failed elsewhere: the next call goes on,
    and a failure that stays comes out when nothing else is left to do; something failed (2); not
    all was looked at (1); nothing is left (0). So a script that calls while it says 1 comes to an
    end, and learns of what it cannot help.
    """
    failed = any(result.failure or result.outcome.failed for result in results)
    changed = any(result.outcome.rows for result in results)
    partly = any(result.outcome.unseen or not result.complete for result in results)
    if params.max_count is not None and changed:
        return Exit.PARTIAL
    if failed:
        return Exit.FAILED
    return Exit.PARTIAL if partly else Exit.COMPLETE


def next_params(params: Params, done: Migrated) -> Params | None:
    """What is left of the budget for the next cell; None when it is used up."""
    if params.max_count is None:
        return params
    left = params.max_count - done.rows
    return replace(params, max_count=left) if left > 0 else None


ACTION: Final = Action(
    name="db.online_data_migrations",
    params=Params,
    work=work,
    nothing=Migrated(),
    collapse=collapse,
    good_codes=frozenset({Exit.COMPLETE, Exit.PARTIAL}),
    in_turn=lambda params: params.max_count is not None,
    next_params=next_params,
    uses_api=True,
)
