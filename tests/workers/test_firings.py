"""What beats do with firings that are due, late, or refused: with a real Redis, and a list for what
is started.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from redis import Redis as Client
from redis.exceptions import ConnectionError as RedisConnectionError

from schedules import beat as module
from schedules.beat import Beat, OrderAttempt
from schedules.entries import Entry, ParsedCommand
from schedules.firings import (
    BeatSign,
    Firing,
    FiringClaim,
    Firings,
    FiringState,
    firing_key,
    run_id,
)
from tests.support.command import until

DEADLINE = 600.0
NIGHT = datetime(2026, 11, 24, 2, tzinfo=UTC)
BEFORE = NIGHT - timedelta(hours=5)
AFTER = NIGHT + timedelta(seconds=1)
LEASE = 60.0
SHORT = 0.05


def entry(cron: str = "0 2 * * *", zone: str = "UTC", window: str | None = None) -> Entry:
    command = ParsedCommand("db purge", {"until": window})
    return Entry("nightly", cron, ("db", "purge"), command, ZoneInfo(zone))


class Memory(Firings):
    """The memory of the schedule, with a clock that can be stopped.

    :ivar moment: what the clock of the store shows; None: the time
    """

    moment: datetime | None = None

    def now(self) -> datetime:
        return self.moment or super().now()


@pytest.fixture
def firings(client: Client) -> Memory:
    """The memory of the schedule, in which the entry is known since the evening."""
    memory = Memory(client)
    assert memory.claim(entry(), entry().last_due(BEFORE), "evening", LEASE) is FiringClaim.NEW
    return memory


class Started:
    """Notes what is started, in place of the program.

    :ivar runs: the ids, in their order
    :ivar latest: until when each may be ordered
    """

    def __init__(self, *refusals: str) -> None:
        self.runs: list[str] = []
        self.latest: list[datetime] = []
        self._refusals = list(refusals)
        self.hindrance: Callable[[], Any] = lambda: None

    def __call__(self, entry: Entry, run: str, nominal: datetime, latest: datetime) -> OrderAttempt:
        self.latest.append(latest)
        self.hindrance()
        if self._refusals:
            return OrderAttempt(False, self._refusals.pop(0))
        self.runs.append(run)
        return OrderAttempt(True)


def beat(firings: Memory, started: Started, stop: threading.Event | None = None) -> Beat:
    return Beat([entry()], firings, started, DEADLINE, stop or threading.Event())


@contextmanager
def running(beat: Beat, stop: threading.Event) -> Iterator[Beat]:
    """A beat at work, which ends with the context."""
    thread = threading.Thread(target=beat.run)
    thread.start()
    try:
        yield beat
    finally:
        stop.set()
        thread.join()


def due_now(firings: Memory) -> tuple[Entry, datetime]:
    """An entry of every minute that is due now, and the time."""
    every_minute, now = entry("* * * * *"), datetime.now(UTC)
    nominal = every_minute.last_due(now)
    assert nominal is not None
    firings.claim(every_minute, nominal - timedelta(minutes=1), "evening", LEASE)
    return every_minute, now


def fire(beat: Beat, firings: Memory, entry: Entry, now: datetime) -> None:
    """Let a beat look at an entry at a moment of the store."""
    firings.moment = now
    beat.fire(entry, now)


def last(firings: Memory) -> Firing:
    found = firings.last(entry())
    assert found is not None
    return found


# -- the right to start ----------------------------------------------------------------------------


def test_of_many_beats_one_is_granted_a_firing(firings: Memory) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(lambda n: firings.claim(entry(), NIGHT, f"beat {n}", LEASE), range(16))
        )
    assert sorted(answers) == ["granted"] + ["held"] * 15


def test_whoever_holds_a_firing_is_granted_it_again(firings: Memory) -> None:
    assert [firings.claim(entry(), NIGHT, "a", LEASE) for _ in range(2)] == ["granted", "resumed"]


def test_a_firing_of_a_dead_beat_is_taken_over(firings: Memory) -> None:
    assert firings.claim(entry(), NIGHT, "a", SHORT) == "granted"
    until(lambda: firings.claim(entry(), NIGHT, "b", LEASE) == "resumed")


@pytest.mark.parametrize("state", [FiringState.STARTED, FiringState.FAILED, FiringState.MISSED])
def test_a_firing_that_is_over_is_granted_to_nobody(firings: Memory, state: FiringState) -> None:
    firings.claim(entry(), NIGHT, "a", SHORT)
    assert firings.end(entry(), NIGHT, state)
    assert not firings.end(entry(), NIGHT, FiringState.FAILED)
    assert firings.claim(entry(), NIGHT, "a", LEASE) == "over"
    assert last(firings).state is state


def test_an_older_firing_than_the_last_is_granted_to_nobody(firings: Memory) -> None:
    """A host whose clock is behind."""
    assert firings.claim(entry(), NIGHT, "a", SHORT) == "granted"
    assert firings.claim(entry(), NIGHT - timedelta(days=1), "b", LEASE) == "over"


def test_a_later_firing_takes_the_place_of_one_that_is_still_tried(firings: Memory) -> None:
    firings.claim(entry(), NIGHT, "a", LEASE)
    following = NIGHT + timedelta(days=1)
    assert firings.claim(entry(), following, "b", LEASE) == "granted"
    assert not firings.end(entry(), NIGHT, FiringState.STARTED, "r")
    assert last(firings).nominal == following


def test_another_expression_is_another_entry(firings: Memory) -> None:
    assert firings.last(entry("0 3 * * *")) is None
    assert firings.last(entry(zone="Europe/Berlin")) is None
    assert firings.last(entry(window="06:00")) is not None


# -- a beat ----------------------------------------------------------------------------------------


def test_a_firing_is_started_once_whoever_looks(firings: Memory) -> None:
    started = Started()
    one, two = beat(firings, started), beat(firings, started)
    for who in (one, two, one):
        fire(who, firings, entry(), AFTER)
    assert started.runs == ["nightly-20261124T020000Z"] == [run_id(entry(), NIGHT)]
    assert last(firings) == Firing(NIGHT, FiringState.STARTED, started.runs[0], "")


def test_before_its_time_nothing_is_started(firings: Memory) -> None:
    started = Started()
    fire(beat(firings, started), firings, entry(), NIGHT - timedelta(seconds=1))
    assert started.runs == []


def test_a_firing_is_made_up_within_the_deadline(firings: Memory) -> None:
    started = Started()
    fire(beat(firings, started), firings, entry(), NIGHT + timedelta(seconds=DEADLINE - 1))
    assert started.runs == [run_id(entry(), NIGHT)]


def test_a_firing_is_not_made_up_in_the_middle_of_the_day(
    firings: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    started = Started()
    fire(beat(firings, started), firings, entry(), NIGHT + timedelta(hours=9))
    assert started.runs == []
    assert last(firings).state is FiringState.MISSED
    assert last(firings).reason == "no beat took it up in time"
    assert (
        "nightly: the firing of 2026-11-24 02:00:00 UTC was missed, and is skipped" in caplog.text
    )


def test_a_firing_that_was_tried_and_came_to_nothing_was_not_missed(firings: Memory) -> None:
    assert firings.claim(entry(), NIGHT, "killed", 0) is FiringClaim.GRANTED
    fire(beat(firings, Started()), firings, entry(), NIGHT + timedelta(hours=9))
    assert (last(firings).state, last(firings).reason) == (
        FiringState.FAILED,
        "it could not be started in time",
    )


def test_a_firing_is_not_made_up_once_its_window_has_closed(firings: Memory) -> None:
    started = Started()
    late = entry(window="02:05")
    fire(beat(firings, started), firings, late, NIGHT + timedelta(minutes=6))
    assert started.runs == []
    assert last(firings).state is FiringState.MISSED


@pytest.mark.parametrize(
    ("due", "minutes"),
    [
        pytest.param(entry(), 10, id="the deadline"),
        pytest.param(entry(window="02:05"), 5, id="its window closes"),
        pytest.param(entry("*/7 2 * * *"), 7, id="it is due again"),
    ],
)
def test_whoever_orders_is_told_until_when(firings: Memory, due: Entry, minutes: int) -> None:
    started = Started()
    firings.claim(due, NIGHT - timedelta(hours=1), "evening", LEASE)
    fire(beat(firings, started), firings, due, NIGHT)
    assert started.latest == [NIGHT + timedelta(minutes=minutes)]


def test_an_entry_that_is_new_is_not_started_for_the_past(client: Client) -> None:
    firings, started = Memory(client), Started()
    for _ in range(2):
        fire(beat(firings, started), firings, entry(), AFTER)
    assert started.runs == []
    fire(beat(firings, started), firings, entry(), AFTER + timedelta(days=1))
    assert len(started.runs) == 1


def test_an_entry_is_new_again_in_a_redis_that_was_emptied(firings: Memory, client: Client) -> None:
    started = Started()
    alive = beat(firings, started)
    fire(alive, firings, entry(), AFTER)
    client.flushall()
    fire(alive, firings, entry(), AFTER + timedelta(minutes=1))
    assert started.runs == [run_id(entry(), NIGHT)]


def test_a_start_that_fails_is_tried_again(
    firings: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", SHORT)
    every_minute, now = due_now(firings)
    started = Started(
        "Another run is at work", "Another run is at work", "the API database is away"
    )
    started_by = Beat([every_minute], firings, started, 86_400, threading.Event())
    started_by.fire(every_minute, now)
    found = firings.last(every_minute)
    assert found is not None
    assert (found.state, found.run) == (FiringState.STARTED, started.runs[0])


def test_a_start_that_fails_until_the_deadline_is_given_up_with_its_reason(
    firings: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    started = Started("Another run is at work on one of the databases: run x")

    def pass_the_deadline() -> None:
        firings.moment = NIGHT + timedelta(seconds=DEADLINE)

    started.hindrance = pass_the_deadline
    fire(beat(firings, started), firings, entry(), AFTER)
    assert started.runs == []
    assert last(firings).state is FiringState.FAILED
    assert last(firings).reason == "Another run is at work on one of the databases: run x"
    assert "could not be started: Another run is at work" in caplog.text


def test_a_beat_that_is_stopped_leaves_the_firing_to_the_next(firings: Memory) -> None:
    stop = threading.Event()
    started = Started("Another run is at work")
    started.hindrance = stop.set
    every_minute, now = due_now(firings)
    Beat([every_minute], firings, started, 86_400, stop).fire(every_minute, now)
    assert started.runs == []
    Beat([every_minute], firings, started, 86_400, threading.Event()).fire(every_minute, now)
    assert len(started.runs) == 1


def test_a_beat_shows_signs_of_life_until_it_ends(firings: Memory, client: Client) -> None:
    stop = threading.Event()
    with running(beat(firings, Started(), stop), stop) as alive:
        until(lambda: firings.living_beats() == [BeatSign(alive.name, "")])
    assert firings.living_beats() == []


def test_a_beat_outlives_a_redis_that_is_away(
    firings: Memory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", SHORT)
    stop, away = threading.Event(), threading.Event()
    whole = Firings.show_alive

    def live(self: Firings, beat: str, lease: float, problem: str) -> None:
        if not away.is_set():
            away.set()
            raise RedisConnectionError("Connection refused.")
        whole(self, beat, lease, problem)

    monkeypatch.setattr(Firings, "show_alive", live)
    with running(beat(firings, Started(), stop), stop) as alive:
        until(lambda: firings.living_beats() == [BeatSign(alive.name, "")])
    assert "the store does not answer, the beat goes on" in caplog.text


# -- clocks ----------------------------------------------------------------------------------------

BERLIN = "Europe/Berlin"
# 02:30 in Berlin, an hour before it is 02:30 again.
PUT_BACK = datetime(2025, 10, 26, 0, 30, tzinfo=UTC)


def test_a_firing_that_has_not_come_by_the_clock_of_the_store_is_granted_to_nobody(
    firings: Memory,
) -> None:
    before = last(firings)
    assert (
        firings.claim(entry(), firings.now() + timedelta(hours=1), "ahead", LEASE)
        is FiringClaim.EARLY
    )
    assert last(firings) == before


@pytest.mark.parametrize(
    ("apart", "words"),
    [
        (timedelta(days=1), "86,400 s ahead of that of Redis"),
        (timedelta(hours=-1), "3,600 s behind that of Redis"),
    ],
    ids=["ahead", "behind"],
)
def test_a_beat_with_a_wrong_clock_starts_nothing_says_so_and_keeps_no_other_from_starting(
    firings: Memory,
    apart: timedelta,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", SHORT)
    every_minute, _ = due_now(firings)
    before = firings.last(every_minute)
    wrong, stop = Started(), threading.Event()
    wrong_beat = Beat(
        [every_minute], firings, wrong, DEADLINE, stop, lambda: datetime.now(UTC) + apart
    )
    looks = counted(firings.now, monkeypatch, firings, "now")
    with running(wrong_beat, stop):
        until(lambda: bool(firings.living_beats()) and len(looks) > 20)
        (sign,) = firings.living_beats()
    assert words in sign.problem
    assert caplog.text.count(f"this beat starts nothing: the clock of its host is {words}") == 1
    assert wrong.runs == []
    assert firings.last(every_minute) == before

    right, now = Started(), firings.now()
    Beat([every_minute], firings, right, DEADLINE, threading.Event()).fire(every_minute, now)
    assert len(right.runs) == 1


def counted(
    function: Callable[[], datetime], monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> list[datetime]:
    """The answers of a function, from now on."""
    answers: list[datetime] = []

    def call() -> datetime:
        answers.append(function())
        return answers[-1]

    monkeypatch.setattr(owner, name, call)
    return answers


def test_a_last_firing_in_the_future_is_forgotten_and_the_entry_goes_on(
    firings: Memory, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    every_minute, now = due_now(firings)
    tomorrow = int((now + timedelta(days=1)).timestamp())
    client.hset(firing_key(every_minute), mapping={"nominal": tomorrow, "state": "started"})
    started = Started()
    alive = Beat([every_minute], firings, started, DEADLINE, threading.Event())
    alive.fire(every_minute, now)
    assert "nightly: its last firing lay in the future, and is forgotten" in caplog.text
    known = firings.last(every_minute)
    assert known is not None
    assert (known.nominal, known.state, started.runs) == (
        every_minute.last_due(now),
        FiringState.NEW,
        [],
    )
    a_minute_earlier = int(known.nominal.timestamp()) - 60
    client.hset(firing_key(every_minute), "nominal", a_minute_earlier)
    alive.fire(every_minute, now)
    assert len(started.runs) == 1


@pytest.mark.parametrize("minutes", [0, 10, 40, 59])
def test_the_night_on_which_the_clock_goes_back_is_made_up_for(
    firings: Memory, minutes: int
) -> None:
    started, nightly = Started(), entry("30 2 * * *", BERLIN)
    evening = PUT_BACK - timedelta(hours=5)
    assert firings.claim(nightly, nightly.last_due(evening), "evening", LEASE) is FiringClaim.NEW
    late = Beat([nightly], firings, started, 3600, threading.Event())
    for minute in range(minutes, 180, 10):
        fire(late, firings, nightly, PUT_BACK + timedelta(minutes=minute))
    assert started.runs == ["nightly-20251026T003000Z"]
    firing = firings.last(nightly)
    assert firing is not None
    assert firing.state is FiringState.STARTED


# -- many ------------------------------------------------------------------------------------------


def test_many_entries_of_one_minute_are_started_a_few_at_a_time(
    firings: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", SHORT)
    entries = [replace(entry("* * * * *"), name=f"entry{number}") for number in range(16)]
    now = firings.now()
    for each in entries:
        nominal = each.last_due(now)
        assert nominal is not None
        firings.claim(each, nominal - timedelta(minutes=1), "evening", LEASE)
    started, go_on, stop = Crowd(), threading.Event(), threading.Event()
    started.hindrance = go_on.wait
    with running(Beat(entries, firings, started, DEADLINE, stop), stop):
        until(lambda: started.at_once == module.STARTS_AT_ONCE)
        go_on.set()
        until(lambda: len({run.partition("-")[0] for run in started.runs}) == len(entries))
    assert started.most_at_once == module.STARTS_AT_ONCE


def test_an_attempt_that_hangs_holds_the_others_up_for_a_time_only(
    firings: Firings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", SHORT)
    monkeypatch.setattr(module, "HELD_UP", SHORT)
    entries = [
        replace(entry("* * * * *"), name=f"entry{number}")
        for number in range(module.STARTS_AT_ONCE + 1)
    ]
    now = firings.now()
    for each in entries:
        nominal = each.last_due(now)
        assert nominal is not None
        firings.claim(each, nominal - timedelta(minutes=1), "evening", LEASE)
    started, answer, stop = Crowd(), threading.Event(), threading.Event()
    started.hindrance = answer.wait
    with running(Beat(entries, firings, started, DEADLINE, stop), stop):
        until(lambda: started.at_once == len(entries))
        answer.set()


class Crowd(Started):
    """Notes how many are started at once."""

    def __init__(self) -> None:
        super().__init__()
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, entry: Entry, run: str, nominal: datetime, latest: datetime) -> OrderAttempt:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return super().__call__(entry, run, nominal, latest)
        finally:
            with self._lock:
                self.at_once -= 1


def test_a_start_that_waits_for_others_beyond_its_deadline_is_given_up(firings: Memory) -> None:
    started = Started()
    crowded = Beat([entry()], firings, started, DEADLINE, threading.Event())
    taken = [crowded._slots.acquire() for _ in range(module.STARTS_AT_ONCE)]
    waiting = threading.Thread(target=fire, args=(crowded, firings, entry(), AFTER), daemon=True)
    waiting.start()
    until(lambda: last(firings).state is FiringState.DUE)
    firings.moment = NIGHT + timedelta(seconds=DEADLINE + 1)
    for _ in taken:
        crowded._slots.release()
    waiting.join()
    assert started.runs == []
    assert (last(firings).state, last(firings).reason) == (
        FiringState.FAILED, "too many others were started at that time",
    )  # fmt: skip
