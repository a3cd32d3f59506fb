"""The rules of a run, each once: pure functions from what is so to what is to be.

Whoever calls them, a store carries the change out only if what they were given is still so.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import Any, Final

from jobs.action import Action, CellResult, Failure, Scope, Step
from jobs.codec import decode, encode
from jobs.exit_codes import UNEXPECTED
from novadb.attempts import FIRST_PAUSE
from runs import pace
from runs.outcomes import RunFacts, ending_of
from runs.pace import Speed
from runs.records import (
    NEVER,
    CellRecord,
    CellRef,
    Hold,
    Order,
    Phase,
    Place,
    Progress,
    RunRecord,
    RunState,
    Stage,
    Steering,
    Summary,
    View,
    Wish,
)
from throttle.in_force import in_words

Actions = Mapping[str, Action[Any, Any]]

ATTEMPTS: Final = 3
"""How often a slice may be begun without getting a step done: a tree that kills its worker must not
do so for ever.
"""
LONGEST_IN_LINE: Final = 480.0
"""Seconds after which a cell that waits for a connection is looked at, should whoever calls it have
forgotten it.
"""
CONTENDED_PATIENCE: Final = 180.0
"""Seconds for which a single row, or tree of rows, may be refused as others are at it, before the
cell fails. What works on a row of Nova's ends within seconds; what holds one for minutes is a
session that somebody has to look at.
"""
MOST_DOUBLINGS: Final = 16
"""How often a pause is doubled at most: after a thousand times it would be no number any more."""
LONGEST_PAUSE: Final = 5.0
"""Seconds between two tries of such a transaction, at most."""
LONGEST_TRY: Final = 60.0
"""Seconds that such a try and the pause before it count for at most: between two tries a run may be
paused.
"""
COUNTABLE: Final = 1 << 50
"""More than any database holds. A limit above that, such as ``--max-count``, does not tell how much
is left.
"""
MANY: Final = 1 << 30
"""More connections than any server has."""


class Advice(Enum):
    """What a worker of a run is to do after its current step."""

    GO_ON = "go on"
    PAUSE = "give the cell back, until the run is resumed"
    CANCEL = "end the cell"
    CLOSE = "end the cell: the maintenance window has closed"


class Refusal(StrEnum):
    """Why a cell is not granted to whoever heard its bell."""

    OVER = "over"
    CLAIMED = "claimed"
    PAUSED = "paused"


class NotPossible(Exception):
    """What somebody asks of a run cannot be done. The text says why, without the run's name."""


@dataclass(frozen=True)
class Adjustment:
    """What is to change in a run while it goes on.

    :ivar params: of the action, by name, as the operator wrote them
    :ivar until: when the maintenance window closes, in seconds since the epoch; infinite: never;
        None: as before
    :ivar words: for the record
    """

    params: Mapping[str, str]
    until: float | None
    words: str


@dataclass(frozen=True)
class Patience:
    """How long a conductor waits, in seconds.

    :ivar idle: without a sign of life from a cell that is due, before it is rung again; each time
        twice as long
    :ivar longest: that this pause becomes
    :ivar grace: without any worker that serves a cell, before it fails
    """

    idle: float = 30.0
    longest: float = 480.0
    grace: float = 30.0


# -- the queue -------------------------------------------------------------------------------------


def exclusions_of(order: Order, cells: Sequence[CellRef], actions: Actions) -> frozenset[str]:
    """What a run keeps others off: its actions, on its databases or in the whole cloud; what only
    reads, nobody.
    """
    exclusions = set()
    for phase in order.phases:
        action = actions[phase.action]
        if action.writes and action.scope is Scope.CLOUD:
            exclusions.add(f"{action.name}:cloud")
        elif action.writes:
            exclusions |= {f"{action.name}:{cell.fingerprint}" for cell in cells}
    return frozenset(exclusions)


def blocker(
    queue: Sequence[Place], exclusions: Mapping[str, frozenset[str]], run: str
) -> str | None:
    """The run for which a run of the queue waits: one that holds one of its databases, or came
    before and wants it.

    :param exclusions: what each run of the queue keeps others off
    """
    came_before = True
    for place in queue:
        if place.run == run:
            came_before = False
            continue
        goes_first = place.admitted or (came_before and not place.paused)
        if goes_first and exclusions[place.run] & exclusions[run]:
            return place.run
    return None


