"""What became of the firings of the schedule: in Redis, so that several beats share one memory.

A firing is known by its entry and its nominal time, and so is the run that it starts: a beat that takes over may start
it again without harm, as a run of one name is started once.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from redis import Redis

from runs.redis_store import NOW, PREFIX
from schedules.entries import Entry

KEPT: Final = 400 * 86_400  # seconds, more than a year: the longest that an entry may be silent

# Of one firing, one beat at a time is granted the attempts; nobody is granted one that is over, or older.
CLAIM: Final = (
    NOW
    + """
local f = redis.call('HMGET', KEYS[1], 'nominal', 'state', 'beat', 'lease_until')
local asked, known = tonumber(ARGV[1]), tonumber(f[1] or '-1')
if known > asked then return 'over' end
if known == asked then
  if f[2] ~= 'due' then return 'over' end
  if f[3] ~= ARGV[2] and tonumber(f[4]) > now then return 'held' end
else
  redis.call('HSET', KEYS[1], 'state', 'due', 'run', '', 'reason', '')
end
redis.call('HSET', KEYS[1], 'nominal', ARGV[1], 'beat', ARGV[2], 'lease_until', now + tonumber(ARGV[3]))
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 'granted'
"""
)
# The end of a firing, unless a later one has taken its place, or somebody else has ended it.
END: Final = """
local f = redis.call('HMGET', KEYS[1], 'nominal', 'state')
if f[1] ~= ARGV[1] or f[2] ~= 'due' then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'run', ARGV[3], 'reason', ARGV[4])
return 1
"""
# An entry that nobody knows yet is not started for what lies in the past.
KNOW: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'nominal', ARGV[1], 'state', 'new', 'run', '', 'reason', '', 'beat', '', 'lease_until', 0)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""


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
    """No beat was there within the deadline."""


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


class Firings:
    """The last firing of each entry, and the beats that are alive."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts: dict[str, Callable[..., Any]] = {}

    def _run(self, script: str, entry: Entry, *arguments: object) -> Any:
        known = self._scripts.setdefault(script, self._redis.register_script(script))
        return known(keys=[_key(entry)], args=list(arguments))

    def know(self, entry: Entry, last: datetime | None) -> bool:
        """Note an entry.

        :param last: its last nominal time, which is taken as over
        :returns: whether it was new
        """
        return bool(self._run(KNOW, entry, _seconds(last), KEPT))

    def claim(self, entry: Entry, nominal: datetime, beat: str, lease: float) -> str:
        """Ask for the right to try to start a firing; or to go on trying.

        :param beat: who asks
        :param lease: seconds after which another beat may take over
        :returns: ``granted``; ``held`` by another beat; ``over``
        """
        return str(self._run(CLAIM, entry, _seconds(nominal), beat, int(lease * 1000), KEPT))

    def end(self, entry: Entry, nominal: datetime, state: FiringState, run: str = "", reason: str = "") -> bool:
        """Note what became of a firing; one caller alone is told True."""
        return bool(self._run(END, entry, _seconds(nominal), state, run, reason))

    def last(self, entry: Entry) -> Firing | None:
        """The last firing of an entry; None: no beat has seen it."""
        found: dict[str, str] = {str(name): str(value) for name, value in self._redis.hgetall(_key(entry)).items()}
        if not found or found["nominal"] == "-1":
            return None
        nominal = datetime.fromtimestamp(int(found["nominal"]), UTC)
        return Firing(nominal, FiringState(found["state"]), found["run"], found["reason"])

    def live(self, beat: str, lease: float) -> None:
        """A beat's sign of life."""
        self._redis.set(f"{PREFIX}:beat:{beat}", "1", px=int(lease * 1000))

    def rest(self, beat: str) -> None:
        """A beat has ended."""
        self._redis.delete(f"{PREFIX}:beat:{beat}")

    def beats(self) -> list[str]:
        """The beats that are alive."""
        start = f"{PREFIX}:beat:"
        return sorted(str(key).removeprefix(start) for key in self._redis.scan_iter(f"{start}*", count=1000))


def _key(entry: Entry) -> str:
    """An entry with another expression is another one: what was due by the old one says nothing of the new."""
    when = hashlib.sha256(f"{entry.cron} {entry.zone.key}".encode()).hexdigest()[:8]
    return f"{PREFIX}:firing:{entry.name}:{when}"


def _seconds(moment: datetime | None) -> int:
    return int(moment.timestamp()) if moment else -1


def run_id(entry: Entry, nominal: datetime) -> str:
    """The name of the run that a firing starts."""
    return f"{entry.name}-{nominal:%Y%m%dT%H%M%SZ}"
