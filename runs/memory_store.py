"""The store of a run in the command's own process."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from runs import pace, rules
from runs.records import (
    CellRecord,
    Hold,
    Place,
    Progress,
    RunRecord,
    RunState,
    Stage,
    Summary,
    View,
    Wish,
)
from runs.rules import Conditional, Refusal
from runs.store import (
    LOOK_EXPIRES,
    NO_INCREMENTS,
    NOTHING,
    CellKey,
    CellRule,
    Increments,
    Line,
    QueueRule,
    RunGone,
    RunRule,
    TooLate,
)
from throttle.readings import ServerState


@dataclass
class _Kept:
    """A run with its cells.

    :ivar phases: the cells of each phase, by number
    :ivar marks: when each changed cell of a phase was changed last, counted in changes, and in this
        order
    :ivar open_cells: the numbers of the cells of each phase that are not done
    :ivar paces: what was handled in each phase lately
    """

    run: RunRecord
    exclusions: frozenset[str]
    phases: list[list[CellRecord]] = field(default_factory=list)
    marks: list[dict[int, int]] = field(default_factory=list)
    open_cells: list[set[int]] = field(default_factory=list)
    paces: list[dict[int, int]] = field(default_factory=list)
    changes: int = 0

    def open_phase(self, cells: Sequence[CellRecord]) -> None:
        """Add the cells of a phase that begins."""
        self.phases.append(list(cells))
        self.marks.append({})
        self.paces.append({})
        self.open_cells.append({cell.number for cell in cells if cell.stage is not Stage.DONE})

    def put(self, phase: int, cell: CellRecord) -> None:
        """Keep a cell that has changed."""
        self.phases[phase][cell.number] = cell
        self.changes += 1
        self.marks[phase].pop(cell.number, None)
        self.marks[phase][cell.number] = self.changes
        if cell.stage is Stage.DONE:
            self.open_cells[phase].discard(cell.number)


class MemoryStore:
    """Runs of one process. They end with it."""

    away: tuple[type[Exception], ...] = ()

    def __init__(self, stop: threading.Event | None = None) -> None:
        """:param stop: once set, every run is asked to end"""
        self._stop = stop or threading.Event()
        self._lock = threading.Condition()
        self._runs: dict[str, _Kept] = {}
        self._claimed: dict[CellKey, CellRecord] = {}
        self._in_line: dict[CellKey, CellRecord] = {}
        self._queue: list[Place] = []
        self._hold: Hold | None = None
        self._tally: dict[str, float] = {}
        self._claimed_looks: dict[str, float] = {}
        self._looks: dict[str, ServerState] = {}

    def now(self) -> float:
        return time.time()

    def try_write(self) -> None: ...

    # -- the queue

    def create(
        self,
        run: RunRecord,
        cells: Sequence[CellRecord],
        exclusions: frozenset[str],
        rule: QueueRule,
    ) -> bool:
        with self._lock:
            if run.order.id in self._runs:
                return False
            if rules.is_too_late(run.order, self.now()):
                raise TooLate
            known = self._exclusions() | {run.order.id: exclusions}
            self._queue = list(rule([*self._queue, Place(run.order.id)], known))
            kept = _Kept(run, exclusions)
            kept.open_phase(cells)
            self._runs[run.order.id] = kept
            return True

    def queue(self) -> list[Place]:
        with self._lock:
            return list(self._queue)

    def change_queue(self, rule: QueueRule) -> list[Place]:
        with self._lock:
            self._queue = list(rule(list(self._queue), self._exclusions()))
            return list(self._queue)

    def _exclusions(self) -> dict[str, frozenset[str]]:
        kept = {place.run: self._runs.get(place.run) for place in self._queue}
        return {run: entry.exclusions if entry else frozenset() for run, entry in kept.items()}

    # -- runs

    def run(self, run: str) -> RunRecord:
        with self._lock:
            return self._find(run).run

    def change_run(
        self,
        run: str,
        rule: RunRule,
        opening: Sequence[CellRecord] = (),
        entries: Mapping[str, float] = NOTHING,
    ) -> RunRecord | None:
        with self._lock:
            kept = self._find(run)
            changed = rule(kept.run, self.now())
            if changed is None:
                return None
            kept.run = changed
            if opening:
                kept.open_phase(opening)
            self._tally |= entries
            self._lock.notify_all()
            return changed

    def progress(self, run: str, phase: int) -> Progress:
        now = self.now()
        with self._lock:
            kept = self._find(run)
            cells = list(self._phase(kept, phase))
        return Progress(
            rows=sum(cell.outcome.rows for cell in cells if cell.outcome is not None),
            open=self.count_open(run, phase),
            failed=sum(cell.failure is not None for cell in cells),
            at_work=sum(cell.lease_until > now for cell in cells),
            remaining=sum(cell.remaining or 0 for cell in cells),
            foreseen=sum(cell.remaining is not None for cell in cells),
            pace=kept.paces[phase],
        )

    def recent(self, limit: int | None = None) -> list[str]:
        with self._lock:
            return list(reversed(self._runs))[:limit]

    # -- cells

    def change_cell(
        self,
        run: str,
        phase: int,
        number: int,
        rule: CellRule,
        known: View | None = None,
        increments: Increments = NO_INCREMENTS,
    ) -> View | Refusal | None:
        with self._lock:
            kept = self._find(run)
            before = self._cell(kept, phase, number)
            busy = self._busy(before) if before.ref.servers else None
            view = View(kept.run, before, self._hold, self.now(), busy=busy)
            changed = rule(view)
            if isinstance(changed, Conditional):
                changed = changed.cell  # nobody else has changed anything since
            if not isinstance(changed, CellRecord):
                return changed
            kept.put(phase, changed)
            self._index((run, phase, number), changed)
            if increments.handled:
                kept.paces[phase] = pace.add(kept.paces[phase], view.now, increments.handled)
            for name, amount in increments.counters.items():
                self._tally[name] = self._tally.get(name, 0) + amount
            self._lock.notify_all()
            return replace(view, cell=changed, waiting=self._count_waiting(before, changed))

    def cell(self, run: str, phase: int, number: int) -> CellRecord:
        with self._lock:
            return self._cell(self._find(run), phase, number)

    def cells(self, run: str, phase: int) -> list[CellRecord]:
        with self._lock:
            return list(self._phase(self._find(run), phase))

    def changes(self, run: str, phase: int, since: int) -> tuple[int, list[CellRecord]]:
        with self._lock:
            kept = self._find(run)
            cells = self._phase(kept, phase)
            newest_first = takewhile(
                lambda marked: marked[1] > since, reversed(kept.marks[phase].items())
            )
            numbers = [number for number, _ in newest_first]
            return kept.changes, [cells[number] for number in reversed(numbers)]

    def open_cells(self, run: str, phase: int) -> list[int]:
        with self._lock:
            return sorted(self._find(run).open_cells[phase])

    def count_open(self, run: str, phase: int) -> int:
        with self._lock:
            return len(self._find(run).open_cells[phase])

    def silent(self, run: str, phase: int, limit: int) -> list[int]:
        now = self.now()
        with self._lock:
            silent = [cell for cell in self._phase(self._find(run), phase) if cell.look_at <= now]
        silent.sort(key=lambda cell: cell.look_at)
        return [cell.number for cell in silent][:limit]

    # -- connections to the servers of the cells

    def _busy(self, cell: CellRecord) -> Counter[str]:
        """The connections of all cells but one."""
        now, busy = self.now(), Counter[str]()
        for other in self._claimed.values():
            if other is not cell and other.lease_until > now:
                busy += rules.connections(other)
        return busy

    def _index(self, key: CellKey, cell: CellRecord) -> None:
        """Keep in mind which cells are claimed, and which stand in line: few of many."""
        for index, is_in_it in (
            (self._claimed, bool(cell.holder)),
            (self._in_line, rules.is_in_line(cell)),
        ):
            if is_in_it:
                index[key] = cell
            else:
                index.pop(key, None)

    def _count_waiting(self, before: CellRecord, cell: CellRecord) -> int:
        """How many cells wait for connections that one has just given back."""
        if not before.ref.servers or not before.holder or cell.holder:
            return 0
        return sum(
            not {*other.ref.servers}.isdisjoint(before.ref.servers)
            for other in self._in_line.values()
        )

    def lines(self, length: int, servers: Sequence[str] = ()) -> list[Line]:
        with self._lock:
            now, busy = self.now(), Counter[str]()
            waiting: dict[str, list[tuple[float, CellKey]]] = defaultdict(list)
            for cell in self._claimed.values():
                if cell.lease_until > now:
                    busy += rules.connections(cell)
            for key, cell in self._in_line.items():
                for server in set(cell.ref.servers):
                    waiting[server].append((cell.waits_since, key))
        return [
            Line(server, busy[server], [key for _, key in sorted(cells)[:length]])
            for server, cells in waiting.items()
            if not servers or server in servers
        ]

    def leave_line(self, server: str, cell: CellKey) -> None:
        """A cell is in its lines as its record says."""

    # -- what outlives the runs

    def tally(self) -> dict[str, float]:
        with self._lock:
            return dict(self._tally)

    def history(self, since: float, limit: int | None = None) -> list[Summary]:
        with self._lock:
            ended = [kept.run for kept in self._runs.values() if kept.run.state is RunState.ENDED]
        summaries = [rules.summary(run) for run in ended]
        chosen = [summary for summary in summaries if summary.finished >= since]
        chosen.sort(key=lambda summary: summary.finished)
        return chosen if limit is None else chosen[-limit:]

    # -- steering

    def hold(self) -> Hold | None:
        return self._hold

    def set_hold(self, hold: Hold | None) -> None:
        with self._lock:
            self._hold = hold
            self._lock.notify_all()

    def wait(self, seconds: float) -> None:
        with self._lock:
            self._lock.wait(seconds)

    # -- what the servers of the cells suffer

    def claim_look(self, server: str, every: float) -> tuple[bool, ServerState | None]:
        with self._lock:
            now = self.now()
            is_granted = now - self._claimed_looks.get(server, 0.0) >= every
            if is_granted:
                self._claimed_looks[server] = now
            state = self._looks.get(server)
            return is_granted, state if state and now - state.at < LOOK_EXPIRES else None

    def keep_look(self, server: str, state: ServerState) -> None:
        with self._lock:
            self._looks[server] = state

    def _find(self, run: str) -> _Kept:
        if run not in self._runs:
            raise RunGone(run)
        kept = self._runs[run]
        if self._stop.is_set() and kept.run.wish is not Wish.CANCEL:
            kept.run = replace(kept.run, wish=Wish.CANCEL)
        return kept

    @staticmethod
    def _phase(kept: _Kept, phase: int) -> list[CellRecord]:
        if not 0 <= phase < len(kept.phases):
            raise RunGone(f"{kept.run.order.id}, phase {phase + 1}")
        return kept.phases[phase]

    def _cell(self, kept: _Kept, phase: int, number: int) -> CellRecord:
        cells = self._phase(kept, phase)
        if not 0 <= number < len(cells):
            raise RunGone(f"{kept.run.order.id}, cell {number}")
        return cells[number]
