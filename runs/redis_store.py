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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final, TypeVar

import msgspec
from redis.exceptions import RedisError, ResponseError

from jobs.action import Failure, FailureKind
from jobs.codec import encode
from runs import pace, rules
from runs.records import FORMAT, CellRecord, CellRef, Hold, Place, Progress, RunRecord, RunState, Stage, Summary
from runs.rules import Provided, Refusal
from runs.soundness import is_sound_cell, is_sound_hold, is_sound_run, is_sound_summary
from runs.store import (
    LOOK_EXPIRES,
    NO_BOOKS,
    NOTHING,
    Books,
    CellKey,
    CellRule,
    Line,
    QueueRule,
    RunDamaged,
    RunGone,
    RunRule,
    TooLate,
    View,
)
from throttle.readings import ServerState

LOG = logging.getLogger("cellkeeper.runs")
T = TypeVar("T")

PREFIX: Final = "cellkeeper"
NOW: Final = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000);"
DAY: Final = 86_400  # seconds
PACE_KEPT: Final = 180
"""Seconds for which it is kept how much was handled in ten seconds of a run."""
AT_ONCE: Final = 1000
"""Cells in one command of a script."""

OTHER_TYPE: Final = "WRONGTYPE"
"""How Redis says that a key is none of the type that a command is for."""

# Each record lies in a field of a hash, as its version, a space, and JSON. Writes what is asked if the versions of
# the records are those that are named, and as many connections to servers are held as are named; answers whether it
# did, the time, the records that are asked for, how many connections there were, and how long the lines are that are
# asked for. A record whose key is of another type is empty. A key of another type makes room for what is written,
# unless a run cannot do without what it held. What may be written until a certain time only is not written later.
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
local now = string.format('%d.%06d', t[1], t[2])
local function count(...)
  local number = redis.pcall(...)
  if type(number) == 'table' then return 0 end
  return number
