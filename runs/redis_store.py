"""The store of runs in Redis: every change that decides something is one atomic script."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final

from redis import Redis
from redis.commands.core import Script

from jobs.codec import decode
from runs.records import FORMAT, CellRecord, CellRef, CellState, Order, RunRecord

PREFIX: Final = "cellkeeper"
NOW: Final = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000);"
# A run is to end: somebody asked for it, or its maintenance window has closed.
STOPPING: Final = """
local asked = redis.call('HMGET', KEYS[1], 'cancelled', 'until')
local closes = tonumber(asked[2] or '')
local stopping = asked[1] == '1' and 'cancelled' or closes and now >= closes and 'closed' or ''
"""
# The first one that creates a run is told 1.
CREATE: Final = (
    NOW
    + """
if redis.call('HSETNX', KEYS[1], 'order', ARGV[2]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'phase', -1, 'exit_code', '', 'cancelled', 0, 'finished', '', 'until', ARGV[3],
           'started', now)
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[3], 0, now - ARGV[4] * 1000)
return 1
"""
)

# A claim is granted to the message of the current sequence; and to one that a dead worker left behind after it had
# counted on, if the continuation was never claimed: it may never have been sent.
CLAIM: Final = (
    NOW
    + STOPPING
    + """
if redis.call('HGET', KEYS[1], 'exit_code') ~= '' then return {'over'} end
if redis.call('HGET', KEYS[1], 'phase') ~= ARGV[6] then return {'over'} end
local c = redis.call('HMGET', KEYS[2], 'state', 'sequence', 'claimed', 'holder', 'lease_until', 'cursor', 'outcome')
if not c[1] or c[1] == 'done' or c[1] == 'queued' then return {'over'} end
if tonumber(c[5]) > now and c[4] ~= ARGV[3] then return {'held'} end
local sequence, asked = tonumber(c[2]), tonumber(ARGV[1])
local left_behind = ARGV[2] == '1' and asked == sequence - 1 and tonumber(c[3]) < sequence
if asked ~= sequence and not left_behind then return {'outdated'} end
redis.call('HSET', KEYS[2], 'state', 'working', 'holder', ARGV[3], 'lease_until', now + tonumber(ARGV[4]),
           'claimed', sequence, 'worker', ARGV[5], 'touched', now)
redis.call('HSETNX', KEYS[2], 'started', now)
local attempts = redis.call('HINCRBY', KEYS[2], 'attempts', 1)
return {'granted', sequence, c[6], c[7], attempts, stopping}
"""
)
# What a step did, while the claim holds. Without a new outcome it only renews the lease.
RECORD: Final = (
    NOW
    + STOPPING
    + """
if redis.call('HGET', KEYS[2], 'holder') ~= ARGV[1] then return 'lost' end
redis.call('HSET', KEYS[2], 'lease_until', now + tonumber(ARGV[2]), 'touched', now)
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('EXPIRE', KEYS[2], ARGV[5])
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[2], 'cursor', ARGV[3], 'outcome', ARGV[4], 'attempts', 0)
end
if tonumber(ARGV[7]) > 0 then redis.call('HINCRBY', KEYS[3], ARGV[6], ARGV[7]) end
return stopping ~= '' and stopping or 'kept'
"""
)
ADVANCE: Final = (
    NOW
    + """
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return -1 end
redis.call('HSET', KEYS[1], 'holder', '', 'lease_until', 0, 'touched', now)
return redis.call('HINCRBY', KEYS[1], 'sequence', 1)
"""
)
# The last cell of a phase is told by the counter: one caller alone is given 0.
FINISH: Final = (
    NOW
    + """
local c = redis.call('HMGET', KEYS[2], 'state', 'holder', 'lease_until')
if not c[1] or c[1] == 'done' then return -1 end
if ARGV[1] ~= '' and c[2] ~= ARGV[1] then return -1 end
if ARGV[1] == '' and tonumber(c[3]) > now then return -1 end
redis.call('HSET', KEYS[2], 'state', 'done', 'failure', ARGV[2], 'complete', ARGV[3], 'finished', now,
           'holder', '', 'lease_until', 0, 'touched', now)
return redis.call('HINCRBY', KEYS[1], 'pending', -1)
"""
)
OPEN: Final = (
    NOW
    + """
