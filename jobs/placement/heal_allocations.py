"""``placement heal_allocations``: allocations that instances lack, and owners that are not theirs."""

import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import ClassVar, Final, Self, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from clients.concurrency import map_bounded
from clients.errors import ServiceMisconfigured, ServiceProblem, ServiceUnavailable
from clients.neutron import DEVICES_PER_REQUEST, Port
from clients.placement import ALLOCATIONS_VERSION, CONSUMERS_PER_REQUEST, Consumer, Provider
from jobs.action import Action, ApiDatabaseProblem, CellResult, Cursor, FailureKind, Outcome, Step, Target, Unit
from jobs.placement import instances
from jobs.placement.failures import FailuresInARow, is_end_of
from jobs.placement.healing import Decision, Done, Healer, Plan, Problem, Result, Subject, Unseen
from jobs.placement.instances import Instance, Needs
from jobs.placement.ledger import Ledger, Owner
from jobs.retry import transactionally
from jobs.sums import add
from novadb.cells import CELL0
from novadb.engine import server_message
from novadb.names import fold_name, is_same_name

LOG = logging.getLogger("cellkeeper.heal")
T = TypeVar("T")

PAGE: Final = DEVICES_PER_REQUEST  # instances that Neutron is asked for at a time
BATCH: Final = 50  # candidates that the stock tool tells of at a time
NAMED: Final = 1000  # healed instances and problems that are named, per cell
PAGES_IN_A_ROW: Final = 2  # pages whose ports cannot be asked for, after which a cell ends
NO_PORTS: Final = "{}; {} instances were not looked at"
LINES: Final = 5000  # lines for --verbose, per cell


class Exit(IntEnum):
    """The manual's return codes, and 8, which Nova has and the manual leaves out."""

    HEALED = 0
    MAX_COUNT = 1
    NO_COMPUTE_NODE = 2
    NOT_WRITTEN = 3
    NOTHING_HEALED = 4
    NO_PORTS = 5
    PORTS_NOT_WRITTEN = 6
    PORTS_NOT_ROLLED_BACK = 7
    NOT_SUPPORTED = 8
    INVALID_INPUT = 127
    ERROR = 255


# From worst to best: 7 needs somebody's hands.
ORDER: Final = (
    Exit.PORTS_NOT_ROLLED_BACK,
    Exit.ERROR,
    Exit.PORTS_NOT_WRITTEN,
    Exit.NO_PORTS,
    Exit.NOT_WRITTEN,
    Exit.NO_COMPUTE_NODE,
    Exit.NOT_SUPPORTED,
)
FAILURES: Final = {FailureKind.PLACEMENT: Exit.NOT_WRITTEN, FailureKind.NEUTRON: Exit.NO_PORTS}


@dataclass(frozen=True)
class Params:
    """The options of the command.

    :ivar max_count: how many instances may still be healed; 0: only look whether there are any. None: all
    :ivar instance: uuid of the only one to look at
    :ivar force: give it what its flavor says, whatever it has
    :ivar dry_run: write nothing
    :ivar ports: whether ports are healed
    :ivar verbose: whether lines are wanted
    :ivar at_once: requests of a cell that may be under way at the same time
    :ivar run: names what the cells of one run share in a process
    :ivar cells: how many there are
    """

    max_count: int | None = None
    instance: str | None = None
    force: bool = False
    dry_run: bool = False
    ports: bool = True
    verbose: bool = False
    at_once: int = 4
    run: str = ""
    cells: int = 1


