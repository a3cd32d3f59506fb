"""A run in the command's own process: its cells on threads, its store in memory."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any, Final

from jobs.action import Action, CellResult, O, P, Target
from novadb.cells import Cell
from runs import rules
from runs.cell_worker import CellWorker
from runs.conductor import Conductor, write_audit
from runs.follow import FinishedRun, Follower, Listener, SilentListener
from runs.memory_store import MemoryStore
from runs.orders import PhaseOf, order_of, refs_of
from runs.pace import Speed
from runs.records import NEVER, Bell
from runs.rules import Patience
from runs.slices import SliceLimits, WorkingProcess
from runs.throttles import Throttles, WatchMaker

NO_LIMITS: Final = SliceLimits(work=NEVER, lease=NEVER)
"""A cell is worked to its end: nobody else could go on with it."""
NO_BELL_IS_LOST: Final = Patience(idle=NEVER, longest=NEVER, grace=NEVER)


class BellQueue:
    """The bells of one process, taken by its threads as far as the servers of their databases have
    room.
    """

    def __init__(self, servers: Sequence[Sequence[str]], per_server: int) -> None:
        """:param servers: to which the work in each cell has a connection: first that of its own
        database
        :param per_server: connections to one server
        """
        self._servers = [tuple(needed) for needed in servers]
        self._per_server = per_server
        self._lines: dict[tuple[str, ...], deque[tuple[int, Bell]]] = {}
        self._arrivals = count()
        self._busy: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._is_closed = False

    def ring(self, bell: Bell) -> None:
        """Put a bell at the end of the queue."""
        with self._changed:
            line = self._lines.setdefault(self._servers[bell.number], deque())
            line.append((next(self._arrivals), bell))
            self._changed.notify_all()

    def take(self) -> Bell | None:
        """The first bell whose server has room, as soon as there is one; None: the queue is
        closed.
        """
        with self._changed:
            while not self._is_closed:
                if bell := self._first_with_room():
                    return bell
                self._changed.wait()
            return None

    def _first_with_room(self) -> Bell | None:
        """Take the first bell whose servers have room. Cells that need the same servers stand in
        one line.
        """
        first = min(
            (
                (line[0][0], servers)
                for servers, line in self._lines.items()
                if not rules.full_servers(Counter(servers), self._busy, self._per_server)
            ),
            default=None,
        )
        if first is None:
            return None
        _, servers = first
        _, bell = self._lines[servers].popleft()
        if not self._lines[servers]:
            del self._lines[servers]
        self._busy += Counter(servers)
        return bell

    @contextmanager
    def second_connection(self, number: int) -> Iterator[bool]:
        """The context in which a cell has a second connection to its server, if that has one to
        spare: no wait.
        """
        own = Counter(self._servers[number][:1])
        with self._changed:
            busy = sum(self._busy[server] for server in own)
            is_granted = rules.may_have_second(
                busy, self._per_server, others_wait=bool(self._lines)
            )
            if is_granted:
                self._busy += own
        try:
            yield is_granted
        finally:
            if is_granted:
                self._free(own)

    def free_connections(self, bell: Bell) -> None:
        """Make room for other bells, once a bell is answered."""
        self._free(Counter(self._servers[bell.number]))

    def _free(self, connections: Counter[str]) -> None:
        with self._changed:
            self._busy -= connections
            self._changed.notify_all()

    def close(self) -> None:
        """Let the threads end."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


