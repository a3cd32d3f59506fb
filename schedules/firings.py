"""What became of the firings of the schedule: in Redis, so that several beats share one memory.

A firing is known by its entry and its nominal time, and so is the run that it starts: a beat that takes over may start
it again without harm, as a run of one name is started once.
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

from runs.redis_store import NOW, OTHER_TYPE, PREFIX
from schedules.clocks import MAX_CLOCK_DIFFERENCE
from schedules.entries import Entry

BEAT_KEY: Final = f"{PREFIX}:beat:"
STARTING: Final = "1"  # the sign of life of a beat that starts what is due
FIRING_EXPIRES: Final = 400 * 86_400  # seconds, more than a year: the longest that an entry may be silent

# Of one firing, one beat at a time is granted the attempts; nobody is granted one that is over, or older, or
# that has not come by the clock of the store. An entry that nobody knows yet is not started for what lies in the
# past; neither is one whose last firing lies in the future, which only a wrong clock can have noted.
CLAIM_SCRIPT: Final = (
    NOW
    + """
local asked = tonumber(ARGV[1])
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
if asked * 1000 > now then return 'early' end
local f = redis.call('HMGET', KEYS[1], 'nominal', 'state', 'beat', 'lease_until')
local known = tonumber(f[1] or '')
if not known or known * 1000 > now + tonumber(ARGV[5]) then
  redis.call('HSET', KEYS[1], 'nominal', ARGV[1], 'state', 'new', 'run', '', 'reason', '', 'beat', '', 'lease_until', 0)
  redis.call('EXPIRE', KEYS[1], ARGV[4])
  return known and 'forgotten' or 'new'
end
local answer = 'granted'
if known > asked then return 'over' end
if known == asked then
  if f[2] ~= 'due' then return 'over' end
  if f[3] ~= ARGV[2] and tonumber(f[4]) > now then return 'held' end
  answer = 'resumed'
else
  redis.call('HSET', KEYS[1], 'state', 'due', 'run', '', 'reason', '')
end
redis.call('HSET', KEYS[1], 'nominal', ARGV[1], 'beat', ARGV[2], 'lease_until', now + tonumber(ARGV[3]))
redis.call('EXPIRE', KEYS[1], ARGV[4])
return answer
"""
)
# The end of a firing, unless a later one has taken its place, or somebody else has ended it.
END_SCRIPT: Final = """
local f = redis.call('HMGET', KEYS[1], 'nominal', 'state')
if f[1] ~= ARGV[1] or f[2] ~= 'due' then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'run', ARGV[3], 'reason', ARGV[4])
return 1
"""


class FiringClaim(StrEnum):
    """The answer to a beat that asks for a firing."""

    GRANTED = "granted"
    """It is this beat's to start; nobody has tried before."""
    RESUMED = "resumed"
    """It is this beat's to start; it, or one that is gone, has tried before."""
    HELD = "held"
    """Another beat tries to start it."""
    OVER = "over"
    EARLY = "early"
    """By the clock of the store it has not come."""
    NEW = "new"
    """The entry was not known: it begins with its next time."""
    FORGOTTEN = "forgotten"
    """What was known of the entry lay in the future: it begins with its next time."""


MAY_START: Final = frozenset({FiringClaim.GRANTED, FiringClaim.RESUMED})


class FiringState(StrEnum):
    """Where a firing stands."""

    NEW = "new"
    """The entry was not known then: nothing was started."""
    DUE = "due"
    """A beat tries to start it."""
    STARTED = "started"
    FAILED = "failed"
    """It could not be started within the deadline."""
    MISSED = "missed"
    """No beat took it up within the deadline."""


@dataclass(frozen=True)
class Firing:
    """The last firing of an entry.

    :ivar nominal: when it was due, in UTC
    :ivar run: the id of the run that was started, or empty
    :ivar reason: why it could not be started
    """

    nominal: datetime
    state: FiringState
    run: str
    reason: str


