"""The store of runs in Redis or Valkey.

It holds no rule: what a rule wants is written by one script, if the records that the rule was given are still those
that are there; otherwise the rule is asked again. Times are the server's.
"""

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Final, TypeVar

import msgspec

from jobs.codec import encode
from runs import rules
from runs.records import FORMAT, CellRecord, Hold, Place, Progress, RunRecord, RunState, Stage, Summary
from runs.rules import Refusal
from runs.store import NO_BOOKS, NOTHING, Books, CellRule, QueueRule, RunGone, RunRule, View

LOG = logging.getLogger("cellkeeper.runs")
T = TypeVar("T")

PREFIX: Final = "cellkeeper"
NOW: Final = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000);"
DAY: Final = 86_400  # seconds
AT_ONCE: Final = 1000
"""Cells in one command of a script."""

# Each record lies in a field of a hash, as its version, a space, and JSON. Writes what is asked if the versions of
# the records are those that are named; answers whether it did, the time, and the records that are asked for.
DECIDE: Final = """
local asked = cjson.decode(ARGV[1])
local written = 1
for _, c in ipairs(asked.checks) do
  local record = redis.call('HGET', c[1], c[2])
  if (record and string.match(record, '^%d+') or '0') ~= c[3] then written = 0 end
end
if written == 1 then
  for _, command in ipairs(asked.writes) do redis.call(unpack(command)) end
  for _, m in ipairs(asked.marks) do
    redis.call('ZADD', m[2], redis.call('HINCRBY', m[1], 'changes', 1), m[3])
  end
end
local t = redis.call('TIME')
local answer = {written, t[1], t[2]}
for _, r in ipairs(asked.reads) do answer[#answer + 1] = redis.call('HGET', r[1], r[2]) end
return answer
"""

Field = tuple[str, str]
"""Where a record lies: a key and a field of its hash."""


class Damaged(RunGone):
    """A record of the run cannot be read. The text names the run."""


class _Change:
    """What one script is to do."""

    def __init__(self, *reads: Field) -> None:
        self.reads = reads
        self.checks: list[tuple[str, str, str]] = []
        self.writes: list[list[str]] = []
        self.marks: list[tuple[str, str, str]] = []

    def check(self, field: Field, version: int) -> None:
        self.checks.append((*field, str(version)))

    def write(self, *command: object) -> None:
        self.writes.append([str(word) for word in command])

    def encoded(self) -> bytes:
        return msgspec.json.encode(
            {"checks": self.checks, "writes": self.writes, "marks": self.marks, "reads": self.reads}
        )