@dataclass(frozen=True)
class Healed(Outcome):
    """What was done in a cell.

    :ivar looked_at: instances that were found
    :ivar created: instances that got allocations; in a dry run: would get
    :ivar updated: instances whose allocations were changed; in a dry run: would be
    :ivar done: what became of them, at most ``NAMED``
    :ivar problems: what could not be healed, at most ``NAMED``
    :ivar codes: how many problems there are, by code
    :ivar left: whether somebody else waits, behind the last one that ``--max-count`` allowed
    :ivar unseen: instances that were not looked at because a service had come to its end
    :ivar ended_at: the instance whose problem was that end; empty: none was
    :ivar lines: for ``--verbose``, in the words of the stock tool
    """

    counts: ClassVar[Unit] = Unit.INSTANCES
    handles: ClassVar[Unit | None] = Unit.LOOKED_AT

    looked_at: int = 0
    created: int = 0
    updated: int = 0
    dry_run: bool = False
    done: tuple[Done, ...] = ()
    problems: tuple[Problem, ...] = ()
    codes: Mapping[str, int] = field(default_factory=dict)
    left: bool = False
    unseen: int = 0
    ended_at: str = ""
    lines: tuple[str, ...] = ()

    def __add__(self, other: Self) -> Self:
        return replace(
            self,
            looked_at=self.looked_at + other.looked_at,
            created=self.created + other.created,
            updated=self.updated + other.updated,
            dry_run=self.dry_run or other.dry_run,
            done=(self.done + other.done)[:NAMED],
            problems=(self.problems + other.problems)[:NAMED],
            codes=add(self.codes, other.codes),
            left=self.left or other.left,
            unseen=self.unseen + other.unseen,
            ended_at=self.ended_at or other.ended_at,
            lines=(self.lines + other.lines)[:LINES],
        )

    @property
    def remarks(self) -> Sequence[str]:
        """What went wrong."""
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
        """Instances that were healed: none in a dry run."""
        return 0 if self.dry_run else self.created + self.updated


def work(target: Target, params: Params, cursor: Cursor | None) -> Generator[Step[Healed]]:
    """Heal the instances of one cell, page by page.

    :param cursor: ``after``: the id of the last instance that was dealt with; ``healed``: how many were so far;
        ``behind``: how many come behind it, as they were counted at the begin;
        ``away``: the service without which nothing more can be done, why, and whether there is no way to it
    :raises ServiceProblem: Placement or Neutron cannot be used
    :raises DatabaseProblem: the cell's database cannot be used
    """
    if target.cell.uuid == CELL0:
        return
    if cursor and "away" in cursor:  # the slice before had no time left to say so
        raise _end_of(cursor)
    with target.database.connect() as cell:
        at = cursor or {"after": 0, "healed": 0}
        try:
            walk = _Walk(target, params, cell)
        except ServiceProblem as end:
            yield _last_step(Healed(), at, end, _count_behind(target, params, cell, at["after"]))
            raise
        if cursor is None:
            at["behind"] = _count_behind(target, params, cell, 0)
        while found := walk.page(at["after"]):
            outcome = walk.heal(found, at["healed"])
            behind = max(at.get("behind", 0) - len(found), 0)
            at = {"after": found[-1].id, "healed": at["healed"] + outcome.rows, "behind": behind}
            if stopped := walk.healer.stopped:
                outcome = replace(outcome, ended_at=walk.healer.stopped_at)
                yield _last_step(outcome, at, stopped, _count_behind(target, params, cell, at["after"]))
                raise stopped
            yield Step(outcome, at, behind or None)
            if outcome.left:
                return


def _last_step(outcome: Healed, at: Cursor, end: ServiceProblem, behind: int) -> Step[Healed]:
    """The step before a service's end is raised; whoever goes on from its cursor raises it again.

    :param behind: instances that come behind the cursor
    """
    away = [end.service, str(end), isinstance(end, ServiceMisconfigured)]
    return Step(replace(outcome, unseen=outcome.unseen + behind), at | {"away": away})


def _end_of(cursor: Cursor) -> ServiceProblem:
    service, text, is_misconfigured = cursor["away"]
    return ServiceMisconfigured(service, text) if is_misconfigured else ServiceUnavailable(service, text)


def _count_behind(target: Target, params: Params, cell: Connection, after: int) -> int:
    """How many instances on hosts come behind an id."""

    def count() -> int:
        if params.instance:
            return len(instances.page(cell, after, 1, params.instance))
        return instances.count_behind(cell, after)

    return transactionally(count, cell, name=str(target.database))