@dataclass(frozen=True)
class BeatSign:
    """A beat that is alive.

    :ivar problem: why it starts nothing; empty: it does
    """

    name: str
    problem: str


class Firings:
    """The last firing of each entry, and the beats that are alive."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts: dict[str, Callable[..., Any]] = {}

    def _run(self, script: str, entry: Entry, *arguments: object) -> Any:
        known = self._scripts.setdefault(script, self._redis.register_script(script))
        return known(keys=[firing_key(entry)], args=list(arguments))

    def now(self) -> datetime:
        """The time of the store, in UTC."""
        seconds, microseconds = self._redis.time()
        return datetime.fromtimestamp(int(seconds), UTC) + timedelta(microseconds=int(microseconds))

    def claim(self, entry: Entry, nominal: datetime | None, beat: str, lease: float) -> FiringClaim:
        """Ask for the right to try to start a firing; or to go on trying.

        :param nominal: when it was due; None: the entry was never due, and is only noted
        :param beat: who asks
        :param lease: seconds after which another beat may take over
        """
        limit = int(MAX_CLOCK_DIFFERENCE.total_seconds() * 1000)
        return FiringClaim(
            self._run(CLAIM_SCRIPT, entry, _seconds(nominal), beat, int(lease * 1000), FIRING_EXPIRES, limit)
        )

    def end(self, entry: Entry, nominal: datetime, state: FiringState, run: str = "", reason: str = "") -> bool:
        """Note what became of a firing; one caller alone is told True."""
        return bool(self._run(END_SCRIPT, entry, _seconds(nominal), state, run, reason))

    def last(self, entry: Entry) -> Firing | None:
        """The last firing of an entry; None: no beat has seen it."""
        names = "nominal", "state", "run", "reason"
        try:
            known: Sequence[Any] = self._redis.hmget(firing_key(entry), *names)
            nominal, state, run, reason = known
            moment = datetime.fromtimestamp(int(nominal), UTC)
            return Firing(moment, FiringState(state), run or "", reason or "") if int(nominal) >= 0 else None
        except ResponseError as error:
            if OTHER_TYPE not in str(error):
                raise
            return None
        except (OverflowError, TypeError, ValueError):  # nothing is known, or nothing that this program wrote
            return None

    def live(self, beat: str, lease: float, problem: str = "") -> None:
        """A beat's sign of life.

        :param lease: seconds after which it counts as dead
        :param problem: why it starts nothing
        """
        self._redis.set(f"{BEAT_KEY}{beat}", problem or STARTING, px=int(lease * 1000))

    def rest(self, beat: str) -> None:
        """A beat has ended."""
        self._redis.delete(f"{BEAT_KEY}{beat}")

    def beats(self) -> list[BeatSign]:
        """The beats that are alive."""
        keys = sorted(map(str, self._redis.scan_iter(f"{BEAT_KEY}*", count=1000)))
        values = self._redis.mget(keys) if keys else []
        return [
            BeatSign(key.removeprefix(BEAT_KEY), "" if value == STARTING else str(value))
            for key, value in zip(keys, values, strict=True)
            if value is not None  # it has ended meanwhile, or is none
        ]


def firing_key(entry: Entry) -> str:
    """Where the last firing of an entry stands in the store.

    An entry with another expression is another one: what was due by the old one says nothing of the new.
    """
    when = hashlib.sha256(f"{entry.cron} {entry.zone.key}".encode()).hexdigest()[:8]
    return f"{PREFIX}:firing:{entry.name}:{when}"


def _seconds(moment: datetime | None) -> int:
    return int(moment.timestamp()) if moment else -1


def run_id(entry: Entry, nominal: datetime) -> str:
    """The name of the run that a firing starts."""
    return f"{entry.name}-{nominal:%Y%m%dT%H%M%SZ}"


def is_run_of(entry: Entry, run: str) -> bool:
    """Whether a run is that of some firing of an entry, by its name."""
    return re.fullmatch(rf"{re.escape(entry.name)}-\d{{8}}T\d{{6}}Z", run) is not None