class RedisStore:
    """Runs in Redis.

    :ivar redis: the client, whose answers are text
    """

    def __init__(self, redis: Any, expires: int, history_days: int = 400) -> None:
        """:param expires: seconds for which a run is kept after its end
        :param history_days: days for which its summary is
        """
        self.redis = redis
        self._expires = expires
        self._history_days = history_days
        self._decide = redis.register_script(DECIDE)

    def now(self) -> float:
        seconds, micros = self.redis.time()
        return float(seconds) + int(micros) / 1e6

    # -- the queue -------------------------------------------------------------------------------------------------

    def create(self, run: RunRecord, cells: Sequence[CellRecord], names: frozenset[str], rule: QueueRule) -> bool:
        key, known = _run_key(run.order.id), {run.order.id: names}
        while True:
            places, version, now, there = self._read_queue((key, "record"))
            if there is not None:
                return False
            known |= self._names(place.run for place in places if place.run not in known)
            queue = rule([*places, Place(run.order.id)], known)
            change = _Change()
            change.check((key, "record"), 0)
            change.check(QUEUE, version)
            change.write("HSET", key, "record", _encode(run, 1), "names", json.dumps(sorted(names)))
            _write_cells(change, run.order.id, run.phase, cells)
            change.write("HSET", *QUEUE, _encode(queue, version + 1))
            change.write("ZADD", RUNS, now, run.order.id)
            change.write("ZREMRANGEBYSCORE", RUNS, 0, now - self._expires)
            if self._carry_out(change)[0]:
                return True

    def queue(self) -> list[Place]:
        return self._read_queue()[0]

    def change_queue(self, rule: QueueRule) -> list[Place]:
        names: dict[str, frozenset[str]] = {}
        while True:
            places, version, _, _ = self._read_queue()
            names |= self._names(place.run for place in places if place.run not in names)
            changed = list(rule(places, names))
            if changed == places:
                return places
            change = _Change()
            change.check(QUEUE, version)
            change.write("HSET", *QUEUE, _encode(changed, version + 1))
            if self._carry_out(change)[0]:
                return changed

    def _read_queue(self, *also: Field) -> tuple[list[Place], int, float, str | None]:
        """The queue, its version, the time, and another record."""
        _, now, (record, *others) = self._carry_out(_Change(QUEUE, *also))
        if record is None:
            return [], 0, now, others[0] if others else None
        version, text = record.split(" ", 1)
        try:
            places = msgspec.json.decode(text, type=list[Place])
        except msgspec.MsgspecError:
            LOG.warning("the queue of runs cannot be read, and is taken as empty")
            places = []
        return places, int(version), now, others[0] if others else None

    def _names(self, runs: Iterable[str]) -> dict[str, frozenset[str]]:
        """What runs keep others off; one that is gone: nobody."""
        listed = list(runs)
        found = self._read(*[(_run_key(run), "names") for run in listed])
        return {run: frozenset(json.loads(text or "[]")) for run, text in zip(listed, found, strict=True)}

    # -- runs ------------------------------------------------------------------------------------------------------

    def run(self, run: str) -> RunRecord:
        (record,) = self._read((_run_key(run), "record"))
        return _decode_run(record, run)[0]

    def change_run(
        self, run: str, rule: RunRule, opening: Sequence[CellRecord] = (), entries: Mapping[str, float] = NOTHING
    ) -> RunRecord | None:
        field = (_run_key(run), "record")
        _, now, (record,) = self._carry_out(_Change(field))
        while True:
            so_far, version = _decode_run(record, run)
            changed = rule(so_far, now)
            if changed is None:
                return None
            change = _Change(field)
            change.check(field, version)
            change.write("HSET", *field, _encode(changed, version + 1))
            if opening:
                _write_cells(change, run, changed.phase, opening)
            if changed.state is RunState.ENDED:
                self._leave_behind(change, changed)
            for name, number in entries.items():
                change.write("HSET", TALLY, name, number)
            is_written, now, (record,) = self._carry_out(change)
            if is_written:
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
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.hmget(_run_key(run), f"rows {phase}", f"failed {phase}")
            pipe.zcard(_phase_key(run, phase, "look"))
            pipe.zcount(_phase_key(run, phase, "leases"), self.now(), "+inf")
            (rows, failed), still_open, at_work = pipe.execute()
        return Progress(int(rows or 0), still_open, int(failed or 0), at_work)

    def recent(self, limit: int | None = None) -> list[str]:
        kept = [str(run) for run in self.redis.zrevrange(RUNS, 0, -1 if limit is None else limit - 1)]
        waiting = [place.run for place in reversed(self.queue()) if place.run not in kept]
        return (waiting + kept)[:limit]

    # -- cells -----------------------------------------------------------------------------------------------------

    def change_cell(
        self, run: str, phase: int, number: int, rule: CellRule, known: View | None = None, books: Books = NO_BOOKS
    ) -> View | Refusal | None:
        reads = ((_run_key(run), "record"), HOLD, (_phase_key(run, phase), str(number)))
        if known:
            elapsed = time.monotonic() - known.read_at
            view = replace(known, now=known.now + elapsed)
        else:
            view = _view(run, *self._carry_out(_Change(*reads))[1:])
        while True:
            changed = rule(view)
            if not isinstance(changed, CellRecord):
                return changed
            change = _Change(*reads)
            change.check(reads[2], view.version)
            _write_cell(change, run, phase, changed, view.version + 1)
            _count(change, view, changed, books)
            is_written, now, records = self._carry_out(change)
            view = _view(run, now, records)
            if is_written:
                return replace(view, cell=changed)

    def cell(self, run: str, phase: int, number: int) -> CellRecord:
        (record,) = self._read((_phase_key(run, phase), str(number)))
        return _decode_cell(record, run)[0]

    def cells(self, run: str, phase: int) -> list[CellRecord]:
        records = self.redis.hgetall(_phase_key(run, phase))
        if not records and self.run(run).cells:
            raise RunGone(run)
        cells = [_decode_cell(record, run)[0] for record in records.values()]
        return sorted(cells, key=lambda cell: cell.number)

    def changes(self, run: str, phase: int, since: int) -> tuple[int, list[CellRecord]]:
        newer = self.redis.zrangebyscore(_phase_key(run, phase, "changed"), f"({since}", "+inf", withscores=True)
        if not newer:
            return since, []
        records = self.redis.hmget(_phase_key(run, phase), [number for number, _ in newer])
        return int(newer[-1][1]), [_decode_cell(record, run)[0] for record in records]

    def open_cells(self, run: str, phase: int) -> list[int]:
        return sorted(int(number) for number in self.redis.zrange(_phase_key(run, phase, "look"), 0, -1))

    def count_open(self, run: str, phase: int) -> int:
        return int(self.redis.zcard(_phase_key(run, phase, "look")))

    def silent(self, run: str, phase: int, limit: int) -> list[int]:
        key = _phase_key(run, phase, "look")
        return [int(number) for number in self.redis.zrangebyscore(key, 0, self.now(), start=0, num=limit)]

    # -- what outlives the runs ------------------------------------------------------------------------------------

    def tally(self) -> dict[str, float]:
        """The books: numbers by name, see ``runs.tally``."""
        return {str(name): float(value) for name, value in self.redis.hgetall(TALLY).items()}

    def history(self, since: float) -> list[Summary]:
        return [msgspec.json.decode(text, type=Summary) for text in self.redis.zrangebyscore(HISTORY, since, "+inf")]

    # -- steering --------------------------------------------------------------------------------------------------

    def hold(self) -> Hold | None:
        (record,) = self._read(HOLD)
        return _decode_hold(record)

    def set_hold(self, hold: Hold | None) -> None:
        if hold:
            self.redis.hset(*HOLD, _encode(hold, 1))
        else:
            self.redis.hdel(*HOLD)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    # -- workers ---------------------------------------------------------------------------------------------------

    def beat(self, worker: str, serves: Sequence[str] | None, lease: float) -> None:
        """A worker's sign of life.

        :param serves: uuids of its cells; None: all
        :param lease: seconds without another one after which it counts as dead
        """
        sign = json.dumps({"serves": None if serves is None else list(serves), "format": FORMAT})
        now = self.now()
        with self.redis.pipeline() as pipe:
            pipe.zremrangebyscore(WORKERS, 0, now)
            pipe.zadd(WORKERS, {worker: now + lease})
            pipe.set(_worker_key(worker), sign, px=int(lease * 1000))
            pipe.execute()

    def rest(self, worker: str) -> None:
        """A worker has ended."""
        with self.redis.pipeline() as pipe:
            pipe.zrem(WORKERS, worker)
            pipe.delete(_worker_key(worker))
            pipe.execute()

    def workers(self) -> dict[str, set[str] | None]:
        """The live workers of this version, and the uuids of the cells they serve; None: all."""
        names = [str(name) for name in self.redis.zrangebyscore(WORKERS, self.now(), "+inf")]
        signs = self.redis.mget([_worker_key(name) for name in names]) if names else []
        serving: dict[str, set[str] | None] = {}
        for name, sign in zip(names, signs, strict=True):
            if sign is None:
                continue
            try:
                told = json.loads(sign)
                if told["format"] == FORMAT:
                    serving[name] = None if told["serves"] is None else set(told["serves"])
            except (ValueError, KeyError, TypeError):
                LOG.warning("worker %s: its sign of life cannot be read", name)
        return serving

    # -- the script ------------------------------------------------------------------------------------------------

    def _read(self, *fields: Field) -> list[str | None]:
        return self._carry_out(_Change(*fields))[2]

    def _carry_out(self, change: _Change) -> tuple[bool, float, list[str | None]]:
        """Whether the change was made, the time, and the records that are there now."""
        written, seconds, micros, *records = self._decide(args=[change.encoded()])
        return bool(written), int(seconds) + int(micros) / 1e6, records


