"""``libvirt list_unset_machine_type``: the instances without a recorded machine type."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any, ClassVar, Final, Self

from sqlalchemy import Connection, select

from jobs.action import Action, CellResult, Cursor, Outcome, Step, Target, Unit
from jobs.libvirt.instances import INSTANCES, unset
from jobs.retry import transactionally

PAGE: Final = 10_000  # instances found in one statement


class Exit(IntEnum):
    """The manual's return codes."""

    NONE_FOUND = 0
    ERROR = 1
    UNKNOWN_CELL = 2
    FOUND = 3


@dataclass(frozen=True)
class Params:
    """There are none: which cells are looked at is the run's affair."""


@dataclass(frozen=True)
class Unset(Outcome):
    """What was found in a cell.

    :ivar uuids: of the instances, in the order of their ids
    """

    counts: ClassVar[Unit] = Unit.INSTANCES

    uuids: tuple[str, ...] = ()

    def __add__(self, other: Self) -> Self:
        return type(self)(self.uuids + other.uuids)

    @property
    def by_table(self) -> Mapping[str, int]:
        """Instances found."""
        return {"instances": self.rows} if self.uuids else {}

    @property
    def rows(self) -> int:
        """All of them."""
        return len(self.uuids)


def work(target: Target, _params: Params, cursor: Cursor | None) -> Generator[Step[Unset]]:
    """Find the instances of one cell that have no machine type: one anti-join, in pages.

    :param cursor: ``after``: go on behind the instance with this id
    :raises DatabaseProblem: the cell's database cannot be used
    """
    after = cursor["after"] if cursor else 0
    with target.database.connect() as cell:
        while found := transactionally(partial(_page, cell, after), cell, name=str(target.database)):
            after = found[-1].id
            yield Step(Unset(tuple(row.uuid for row in found)), {"after": after})
            if len(found) < PAGE:
                return


def _page(cell: Connection, after: int) -> Sequence[Any]:
    page = select(INSTANCES.c.id, INSTANCES.c.uuid).where(INSTANCES.c.id > after, unset())
    return cell.execute(page.order_by(INSTANCES.c.id).limit(PAGE)).all()


def collapse(results: Sequence[CellResult[Unset]], _params: Params) -> Exit:
    """The exit code of the whole.

    From worst to best: a cell failed, or was not looked at to its end (1: what is printed is not all); there are
    such instances (3); there are none (0).
    """
    if any(result.failure or not result.complete for result in results):
        return Exit.ERROR
    return Exit.FOUND if any(result.outcome.rows for result in results) else Exit.NONE_FOUND


ACTION: Final = Action(
    name="libvirt.list_unset_machine_type",
    params=Params,
    work=work,
    nothing=Unset(),
    collapse=collapse,
    good_codes=frozenset({Exit.NONE_FOUND, Exit.FOUND}),
    writes=False,
)