def admit(queue: Sequence[Place], exclusions: Mapping[str, frozenset[str]]) -> list[Place]:
    """The queue after all have been admitted for whom nobody is in the way, in the order of
    arrival.
    """
    admitted = list(queue)
    for number, place in enumerate(admitted):
        if (
            not place.admitted
            and not place.paused
            and blocker(admitted, exclusions, place.run) is None
        ):
            admitted[number] = replace(place, admitted=True)
    return admitted


def let_pass(queue: Sequence[Place], run: str, *, paused: bool) -> list[Place]:
    """The queue after a run of it was paused, or resumed."""
    return [replace(place, paused=paused) if place.run == run else place for place in queue]


# -- the run ---------------------------------------------------------------------------------------


def new_run(order: Order, cells: Sequence[CellRef], actions: Actions, now: float) -> RunRecord:
    """A run as it is ordered."""
    run = RunRecord(order, len(cells), ordered=now, until=order.until)
    return replace(run, budget=first_budget(run, actions))


def is_too_late(order: Order, now: float) -> bool:
    """Whether an order comes after the time until which it may be made."""
    return order.latest is not None and now > order.latest


def first_budget(run: RunRecord, actions: Actions) -> dict[str, Any] | None:
    """The budget that the cells share at the begin of a phase."""
    phase = run.order.phases[run.phase]
    return phase.params if shares_budget(run, actions) else None


def shares_budget(run: RunRecord, actions: Actions) -> bool:
    """Whether the cells of the current phase share a budget, and are worked one after the other."""
    phase = run.order.phases[run.phase]
    action = actions[phase.action]
    return action.in_turn(decode(action.params, phase.params))


def current_action(run: RunRecord, actions: Actions) -> tuple[Action[Any, Any], Any]:
    """The action of the current phase, with the parameters for the cell that works now."""
    phase = run.order.phases[run.phase]
    action = actions[phase.action]
    return action, decode(action.params, phase.params if run.budget is None else run.budget)


def new_cells(run: RunRecord, cells: Sequence[CellRef], actions: Actions) -> list[CellRecord]:
    """The cells of a phase at its begin.

    Those that share a budget are all looked at first: one that has nothing to do needs no turn.
    """
    action = actions[run.order.phases[run.phase].action]
    stage = Stage.WORK
    if shares_budget(run, actions):
        stage = Stage.LOOK if action.has_work and len(cells) > 1 else Stage.QUEUED
    look_at = NEVER if stage is Stage.QUEUED else 0.0
    return [CellRecord(number, cell, stage, look_at=look_at) for number, cell in enumerate(cells)]


def begin_run(run: RunRecord, now: float) -> RunRecord | None:
    """A run that is admitted begins."""
    if run.state is not RunState.WAITING:
        return None
    return replace(run, state=RunState.RUNNING, started=now, woken=now)


def all_runs_pause(hold: Hold | None, now: float) -> bool:
    """Whether all runs pause."""
    return hold is not None and (hold.until is None or now < hold.until)


def has_closed(run: RunRecord, now: float) -> bool:
    """Whether the maintenance window of a run closed before it ended."""
    moment = now if run.finished is None else run.finished
    return run.until is not None and moment >= run.until


def advice(run: RunRecord, hold: Hold | None, now: float) -> Advice:
    """What a run is to do now."""
    if run.wish is Wish.CANCEL or run.state is RunState.ENDED:
        return Advice.CANCEL
    if has_closed(run, now):
        return Advice.CLOSE
    if run.wish is Wish.PAUSE or all_runs_pause(hold, now):
        return Advice.PAUSE
    return Advice.GO_ON


def is_stopping(run: RunRecord, hold: Hold | None, now: float) -> bool:
    """Whether nothing new is to begin in a run ever again."""
    return advice(run, hold, now) in (Advice.CANCEL, Advice.CLOSE)