def _key(*parts: object) -> str:
    return ":".join([PREFIX, *map(str, parts)])


QUEUE: Final = (_key("queue"), "record")
HOLD: Final = (_key("hold"), "record")
RUNS: Final = _key("runs")
TALLY: Final = _key("tally")
HISTORY: Final = _key("history")
WORKERS: Final = _key("workers")


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


def _write_cell(change: _Change, run: str, phase: int, cell: CellRecord, version: int) -> None:
    key = _phase_key(run, phase)
    record = replace(cell, outcome=None if cell.outcome is None else encode(cell.outcome))
    change.write("HSET", key, cell.number, _encode(record, version))
    if cell.stage is Stage.DONE:
        change.write("ZREM", _phase_key(run, phase, "look"), cell.number)
    else:
        change.write("ZADD", _phase_key(run, phase, "look"), cell.look_at, cell.number)
    if cell.lease_until:
        change.write("ZADD", _phase_key(run, phase, "leases"), cell.lease_until, cell.number)
    else:
        change.write("ZREM", _phase_key(run, phase, "leases"), cell.number)
    change.marks.append((_run_key(run), _phase_key(run, phase, "changed"), str(cell.number)))


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


def _decode_run(record: str | None, run: str) -> tuple[RunRecord, int]:
    if record is None:
        raise RunGone(run)
    return _decode(record, RunRecord, run)


def _decode_cell(record: str | None, run: str) -> tuple[CellRecord, int]:
    if record is None:
        raise RunGone(run)
    return _decode(record, CellRecord, run)


def _decode_hold(record: str | None) -> Hold | None:
    return None if record is None else _decode(record, Hold, "hold")[0]


def _decode(record: str, kind: type[T], run: str) -> tuple[T, int]:
    version, _, text = record.partition(" ")
    try:
        return msgspec.json.decode(text, type=kind, dec_hook=lambda _, value: value), int(version)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Damaged(run) from error


def _view(run: str, now: float, records: Sequence[str | None]) -> View:
    record, hold, cell = records
    found, version = _decode_cell(cell, run)
    return View(_decode_run(record, run)[0], found, _decode_hold(hold), now, version, time.monotonic())
