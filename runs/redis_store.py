"""The store of runs in Redis or Valkey.

It holds no rule: what a rule wants is written by one script, if the records that the rule was given are still those
that are there; otherwise the rule is asked again. Times are the server's.

A client whose connection breaks asks again without knowing whether the script ran: then the record that it wanted is
there already, with the version that it wanted, and that counts as written.

What cannot be read costs what it says, and one line: a cell has failed, a run is gone, and what all runs share is made
anew from what there is.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any, Final, TypeVar

import msgspec
from redis.exceptions import RedisError, ResponseError

from jobs.action import Failure, FailureKind
from jobs.codec import encode
from runs import rules
from runs.records import FORMAT, CellRecord, CellRef, Hold, Place, Progress, RunRecord, RunState, Stage, Summary
from runs.rules import Refusal
from runs.store import (
    NO_BOOKS,
    NOTHING,
    Books,
    CellRule,
    QueueRule,
    RunDamaged,
    RunGone,
    RunRule,
    TooLate,
    View,
)

LOG = logging.getLogger("cellkeeper.runs")
T = TypeVar("T")

PREFIX: Final = "cellkeeper"
NOW: Final = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000);"
DAY: Final = 86_400  # seconds
AT_ONCE: Final = 1000
"""Cells in one command of a script."""

OTHER_TYPE: Final = "WRONGTYPE"
"""How Redis says that a key is none of the type that a command is for."""

# Each record lies in a field of a hash, as its version, a space, and JSON. Writes what is asked if the versions of
# the records are those that are named; answers whether it did, the time, and the records that are asked for. A record
# whose key is of another type is empty. A key of another type makes room for what is written, unless a run cannot do
# without what it held. What may be written until a certain time only is not written later.
DECIDE: Final = """
local asked = cjson.decode(ARGV[1])
local function read(key, field)
  local record = redis.pcall('HGET', key, field)
  if type(record) == 'table' then return '' end
  return record
end
local function is_needed(key)
  local is_list = string.find(key, ':leases$') or string.find(key, ':changed$')
  return string.find(key, ARGV[2], 1, true) == 1 and not is_list
end
local function write(command)
  local reply = redis.pcall(unpack(command))
  if type(reply) ~= 'table' or not reply.err then return end
  if not is_needed(command[2]) and string.find(reply.err, 'WRONGTYPE', 1, true) then redis.call('DEL', command[2]) end
  redis.call(unpack(command))
end
local written = 1
for _, c in ipairs(asked.checks) do
  local record = read(c[1], c[2])
  if (record and string.match(record, '^%d+') or '0') ~= c[3] then written = 0 end
end
local t = redis.call('TIME')
if asked.latest and tonumber(t[1]) + tonumber(t[2]) / 1000000 > asked.latest then written = 0 end
if written == 1 then
  for _, command in ipairs(asked.writes) do write(command) end
  for _, m in ipairs(asked.marks) do
    write({'ZADD', m[2], redis.call('HINCRBY', m[1], 'changes', 1), m[3]})
  end
