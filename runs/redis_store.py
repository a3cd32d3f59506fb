"""The store of runs in Redis or Valkey.

It holds no rule: what a rule wants is written by one script, if the records that the rule was given
are still those that are there; otherwise the rule is asked again. Times are the server's.

A client whose connection breaks asks again without knowing whether the script ran: then the record
that it wanted is there already, with the version that it wanted, and that counts as written.

What cannot be read costs what it says, and one line: a cell has failed, a run is gone, and what all
runs share is made anew from what there is.
"""

import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, TypeVar

import msgspec
from redis.exceptions import RedisError, ResponseError

from jobs.action import Failure, FailureKind
from runs import pace, rules
from runs.records import (
    FORMAT,
    CellRecord,
    CellRef,
    Hold,
    Place,
    Progress,
    RunRecord,
    RunState,
    Stage,
    Summary,
    View,
)
from runs.redis_cells import count_step, write_cell, write_cells
from runs.redis_codec import SignOfLife, Unreadable, decode_json, decode_record, encode_record
from runs.redis_keys import (
    HISTORY,
    HOLD,
    LINES_OF,
    PROBE,
    QUEUE,
    RUN_KEYS,
    RUNS,
    TALLY,
    WORKERS,
    Field,
    decode_cell_key,
    encode_cell_key,
    line_key,
    look_key,
    phase_key,
    phase_keys,
    run_key,
    server_key,
    worker_key,
)
from runs.redis_scripts import DECIDE, LINES, OTHER_TYPE, Answer, Change
from runs.rules import Conditional, Refusal
from runs.soundness import is_sound_cell, is_sound_hold, is_sound_run, is_sound_summary
from runs.store import (
    LOOK_EXPIRES,
    NO_INCREMENTS,
    NOTHING,
    CellKey,
    CellRule,
    Increments,
    Line,
    QueueRule,
    RunDamaged,
    RunGone,
    RunRule,
    TooLate,
)
from throttle.readings import ServerState

LOG = logging.getLogger("cellkeeper.runs")
T = TypeVar("T")

DAY: Final = 86_400  # seconds