if redis.call('HGET', KEYS[1], 'phase') ~= ARGV[1] or redis.call('HGET', KEYS[1], 'exit_code') ~= '' then return 0 end
redis.call('HSET', KEYS[1], 'phase', ARGV[2], 'pending', #KEYS - 1)
for i = 2, #KEYS do
  redis.call('HSET', KEYS[i], 'state', ARGV[2 + i - 1], 'sequence', 0, 'claimed', -1, 'holder', '', 'lease_until', 0,
             'cursor', '', 'outcome', '', 'failure', '', 'complete', 0, 'worker', '', 'attempts', 0, 'touched', now)
end
return 1
"""
)
CLOSE: Final = (
    NOW
    + """
if redis.call('HGET', KEYS[1], 'exit_code') ~= '' or redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'exit_code', ARGV[1], 'finished', now)
redis.call('SREM', KEYS[2], ARGV[2])
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1]) end
for i = 4, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[2] then redis.call('DEL', KEYS[i]) end
end
return 1
"""
)
# All of a run's databases or none; a run that has ended takes nothing any more, nor does one that is gone renew.
HOLD: Final = """
local exit_code = redis.call('HGET', KEYS[1], 'exit_code')
if exit_code and exit_code ~= '' or ARGV[3] == '1' and not exit_code then return '' end
for i = 2, #KEYS do
  local holder = redis.call('GET', KEYS[i])
  if holder and holder ~= ARGV[1] then return holder end
end
for i = 2, #KEYS do redis.call('SET', KEYS[i], ARGV[1], 'PX', ARGV[2]) end
return ''
"""
# A cell that shows no sign of life and has no message: whoever notices first sends it again.
REVIVE: Final = (
    NOW
    + """
local c = redis.call('HMGET', KEYS[1], 'state', 'lease_until', 'touched', 'sequence')
if c[1] ~= 'waiting' and c[1] ~= 'working' then return -1 end
if tonumber(c[2]) > now or now - tonumber(c[3]) < tonumber(ARGV[1]) then return -1 end
redis.call('HSET', KEYS[1], 'touched', now)
return tonumber(c[4])
"""
)
CANCEL: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if redis.call('HGET', KEYS[1], 'exit_code') == '' then redis.call('HSET', KEYS[1], 'cancelled', 1) end
return 1
"""
TURN: Final = (
    NOW
    + """
if redis.call('HGET', KEYS[1], 'state') ~= 'queued' then return 0 end
redis.call('HSET', KEYS[1], 'state', 'waiting', 'touched', now)
return 1
"""
)


@dataclass(frozen=True)
class Claim:
    """The right to work on a cell.

    :ivar token: proves it
    :ivar attempts: claims since the last step that was recorded
    :ivar stopping: ``cancelled`` or ``closed`` if the run is to end, else empty
    """

    token: str
    sequence: int
    cursor: dict[str, Any] | None
    outcome: dict[str, Any] | None
    attempts: int
    stopping: str


class RunGone(Exception):
    """The store does not know the run: it has expired, or the store was emptied."""


class StoreAway(Exception):
    """The store does not answer. The text is for the operator; the run goes on without the one who waits for it."""