end
local answer = {written, t[1], t[2]}
for _, r in ipairs(asked.reads) do answer[#answer + 1] = read(r[1], r[2]) end
return answer
"""

Field = tuple[str, str]
"""Where a record lies: a key and a field of its hash."""


class _Change:
    """What one script is to do."""

    def __init__(self, *reads: Field) -> None:
        self.reads = reads
        self.checks: list[tuple[str, str, str]] = []
        self.writes: list[list[str]] = []
        self.marks: list[tuple[str, str, str]] = []
        self.latest: float | None = None

    def check(self, field: Field, version: int) -> None:
        self.checks.append((*field, str(version)))

    def write(self, *command: object) -> None:
        self.writes.append([str(word) for word in command])

    def encoded(self) -> bytes:
        asked: dict[str, Any] = {
            "checks": self.checks,
            "writes": self.writes,
            "marks": self.marks,
            "reads": self.reads,
        }
        if self.latest is not None:
            asked["latest"] = self.latest
        return msgspec.json.encode(asked)


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
        self._names: dict[str, frozenset[str]] = {}
        self._reported: set[str] = set()

    def now(self) -> float:
        seconds, micros = self.redis.time()
        return float(seconds) + int(micros) / 1e6

    # -- the queue -------------------------------------------------------------------------------------------------

    def create(self, run: RunRecord, cells: Sequence[CellRecord], names: frozenset[str], rule: QueueRule) -> bool:
        key = _run_key(run.order.id)
        while True:
            places, version, now, (there,) = self._read_queue((key, "record"))
            if there is not None:
                return there == _encode(run, 1)
            if rules.is_too_late(run.order, now):
                raise TooLate
            queue = rule([*places, Place(run.order.id)], self._names_of(places) | {run.order.id: names})
            change = _Change()
            change.latest = run.order.latest
            change.check((key, "record"), 0)
            change.check(QUEUE, version)
            refs = msgspec.json.encode([cell.ref for cell in cells]).decode()
            change.write("HSET", key, "record", _encode(run, 1), "names", json.dumps(sorted(names)), "refs", refs)
            _write_cells(change, run.order.id, run.phase, cells)
            change.write("HSET", *QUEUE, _encode(queue, version + 1))
            change.write("ZADD", RUNS, now, run.order.id)
            if expired := self._expired(now):
                change.write("ZREM", RUNS, *expired)
            if self._carry_out(change)[0]:
                return True

    def _expired(self, now: float) -> list[str]:
        """The runs of the list of which nothing is kept any more."""
        old: list[str] = self._shared(
            "the list of runs", lambda: self.redis.zrangebyscore(RUNS, 0, now - self._expires), []
        )
        with self.redis.pipeline(transaction=False) as pipe:
            for run in old:
                pipe.exists(_run_key(run))
            return [run for run, is_there in zip(old, pipe.execute(), strict=True) if not is_there]

    def queue(self) -> list[Place]:
        return self._read_queue()[0]

    def change_queue(self, rule: QueueRule) -> list[Place]:
        while True:
            places, version, _, _ = self._read_queue()
            changed = list(rule(places, self._names_of(places)))
            if changed == places:
                return places
            change = _Change()
            change.check(QUEUE, version)
            change.write("HSET", *QUEUE, _encode(changed, version + 1))
            if self._carry_out(change)[0]:
                return changed

    def _read_queue(self, *also: Field) -> tuple[list[Place], int, float, list[str | None]]:
        """The queue, its version, the time, and other records."""
        _, now, (record, *others) = self._carry_out(_Change(QUEUE, *also))
        if record is None:
            return [], 0, now, others
        try:
            places, version = _decode(record, list[Place])
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

    def _names_of(self, places: Sequence[Place]) -> dict[str, frozenset[str]]:
        """What the runs of the queue keep others off; one that is gone: nobody. They never change, so they are kept."""
        known = self._names
        unknown = [place.run for place in places if place.run not in known]
        records = self._read(*[(_run_key(run), "names") for run in unknown]) if unknown else []
        read = {run: self._decode_names(run, record) for run, record in zip(unknown, records, strict=True)}
        names = {place.run: (known | read)[place.run] for place in places}
        self._names = names  # threads of a beat share the store: each returns its own
        return dict(names)

    def _decode_names(self, run: str, record: str | None) -> frozenset[str]:
        try:
            return frozenset() if record is None else msgspec.json.decode(record, type=frozenset[str])
        except msgspec.MsgspecError:
            self._report(f"run {run}, what it keeps others off", "it keeps off nobody")
            return frozenset()

    # -- runs ------------------------------------------------------------------------------------------------------

    def run(self, run: str) -> RunRecord:
        (record,) = self._read((_run_key(run), "record"))
        return self._decode_run(record, run)[0]

    def change_run(
        self, run: str, rule: RunRule, opening: Sequence[CellRecord] = (), entries: Mapping[str, float] = NOTHING
    ) -> RunRecord | None:
        field = (_run_key(run), "record")
        _, now, (record,) = self._carry_out(_Change(field))
        while True:
            so_far, version = self._decode_run(record, run)
            changed = rule(so_far, now)
            if changed is None:
                return None
            change = _Change(field)
            change.check(field, version)
            written = _encode(changed, version + 1)
            change.write("HSET", *field, written)
            if opening:
                _write_cells(change, run, changed.phase, opening)
            if changed.state is RunState.ENDED:
                self._leave_behind(change, changed)
            for name, number in entries.items():
                change.write("HSET", TALLY, name, number)
            with self._reading(run):
                is_written, now, (record,) = self._carry_out(change)
            if is_written or record == written:
                return changed

    def _leave_behind(self, change: _Change, run: RunRecord) -> None:
        """A run has ended: its summary stays, all else expires."""
        summary = rules.summary(run)
        change.write("ZADD", HISTORY, summary.finished, msgspec.json.encode(summary).decode())
        change.write("ZREMRANGEBYSCORE", HISTORY, 0, summary.finished - self._history_days * DAY)
        change.write("EXPIRE", _run_key(run.order.id), self._expires)
        for phase in range(run.phase + 1):
            for key in _phase_keys(run.order.id, phase):
                change.write("EXPIRE", key, self._expires)

    def progress(self, run: str, phase: int) -> Progress:
        with self._reading(run), self.redis.pipeline(transaction=False) as pipe:
            pipe.hmget(_run_key(run), f"rows {phase}", f"failed {phase}")
            pipe.zcard(_phase_key(run, phase, "look"))
            pipe.zcount(_phase_key(run, phase, "leases"), self.now(), "+inf")
            (rows, failed), still_open, at_work = pipe.execute()
        return Progress(int(rows or 0), still_open, int(failed or 0), at_work)

    def recent(self, limit: int | None = None) -> list[str]:
        last = -1 if limit is None else limit - 1
        return list(self._shared("the list of runs", lambda: self.redis.zrevrange(RUNS, 0, last), []))

    # -- cells -----------------------------------------------------------------------------------------------------

    def change_cell(
        self, run: str, phase: int, number: int, rule: CellRule, known: View | None = None, books: Books = NO_BOOKS
    ) -> View | Refusal | None:
        reads = ((_run_key(run), "record"), HOLD, (_phase_key(run, phase), str(number)))
        if known:
            elapsed = time.monotonic() - known.read_at
            view = replace(known, now=known.now + elapsed)
        else:
            view = self._view(run, number, *self._carry_out(_Change(*reads))[1:])
        while True:
            changed = rule(view)
            if not isinstance(changed, CellRecord):
                return changed
            change = _Change(*reads)
            change.check(reads[2], view.version)
            written = _write_cell(change, run, phase, changed, view.version + 1)
            _count(change, view, changed, books)
            with self._reading(run):
                is_written, now, records = self._carry_out(change)
            view = self._view(run, number, now, records)
            if is_written or records[2] == written:
                return replace(view, cell=changed)

    def cell(self, run: str, phase: int, number: int) -> CellRecord:
        (record,) = self._read((_phase_key(run, phase), str(number)))
        return self._decode_cell(record, run, number)[0]

    def cells(self, run: str, phase: int) -> list[CellRecord]:
        with self._reading(run):
            records = self.redis.hgetall(_phase_key(run, phase))
        if not records and (phase > (known := self.run(run)).phase or known.cells):
            raise RunGone(run)
        cells = [self._decode_cell(record, run, int(number))[0] for number, record in records.items()]
        return sorted(cells, key=lambda cell: cell.number)

    def changes(self, run: str, phase: int, since: int) -> tuple[int, list[CellRecord]]:
        with self._reading(run):
            newer = self.redis.zrangebyscore(_phase_key(run, phase, "changed"), f"({since}", "+inf", withscores=True)
            if not newer:
                return since, []
            numbers = [int(number) for number, _ in newer]
            records = self.redis.hmget(_phase_key(run, phase), numbers)
        changed = zip(records, numbers, strict=True)
        return int(newer[-1][1]), [self._decode_cell(record, run, number)[0] for record, number in changed]

    def open_cells(self, run: str, phase: int) -> list[int]:
        with self._reading(run):
            return sorted(int(number) for number in self.redis.zrange(_phase_key(run, phase, "look"), 0, -1))

    def count_open(self, run: str, phase: int) -> int:
        with self._reading(run):
            return int(self.redis.zcard(_phase_key(run, phase, "look")))

    def silent(self, run: str, phase: int, limit: int) -> list[int]:
        key = _phase_key(run, phase, "look")
        with self._reading(run):
            return [int(number) for number in self.redis.zrangebyscore(key, 0, self.now(), start=0, num=limit)]

    # -- what outlives the runs ------------------------------------------------------------------------------------

    def tally(self) -> dict[str, float]:
        books: dict[str, float] = {}
        entries: dict[str, str] = self._shared("the books", lambda: self.redis.hgetall(TALLY), {})
        for name, value in entries.items():
            try:
                books[name] = float(value)
            except ValueError:
                self._report(f"the books, {name}", "it is left out")
        return books

    def history(self, since: float) -> list[Summary]:
        summaries = []
        texts: list[str] = self._shared("the history", lambda: self.redis.zrangebyscore(HISTORY, since, "+inf"), [])
        for text in texts:
            try:
                summaries.append(msgspec.json.decode(text, type=Summary))
            except msgspec.MsgspecError:
                self._report("a run of the history", "it is left out")
        return summaries

    # -- steering --------------------------------------------------------------------------------------------------

    def hold(self) -> Hold | None:
        (record,) = self._read(HOLD)
        return self._decode_hold(record)

    def set_hold(self, hold: Hold | None) -> None:
        change = _Change()
        if hold:
            change.write("HSET", *HOLD, _encode(hold, 1))
        else:
            change.write("DEL", HOLD[0])
        self._carry_out(change)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    # -- workers ---------------------------------------------------------------------------------------------------

    def beat(self, worker: str, serves: Sequence[str] | None, lease: float) -> None:
        """A worker's sign of life.

        :param serves: uuids of its cells; None: all
        :param lease: seconds without another one after which it counts as dead
        """
        sign = msgspec.json.encode(_SignOfLife(None if serves is None else list(serves))).decode()
        now = self.now()
        change = _Change()
        change.write("ZADD", WORKERS, now + lease, worker)
        change.write("ZREMRANGEBYSCORE", WORKERS, 0, now)
        change.write("SET", _worker_key(worker), sign, "PX", int(lease * 1000))
        self._carry_out(change)

    def rest(self, worker: str) -> None:
        """A worker has ended."""
        change = _Change()
        change.write("ZREM", WORKERS, worker)
        change.write("DEL", _worker_key(worker))
        self._carry_out(change)

    def workers(self) -> dict[str, set[str] | None]:
        """The live workers of this version, and the uuids of the cells they serve; None: all."""
        now = self.now()
        names: list[str] = self._shared(
            "the list of workers", lambda: self.redis.zrangebyscore(WORKERS, now, "+inf"), []
        )
        signs = self.redis.mget([_worker_key(name) for name in names]) if names else []
        serving: dict[str, set[str] | None] = {}
        for name, text in zip(names, signs, strict=True):
            if text is None:
                continue
            try:
                sign = msgspec.json.decode(text, type=_SignOfLife)
            except msgspec.MsgspecError:
                self._report(f"worker {name}, its sign of life", "it counts as dead")
                continue
            if sign.format == FORMAT:
                serving[name] = None if sign.serves is None else set(sign.serves)
        return serving

    # -- the script ------------------------------------------------------------------------------------------------

    def _read(self, *fields: Field) -> list[str | None]:
        return self._carry_out(_Change(*fields))[2]

    def _carry_out(self, change: _Change) -> tuple[bool, float, list[str | None]]:
        """Whether the change was made, the time, and the records that are there now."""
        written, seconds, micros, *records = self._decide(args=[change.encoded(), RUN_KEYS])
        return bool(written), int(seconds) + int(micros) / 1e6, records

    # -- what cannot be read ---------------------------------------------------------------------------------------

    def _decode_run(self, record: str | None, run: str) -> tuple[RunRecord, int]:
        if record is None:
            raise RunGone(run)
        try:
            return _decode(record, RunRecord)
        except Unreadable:
            raise self._damaged(run) from None

    def _decode_cell(self, record: str | None, run: str, number: int) -> tuple[CellRecord, int]:
        """A cell, and the version of its record; one that cannot be read has failed."""
        if record is None:
            raise RunGone(f"{run}, cell {number}")
        try:
            return _decode(record, CellRecord)
        except Unreadable as unreadable:
            self._report(f"run {run}, cell {number}", "it has failed")
            failure = Failure(FailureKind.UNEXPECTED, "what the store had of it cannot be read")
            return CellRecord(number, self._ref(run, number), Stage.WORK, failure=failure), unreadable.version

    def _ref(self, run: str, number: int) -> CellRef:
        """Which cell of a run has this number, as it was ordered; without uuid where that cannot be read, either."""
        (refs,) = self._read((_run_key(run), "refs"))
        try:
            return msgspec.json.decode(refs or "[]", type=list[CellRef])[number]
        except (msgspec.MsgspecError, IndexError):
            return CellRef("", f"cell {number}", "")

    def _decode_hold(self, record: str | None) -> Hold | None:
        if record is None:
            return None
        try:
            return _decode(record, Hold)[0]
        except Unreadable:
            self._report("the hold of all runs", "nothing is held")
            return None

    def _view(self, run: str, number: int, now: float, records: Sequence[str | None]) -> View:
        record, hold, cell = records
        decoded, version = self._decode_cell(cell, run, number)
        return View(self._decode_run(record, run)[0], decoded, self._decode_hold(hold), now, version, time.monotonic())

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


class Unreadable(Exception):
    """A record is none that this version knows.

    :ivar version: of the record, with which it is replaced
    """

    def __init__(self, version: int) -> None:
        super().__init__(version)
        self.version = version


class _SignOfLife(msgspec.Struct):
    """What a worker tells of itself.

    :ivar serves: uuids of its cells; None: all
    """

    serves: list[str] | None
    format: int = FORMAT


def _key(*parts: object) -> str:
    return ":".join([PREFIX, *map(str, parts)])


QUEUE: Final = (_key("queue"), "record")
HOLD: Final = (_key("hold"), "record")
RUNS: Final = _key("runs")
TALLY: Final = _key("tally")
HISTORY: Final = _key("history")
WORKERS: Final = _key("workers")
RUN_KEYS: Final = _key("run:")
"""With what the keys of single runs begin."""


def _run_key(run: str) -> str:
    return _key("run", run)


def _worker_key(worker: str) -> str:
    return _key("worker", worker)


def _phase_key(run: str, phase: int, *index: str) -> str:
    """The cells of a phase by number; or an index of them.

    ``look`` has those that are not done by the time to look at them, ``leases`` those that are claimed by the end of
    the lease, ``changed`` all by the change that they were last part of.
    """
    return _key("run", run, phase, *index)


def _phase_keys(run: str, phase: int) -> list[str]:
    return [_phase_key(run, phase), *(_phase_key(run, phase, index) for index in ("look", "leases", "changed"))]


def _write_cells(change: _Change, run: str, phase: int, cells: Sequence[CellRecord]) -> None:
    """Write the cells of a phase that begins."""
    for start in range(0, len(cells), AT_ONCE):
        some = cells[start : start + AT_ONCE]
        records = [(cell.number, _encode(cell, 1)) for cell in some]
        times = [(cell.look_at, cell.number) for cell in some]
        change.write("HSET", _phase_key(run, phase), *chain(*records))
        change.write("ZADD", _phase_key(run, phase, "look"), *chain(*times))


def _write_cell(change: _Change, run: str, phase: int, cell: CellRecord, version: int) -> str:
    """Write a cell, and where it stands in the indexes; its record."""
    key = _phase_key(run, phase)
    record = _encode(replace(cell, outcome=None if cell.outcome is None else encode(cell.outcome)), version)
    if cell.stage is Stage.DONE:
        change.write("ZREM", _phase_key(run, phase, "look"), cell.number)
    else:
        change.write("ZADD", _phase_key(run, phase, "look"), cell.look_at, cell.number)
    change.write("HSET", key, cell.number, record)
    if cell.lease_until:
        change.write("ZADD", _phase_key(run, phase, "leases"), cell.lease_until, cell.number)
    else:
        change.write("ZREM", _phase_key(run, phase, "leases"), cell.number)
    change.marks.append((_run_key(run), _phase_key(run, phase, "changed"), str(cell.number)))
    return record


def _count(change: _Change, before: View, cell: CellRecord, books: Books) -> None:
    """Keep the sums over the cells of a phase, and the counters that outlive the run."""
    key, phase = _run_key(before.run.order.id), before.run.phase
    if books.rows:
        change.write("HINCRBY", key, f"rows {phase}", books.rows)
    if books.rows and books.counter:
        change.write("HINCRBY", TALLY, books.counter, books.rows)
    if cell.failure and not before.cell.failure:
        change.write("HINCRBY", key, f"failed {phase}", 1)


def _encode(record: Any, version: int) -> str:
    return f"{version} {msgspec.json.encode(record, enc_hook=lambda _: None).decode()}"


def _decode(record: str, kind: type[T]) -> tuple[T, int]:
    """A record, and its version.

    :raises Unreadable: it is none of this kind
    """
    version, _, text = record.partition(" ")
    number = int(version) if version.isdecimal() else 0
    try:
        return msgspec.json.decode(text, type=kind, dec_hook=lambda _, value: value), number
    except msgspec.MsgspecError:
        raise Unreadable(number) from None