def state_in_words(run: RunRecord, hold: Hold | None, now: float, at_work: int) -> str:
    """The state of a run for people.

    :param at_work: cells that somebody works on right now
    """
    if run.facts is not None:
        return ending_of(run.facts)
    match advice(run, hold, now):
        case Advice.CANCEL:
            return "cancelling"
        case Advice.CLOSE:
            return "window closing"
        case Advice.PAUSE if run.wish is Wish.PAUSE or run.state is RunState.RUNNING:
            return "pausing" if at_work else "paused"
        case _:
            return run.state


def steer(run: RunRecord, wish: Wish, what: str, by: str, now: float) -> RunRecord | None:
    """What a run is asked to do; None: it has ended, or was asked to end before."""
    if run.state is RunState.ENDED or run.wish is Wish.CANCEL:
        return None
    woken = now if wish is Wish.NOTHING else run.woken
    return replace(run, wish=wish, woken=woken, steering=(*run.steering, Steering(what, by, now)))


def note_guards(run: RunRecord, signals: Iterable[str]) -> RunRecord | None:
    """Signals guard the server of a cell; None: the run is known to be guarded by all of them."""
    new_signals = [signal for signal in signals if signal not in run.guards]
    return replace(run, guards=(*run.guards, *new_signals)) if new_signals else None


def throttle_in_words(run: RunRecord) -> str:
    """What lets a run pause, for people."""
    return in_words(run.guards) if run.order.throttle else "off by --no-throttle"


def adjust(run: RunRecord, change: Adjustment, by: str, now: float, actions: Actions) -> RunRecord:
    """A run with other settings.

    :raises NotPossible: it has ended, has no such setting, or the value makes no sense
    """
    if run.state is RunState.ENDED:
        raise NotPossible("it has ended")
    steering = (*run.steering, Steering(change.words, by, now))
    order = replace(
        run.order, phases=(_adjusted(run, change.params, actions), *run.order.phases[1:])
    )
    until = run.until
    if change.until is not None:
        if change.until <= now:
            raise NotPossible("until is in the past: what ends it now is cellkeeper runs cancel")
        until = None if math.isinf(change.until) else change.until
    return replace(run, order=order, until=until, steering=steering)


def _adjusted(run: RunRecord, words: Mapping[str, str], actions: Actions) -> Phase:
    """The first phase with other parameters."""
    phase = run.order.phases[0]
    if not words:
        return phase
    if phase.action not in actions:
        raise NotPossible(
            f"{phase.action} is known to another version only: nothing but until can be set"
        )
    action = actions[phase.action]
    params = decode(action.params, phase.params)
    if run.phase > 0:
        raise NotPossible(f"{phase.action} is through: nothing but until can be set")
    if action.in_turn(params):
        raise NotPossible("its cells share a budget: nothing but until can be set")
    for name, value in words.items():
        if name not in action.adjustable:
            known = ", ".join([*sorted(action.adjustable), "until"])
            raise NotPossible(f"{name} cannot be set; what can: {known}")
        try:
            params = replace(params, **{name: action.adjustable[name](value)})
        except ValueError as error:
            raise NotPossible(f"{name}={value}: {error}") from error
    return replace(phase, params=encode(params))


def retries(
    run: RunRecord, phases: Sequence[Sequence[CellRecord]]
) -> list[tuple[tuple[Phase, ...], list[CellRef]]]:
    """What is to be run again of a run that has ended: for each phase in which cells failed, what
    began there.

    :raises NotPossible: it goes on, or nothing failed
    """
    if run.state is not RunState.ENDED:
        raise NotPossible("it has not ended")
    again = [
        (run.order.phases[number:], [cell.ref for cell in cells if cell.failure])
        for number, cells in enumerate(phases)
    ]
    failed = [(later, refs) for later, refs in again if refs]
    if not failed:
        raise NotPossible("none of its cells failed")
    if nameless := [ref.label for _, refs in failed for ref in refs if not ref.uuid]:
        raise NotPossible(
            f"what the store has of {nameless[0]} does not say which cell it was: give its command "
            "again"
        )
    return failed


def wake(run: RunRecord, now: float) -> RunRecord | None:
    """All cells of a run are about to be rung."""
    return replace(run, woken=now) if run.state is RunState.RUNNING else None


# -- the turns of cells that share a budget --------------------------------------------------------