class RedisStore:
    """Runs in Redis.

    :ivar redis: the client, whose answers are text
    """

    away: tuple[type[Exception], ...] = (RedisError,)

    def __init__(self, redis: Any, expires: int, history_days: int = 400) -> None:
        """:param expires: seconds for which a run is kept after its end
        :param history_days: days for which its summary is
        """
        self.redis = redis
        self._expires = expires
        self._history_days = history_days
        self._decide = redis.register_script(DECIDE)
        self._read_lines = redis.register_script(LINES)
        self._exclusions: dict[str, frozenset[str]] = {}
        self._reported: set[str] = set()

    def now(self) -> float:
        seconds, micros = self.redis.time()
        return float(seconds) + int(micros) / 1e6

    def try_write(self) -> None:
        self.redis.set(PROBE, "", xx=True)  # it is never there

    # -- the queue ---------------------------------------------------------------------------------

    def create(
        self,
        run: RunRecord,
        cells: Sequence[CellRecord],
        exclusions: frozenset[str],
        rule: QueueRule,
    ) -> bool:
        key = run_key(run.order.id)
        while True:
            places, version, now, (existing,) = self._read_queue((key, "record"))
            if existing is not None:
                return existing == encode_record(run, 1)  # a try whose answer was lost
            if rules.is_too_late(run.order, now):
                raise TooLate
            queue = rule(
                [*places, Place(run.order.id)],
                self._exclusions_of(places) | {run.order.id: exclusions},
            )
            change = Change()
            change.latest = run.order.latest
            change.check((key, "record"), 0)
            change.check(QUEUE, version)
            refs = msgspec.json.encode([cell.ref for cell in cells]).decode()
            change.write(
                "HSET",
                key,
                "record",
                encode_record(run, 1),
                "names",
                json.dumps(sorted(exclusions)),
                "refs",
                refs,
            )
            write_cells(change, run.order.id, run.phase, cells)
            change.write("HSET", *QUEUE, encode_record(queue, version + 1))
            change.write("ZADD", RUNS, now, run.order.id)
            if expired := self._expired(now):
                change.write("ZREM", RUNS, *expired)
            if self._carry_out(change).written:
                return True

    def _expired(self, now: float) -> list[str]:
        """The runs of the list of which nothing is kept any more."""
        old: list[str] = self._shared(
            "the list of runs", lambda: self.redis.zrangebyscore(RUNS, 0, now - self._expires), []
        )
        with self.redis.pipeline(transaction=False) as pipe:
            for run in old:
                pipe.exists(run_key(run))
            return [run for run, is_there in zip(old, pipe.execute(), strict=True) if not is_there]

    def queue(self) -> list[Place]:
        return self._read_queue()[0]

    def change_queue(self, rule: QueueRule) -> list[Place]:
        while True:
            places, version, _, _ = self._read_queue()
            changed = list(rule(places, self._exclusions_of(places)))
            if changed == places:
                return places
            change = Change()
            change.check(QUEUE, version)
            change.write("HSET", *QUEUE, encode_record(changed, version + 1))
            if self._carry_out(change).written:
                return changed

    def _read_queue(self, *also: Field) -> tuple[list[Place], int, float, list[str | None]]:
        """The queue, its version, the time, and other records."""
        answer = self._carry_out(Change(QUEUE, *also))
        now, (record, *others) = answer.now, answer.records
        if record is None:
            return [], 0, now, others
        try:
            places, version = decode_record(record, list[Place])
        except Unreadable as unreadable:
            self._report("the queue of runs", "it is made anew from the runs that have not ended")
            places, version = self._unfinished_runs(), unreadable.version
        return places, version, now, others

    def _unfinished_runs(self) -> list[Place]:
        """The queue as the records of the runs have it, in the order in which they were ordered."""
        places = []
        for run in reversed(self.recent()):
            try:
                state = self.run(run).state
            except RunGone:
                continue
            if state is not RunState.ENDED:
                places.append(Place(run, state is RunState.RUNNING))
        return places

    def _exclusions_of(self, places: Sequence[Place]) -> dict[str, frozenset[str]]:
        """What the runs of the queue keep others off; one that is gone: nobody. They never change,
        so they are kept.
        """
        known = self._exclusions
        unknown = [place.run for place in places if place.run not in known]
        records = self._read(*[(run_key(run), "names") for run in unknown]) if unknown else []
        read = {
            run: self._decode_exclusions(run, record)
            for run, record in zip(unknown, records, strict=True)
        }
        exclusions = {place.run: (known | read)[place.run] for place in places}
        self._exclusions = exclusions  # threads of a beat share the store: each returns its own
        return dict(exclusions)

    def _decode_exclusions(self, run: str, record: str | None) -> frozenset[str]:
        try:
            return frozenset() if record is None else decode_json(record, frozenset[str])
        except msgspec.MsgspecError:
            self._report(f"run {run}, what it keeps others off", "it keeps off nobody")
            return frozenset()

    # -- runs --------------------------------------------------------------------------------------

    def run(self, run: str) -> RunRecord:
        (record,) = self._read((run_key(run), "record"))
        return self._decode_run(record, run)[0]

    def change_run(
        self,
        run: str,
        rule: RunRule,
        opening: Sequence[CellRecord] = (),
        entries: Mapping[str, float] = NOTHING,
    ) -> RunRecord | None:
        field = (run_key(run), "record")
        answer = self._carry_out(Change(field))
        while True:
            (record,) = answer.records
            before, version = self._decode_run(record, run)
            changed = rule(before, answer.now)
            if changed is None:
                return None
            change = Change(field)
            change.check(field, version)
            written = encode_record(changed, version + 1)
            change.write("HSET", *field, written)
            if opening:
                write_cells(change, run, changed.phase, opening)
            if changed.state is RunState.ENDED:
                self._leave_behind(change, changed)
            for name, number in entries.items():
                change.write("HSET", TALLY, name, number)
            with self._reading(run):
                answer = self._carry_out(change)
            if answer.written or answer.records == [written]:
                return changed

    def _leave_behind(self, change: Change, run: RunRecord) -> None:
        """A run has ended: its summary stays, all else expires."""
        summary = rules.summary(run)
        change.write("ZADD", HISTORY, summary.finished, msgspec.json.encode(summary).decode())
        change.write("ZREMRANGEBYSCORE", HISTORY, 0, summary.finished - self._history_days * DAY)
        change.write("EXPIRE", run_key(run.order.id), self._expires)
        for phase in range(run.phase + 1):
            for key in phase_keys(run.order.id, phase):
                change.write("EXPIRE", key, self._expires)

    def progress(self, run: str, phase: int) -> Progress:
        now = self.now()
        buckets = pace.recent(now)
        with self._reading(run), self.redis.pipeline(transaction=False) as pipe:
            sums = ("rows", "failed", "remaining", "foreseen")
            pipe.hmget(run_key(run), [f"{name} {phase}" for name in sums])
            pipe.zcard(phase_key(run, phase, "look"))
            pipe.zcount(phase_key(run, phase, "leases"), now, "+inf")
            pipe.mget([phase_key(run, phase, f"pace-{number}") for number in buckets])
            numbers, still_open, at_work, handled = pipe.execute()
        rows, failed, remaining, foreseen = [self._number(run, number) for number in numbers]
        lately = {
            number: self._number(run, text)
            for number, text in zip(buckets, handled, strict=True)
            if text
        }
        return Progress(rows, still_open, failed, at_work, remaining, foreseen, lately)

    def recent(self, limit: int | None = None) -> list[str]:
        last = -1 if limit is None else limit - 1
        return list(
            self._shared("the list of runs", lambda: self.redis.zrevrange(RUNS, 0, last), [])
        )

    # -- cells -------------------------------------------------------------------------------------

    def change_cell(
        self,
        run: str,
        phase: int,
        number: int,
        rule: CellRule,
        known: View | None = None,
        increments: Increments = NO_INCREMENTS,
    ) -> View | Refusal | None:
        reads = ((run_key(run), "record"), HOLD, (phase_key(run, phase), str(number)))
        if known:
            elapsed = time.monotonic() - known.read_at
            view = replace(known, now=known.now + elapsed)
        else:
            view = self._view(run, number, self._carry_out(Change(*reads)))
        while True:
            changed = rule(view)
            change = Change(*reads)
            if isinstance(changed, Conditional):
                provided, changed = changed.connections, changed.cell
                change.provide(provided)
            else:
                provided = {}
            if not isinstance(changed, CellRecord):
                return changed
            change.check(reads[2], view.version)
            written = write_cell(change, run, phase, view.cell, changed, view.version + 1)
            count_step(change, view, changed, increments)
            with self._reading(run):
                answer = self._carry_out(change)
            busy = {**(view.busy or {}), **dict(zip(provided, answer.connections, strict=True))}
            view = replace(self._view(run, number, answer), busy=busy, waiting=answer.waiting)
            if answer.written or answer.records[2] == written:
                return replace(view, cell=changed)

    def cell(self, run: str, phase: int, number: int) -> CellRecord:
        (record,) = self._read((phase_key(run, phase), str(number)))
        return self._decode_cell(record, run, number)[0]

    def cells(self, run: str, phase: int) -> list[CellRecord]:
        with self._reading(run):
            records = self.redis.hgetall(phase_key(run, phase))
        if not records:
            record = self.run(run)
            if phase > record.phase or record.cells:
                raise RunGone(run)
        cells = []
        for number in sorted(self._numbers(run, records)):
            text = records.pop(str(number))  # of many cells not all are in memory twice
            cells.append(self._decode_cell(text, run, number)[0])
        return cells

    def changes(self, run: str, phase: int, since: int) -> tuple[int, list[CellRecord]]:
        with self._reading(run):
            newer = self.redis.zrangebyscore(
                phase_key(run, phase, "changed"), f"({since}", "+inf", withscores=True
            )
            if not newer:
                return since, []
            numbers = self._numbers(run, [number for number, _ in newer])
            records = self.redis.hmget(phase_key(run, phase), numbers) if numbers else []
        changed = [
            (record, number)
            for record, number in zip(records, numbers, strict=True)
            if record is not None
        ]
        return int(newer[-1][1]), [
            self._decode_cell(record, run, number)[0] for record, number in changed
        ]

    def open_cells(self, run: str, phase: int) -> list[int]:
        with self._reading(run):
            return sorted(
                self._numbers(run, self.redis.zrange(phase_key(run, phase, "look"), 0, -1))
            )

    def count_open(self, run: str, phase: int) -> int:
        with self._reading(run):
            return int(self.redis.zcard(phase_key(run, phase, "look")))

    def silent(self, run: str, phase: int, limit: int) -> list[int]:
        key = phase_key(run, phase, "look")
        with self._reading(run):
            return self._numbers(
                run, self.redis.zrangebyscore(key, 0, self.now(), start=0, num=limit)
            )

    # -- connections to the servers of the cells ---------------------------------------------------

    def lines(self, length: int, servers: Sequence[str] = ()) -> list[Line]:
        answer = self._read_lines(args=[LINES_OF, line_key(""), server_key(""), length, *servers])
        return [
            Line(server, busy, [decode_cell_key(cell) for cell in cells])
            for server, busy, cells in answer
        ]

    def leave_line(self, server: str, cell: CellKey) -> None:
        run, phase, number = cell
        field = (phase_key(run, phase), str(number))
        (record,) = self._read(field)
        version = 0
        if record is not None:
            waiting_cell, version = self._decode_cell(record, run, number)
            if rules.is_in_line(waiting_cell):  # it has come back meanwhile: nobody would call it
                return
        change = Change()
        change.check(field, version)
        change.write("ZREM", line_key(server), encode_cell_key(*cell))
        self._carry_out(change)

    # -- what outlives the runs --------------------------------------------------------------------

    def tally(self) -> dict[str, float]:
        numbers: dict[str, float] = {}
        entries: dict[str, str] = self._shared("the tally", lambda: self.redis.hgetall(TALLY), {})
        for name, value in entries.items():
            try:
                numbers[name] = float(value)
            except ValueError:
                self._report(f"the tally, {name}", "it is left out")
        return numbers

    def history(self, since: float, limit: int | None = None) -> list[Summary]:
        bounds: dict[str, int] = {} if limit is None else {"start": 0, "num": limit}
        texts: list[str] = self._shared(
            "the history", lambda: self.redis.zrevrangebyscore(HISTORY, "+inf", since, **bounds), []
        )
        summaries = []
        for text in reversed(texts):
            try:
                summaries.append(decode_record(f"0 {text}", Summary, is_sound_summary)[0])
            except Unreadable:
                self._report("a run of the history", "it is left out")
        return summaries

    # -- steering ----------------------------------------------------------------------------------

    def hold(self) -> Hold | None:
        (record,) = self._read(HOLD)
        return self._decode_hold(record)

    def set_hold(self, hold: Hold | None) -> None:
        change = Change()
        if hold:
            change.write("HSET", *HOLD, encode_record(hold, 1))
        else:
            change.write("DEL", HOLD[0])
        self._carry_out(change)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    # -- what the servers of the cells suffer ------------------------------------------------------

    def claim_look(self, server: str, every: float) -> tuple[bool, ServerState | None]:
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.set(look_key(server, "claim"), 1, nx=True, px=int(every * 1000))
            pipe.get(look_key(server))
            claimed, text = pipe.execute(raise_on_error=False)
        return claimed is True, self._decode_look(server, text)

    def keep_look(self, server: str, state: ServerState) -> None:
        self.redis.set(look_key(server), msgspec.json.encode(state), ex=LOOK_EXPIRES)

    def _decode_look(self, server: str, text: Any) -> ServerState | None:
        """What was seen of a server; nothing, where the key is of another type or holds something
        else.
        """
        if text is None:
            return None
        try:
            return decode_json(text, ServerState)
        except (msgspec.MsgspecError, TypeError):
            self._report(f"server {server}, what was seen of it", "it is looked at anew")
            return None

    # -- workers -----------------------------------------------------------------------------------

    def show_alive(self, worker: str, serves: Sequence[str] | None, lease: float) -> None:
        """A worker's sign of life.

        :param serves: uuids of its cells; None: all
        :param lease: seconds without another one after which it counts as dead
        """
        sign = msgspec.json.encode(SignOfLife(None if serves is None else list(serves))).decode()
        now = self.now()
        change = Change()
        change.write("ZADD", WORKERS, now + lease, worker)
        change.write("ZREMRANGEBYSCORE", WORKERS, 0, now)
        change.write("SET", worker_key(worker), sign, "PX", int(lease * 1000))
        self._carry_out(change)

    def sign_off(self, worker: str) -> None:
        """A worker has ended."""
        change = Change()
        change.write("ZREM", WORKERS, worker)
        change.write("DEL", worker_key(worker))
        self._carry_out(change)

    def workers(self) -> dict[str, set[str] | None]:
        """The live workers of this version, and the uuids of the cells they serve; None: all."""
        now = self.now()
        names: list[str] = self._shared(
            "the list of workers", lambda: self.redis.zrangebyscore(WORKERS, now, "+inf"), []
        )
        signs = self.redis.mget([worker_key(name) for name in names]) if names else []
        serving: dict[str, set[str] | None] = {}
        for name, text in zip(names, signs, strict=True):
            if text is None:
                continue
            try:
                sign = decode_json(text, SignOfLife)
            except msgspec.MsgspecError:
                self._report(f"worker {name}, its sign of life", "it counts as dead")
                continue
            if sign.format == FORMAT:
                serving[name] = None if sign.serves is None else set(sign.serves)
        return serving

    # -- the script --------------------------------------------------------------------------------

    def _read(self, *fields: Field) -> list[str | None]:
        return self._carry_out(Change(*fields)).records

    def _carry_out(self, change: Change) -> Answer:
        written, seconds, micros, counts, waiting, *records = self._decide(
            args=[change.encoded(), RUN_KEYS]
        )
        return Answer(bool(written), int(seconds) + int(micros) / 1e6, records, counts, waiting)

    # -- what cannot be read -----------------------------------------------------------------------

    def _decode_run(self, record: str | None, run: str) -> tuple[RunRecord, int]:
        if record is None:
            raise RunGone(run)
        try:
            return decode_record(record, RunRecord, is_sound_run)
        except Unreadable:
            raise self._damaged(run) from None

    def _decode_cell(self, record: str | None, run: str, number: int) -> tuple[CellRecord, int]:
        """A cell, and the version of its record; one that cannot be read has failed."""
        if record is None:
            raise RunGone(f"{run}, cell {number}")
        try:
            return decode_record(
                record, CellRecord, lambda cell: cell.number == number and is_sound_cell(cell)
            )
        except Unreadable as unreadable:
            self._report(f"run {run}, cell {number}", "it has failed")
            failure = Failure(FailureKind.UNEXPECTED, "what the store had of it cannot be read")
            return CellRecord(
                number, self._ref(run, number), Stage.WORK, failure=failure
            ), unreadable.version

    def _ref(self, run: str, number: int) -> CellRef:
        """Which cell of a run has this number, as it was ordered; without uuid where that cannot be
        read, either.
        """
        (refs,) = self._read((run_key(run), "refs"))
        try:
            return decode_json(refs or "[]", list[CellRef])[number]
        except (msgspec.MsgspecError, IndexError):
            return CellRef("", f"cell {number}", "")

    def _decode_hold(self, record: str | None) -> Hold | None:
        if record is None:
            return None
        try:
            return decode_record(record, Hold, is_sound_hold)[0]
        except Unreadable:
            self._report("the hold of all runs", "nothing is held")
            return None

    def _view(self, run: str, number: int, answer: Answer) -> View:
        record, hold, cell = answer.records
        decoded, version = self._decode_cell(cell, run, number)
        run_record = self._decode_run(record, run)[0]
        return View(
            run_record, decoded, self._decode_hold(hold), answer.now, version, time.monotonic()
        )

    @contextmanager
    def _reading(self, run: str) -> Iterator[None]:
        """The context in which a key of another type damages a run.

        :raises RunDamaged: it is
        """
        try:
            yield
        except ResponseError as error:
            if OTHER_TYPE not in str(error):
                raise
            raise self._damaged(run) from None

    def _numbers(self, run: str, members: Collection[str]) -> list[int]:
        """The numbers of cells in an index, or in the hash of the cells."""
        numbers = [member for member in members if member.isdecimal() and member.isascii()]
        if len(numbers) < len(members):
            self._report(f"run {run}, a cell without a number", "it is left out")
        return [int(number) for number in numbers]

    def _number(self, run: str, text: str | None) -> int:
        """A sum over the cells of a run."""
        try:
            return int(text or 0)
        except ValueError:
            self._report(f"run {run}, a sum over its cells", "it is taken as 0")
            return 0

    def _damaged(self, run: str) -> RunDamaged:
        self._report(f"run {run}", "it is given up")
        return RunDamaged(run)

    def _shared(self, thing: str, ask: Callable[[], T], empty: T) -> T:
        """What all runs share; of another type, it is empty until it is written next."""
        try:
            return ask()
        except ResponseError as error:
            if OTHER_TYPE not in str(error):
                raise
            self._report(thing, "it is taken as empty")
            return empty

    def _report(self, thing: str, consequence: str) -> None:
        """Tell the log once that something cannot be read."""
        if thing not in self._reported:
            self._reported.add(thing)
            LOG.warning("%s: what the store has of it cannot be read, %s", thing, consequence)
