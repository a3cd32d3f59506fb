"""The firings of the schedule, kept in Redis, where all beats share them.

A firing is identified by its entry and its nominal time, and so is the run that it starts. So a
beat that takes over may start it again without harm: a run of one name is started only once.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from redis import Redis
from redis.exceptions import ResponseError

from runs.redis_keys import PREFIX
from runs.redis_scripts import NOW, OTHER_TYPE
from schedules.clocks import MAX_CLOCK_DIFFERENCE
from schedules.entries import Entry

BEAT_KEY: Final = f"{PREFIX}:beat:"
STARTING: Final = "1"  # the sign of life of a beat without a problem
# Seconds after which a firing is forgotten: longer than the longest interval of an entry, a year.
FIRING_EXPIRES: Final = 400 * 86_400

# One beat at a time may try to start a firing. None may start one that is over, is older than the
# last known one, or is still to come by the clock of the store. A new entry is not started for a
# time in the past; neither is one whose last firing lies in the future, which only a wrong clock
# can have recorded.
CLAIM_SCRIPT: Final = (
    NOW
    + """
local asked = tonumber(ARGV[1])
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
if asked * 1000 > now then return 'early' end
local firing = redis.call('HMGET', KEYS[1], 'nominal', 'state', 'beat', 'lease_until')
local known = tonumber(firing[1] or '')
if not known or known * 1000 > now + tonumber(ARGV[5]) then
  redis.call('HSET', KEYS[1], 'nominal', ARGV[1], 'state', 'new', 'run', '', 'reason', '',
             'beat', '', 'lease_until', 0)
  redis.call('EXPIRE', KEYS[1], ARGV[4])
  return known and 'forgotten' or 'new'
end
local answer = 'granted'
if known > asked then return 'over' end
if known == asked then
  if firing[2] ~= 'due' then return 'over' end
  if firing[3] ~= ARGV[2] and tonumber(firing[4]) > now then return 'held' end
  answer = 'resumed'
else
  redis.call('HSET', KEYS[1], 'state', 'due', 'run', '', 'reason', '')