@dataclass
class LocalEngine:
    """Works cells in parallel, within limits.

    :ivar concurrency: cells at the same time
    :ivar per_server: connections to one server at the same time
    :ivar listeners: of each phase
    :ivar watch: looks at the servers of the cells: the work pauses while one suffers; None: nobody
        looks
    :ivar stop: once set, every cell ends after its current step
    """

    concurrency: int
    per_server: int
    listeners: Sequence[Listener] = ()
    stop: threading.Event = field(default_factory=threading.Event)
    watch: WatchMaker | None = None

    def run(
        self, phases: Sequence[PhaseOf], targets: Sequence[Target], until: float | None = None
    ) -> FinishedRun:
        """Carry actions out, one after the other, in each target.

        :param until: when the maintenance window closes, in seconds since the epoch
        :returns: the run; what went wrong in a cell is in its result, nothing is raised
        """
        return self._carry_out(phases, targets, until, write_audit)

    def work(
        self, action: Action[P, O], params: P, targets: Sequence[Target]
    ) -> list[CellResult[O]]:
        """Carry one action out in each target, for a command that does more than that: the log is
        told nothing.

        :returns: a result per target, in their order
        """
        return self._carry_out([(action, params)], targets, None, lambda *_: None).phases[0]

    def _carry_out(
        self,
        phases: Sequence[PhaseOf],
        targets: Sequence[Target],
        until: float | None,
        on_end: Callable[..., None],
    ) -> FinishedRun:
        order = order_of(phases, until=until, throttle=self.watch is not None)
        refs = [
            replace(ref, uuid=str(number)) for number, ref in enumerate(refs_of(targets, phases))
        ]
        bells = BellQueue([ref.servers for ref in refs], self.per_server)
        targets = [
            replace(target, second=partial(bells.second_connection, number))
            for number, target in enumerate(targets)
        ]
        actions = {action.name: action for action, _ in phases}
        store = MemoryStore(self.stop)
        conductor = Conductor(store, bells.ring, actions, NO_BELL_IS_LOST, on_end=on_end)
        throttles = Throttles(store, self.watch) if self.watch else None
        process = WorkingProcess("this process", NO_LIMITS, throttles=throttles)
        worker = CellWorker(conductor, lambda _, number: targets[int(number)], process)
        listeners = [_OfTargets(listener, targets) for listener in self.listeners]
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="cell") as pool:
            try:
                conductor.start(order, refs)
                answering = [
                    pool.submit(_answer_bells, bells, worker)
                    for _ in range(min(self.concurrency, len(targets)))
                ]
                follower = Follower(
                    conductor, self.stop, listeners, on_look=partial(_raise_error, answering)
                )
                finished = follower.follow(order.id)
            finally:
                bells.close()
        if throttles:
            throttles.close()
        return replace(
            finished, phases=[_with_cells(results, targets) for results in finished.phases]
        )


def _raise_error(answering: "Sequence[Future[None]]") -> None:
    """Raise what ended a thread before its time: nobody else would go on with its cell."""
    for thread in answering:
        if thread.done():
            thread.result()


def _answer_bells(bells: BellQueue, worker: CellWorker) -> None:
    """What a thread does."""
    while bell := bells.take():
        try:
            worker.answer(bell)
        finally:
            bells.free_connections(bell)


def _with_cells(results: Sequence[CellResult[O]], targets: Sequence[Target]) -> list[CellResult[O]]:
    """Results with the cells that they are of."""
    return [
        replace(result, cell=target.cell) for result, target in zip(results, targets, strict=True)
    ]


class _OfTargets(SilentListener):
    """Tells a listener of the cells that the command knows."""

    def __init__(self, listener: Listener, targets: Sequence[Target]) -> None:
        self._listener = listener
        self._targets = targets

    def _cell(self, cell: Cell) -> Cell:
        return self._targets[int(cell.uuid or 0)].cell

    def started(self, cell: Cell) -> None:
        self._listener.started(self._cell(cell))

    def stepped(self, cell: Cell, rows: int) -> None:
        self._listener.stepped(self._cell(cell), rows)

    def paced(self, cell: Cell | None, speed: Speed) -> None:
        self._listener.paced(self._cell(cell) if cell else None, speed)

    def throttled(self, cell: Cell, reason: str) -> None:
        self._listener.throttled(self._cell(cell), reason)

    def finished(self, result: CellResult[Any]) -> None:
        self._listener.finished(replace(result, cell=self._cell(result.cell)))