class _Walk:
    """The way through one cell."""

    def __init__(self, target: Target, params: Params, cell: Connection) -> None:
        self._target = target
        self._params = params
        self._cell = cell
        self._services = target.need_services()
        self._placement = self._services.placement
        self._placement.require(ALLOCATIONS_VERSION, "heal_allocations")
        self._neutron = self._services.neutron if params.ports else None
        self._needs = Needs()
        self._nodes = self._read(instances.nodes)
        self._ledger = None if params.instance else self._open_ledger()
        self._judged: dict[Owner, bool] = {}
        self._pages = FailuresInARow(PAGES_IN_A_ROW)
        self._page_problems: list[Problem] = []
        self.healer = Healer(self._placement, self._neutron, self._tree, force=params.force)

    def page(self, after: int) -> list[Instance]:
        """The next instances behind an id."""
        return self._read(lambda cell: instances.page(cell, after, PAGE, self._params.instance))

    def heal(self, found: Sequence[Instance], healed: int) -> Healed:
        """Heal a page.

        :param healed: how many instances of the cell were before
        """
        placed = [instance for instance in found if instance.node and not instance.task_state]
        subjects, decisions = self._subjects(placed)
        unsure = [subject for subject in subjects if not self.healer.is_well(subject)]
        decided = map_bounded(self.healer.decide, unsure, self._params.at_once)
        decisions |= {subject.uuid: decision for subject, decision in zip(unsure, decided, strict=True)}
        plans = [one for one in decisions.values() if isinstance(one, Plan)]
        results: list[Result] = [one for one in decisions.values() if isinstance(one, Problem | Unseen)]
        if self._params.dry_run:
            results += [plan.done for plan in plans]
            plans = []
        room = len(plans) if self._params.max_count is None else self._params.max_count - healed
        while plans and room > 0 and not self.healer.stopped:
            now, plans = plans[:room], plans[room:]
            written = self._write(now)
            room -= sum(isinstance(one, Done) for one in written)
            results += written
        if self.healer.stopped:
            results += [Unseen() for _ in plans]
            plans = []
        lines = tuple(self._lines(found, decisions, results, bool(plans))) if self._params.verbose else ()
        outcome = _told([*self._page_problems, *results])
        self._page_problems = []
        self.healer.port_lines.clear()
        return replace(outcome, looked_at=len(found), dry_run=self._params.dry_run, left=bool(plans), lines=lines)

    def _subjects(self, placed: Sequence[Instance]) -> tuple[list[Subject], dict[str, Decision]]:
        """Instances with all that is known of them, asked for as many at a time as can be.

        :returns: and what is decided of those that cannot be asked for
        """
        ports = self._ports(placed)
        read = self._consumers(placed) if ports is not None else None
        if ports is None or read is None:
            return [], {instance.uuid: Unseen() for instance in placed}
        consumers = {uuid: consumer for uuid, consumer in read.items() if isinstance(consumer, Consumer)}
        unread: dict[str, Decision] = {
            uuid: problem for uuid, problem in read.items() if not isinstance(problem, Consumer)
        }
        known = [instance for instance in placed if instance.uuid in consumers]
        wanting = [
            instance
            for instance in known
            if self._params.force
            or not consumers[instance.uuid].allocations
            or any(port.request for port in ports.get(instance.key, ()))
        ]
        needs = self._read(lambda cell: self._needs.of(cell, wanting))
        subjects = [
            Subject(
                instance,
                self._nodes.uuids.get(instances.place_of(instance.host, instance.node)),
                needs.get(instance.uuid),
                consumers[instance.uuid],
                tuple(ports.get(instance.key, ())),
                self._nodes.names_on(instance.host),
            )
            for instance in known
        ]
        return subjects, unread

    def _ports(self, placed: Sequence[Instance]) -> dict[str, list[Port]] | None:
        """The ports of a page of instances; None: they cannot be asked for, which costs this page.

        Where that happens twice in a row, nothing more is done in this cell.
        """
        ports: dict[str, list[Port]] = {}
        if not self._neutron or not placed:
            return ports
        try:
            for port in self._neutron.ports_of([instance.uuid for instance in placed]):
                ports.setdefault(fold_name(port.device), []).append(port)
        except ServiceProblem as problem:
            self._pages.note(problem)
            if is_end_of(problem) or self._pages.too_many:
                self.healer.stop(problem)
            else:
                self._page_problems.append(Problem("", Exit.NO_PORTS, NO_PORTS.format(problem, len(placed))))
            return None
        self._pages.note(None)
        return ports

    def _consumers(self, placed: Sequence[Instance]) -> dict[str, Consumer | Problem | Unseen] | None:
        """What instances hold: by the ledger; on their own where it does not know for sure whose it is.

        :returns: None: Placement has come to its end
        """
        ledger = self._ledger
        alone = list(placed)
        if ledger is not None:
            try:
                alone = [instance for instance in placed if self._is_doubtful(ledger, instance, placed)]
            except ServiceProblem as end:
                self.healer.stop(end)
                return None
        read = map_bounded(self.healer.read, alone, self._params.at_once)
        on_their_own = {instance.uuid: consumer for instance, consumer in zip(alone, read, strict=True)}
        return {
            instance.uuid: on_their_own[instance.uuid] if instance.uuid in on_their_own else _by(ledger, instance)
            for instance in placed
        }

    def _is_doubtful(self, ledger: Ledger, instance: Instance, page: Sequence[Instance]) -> bool:
        """Whether an instance may hold what the ledger does not know, or what is not booked on its owner.

        :param page: with it, whose owners are judged together
        """
        if ledger.has_gaps:
            return True
        if instance.key not in ledger.held:
            return False
        owner = instance.owner
        if owner not in self._judged:
            new = {one.owner for one in page if one.key in ledger.held} - self._judged.keys()
            doubtful = ledger.doubtful(new, self._params.at_once)
            self._judged |= {one: one in doubtful for one in new}
        return self._judged[owner] or ledger.owners.get(instance.key) != owner

    def _open_ledger(self) -> Ledger | None:
        """The ledger that the cells of this run share; None where asking for each instance takes fewer requests."""
        run = self._params.run
        try:
            providers = self._services.once(f"{run} providers", self._placement.providers)
        except ServiceProblem as problem:
            if is_end_of(problem):
                raise
            LOG.info("%s; asking for each instance instead", problem)
            return None
        if len(providers) > self._read(instances.count) * self._params.cells:
            return None
        return self._services.once(f"{run} ledger", lambda: self._read_ledger(providers))

    def _read_ledger(self, providers: Sequence[Provider]) -> Ledger:
        try:
            with self._target.need_api().connect() as api:
                return Ledger.read(self._placement, providers, api, self._params.at_once)
        except DBAPIError as error:
            raise ApiDatabaseProblem(f"{self._target.api}: {server_message(error)}") from error

    def _tree(self, node: str) -> frozenset[str]:
        if self._ledger:
            return frozenset(uuid for uuid, root in self._ledger.roots.items() if is_same_name(root, node))
        return frozenset(one.uuid for one in self._placement.providers(in_tree=node))

    def _still_right(self, plans: Sequence[Plan]) -> list[Plan]:
        """Plans for instances that are still where they were when it was looked: reading took its time."""
        if not plans:
            return []
        known = [plan.subject.instance for plan in plans]
        unchanged = self._read(lambda cell: instances.unchanged(cell, known))
        return [plan for plan in plans if plan.uuid in unchanged]

    def _write(self, plans: Sequence[Plan]) -> list[Result]:
        """Carry plans out: those of a provider together; each on its own where that is refused, or ports come first."""
        results: list[Result] = []
        alone = [plan for plan in plans if plan.profiles]
        for batch in _batches(plan for plan in plans if not plan.profiles):
            with self._placement.turn:
                right = self._still_right(batch)
                done = self.healer.write_all(right)
            results += done or ()
            alone += right if done is None else ()
        results += self.healer.write_each(self._still_right(alone), self._params.at_once)
        results += self.healer.settle(self._still_right, self._params.at_once)
        return results

    def _lines(
        self,
        found: Sequence[Instance],
        decisions: Mapping[str, Decision],
        results: Iterable[Result],
        left: bool,
    ) -> Iterator[str]:
        """What the stock tool says of a page. It stops at the last instance that ``--max-count`` allowed."""
        done = {one.instance: one for one in results if isinstance(one, Done)}
        last = max((number for number, one in enumerate(found) if one.uuid in done), default=-1) if left else len(found)
        for number, one in enumerate(found[: last + 1]):
            if number % BATCH == 0:
                yield f"Found {min(BATCH, len(found) - number)} candidate instances."
            yield from self._lines_of(one, decisions.get(one.uuid), done.get(one.uuid))

    def _lines_of(self, instance: Instance, decision: Decision, done: Done | None) -> Iterator[str]:
        uuid = instance.uuid
        if instance.task_state:
            yield f"Instance {uuid} is undergoing a task state transition: {instance.task_state}"
        elif not instance.node:
            yield f"Instance {uuid} is not on a host."
        elif isinstance(decision, Unseen):
            return
        elif decision is None:
            yield f"The allocation of instance {uuid} is up-to-date. Nothing to be healed."
        elif self._params.force:
            yield f"Force flag passed for instance {uuid}"
        if isinstance(decision, Plan):
            yield from decision.lines
            yield from self.healer.port_lines.pop(uuid, ())
            if self._params.dry_run:
                yield decision.dry_line
            elif done:
                yield f"Successfully {done.what} allocations for instance {uuid}."

    def _read(self, read: Callable[[Connection], T]) -> T:
        return transactionally(lambda: read(self._cell), self._cell, name=str(self._target.database))


