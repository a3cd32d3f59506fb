"""``libvirt list_unset_machine_type``: the instances without a recorded machine type."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any, ClassVar, Final, Self

from sqlalchemy import Connection, select

from jobs.action import Action, CellResult, Cursor, Outcome, Step, Target, Unit
from jobs.libvirt.instances import lacks_machine_type
from jobs.retry import transactionally
from novadb.nova_tables import INSTANCES

PAGE_SIZE: Final = 10_000  # instances that one statement returns


class Exit(IntEnum):
    """The manual's return codes."""

    NONE_FOUND = 0
    ERROR = 1
    UNKNOWN_CELL = 2
    FOUND = 3


@dataclass(frozen=True)
class Params:
    """No parameters: which cells are looked at is up to the run."""


@dataclass(frozen=True)
class Unset(Outcome):
    """The instances of a cell without a machine type.

    :ivar uuids: in the order of the instances' ids
    """

    counts: ClassVar[Unit] = Unit.INSTANCES

    uuids: tuple[str, ...] = ()

    def __add__(self, other: Self) -> Self:
        return type(self)(self.uuids + other.uuids)

    @property
    def by_table(self) -> Mapping[str, int]:
        """Instances without a machine type; nothing was written."""
        return {"instances": self.rows} if self.uuids else {}

    @property
    def rows(self) -> int:
        """Instances without a machine type."""
        return len(self.uuids)


def work(target: Target, _params: Params, cursor: Cursor | None) -> Generator[Step[Unset]]:
    """Find the instances of one cell that have no machine type: one anti-join, in pages.

    :param cursor: ``after``: go on after the instance with this id
    :raises DatabaseProblem: the cell's database cannot be used
    """
    after = cursor["after"] if cursor else 0
    with target.database.connect() as cell:
        name = str(target.database)
        while rows := transactionally(partial(_read_page, cell, after), cell, name=name):
            after = rows[-1].id
            yield Step(Unset(tuple(row.uuid for row in rows)), {"after": after})
            if len(rows) < PAGE_SIZE:
                return


def _read_page(cell: Connection, after: int) -> Sequence[Any]:
    query = select(INSTANCES.c.id, INSTANCES.c.uuid).where(
        INSTANCES.c.id > after, lacks_machine_type()
    )
    return cell.execute(query.order_by(INSTANCES.c.id).limit(PAGE_SIZE)).all()


def collapse(results: Sequence[CellResult[Unset]], _params: Params) -> Exit:
    """The exit code of the command.

    From worst to best: a cell failed or was not read to its end, so that the list is not complete
    (1); there are such instances (3); there are none (0).
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