end
local lease_until = now + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'nominal', ARGV[1], 'beat', ARGV[2], 'lease_until', lease_until)
redis.call('EXPIRE', KEYS[1], ARGV[4])
return answer
"""
)
# Ends a firing, unless a later one has replaced it, or another beat has ended it.
END_SCRIPT: Final = """
local firing = redis.call('HMGET', KEYS[1], 'nominal', 'state')
if firing[1] ~= ARGV[1] or firing[2] ~= 'due' then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'run', ARGV[3], 'reason', ARGV[4])
return 1
"""


class FiringClaim(StrEnum):
    """The answer to a beat that asks for a firing."""

    GRANTED = "granted"
    """This beat may start it; no beat has tried before."""
    RESUMED = "resumed"
    """This beat may start it; it has tried before, or another beat that is gone."""
    HELD = "held"
    """Another beat is trying to start it."""
    OVER = "over"
    EARLY = "early"
    """Its time has not come by the clock of the store."""
    NEW = "new"
    """The entry is new: it begins with its next time."""
    FORGOTTEN = "forgotten"
    """The last firing lay in the future: the entry begins anew with its next time."""


MAY_START: Final = frozenset({FiringClaim.GRANTED, FiringClaim.RESUMED})


class FiringState(StrEnum):
    """The state of a firing."""

    NEW = "new"
    """The entry was new at that time: nothing was started."""
    DUE = "due"
    """A beat is trying to start it."""
    STARTED = "started"
    FAILED = "failed"
    """It could not be started within the deadline."""
    MISSED = "missed"
    """No beat took it up within the deadline."""


@dataclass(frozen=True)
class Firing:
    """The last firing of an entry.

    :ivar nominal: when it was due, in UTC
    :ivar run: the id of the run that was started; empty: none was
    :ivar reason: why it could not be started; may be empty
    """

    nominal: datetime
    state: FiringState
    run: str
    reason: str


@dataclass(frozen=True)
class BeatSign:
    """A beat that is alive.

    :ivar problem: why it starts nothing; empty: it starts what is due
    """

    name: str
    problem: str


class Firings:
    """The last firing of each entry, and the beats that are alive."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts: dict[str, Callable[..., Any]] = {}

    def _run_script(self, script: str, entry: Entry, *arguments: object) -> Any:
        run_script = self._scripts.setdefault(script, self._redis.register_script(script))
        return run_script(keys=[firing_key(entry)], args=list(arguments))

    def now(self) -> datetime:
        """The time of the store, in UTC."""
        seconds, microseconds = self._redis.time()
        return datetime.fromtimestamp(int(seconds), UTC) + timedelta(microseconds=int(microseconds))

    def claim(self, entry: Entry, nominal: datetime | None, beat: str, lease: float) -> FiringClaim:
        """Ask for the right to start a firing, or to keep it.

        :param nominal: when it was due; None: the entry was never due, and is only recorded
        :param beat: who asks
        :param lease: seconds after which another beat may take over
        """
        lease_ms = int(lease * 1000)
        max_difference_ms = int(MAX_CLOCK_DIFFERENCE.total_seconds() * 1000)
        arguments = (_seconds(nominal), beat, lease_ms, FIRING_EXPIRES, max_difference_ms)
        return FiringClaim(self._run_script(CLAIM_SCRIPT, entry, *arguments))

    def end(
        self, entry: Entry, nominal: datetime, state: FiringState, run: str = "", reason: str = ""
    ) -> bool:
        """Record how a firing ended.

        :returns: whether this call did it; it is True for one caller only
        """
        arguments = (_seconds(nominal), state, run, reason)
        return bool(self._run_script(END_SCRIPT, entry, *arguments))

    def last(self, entry: Entry) -> Firing | None:
        """The last firing of an entry; None: no beat has seen the entry."""
        fields = ("nominal", "state", "run", "reason")
        try:
            values: Sequence[Any] = self._redis.hmget(firing_key(entry), *fields)
            nominal, state, run, reason = values
            if int(nominal) < 0:
                return None
            moment = datetime.fromtimestamp(int(nominal), UTC)
            return Firing(moment, FiringState(state), run or "", reason or "")
        except ResponseError as error:
            if OTHER_TYPE not in str(error):
                raise
            return None
        except (OverflowError, TypeError, ValueError):
            # There is no record, or one that this program has not written.
            return None

    def show_alive(self, beat: str, lease: float, problem: str = "") -> None:
        """Record a sign of life of a beat.

        :param lease: seconds after which the beat counts as dead
        :param problem: why it starts nothing
        """
        self._redis.set(f"{BEAT_KEY}{beat}", problem or STARTING, px=int(lease * 1000))

    def sign_off(self, beat: str) -> None:
        """Remove the sign of life of a beat that has ended."""
        self._redis.delete(f"{BEAT_KEY}{beat}")

    def living_beats(self) -> list[BeatSign]:
        """The beats that are alive."""
        keys = sorted(map(str, self._redis.scan_iter(f"{BEAT_KEY}*", count=1000)))
        values = self._redis.mget(keys) if keys else []
        signs: list[BeatSign] = []
        for key, value in zip(keys, values, strict=True):
            if value is None:  # the beat has ended meanwhile, or the key is of another type
                continue
            problem = "" if value == STARTING else str(value)
            signs.append(BeatSign(key.removeprefix(BEAT_KEY), problem))
        return signs


def firing_key(entry: Entry) -> str:
    """The key of the last firing of an entry in the store.

    An entry whose expression is changed begins anew: its old times say nothing about the new ones.
    """
    expression = hashlib.sha256(f"{entry.cron} {entry.zone.key}".encode()).hexdigest()[:8]
    return f"{PREFIX}:firing:{entry.name}:{expression}"


def _seconds(moment: datetime | None) -> int:
    return int(moment.timestamp()) if moment else -1


def run_id(entry: Entry, nominal: datetime) -> str:
    """The name of the run that a firing starts."""
    return f"{entry.name}-{nominal:%Y%m%dT%H%M%SZ}"


def is_run_of(entry: Entry, run: str) -> bool:
    """Whether a run was started by a firing of an entry, by its name."""
    return re.fullmatch(rf"{re.escape(entry.name)}-\d{{8}}T\d{{6}}Z", run) is not None