end
local counts = {}
for _, c in ipairs(asked.connections) do
  local held = count('ZCOUNT', c[1], '(' .. now, '+inf')
  counts[#counts + 1] = held
  if held < c[2] or held > c[3] then written = 0 end
end
if written == 1 then
  for _, command in ipairs(asked.writes) do write(command) end
  for _, m in ipairs(asked.marks) do
    write({'ZADD', m[2], redis.call('HINCRBY', m[1], 'changes', 1), m[3]})
  end
end
local lengths = 0
for _, line in ipairs(asked.lines) do lengths = lengths + count('ZCARD', line) end
local answer = {written, t[1], t[2], counts, lengths}
for _, r in ipairs(asked.reads) do answer[#answer + 1] = read(r[1], r[2]) end
return answer
"""

# The lines in which cells wait: of the servers that are named, else of all. Answers for each whether somebody waits
# there: the server, the connections to it, and the first cells. A line that is empty is forgotten.
LINES: Final = """
local t = redis.call('TIME')
local now = string.format('%d.%06d', t[1], t[2])
local servers = {unpack(ARGV, 5)}
if #servers == 0 then
  servers = redis.pcall('SMEMBERS', ARGV[1])
  if servers.err then redis.call('DEL', ARGV[1]) return {} end
end
local answer = {}
for _, server in ipairs(servers) do
  local cells = redis.pcall('ZRANGE', ARGV[2] .. server, 0, ARGV[4] - 1)
  if cells.err or #cells == 0 then
    redis.call('SREM', ARGV[1], server)
  else
    local held = redis.pcall('ZCOUNT', ARGV[3] .. server, '(' .. now, '+inf')
    if type(held) == 'table' then held = 0 end
    answer[#answer + 1] = {server, held, cells}
  end
end
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
        self.connections: list[tuple[str, int, int]] = []
        self.lines: list[str] = []

    def check(self, field: Field, version: int) -> None:
        self.checks.append((*field, str(version)))

    def write(self, *command: object) -> None:
        self.writes.append([str(word) for word in command])

    def provide(self, connections: Mapping[str, tuple[int, int]]) -> None:
        self.connections += [(_server_key(server), *bounds) for server, bounds in connections.items()]

    def encoded(self) -> bytes:
        asked = vars(self)
        if self.latest is None:
            asked = {name: value for name, value in asked.items() if name != "latest"}
        return msgspec.json.encode(asked)


@dataclass(frozen=True)
class _Answer:
    """What one script did, and found.

    :ivar written: whether the change was made
    :ivar now: the time
    :ivar records: that were asked for
    :ivar connections: that were counted, in the order in which they were asked for
    :ivar waiting: cells in the lines that were asked for
    """

    written: bool
    now: float
    records: list[str | None]
    connections: list[int]
    waiting: int


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
        self._names: dict[str, frozenset[str]] = {}
        self._reported: set[str] = set()

    def now(self) -> float:
        seconds, micros = self.redis.time()
        return float(seconds) + int(micros) / 1e6

    def try_write(self) -> None:
        self.redis.set(PROBE, "", xx=True)  # it is never there

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
            if self._carry_out(change).written:
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
            if self._carry_out(change).written:
                return changed

    def _read_queue(self, *also: Field) -> tuple[list[Place], int, float, list[str | None]]:
        """The queue, its version, the time, and other records."""
        answer = self._carry_out(_Change(QUEUE, *also))
        now, (record, *others) = answer.now, answer.records
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
            return frozenset() if record is None else _decode_json(record, frozenset[str])
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
        answer = self._carry_out(_Change(field))
        while True:
            (record,) = answer.records
            so_far, version = self._decode_run(record, run)
            changed = rule(so_far, answer.now)
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
                answer = self._carry_out(change)
            if answer.written or answer.records == [written]:
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
        now = self.now()
        buckets = pace.recent(now)
        with self._reading(run), self.redis.pipeline(transaction=False) as pipe:
            sums = ("rows", "failed", "remaining", "foreseen")
            pipe.hmget(_run_key(run), [f"{name} {phase}" for name in sums])
            pipe.zcard(_phase_key(run, phase, "look"))
            pipe.zcount(_phase_key(run, phase, "leases"), now, "+inf")
            pipe.mget([_phase_key(run, phase, f"pace-{number}") for number in buckets])
            numbers, still_open, at_work, handled = pipe.execute()
        rows, failed, remaining, foreseen = [self._number(run, number) for number in numbers]
        lately = {number: self._number(run, text) for number, text in zip(buckets, handled, strict=True) if text}
        return Progress(rows, still_open, failed, at_work, remaining, foreseen, lately)

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
            view = self._view(run, number, self._carry_out(_Change(*reads)))
        while True:
            changed = rule(view)
            change = _Change(*reads)
            if isinstance(changed, Provided):
                provided, changed = changed.connections, changed.cell
                change.provide(provided)
            else:
                provided = {}
            if not isinstance(changed, CellRecord):
                return changed
            change.check(reads[2], view.version)
            written = _write_cell(change, run, phase, view.cell, changed, view.version + 1)
            _count(change, view, changed, books)
            with self._reading(run):
                answer = self._carry_out(change)
            busy = {**(view.busy or {}), **dict(zip(provided, answer.connections, strict=True))}
            view = replace(self._view(run, number, answer), busy=busy, waiting=answer.waiting)
            if answer.written or answer.records[2] == written:
                return replace(view, cell=changed)

    def cell(self, run: str, phase: int, number: int) -> CellRecord:
        (record,) = self._read((_phase_key(run, phase), str(number)))
        return self._decode_cell(record, run, number)[0]

    def cells(self, run: str, phase: int) -> list[CellRecord]:
        with self._reading(run):
            records = self.redis.hgetall(_phase_key(run, phase))
        if not records and (phase > (known := self.run(run)).phase or known.cells):
            raise RunGone(run)
        numbers = self._numbers(run, records)
        cells = [self._decode_cell(records[str(number)], run, number)[0] for number in numbers]
        return sorted(cells, key=lambda cell: cell.number)

    def changes(self, run: str, phase: int, since: int) -> tuple[int, list[CellRecord]]:
        with self._reading(run):
            newer = self.redis.zrangebyscore(_phase_key(run, phase, "changed"), f"({since}", "+inf", withscores=True)
            if not newer:
                return since, []
            numbers = self._numbers(run, [number for number, _ in newer])
            records = self.redis.hmget(_phase_key(run, phase), numbers) if numbers else []
        changed = [(record, number) for record, number in zip(records, numbers, strict=True) if record is not None]
        return int(newer[-1][1]), [self._decode_cell(record, run, number)[0] for record, number in changed]

    def open_cells(self, run: str, phase: int) -> list[int]:
        with self._reading(run):
            return sorted(self._numbers(run, self.redis.zrange(_phase_key(run, phase, "look"), 0, -1)))

    def count_open(self, run: str, phase: int) -> int:
        with self._reading(run):
            return int(self.redis.zcard(_phase_key(run, phase, "look")))

    def silent(self, run: str, phase: int, limit: int) -> list[int]:
        key = _phase_key(run, phase, "look")
        with self._reading(run):
            return self._numbers(run, self.redis.zrangebyscore(key, 0, self.now(), start=0, num=limit))

    # -- connections to the servers of the cells -------------------------------------------------------------------

    def lines(self, length: int, servers: Sequence[str] = ()) -> list[Line]:
        told = self._read_lines(args=[LINES_OF, _line_key(""), _server_key(""), length, *servers])
        return [Line(server, busy, [_decode_key(cell) for cell in cells]) for server, busy, cells in told]

    def leave_line(self, server: str, cell: CellKey) -> None:
        run, phase, number = cell
        field = (_phase_key(run, phase), str(number))
        (record,) = self._read(field)
        version = 0
        if record is not None:
            known, version = self._decode_cell(record, run, number)
            if rules.is_in_line(known):  # it has come back meanwhile: nobody would call it
                return
        change = _Change()
        change.check(field, version)
        change.write("ZREM", _line_key(server), _encode_key(*cell))
        self._carry_out(change)

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

    def history(self, since: float, limit: int | None = None) -> list[Summary]:
        bounds: dict[str, int] = {} if limit is None else {"start": 0, "num": limit}
        texts: list[str] = self._shared(
            "the history", lambda: self.redis.zrevrangebyscore(HISTORY, "+inf", since, **bounds), []
        )
        summaries = []
        for text in reversed(texts):
            try:
                summaries.append(_decode(f"0 {text}", Summary, is_sound_summary)[0])
            except Unreadable:
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

    # -- what the servers of the cells suffer -----------------------------------------------------------------------

    def claim_look(self, server: str, every: float) -> tuple[bool, ServerState | None]:
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.set(_look_key(server, "claim"), 1, nx=True, px=int(every * 1000))
            pipe.get(_look_key(server))
            claimed, text = pipe.execute(raise_on_error=False)
        return claimed is True, self._decode_look(server, text)

    def keep_look(self, server: str, state: ServerState) -> None:
        self.redis.set(_look_key(server), msgspec.json.encode(state), ex=LOOK_EXPIRES)

    def _decode_look(self, server: str, text: Any) -> ServerState | None:
        """What was seen of a server; nothing, where the key is of another type or holds something else."""
        if text is None:
            return None
        try:
            return _decode_json(text, ServerState)
        except (msgspec.MsgspecError, TypeError):
            self._report(f"server {server}, what was seen of it", "it is looked at anew")
            return None

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
                sign = _decode_json(text, _SignOfLife)
            except msgspec.MsgspecError:
                self._report(f"worker {name}, its sign of life", "it counts as dead")
                continue
            if sign.format == FORMAT:
                serving[name] = None if sign.serves is None else set(sign.serves)
        return serving

    # -- the script ------------------------------------------------------------------------------------------------

    def _read(self, *fields: Field) -> list[str | None]:
        return self._carry_out(_Change(*fields)).records

    def _carry_out(self, change: _Change) -> _Answer:
        written, seconds, micros, counts, waiting, *records = self._decide(args=[change.encoded(), RUN_KEYS])
        return _Answer(bool(written), int(seconds) + int(micros) / 1e6, records, counts, waiting)

    # -- what cannot be read ---------------------------------------------------------------------------------------

    def _decode_run(self, record: str | None, run: str) -> tuple[RunRecord, int]:
        if record is None:
            raise RunGone(run)
        try:
            return _decode(record, RunRecord, is_sound_run)
        except Unreadable:
            raise self._damaged(run) from None

    def _decode_cell(self, record: str | None, run: str, number: int) -> tuple[CellRecord, int]:
        """A cell, and the version of its record; one that cannot be read has failed."""
        if record is None:
            raise RunGone(f"{run}, cell {number}")
        try:
            return _decode(record, CellRecord, lambda cell: cell.number == number and is_sound_cell(cell))
        except Unreadable as unreadable:
            self._report(f"run {run}, cell {number}", "it has failed")
            failure = Failure(FailureKind.UNEXPECTED, "what the store had of it cannot be read")
            return CellRecord(number, self._ref(run, number), Stage.WORK, failure=failure), unreadable.version

    def _ref(self, run: str, number: int) -> CellRef:
        """Which cell of a run has this number, as it was ordered; without uuid where that cannot be read, either."""
        (refs,) = self._read((_run_key(run), "refs"))
        try:
            return _decode_json(refs or "[]", list[CellRef])[number]
        except (msgspec.MsgspecError, IndexError):
            return CellRef("", f"cell {number}", "")

    def _decode_hold(self, record: str | None) -> Hold | None:
        if record is None:
            return None
        try:
            return _decode(record, Hold, is_sound_hold)[0]
        except Unreadable:
            self._report("the hold of all runs", "nothing is held")
            return None

    def _view(self, run: str, number: int, answer: _Answer) -> View:
        record, hold, cell = answer.records
        decoded, version = self._decode_cell(cell, run, number)
        known = self._decode_run(record, run)[0]
        return View(known, decoded, self._decode_hold(hold), answer.now, version, time.monotonic())

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
        known = [member for member in members if member.isdecimal() and member.isascii()]
        if len(known) < len(members):
            self._report(f"run {run}, a cell without a number", "it is left out")
        return [int(member) for member in known]

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
PROBE: Final = _key("probe")
"""With which is tried whether Redis takes writes, without one."""
WORKERS: Final = _key("workers")
LINES_OF: Final = _key("lines")
"""The servers for which cells wait."""
RUN_KEYS: Final = _key("run:")
"""With what the keys of single runs begin."""


def _run_key(run: str) -> str:
    return _key("run", run)


def _worker_key(worker: str) -> str:
    return _key("worker", worker)


def _server_key(server: str) -> str:
    """The connections that cells have to a server, by the end of the lease."""
    return _key("server", server)


def _line_key(server: str) -> str:
    """The cells that wait for a connection to a server, by the time since when."""
    return _key("line", server)


def _look_key(server: str, *part: str) -> str:
    """What was seen of a server when it was looked at last."""
    return _key("look", server, *part)


def _encode_key(run: str, phase: int, number: int) -> str:
    return f"{run} {phase} {number}"


def _decode_key(text: str) -> CellKey:
    run, phase, number = text.rsplit(" ", 2)
    return run, int(phase), int(number)


def _phase_key(run: str, phase: int, *index: str) -> str:
    """The cells of a phase by number; or an index of them.

    ``look`` has those that are not done by the time to look at them, ``leases`` those that are claimed by the end of
    the lease, ``changed`` all by the change that they were last part of. What was handled lately stands beside them, in
    keys that expire by themselves.
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


def _write_cell(
    change: _Change, run: str, phase: int, before: CellRecord, cell: CellRecord, version: int
) -> str:  # fmt: skip
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
    _write_connections(change, _encode_key(run, phase, cell.number), before, cell)
    return record


def _write_connections(change: _Change, key: str, before: CellRecord, cell: CellRecord) -> None:
    """Write which connections a cell has, and in which lines it stands."""
    for server, number in (rules.connections(cell) if cell.lease_until else {}).items():
        held = chain(*((cell.lease_until, f"{key} {count}") for count in range(number)))
        change.write("ZADD", _server_key(server), *held)
    if before.lease_until and not cell.lease_until:
        for server, number in rules.connections(before).items():
            change.write("ZREM", _server_key(server), *(f"{key} {count}" for count in range(number)))
            change.write("ZREMRANGEBYSCORE", _server_key(server), 0, cell.touched)  # of workers that were killed
            change.lines.append(_line_key(server))
    if rules.is_in_line(cell):
        for server in set(cell.ref.servers):
            change.write("ZADD", _line_key(server), cell.waits_since, key)
            change.write("SADD", LINES_OF, server)
    elif rules.is_in_line(before):
        for server in set(before.ref.servers):
            change.write("ZREM", _line_key(server), key)


def _count(change: _Change, before: View, cell: CellRecord, books: Books) -> None:
    """Keep the sums over the cells of a phase, and the counters that outlive the run."""
    key, phase = _run_key(before.run.order.id), before.run.phase
    if books.rows:
        change.write("HINCRBY", key, f"rows {phase}", books.rows)
    for name, amount in books.counters.items():
        change.write("HINCRBYFLOAT", TALLY, name, amount)
    if books.handled:
        bucket = _phase_key(before.run.order.id, phase, f"pace-{pace.recent(before.now)[-1]}")
        change.write("INCRBY", bucket, books.handled)
        change.write("EXPIRE", bucket, PACE_KEPT)
    known, known_before = cell.remaining, before.cell.remaining
    if known != known_before:
        change.write("HINCRBY", key, f"remaining {phase}", (known or 0) - (known_before or 0))
        change.write("HINCRBY", key, f"foreseen {phase}", (known is not None) - (known_before is not None))
    if cell.failure and not before.cell.failure:
        change.write("HINCRBY", key, f"failed {phase}", 1)


def _encode(record: Any, version: int) -> str:
    return f"{version} {msgspec.json.encode(record, enc_hook=lambda _: None).decode()}"


def _decode(record: str, kind: type[T], is_sound: Callable[[T], bool] = lambda _: True) -> tuple[T, int]:
    """A record, and its version.

    :param is_sound: whether what it says makes sense
    :raises Unreadable: it is none of this kind
    """
    version, _, text = record.partition(" ")
    number = int(version) if version.isdecimal() else 0
    try:
        decoded = _decode_json(text, kind)
    except (msgspec.MsgspecError, RecursionError):
        raise Unreadable(number) from None
    if not is_sound(decoded):
        raise Unreadable(number)
    return decoded, number


# Made while the module is imported, by one thread: two that have msgspec examine a class at the same time crash the
# process.
_DECODERS: Final[Mapping[Any, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(kind, dec_hook=lambda _, value: value)
    for kind in (
        RunRecord,
        CellRecord,
        Hold,
        Summary,
        ServerState,
        _SignOfLife,
        list[Place],
        list[CellRef],
        frozenset[str],
    )
}


def _decode_json(text: str, kind: type[T]) -> T:
    """A document as one of the types that are kept.

    :raises msgspec.MsgspecError: it is none of them
    """
    decoded: T = _DECODERS[kind].decode(text)
    return decoded