def count_turn(run: RunRecord, cell: CellRecord, actions: Actions) -> RunRecord | None:
    """A cell has had its turn: the next one is given what it has left.

    :param cell: which is done
    """
    if run.turn != cell.number or run.state is RunState.ENDED:
        return None
    budget = run.budget
    if budget is not None:
        action = actions[run.order.phases[run.phase].action]
        params = action.next_params(decode(action.params, budget), outcome_of(action, cell))
        budget = None if params is None else encode(params)
    return replace(run, turn=run.turn + 1, budget=budget)


def take_turn(cell: CellRecord, now: float, patience: Patience) -> CellRecord | None:
    """A cell's turn has come."""
    if cell.stage is not Stage.QUEUED:
        return None
    return replace(cell, stage=Stage.WORK, look_at=now + patience.idle, touched=now)


# -- connections to a server -----------------------------------------------------------------------


@dataclass(frozen=True)
class Conditional:
    """A cell as it is to be, on condition that other cells have so many connections to its servers.

    :ivar connections: the least and the most that all other cells may have, by server
    """

    cell: CellRecord
    connections: Mapping[str, tuple[int, int]]


def connections(cell: CellRecord) -> Counter[str]:
    """How many connections the work in a cell has, by server."""
    servers = cell.ref.servers
    return Counter(servers) + Counter(servers[:1] if cell.second else ())


def full_servers(needed: Mapping[str, int], busy: Mapping[str, int], limit: int) -> list[str]:
    """The servers that have no room for the connections of a cell. One without any has: some cell
    must be worked.

    :param needed: connections of the cell, by server
    :param busy: connections of all other cells, by server
    :param limit: connections to one server
    """
    return [
        server
        for server, number in needed.items()
        if busy.get(server) and busy[server] + number > limit
    ]


