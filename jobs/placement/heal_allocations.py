"""``placement heal_allocations``: create missing allocations, correct wrong owners."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Final, Self, TypeVar

from sqlalchemy import Connection

from clients.errors import ServiceMisconfigured, ServiceProblem, ServiceUnavailable
from clients.neutron import DEVICES_PER_REQUEST
from clients.placement import CONSUMERS_PER_REQUEST
from jobs.action import Action, CellResult, Cursor, FailureKind, Outcome, Step, Target, Unit
from jobs.placement.deciding import Decider
from jobs.placement.heal_lines import HealedPage, lines_of_page
from jobs.placement.heal_params import Params
from jobs.placement.healing import Healer
from jobs.placement.instances import Instance, count_placed, read_page, uuids_still_in_place
from jobs.placement.request_pool import RequestPool
from jobs.placement.service_watch import ServiceWatch
from jobs.placement.subjects import Collected, SubjectReader
from jobs.placement.verdicts import (
    Change,
    Decision,
    Exit,
    HealedInstance,
    HealProblem,
    Plan,
    Result,
    Verdict,
)
from jobs.retry import transactionally
from jobs.sums import add
from novadb.cells import CELL0

LOG = logging.getLogger("cellkeeper.heal")
T = TypeVar("T")

PAGE_SIZE: Final = DEVICES_PER_REQUEST  # one request to Neutron has the ports of a page
MAX_LISTED: Final = 1000  # healed instances and problems that are kept, per cell
MAX_LINES: Final = 5000  # lines for --verbose that are kept, per cell
GLANCE: Final = 1.0  # seconds between two looks whether the work is to go on

BADNESS: Final = (
    Exit.PORTS_NOT_ROLLED_BACK,  # somebody has to clean up by hand
    Exit.ERROR,
    Exit.PORTS_NOT_WRITTEN,
    Exit.NO_PORTS,
    Exit.NOT_WRITTEN,
    Exit.NO_COMPUTE_NODE,
    Exit.NOT_SUPPORTED,
)
"""The codes of failures, from worst to best."""
CODES_OF_SERVICES: Final = {
    FailureKind.PLACEMENT: Exit.NOT_WRITTEN,
    FailureKind.NEUTRON: Exit.NO_PORTS,
}


@dataclass(frozen=True)
class Healed(Outcome):
    """What was done in a cell.

    :ivar looked_at: instances that were found
    :ivar created: instances that got allocations; in a dry run, that would get them
    :ivar updated: instances whose allocations were changed; in a dry run, that would be
    :ivar done: the first ``MAX_LISTED`` of these
    :ivar problems: the first ``MAX_LISTED`` instances that could not be healed
    :ivar codes: how many problems there are, by code
    :ivar left: whether another instance needs healing that ``--max-count`` did not allow
    :ivar unseen: instances that were not looked at because a service had become unusable
    :ivar ended_at: the instance whose problem says why; empty: there is none
    :ivar lines: for ``--verbose``, in the words of the stock tool
    """

    counts: ClassVar[Unit] = Unit.INSTANCES
    handles: ClassVar[Unit | None] = Unit.LOOKED_AT

    looked_at: int = 0
    created: int = 0
    updated: int = 0
    dry_run: bool = False
    done: tuple[HealedInstance, ...] = ()
    problems: tuple[HealProblem, ...] = ()
    codes: Mapping[str, int] = field(default_factory=dict)
    left: bool = False
    unseen: int = 0
    ended_at: str = ""
    lines: tuple[str, ...] = ()

    @classmethod
    def of(cls, results: Iterable[Result], *, dry_run: bool = False) -> Self:
        """Sum up what became of instances."""
        results = list(results)
        healed = tuple(result for result in results if isinstance(result, HealedInstance))
        problems = tuple(result for result in results if isinstance(result, HealProblem))
        changes = Counter(instance.what for instance in healed)
        return cls(
            created=changes[Change.CREATED],
            updated=changes[Change.UPDATED],
            dry_run=dry_run,
            done=healed,
            problems=problems,
            codes=Counter(str(problem.code) for problem in problems),
            unseen=results.count(Verdict.NOT_LOOKED_AT),
        )

    def __add__(self, other: Self) -> Self:
        return replace(
            self,
            looked_at=self.looked_at + other.looked_at,
            created=self.created + other.created,
            updated=self.updated + other.updated,
            dry_run=self.dry_run or other.dry_run,
            done=(self.done + other.done)[:MAX_LISTED],
            problems=(self.problems + other.problems)[:MAX_LISTED],
            codes=add(self.codes, other.codes),
            left=self.left or other.left,
            unseen=self.unseen + other.unseen,
            ended_at=self.ended_at or other.ended_at,
            lines=(self.lines + other.lines)[:MAX_LINES],
        )

    @property
    def remarks(self) -> Sequence[str]:
        """Why instances could not be healed."""
        return [problem.text for problem in self.problems]

    @property
    def by_table(self) -> Mapping[str, int]:
        """Instances that were healed, by what was done."""
        return {"created": self.created, "updated": self.updated} if self.rows else {}

    @property
    def handled(self) -> int:
        """Instances that were found."""
        return self.looked_at

    @property
    def rows(self) -> int:
        """Instances that were healed: in a dry run, none."""
        return 0 if self.dry_run else self.created + self.updated


@dataclass(frozen=True)
class Position:
    """How far the work in a cell has come. As JSON, it is the cursor of a step.

    :ivar after: the id of the last instance that was dealt with
    :ivar healed: how many instances of the cell were healed so far
    :ivar behind: how many instances come after it, by a count at the beginning
    :ivar away: the service that has become unusable, why, and whether it is misconfigured
    """

    after: int = 0
    healed: int = 0
    behind: int = 0
    away: list[Any] | None = None

    @property
    def end(self) -> ServiceProblem | None:
        """What ended the work."""
        if self.away is None:
            return None
        service, text, is_misconfigured = self.away
        kind = ServiceMisconfigured if is_misconfigured else ServiceUnavailable
        return kind(service, text)

    def ended_by(self, problem: ServiceProblem) -> "Position":
        """The same place, where the work goes no further."""
        is_misconfigured = isinstance(problem, ServiceMisconfigured)
        return replace(self, away=[problem.service, str(problem), is_misconfigured])


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Healed]]:
    """Heal the instances of one cell, page by page.

    :param cursor: a ``Position``
    :raises ServiceProblem: Placement or Neutron cannot be used
    :raises DatabaseProblem: the cell's database or the API database cannot be used
    """
    if target.cell.uuid == CELL0:
        return  # its instances have never been on a host
    position = Position(**cursor) if cursor else Position()
    if position.end:  # the slice before had no time left to raise it
        raise position.end
    with target.database.connect() as cell:

        def count_remaining(after: int) -> int:
            name = str(target.database)
            return transactionally(lambda: _count_after(cell, after, params), cell, name=name)

        try:
            walk = _CellWalk(target, params, cell, position.healed)
        except ServiceProblem as problem:
            yield _last_step(Healed(), position, problem, count_remaining(position.after))
            raise
        if cursor is None:
            position = replace(position, behind=count_remaining(0))
        while page := walk.read_page(position.after):
            outcome = yield from walk.heal(page, position)
            behind = max(position.behind - len(page), 0)
            position = Position(page[-1].id, walk.healed_count, behind)
            if stop := walk.watch.stopped:
                outcome = replace(outcome, ended_at=walk.watch.stopped_at)
                yield _last_step(outcome, position, stop, count_remaining(position.after))
                raise stop
            yield Step(outcome, asdict(position), behind or None)
            if outcome.left:
                return


def _last_step(
    outcome: Healed, position: Position, problem: ServiceProblem, remaining: int
) -> Step[Healed]:
    """The step before a problem is raised; whoever goes on from its cursor raises it again.

    :param remaining: how many instances are not looked at because of the problem
    """
    outcome = replace(outcome, unseen=outcome.unseen + remaining)
    return Step(outcome, asdict(position.ended_by(problem)))


def _count_after(cell: Connection, after: int, params: Params) -> int:
    """How many instances on hosts come after an id."""
    if params.instance:
        return len(read_page(cell, after, 1, params.instance))
    return count_placed(cell, after)


class _CellWalk:
    """Heals the instances of one cell in the order of their ids.

    :ivar healed_count: how many instances of the cell were healed so far
    """

    def __init__(self, target: Target, params: Params, cell: Connection, healed_count: int) -> None:
        services = target.need_services()
        self._placement = services.placement
        self._params = params
        self._cell = cell
        self._cell_name = str(target.database)
        self.healed_count = healed_count
        self.watch = ServiceWatch(self._placement)
        self._reader = SubjectReader(target, params, cell, self.watch)
        self._decider = Decider(self._placement, self._reader.providers_in_tree, force=params.force)
        self._healer = Healer(
            self._placement,
            services.neutron if params.ports else None,
            self._decider,
            self.watch,
            RequestPool(params.at_once),
        )

    def read_page(self, after: int) -> list[Instance]:
        """The next instances after an id."""
        uuid = self._params.instance
        return self._read(lambda cell: read_page(cell, after, PAGE_SIZE, uuid))

    def heal(
        self, page: Sequence[Instance], position: Position
    ) -> Generator[Step[Healed], None, Healed]:
        """Heal a page; where that takes long, ask in between whether to go on.

        :param position: the one before the page: done again, a page is what it is already
        :returns: what the steps so far have not reported
        """
        placed = [instance for instance in page if instance.node and not instance.task_state]
        collected = self._reader.collect(placed)
        decisions = self._decide(collected)
        plans = [each for each in decisions.values() if isinstance(each, Plan)]
        results: list[Result] = [each for each in decisions.values() if not isinstance(each, Plan)]
        if self._params.dry_run:
            results += [plan.healed for plan in plans]
            plans = []
        unreported = list(results)
        while plans and not self.watch.stopped and (allowed := self._allowed(len(plans))) > 0:
            batch, plans = plans[:allowed], plans[allowed:]
            written = self._write(batch)
            self.healed_count += _count_healed(written)
            results += written
            unreported += written
            if self._healer.has_postponed:
                yield from self._wait_to_settle(position, unreported)
                unreported = [each for each in unreported if not isinstance(each, HealedInstance)]
                settled = self._healer.settle(self._still_right)
                self.healed_count += _count_healed(settled)
                results += settled
                unreported += settled
        if self.watch.stopped:
            unreported += [Verdict.NOT_LOOKED_AT] * len(plans)
            plans = []
        outcome = Healed.of([*collected.problems, *unreported], dry_run=self._params.dry_run)
        lines: Iterable[str] = ()
        if self._params.verbose:
            port_lines = self._healer.port_lines
            healed_page = HealedPage(page, decisions, results, port_lines, is_cut_off=bool(plans))
            lines = lines_of_page(healed_page, self._params)
        outcome = replace(outcome, looked_at=len(page), left=bool(plans), lines=tuple(lines))
        self._healer.port_lines.clear()
        return outcome

    def _decide(self, collected: Collected) -> dict[str, Decision]:
        """What to do for each instance, by uuid."""
        decisions = dict(collected.decisions)
        unsure = []
        for subject in collected.subjects:
            decisions[subject.uuid] = Verdict.UP_TO_DATE
            if not self._decider.needs_nothing(subject):
                unsure.append(subject)
        for subject, decision in zip(unsure, self._healer.decide_each(unsure), strict=True):
            decisions[subject.uuid] = decision
        return decisions

    def _allowed(self, wanted: int) -> int:
        """How many of the wanted instances may be healed."""
        if self._params.max_count is None:
            return wanted
        return min(wanted, self._params.max_count - self.healed_count)

    def _write(self, plans: Sequence[Plan]) -> list[Result]:
        """Carry plans out: those of a provider in one request, unless ports come first."""
        results: list[Result] = []
        single_plans = [plan for plan in plans if plan.profiles]
        for batch in _batches(plan for plan in plans if not plan.profiles):
            with self._placement.batch_lock:
                right_plans = self._still_right(batch)
                healed = self._healer.write_in_one_request(right_plans)
            if healed is None:
                single_plans += right_plans
            else:
                results += healed
        results += self._healer.write_each(self._still_right(single_plans))
        return results

    def _wait_to_settle(
        self, position: Position, unreported: Sequence[Result]
    ) -> Iterator[Step[Healed]]:
        """Report what was healed, then wait; the work may be ended at each of these steps."""
        healed = [each for each in unreported if isinstance(each, HealedInstance)]
        if healed:
            cursor = asdict(replace(position, healed=self.healed_count))
            yield Step(Healed.of(healed), cursor, position.behind or None)
        LOG.info(
            "Placement refuses consumers as new that hold nothing; waiting %.0f s",
            self._healer.seconds_to_wait,
        )
        while (seconds := self._healer.seconds_to_wait) > 0:
            time.sleep(min(seconds, GLANCE))
            yield Step(Healed(), None)

    def _still_right(self, plans: Sequence[Plan]) -> list[Plan]:
        """The plans whose instances have not moved since they were read, which took its time."""
        if not plans:
            return []
        instances = [plan.subject.instance for plan in plans]
        uuids = self._read(lambda cell: uuids_still_in_place(cell, instances))
        return [plan for plan in plans if plan.uuid in uuids]

    def _read(self, read: Callable[[Connection], T]) -> T:
        return transactionally(lambda: read(self._cell), self._cell, name=self._cell_name)


def _count_healed(results: Iterable[Result]) -> int:
    return sum(isinstance(result, HealedInstance) for result in results)


def _batches(plans: Iterable[Plan]) -> Iterator[list[Plan]]:
    """Plans with the same provider and the same change, no more than fit into a request."""
    plans_by_kind: dict[tuple[str | None, Change], list[Plan]] = {}
    for plan in plans:
        plans_by_kind.setdefault((plan.subject.node, plan.change), []).append(plan)
    for alike in plans_by_kind.values():
        for begin in range(0, len(alike), CONSUMERS_PER_REQUEST):
            yield alike[begin : begin + CONSUMERS_PER_REQUEST]


def collapse(results: Sequence[CellResult[Healed]], _params: Params) -> Exit:
    """The exit code of the run.

    From worst to best: ports could not be rolled back (7); a cell failed in a way without a code
    of its own (255); ports could not be written (6) or read (5); allocations could not be written
    (3); a compute node is missing (2); a flavor is not supported (8); ``--max-count`` was
    reached, or the run was stopped, and instances are left (1); instances were healed (0); there
    was nothing to heal (4).
    """
    failures: set[Exit] = set()
    for result in results:
        failures.update(Exit(int(code)) for code in result.outcome.codes)
        if result.failure:
            failures.add(CODES_OF_SERVICES.get(result.failure.kind, Exit.ERROR))
    if failures:
        return min(failures, key=BADNESS.index)
    if any(result.outcome.left or not result.complete for result in results):
        return Exit.MAX_COUNT
    return Exit.HEALED if any(result.outcome.rows for result in results) else Exit.NOTHING_HEALED


def next_params(params: Params, outcome: Healed) -> Params | None:
    """What the next cell may heal.

    :returns: None: ``--max-count`` is reached, and more is known to be left. With nothing left
        to heal, cells are still looked at, until one is found that has something
    """
    if outcome.left:
        return None
    if params.max_count is None:
        return params
    return replace(params, max_count=max(params.max_count - outcome.rows, 0))


ACTION: Final = Action(
    name="placement.heal_allocations",
    params=Params,
    work=work,
    nothing=Healed(),
    collapse=collapse,
    good_codes=frozenset({Exit.HEALED, Exit.MAX_COUNT, Exit.NOTHING_HEALED}),
    in_turn=lambda params: params.max_count is not None and not params.dry_run,
    next_params=next_params,
    uses_api=True,
)
DRY_RUN: Final = replace(ACTION, name="placement.heal_allocations.dry_run", writes=False)