def _by(ledger: Ledger | None, instance: Instance) -> Consumer:
    assert ledger is not None
    return ledger.consumer(instance)


def _batches(plans: Iterable[Plan]) -> Iterator[list[Plan]]:
    """Plans of one provider and one kind each, no more than fit into a request."""
    alike: dict[tuple[str | None, str], list[Plan]] = {}
    for plan in plans:
        alike.setdefault((plan.subject.node, plan.what), []).append(plan)
    for some in alike.values():
        for begin in range(0, len(some), CONSUMERS_PER_REQUEST):
            yield some[begin : begin + CONSUMERS_PER_REQUEST]


def _told(results: Iterable[Result]) -> Healed:
    """What became of instances."""
    known = list(results)
    done = tuple(one for one in known if isinstance(one, Done))
    problems = tuple(one for one in known if isinstance(one, Problem))
    return Healed(
        created=sum(one.what == "created" for one in done),
        updated=sum(one.what == "updated" for one in done),
        done=done,
        problems=problems,
        codes=Counter(str(one.code) for one in problems),
        unseen=sum(isinstance(one, Unseen) for one in known),
    )


def collapse(results: Sequence[CellResult[Healed]], _params: Params) -> Exit:
    """The exit code of the whole.

    From worst to best: ports could not be set back (7); a cell failed in no documented way (255); ports could not be
    written (6) or asked for (5); allocations could not be written (3); a compute node is missing (2); a flavor is not
    supported (8); ``--max-count`` was reached, or the run was stopped, and something is left (1); something was healed
    (0); nothing was (4).
    """
    found = {Exit(int(code)) for result in results for code in result.outcome.codes}
    found |= {FAILURES.get(result.failure.kind, Exit.ERROR) for result in results if result.failure}
    for code in ORDER:
        if code in found:
            return code
    if any(result.outcome.left or not result.complete for result in results):
        return Exit.MAX_COUNT
    return Exit.HEALED if any(result.outcome.rows for result in results) else Exit.NOTHING_HEALED


def next_params(params: Params, done: Healed) -> Params | None:
    """What the next cell may heal. With nothing left of the total it is only looked at, until somebody is found."""
    if params.max_count is None or done.left:
        return None if done.left else params
    return replace(params, max_count=max(params.max_count - done.rows, 0))


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