def may_have_second(there: int, limit: int, *, others_wait: bool = True) -> bool:
    """Whether a cell may have one connection more to its server: where others wait or may come,
    half is left to them.

    :param there: connections that all cells have, this one's first included
    """
    return there + 1 <= (limit // 2 if others_wait else limit)


# -- the cell --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claimant:
    """Who wants to work on a cell.

    :ivar token: proves the claim
    :ivar worker: for people
    :ivar lease: seconds without a sign of life after which somebody else may claim it
    :ivar per_server: connections to one server that all cells together may have; None: others see
        to that
    """

    token: str
    worker: str
    lease: float
    per_server: int | None = None


def has_bell(cell: CellRecord) -> bool:
    """Whether a cell is worked on when its bell is heard. One that has failed already is only to be
    ended.
    """
    return cell.stage in (Stage.LOOK, Stage.WORK) and cell.failure is None


def claim(
    view: View, phase: int, who: Claimant, *, reads_ahead: bool = False
) -> CellRecord | Conditional | Refusal:
    """The cell as its bell is answered, or why it is not to be worked now.

    :param phase: for which the bell was rung
    :param reads_ahead: whether the work has use for a second connection
    :returns: without a claim where a server has no room: the cell then waits in its line
    """
    run, cell, now = view.run, view.cell, view.now
    if run.state is not RunState.RUNNING or run.phase != phase or not has_bell(cell):
        return Refusal.OVER
    if cell.lease_until > now:
        return Refusal.CLAIMED
    wanted = advice(run, view.hold, now)
    if wanted is Advice.PAUSE:
        return Refusal.PAUSED
    begins = cell.started is None and cell.stage is Stage.WORK and wanted is Advice.GO_ON
    claimed = replace(
        cell,
        holder=who.token,
        worker=who.worker,
        lease_until=now + who.lease,
        look_at=now + who.lease,
        rings=0,
        attempts=cell.attempts + 1,
        started=now if begins else cell.started,
        touched=now,
        waits_since=0.0,
        called=False,
    )
    if who.per_server is None or not cell.ref.servers:
        return claimed
    needs_second = reads_ahead and cell.stage is Stage.WORK
    return _with_room(claimed, cell, view.busy or {}, who.per_server, needs_second=needs_second)


def _with_room(
    claimed: CellRecord,
    waiting: CellRecord,
    busy: Mapping[str, int],
    limit: int,
    *,
    needs_second: bool,
) -> Conditional:
    """A claimed cell where its servers have room for it; else the one that waits."""
    needed = Counter(claimed.ref.servers)
    if full := full_servers(needed, busy, limit):
        server = full[0]
        least = max(limit - needed[server], 0) + 1
        line = replace(
            waiting,
            waits_since=waiting.waits_since or claimed.touched,
            called=False,
            look_at=claimed.touched + LONGEST_IN_LINE,
            touched=claimed.touched,
        )
        return Conditional(line, {server: (least, MANY)})
    most = {server: max(limit - number, 0) for server, number in needed.items()}
    own = claimed.ref.servers[0]
    has_second = needs_second and may_have_second(needed[own] + busy.get(own, 0), limit)
    if has_second:
        most[own] = limit // 2 - needed[own] - 1
    return Conditional(
        replace(claimed, second=has_second),
        {server: (0, number) for server, number in most.items()},
    )


def call_from_line(cell: CellRecord, now: float, patience: Patience) -> CellRecord | None:
    """A cell that has waited longest is told that there is room; None: it waits no more."""
    if not is_in_line(cell):
        return None
    return replace(cell, called=True, look_at=now + patience.idle, touched=now)


def stand_in_line(cell: CellRecord, now: float) -> CellRecord | None:
    """A cell that was given back lets those go first that wait for a connection."""
    if cell.holder or cell.waits_since or not has_bell(cell):
        return None
    return replace(cell, waits_since=now, look_at=now + LONGEST_IN_LINE, touched=now)


def is_in_line(cell: CellRecord) -> bool:
    """Whether a cell stands in the line of a server."""
    return bool(cell.waits_since) and not cell.called


def renew(cell: CellRecord, who: Claimant, now: float) -> CellRecord | None:
    """A claim is renewed; None: it is lost."""
    if cell.holder != who.token:
        return None
    return replace(cell, lease_until=now + who.lease, look_at=now + who.lease, touched=now)


def record_step(
    cell: CellRecord, who: Claimant, now: float, step: Step[Any], outcome: Any
) -> CellRecord | None:
    """A step is done, and the claim renewed; None: the claim is lost, write no more.

    :param step: where it does not know how much remains, what was known before counts
    :param outcome: of the work in the cell so far
    """
    handled, remaining = step.outcome.handled, step.remaining
    renewed = renew(cell, who, now)
    if renewed and (handled or step.cursor != cell.cursor):
        renewed = replace(renewed, contended="", contended_at=0.0, contended_for=0.0, contentions=0)
    if remaining is not None and remaining > COUNTABLE:
        remaining = None
    if remaining is None and cell.remaining is not None:
        remaining = max(cell.remaining - handled, 0)
    return renewed and replace(
        renewed,
        cursor=step.cursor,
        outcome=outcome,
        attempts=0,
        pace=pace.add(cell.pace, now, handled),
        remaining=remaining,
        throttled="",
    )


def throttle(cell: CellRecord, who: Claimant, now: float, reason: str) -> CellRecord | None:
    """The work pauses, and the claim is renewed; None: the claim is lost.

    :param reason: what the server suffers; empty: the work goes on
    """
    renewed = renew(cell, who, now)
    return renewed and replace(renewed, throttled=reason)


def contend(cell: CellRecord, who: Claimant, now: float, problem: str) -> CellRecord | None:
    """A transaction was refused, as others are at the same rows, and is tried again; None: the
    claim is lost.

    :param problem: the words of the database
    """
    renewed = renew(cell, who, now)
    since_last = min(now - cell.contended_at, LONGEST_TRY) if cell.contentions else 0.0
    return renewed and replace(
        renewed,
        contended=problem,
        contended_at=now,
        contended_for=cell.contended_for + since_last,
        contentions=cell.contentions + 1,
    )


def pause_of_contended(cell: CellRecord) -> float:
    """Seconds until the transaction is tried again that others hold up, without jitter."""
    pause: float = FIRST_PAUSE * 2 ** min(cell.contentions - 1, MOST_DOUBLINGS)
    return min(pause, LONGEST_PAUSE)


def gives_up(cell: CellRecord) -> bool:
    """Whether others have held up a transaction of a cell for so long that the cell fails."""
    return cell.contended_for >= CONTENDED_PATIENCE


def give_back(cell: CellRecord, who: Claimant, now: float, patience: Patience) -> CellRecord | None:
    """A slice has ended with more to do: the cell is due again. Nobody died of it, so no attempt
    counts.
    """
    if cell.holder != who.token:
        return None
    return replace(
        cell,
        holder="",
        lease_until=0.0,
        look_at=now + patience.idle,
        slices=cell.slices + 1,
        attempts=0,
        touched=now,
        second=False,
    )


def queue_up(cell: CellRecord, who: Claimant, now: float) -> CellRecord | None:
    """A cell that was looked at has something to do."""
    if cell.holder != who.token:
        return None
    return replace(
        cell,
        stage=Stage.QUEUED,
        holder="",
        lease_until=0.0,
        look_at=NEVER,
        attempts=0,
        touched=now,
        second=False,
    )


def finish_cell(
    cell: CellRecord, token: str, now: float, failure: Failure | None, *, complete: bool
) -> CellRecord | None:  # fmt: skip
    """The work in a cell ends.

    :param token: of the claim; empty: only if nobody holds a live one
    :returns: None: it has ended before, or somebody else holds it
    """
    is_ours = cell.holder == token if token else cell.lease_until <= now
    if cell.stage is Stage.DONE or not is_ours:
        return None
    return replace(
        cell,
        stage=Stage.DONE,
        holder="",
        lease_until=0.0,
        look_at=NEVER,
        failure=failure or cell.failure,
        complete=complete,
        finished=now,
        touched=now,
        second=False,
        waits_since=0.0,
        called=False,
        pace={},
        remaining=0,
        throttled="",
        contended="",
    )


def was_just_woken(run: RunRecord, now: float, patience: Patience) -> bool:
    """Whether all cells of a run were rung so lately that nobody looks for lost bells yet."""
    return run.woken + patience.idle > now


def ring_again(
    cell: CellRecord, run: RunRecord, now: float, patience: Patience
) -> CellRecord | None:
    """A cell that is due shows no sign of life: its bell may be lost."""
    is_due = has_bell(cell) and cell.lease_until <= now
    if not is_due or cell.look_at > now or was_just_woken(run, now, patience):
        return None
    pause = min(patience.idle * 2 ** min(cell.rings, MOST_DOUBLINGS), patience.longest)
    return replace(cell, rings=cell.rings + 1, look_at=now + pause)


def reason_of_pause(cell: CellRecord) -> str:
    """Why the work in a cell pauses; empty: it does not."""
    if cell.contended and not cell.throttled:
        return f"others are at the same rows: {cell.contended}"
    return cell.throttled


def cell_in_words(cell: CellRecord) -> str:
    """The state of a cell for people."""
    if cell.failure:
        return "failed"
    if cell.stage is Stage.DONE:
        return "done" if cell.complete else "stopped"
    if cell.stage is Stage.QUEUED:
        return "queued"
    if cell.waits_since:
        return "server busy"
    if cell.throttled:
        return "throttled"
    if cell.contended:
        return "rows locked"
    return "working" if cell.holder else "waiting"


# -- how fast it goes ------------------------------------------------------------------------------


def goes_on_since(run: RunRecord, hold: Hold | None, now: float) -> float | None:
    """Since when a run has gone on without a pause; None: it does not."""
    if run.state is not RunState.RUNNING or advice(run, hold, now) is not Advice.GO_ON:
        return None
    released = hold.until if hold and hold.until else 0.0
    return max(run.started or 0.0, run.woken, released)


def speed_of_cell(cell: CellRecord, run: RunRecord, hold: Hold | None, now: float) -> Speed:
    """How fast the work in a cell of the current phase goes: by the clock, its pauses between two
    slices included.
    """
    since = goes_on_since(run, hold, now)
    if since is None or cell.stage is not Stage.WORK or cell.started is None:
        return Speed(None, cell.remaining)
    return Speed(pace.rate(cell.pace, max(since, cell.started), now), cell.remaining)


def speed_of_run(
    progress: Progress, run: RunRecord, hold: Hold | None, now: float, actions: Actions
) -> Speed:
    """How fast the current phase goes, over all its cells."""
    since = goes_on_since(run, hold, now)
    rate = None if since is None else pace.rate(progress.pace, since, now)
    return Speed(rate, _remaining(progress, run, actions))


def _remaining(progress: Progress, run: RunRecord, actions: Actions) -> int | None:
    """How much is still to be handled in a run, where it is known of every cell. A shared budget is
    that of all.
    """
    is_last = run.phase + 1 == len(run.order.phases)
    if (
        run.state is RunState.ENDED
        or not is_last
        or run.order.phases[run.phase].action not in actions
    ):
        return None  # what a later phase will find is not known
    if shares_budget(run, actions):
        return progress.remaining or None
    return progress.remaining if progress.foreseen == run.cells else None


# -- the end ---------------------------------------------------------------------------------------


def outcome_of(action: Action[Any, Any], cell: CellRecord) -> Any:
    """What was done in a cell so far. Of what cannot be read as an outcome of the action it is not
    known: nothing.
    """
    if cell.outcome is None:
        return action.nothing
    if not isinstance(cell.outcome, dict):
        return cell.outcome
    try:
        outcome = decode(type(action.nothing), cell.outcome)
        return outcome if outcome.rows >= 0 else action.nothing
    except (AttributeError, LookupError, TypeError, ValueError):
        return action.nothing


def next_phase(
    run: RunRecord, first: Sequence[CellResult[Any]], now: float, actions: Actions
) -> RunRecord | None:
    """The run in its next phase; None: it has none, or the first phase wrote nothing, or it is to
    end.

    :param first: the results of the first phase
    """
    has_written = any(result.outcome.rows for result in first)
    if run.phase + 1 >= len(run.order.phases) or not has_written:
        return None
    if run.wish is Wish.CANCEL or has_closed(run, now):
        return None
    following = replace(run, phase=run.phase + 1, turn=0, woken=now)
    return replace(following, budget=first_budget(following, actions))


def exit_code(order: Order, phases: Sequence[Sequence[CellResult[Any]]], actions: Actions) -> int:
    """What the results of all phases collapse into: those of the first one, unless a later one
    failed.
    """
    if any(result.failure for results in phases[1:] for result in results):
        return UNEXPECTED
    phase = order.phases[0]
    action = actions[phase.action]
    return int(action.collapse(phases[0], decode(action.params, phase.params)))


def facts_of(
    run: RunRecord, phases: Sequence[Sequence[CellResult[Any]]], code: int, actions: Actions
) -> RunFacts:
    """What decides how a run ended.

    :param phases: the results of each phase that was begun, in order
    """
    action = actions[run.order.phases[0].action]
    first = phases[0]
    rows = sum(result.outcome.rows for result in first)
    lacks_phase = bool(rows) and len(phases) < len(run.order.phases)
    return RunFacts(
        cells=run.cells,
        failed_cells=sum(result.failure is not None for result in first),
        failed_later=any(result.failure for results in phases[1:] for result in results),
        has_bad_code=code not in action.good_codes,
        unfinished=lacks_phase
        or not all(result.complete for results in phases for result in results),
        rows=rows,
        blocked=sum(result.outcome.stayed for result in first),
        writes=action.writes,
        cancelled=run.wish is Wish.CANCEL,
        window_closed=run.finished is not None and has_closed(run, run.finished),
    )


def end_run(
    run: RunRecord, phases: Sequence[Sequence[CellResult[Any]]], now: float, actions: Actions
) -> RunRecord | None:
    """The run has ended; None: it had before.

    :param phases: the results of each phase that it came to
    """
    if run.state is RunState.ENDED or run.phase != len(phases) - 1:
        return None
    code = exit_code(run.order, phases, actions)
    ended = replace(run, state=RunState.ENDED, exit_code=code, finished=now)
    return replace(ended, facts=facts_of(ended, phases, code, actions))


def summary(run: RunRecord) -> Summary:
    """What remains of a run that has ended."""
    assert run.finished is not None
    assert run.exit_code is not None
    assert run.facts is not None
    return Summary(
        run=run.order.id,
        action=run.order.phases[0].action,
        by=run.order.by,
        ordered=run.ordered,
        started=run.started,
        finished=run.finished,
        exit_code=run.exit_code,
        ending=ending_of(run.facts),
        facts=run.facts,
    )