class RedisStore:
    """Runs in Redis. Times are the server's."""

    def __init__(self, redis: Redis, expires: int) -> None:
        """:param expires: seconds that a finished run, and one that nobody works on, is kept"""
        self._redis = redis
        self._expires = expires
        self._scripts: dict[str, Script] = {}

    def _run(self, script: str, keys: Sequence[str], *arguments: Any) -> Any:
        if script not in self._scripts:
            self._scripts[script] = self._redis.register_script(script)
        return self._scripts[script](keys=list(keys), args=list(arguments))

    @staticmethod
    def _key(*parts: object) -> str:
        return ":".join([PREFIX, *map(str, parts)])

    def _cell_key(self, run: str, phase: int, uuid: str) -> str:
        return self._key("run", run, phase, uuid)

    # -- runs ------------------------------------------------------------------------------------------------------

    def create(self, order: Order) -> bool:
        """Store a run that has not begun: its phase is -1.

        :returns: whether it was not there before; one caller alone is told True
        """
        keys = [self._key("run", order.id), self._key("active"), self._key("runs")]
        until = "" if order.until is None else int(order.until * 1000)
        return bool(self._run(CREATE, keys, order.id, json.dumps(asdict(order)), until, self._expires))

    def open_phase(self, order: Order, number: int, states: Sequence[CellState]) -> bool:
        """Begin a phase, if the run is in the one before; one caller alone is told True."""
        keys = [self._cell_key(order.id, number, cell.uuid) for cell in order.cells]
        opened = bool(self._run(OPEN, [self._key("run", order.id), *keys], number - 1, number, *states))
        if opened:
            self.keep(order, number)
        return opened

    def keep(self, order: Order, phase: int) -> None:
        """Let what is known of a run that goes on not expire."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.expire(self._key("run", order.id), self._expires)
            for number in range(phase + 1):
                for cell in order.cells:
                    pipe.expire(self._cell_key(order.id, number, cell.uuid), self._expires)
            pipe.execute()

    def close(
        self, order: Order, exit_code: int, holds: Iterable[str], tally: Mapping[str, float] = MappingProxyType({})
    ) -> bool:
        """End a run; one caller alone is told True.

        :param tally: what it leaves behind in the books
        """
        keys = [self._key("run", order.id), self._key("active"), self._key("tally"), *map(self._hold_key, holds)]
        entries = [part for entry in tally.items() for part in entry]
        return bool(self._run(CLOSE, keys, exit_code, order.id, *entries))

    def tally(self) -> dict[str, float]:
        """The books: numbers by name, see ``runs.tally``. They outlive the runs."""
        return {str(name): float(value) for name, value in self._redis.hgetall(self._key("tally")).items()}

    def cancel(self, run: str) -> None:
        """Ask a run to end after the current steps.

        :raises RunGone: it is not there
        """
        if not self._run(CANCEL, [self._key("run", run)]):
            raise RunGone(run)

    def load(self, run: str, phase: int | None = None) -> RunRecord:
        """A run with the cells of a phase, its current one unless named.

        :raises RunGone: it is not there
        """
        found = self._redis.hgetall(self._key("run", run))
        if "order" not in found:
            raise RunGone(run)
        order = decode(Order, json.loads(found["order"]))
        current = int(found["phase"])
        return RunRecord(
            order=order,
            phase=current,
            started=int(found["started"]) / 1000,
            cancelled=found["cancelled"] == "1",
            exit_code=int(found["exit_code"]) if found["exit_code"] else None,
            finished=int(found["finished"]) / 1000 if found["finished"] else None,
            closed=bool(found.get("until")) and int(found["finished"] or self._now_ms()) >= int(found["until"]),
            cells=self._load_cells(order, current if phase is None else phase),
        )

    def _load_cells(self, order: Order, phase: int) -> tuple[CellRecord, ...]:
        with self._redis.pipeline(transaction=False) as pipe:
            for cell in order.cells:
                pipe.hgetall(self._cell_key(order.id, phase, cell.uuid))
            records = pipe.execute()
        now = self._now_ms()
        return tuple(_cell_record(ref, found, now) for ref, found in zip(order.cells, records, strict=True) if found)

    def recent(self) -> list[str]:
        """The ids of all runs that are kept, the newest first."""
        return [str(run) for run in self._redis.zrevrange(self._key("runs"), 0, -1)]

    def active(self) -> set[str]:
        """The ids of the runs that have not ended."""
        return {str(run) for run in self._redis.smembers(self._key("active"))}

    def forget_active(self, run: str) -> None:
        """Strike a run that is gone off the list of active ones."""
        self._redis.srem(self._key("active"), run)

    # -- cells -----------------------------------------------------------------------------------------------------

    def claim(
        self,
        run: str,
        phase: int,
        uuid: str,
        *,
        sequence: int,
        redelivered: bool,
        token: str,
        lease: float,
        worker: str,
    ) -> Claim | str:
        """Claim a cell for one slice.

        :param lease: seconds without a sign of life after which somebody else may claim it
        :returns: the claim; or why there is none: ``over``, ``held`` by somebody, ``outdated``
        """
        answer = self._run(
            CLAIM, [self._key("run", run), self._cell_key(run, phase, uuid)],
            sequence, int(redelivered), token, int(lease * 1000), worker, phase,
        )  # fmt: skip
        if answer[0] != "granted":
            return str(answer[0])
        _, current, cursor, outcome, attempts, stopping = answer
        return Claim(token, current, _json(cursor), _json(outcome), attempts, stopping)

    def record(
        self,
        run: str,
        phase: int,
        uuid: str,
        token: str,
        lease: float,
        progress: tuple[dict[str, Any], dict[str, Any]] | None = None,
        counted: tuple[str, int] = ("", 0),
    ) -> str:
        """Renew a claim and keep what was done.

        :param progress: the cursor, and the outcome of all slices so far, encoded
        :param counted: what the step adds to an entry of the books
        :returns: ``kept``; ``cancelled``, ``closed``: end after this step; ``lost``: the claim is somebody else's,
            write no more
        """
        cursor, outcome = map(json.dumps, progress) if progress else ("", "")
        keys = [self._key("run", run), self._cell_key(run, phase, uuid), self._key("tally")]
        return str(self._run(RECORD, keys, token, int(lease * 1000), cursor, outcome, self._expires, *counted))

    def advance(self, run: str, phase: int, uuid: str, token: str) -> int | None:
        """Give a claim up for the next slice; its sequence number, or None if the claim was lost."""
        sequence = int(self._run(ADVANCE, [self._cell_key(run, phase, uuid)], token))
        return sequence if sequence >= 0 else None

    def finish(
        self, run: str, phase: int, uuid: str, token: str | None, failure: tuple[str, str] | None, complete: bool
    ) -> int | None:
        """End the work in a cell.

        :param token: of the claim; None: only if nobody holds one
        :returns: how many cells of the phase are left; None: somebody else has ended it, or holds it
        """
        keys = [self._key("run", run), self._cell_key(run, phase, uuid)]
        left = int(self._run(FINISH, keys, token or "", json.dumps(failure) if failure else "", int(complete)))
        return left if left >= 0 else None

    def take_turn(self, run: str, phase: int, uuid: str) -> bool:
        """Let a queued cell wait for a worker; one caller alone is told True."""
        return bool(self._run(TURN, [self._cell_key(run, phase, uuid)]))

    def revive(self, run: str, phase: int, uuid: str, idle: float) -> int | None:
        """The sequence number to send again, of a cell without a sign of life for so many seconds; or None."""
        sequence = int(self._run(REVIVE, [self._cell_key(run, phase, uuid)], int(idle * 1000)))
        return sequence if sequence >= 0 else None

    # -- exclusion -------------------------------------------------------------------------------------------------

    @staticmethod
    def _hold_key(name: str) -> str:
        return f"{PREFIX}:hold:{name}"

    def hold(self, run: str, names: Sequence[str], lease: float, *, renew: bool = False) -> str | None:
        """Take or renew the exclusive right of a run to some databases: all or none.

        :param renew: the run is known to the store; if it is not any more, nothing is held for it
        :returns: None, or the id of the run that holds one of them
        """
        keys = [self._key("run", run), *map(self._hold_key, names)]
        holder = self._run(HOLD, keys, run, int(lease * 1000), int(renew)) if names else ""
        return holder or None

    # -- workers ---------------------------------------------------------------------------------------------------

    def beat(self, worker: str, serves: Sequence[str] | None, lease: float) -> None:
        """A worker's sign of life.

        :param serves: uuids of its cells; None: all
        """
        sign = json.dumps({"serves": list(serves) if serves is not None else None, "format": FORMAT})
        self._redis.set(self._key("worker", worker), sign, px=int(lease * 1000))

    def rest(self, worker: str) -> None:
        """A worker has ended."""
        self._redis.delete(self._key("worker", worker))

    def workers(self) -> dict[str, set[str] | None]:
        """The live workers, and the uuids of the cells they serve; None: all."""
        found: dict[str, set[str] | None] = {}
        for key in self._redis.scan_iter(self._key("worker", "*"), count=1000):
            sign = self._redis.get(key)
            if sign:
                serves = json.loads(sign)["serves"]
                found[key.split(":", 2)[2]] = None if serves is None else set(serves)
        return found

    def queue_length(self, queue: str) -> int:
        """Messages that wait in a queue of the broker, where it is this Redis."""
        return int(self._redis.llen(queue))

    def _now_ms(self) -> int:
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000


def _json(text: str) -> dict[str, Any] | None:
    return json.loads(text) if text else None


def _cell_record(ref: CellRef, found: dict[str, str], now: int) -> CellRecord:
    failure = json.loads(found["failure"]) if found.get("failure") else None
    return CellRecord(
        ref=ref,
        state=CellState(found["state"]),
        sequence=int(found["sequence"]),
        cursor=_json(found["cursor"]),
        outcome=_json(found["outcome"]),
        failure=(failure[0], failure[1]) if failure else None,
        complete=found["complete"] == "1",
        worker=found["worker"] or None,
        started=int(found["started"]) / 1000 if found.get("started") else None,
        touched=int(found["touched"]) / 1000,
        finished=int(found["finished"]) / 1000 if found.get("finished") else None,
        idle=(now - int(found["touched"])) / 1000,
        leased=int(found["lease_until"]) > now,
    )
