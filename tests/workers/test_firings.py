"""What beats do with firings that are due, late, or refused: with a real Redis, and a list for what is started."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from redis import Redis as Client
from redis.exceptions import ConnectionError as RedisConnectionError

from schedules import beat as module
from schedules.beat import Attempt, Beat
from schedules.entries import Command, Entry
from schedules.firings import Firing, Firings, FiringState, run_id
from tests.acceptance.program import until

DEADLINE = 600.0
NIGHT = datetime(2026, 11, 24, 2, tzinfo=UTC)
BEFORE = NIGHT - timedelta(hours=5)
AFTER = NIGHT + timedelta(seconds=1)
LEASE = 60.0
SHORT = 0.05


def entry(cron: str = "0 2 * * *", zone: str = "UTC", window: str | None = None) -> Entry:
    command = Command("db purge", {"until": window})
    return Entry("nightly", cron, ("db", "purge"), command, ZoneInfo(zone))


@pytest.fixture
def firings(client: Client) -> Firings:
    """The memory of the schedule, in which the entry is known since the evening."""
    found = Firings(client)
    assert found.know(entry(), entry().last(BEFORE))
    return found


class Started:
    """Notes what is started, in place of the program.

    :ivar runs: the ids, in their order
    """

    def __init__(self, *refusals: str) -> None:
        self.runs: list[str] = []
        self._refusals = list(refusals)
        self.hindrance: Callable[[], Any] = lambda: None

    def __call__(self, entry: Entry, run: str, nominal: datetime, seconds: float) -> Attempt:
        self.hindrance()
        if self._refusals:
            return Attempt(False, self._refusals.pop(0))
        self.runs.append(run)
        return Attempt(True)


def beat(firings: Firings, started: Started, stop: threading.Event | None = None) -> Beat:
    return Beat([entry()], firings, started, DEADLINE, stop or threading.Event())


def due_now(firings: Firings) -> tuple[Entry, datetime]:
    """An entry of every minute that is due now, and the time."""
    every_minute, now = entry("* * * * *"), datetime.now(UTC)
    nominal = every_minute.last(now)
    assert nominal is not None
    firings.know(every_minute, nominal - timedelta(minutes=1))
    return every_minute, now


def last(firings: Firings) -> Firing:
    found = firings.last(entry())
    assert found is not None
    return found


# -- the right to start ----------------------------------------------------------------------------------------------


def test_of_many_beats_one_is_granted_a_firing(firings: Firings) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: firings.claim(entry(), NIGHT, f"beat {n}", LEASE), range(16)))
    assert sorted(answers) == ["granted"] + ["held"] * 15


def test_whoever_holds_a_firing_is_granted_it_again(firings: Firings) -> None:
    assert [firings.claim(entry(), NIGHT, "a", LEASE) for _ in range(2)] == ["granted", "granted"]


def test_a_firing_of_a_dead_beat_is_taken_over(firings: Firings) -> None:
    assert firings.claim(entry(), NIGHT, "a", SHORT) == "granted"
    until(lambda: firings.claim(entry(), NIGHT, "b", LEASE) == "granted")


@pytest.mark.parametrize("state", [FiringState.STARTED, FiringState.FAILED, FiringState.MISSED])
def test_a_firing_that_is_over_is_granted_to_nobody(firings: Firings, state: FiringState) -> None:
    firings.claim(entry(), NIGHT, "a", SHORT)
    assert firings.end(entry(), NIGHT, state)
    assert not firings.end(entry(), NIGHT, FiringState.FAILED)
    assert firings.claim(entry(), NIGHT, "a", LEASE) == "over"
    assert last(firings).state is state


def test_an_older_firing_than_the_last_is_granted_to_nobody(firings: Firings) -> None:
    """A host whose clock is behind."""
    assert firings.claim(entry(), NIGHT, "a", SHORT) == "granted"
    assert firings.claim(entry(), NIGHT - timedelta(days=1), "b", LEASE) == "over"


def test_a_later_firing_takes_the_place_of_one_that_is_still_tried(firings: Firings) -> None:
    firings.claim(entry(), NIGHT, "a", LEASE)
    following = NIGHT + timedelta(days=1)
    assert firings.claim(entry(), following, "b", LEASE) == "granted"
    assert not firings.end(entry(), NIGHT, FiringState.STARTED, "r")
    assert last(firings).nominal == following


def test_another_expression_is_another_entry(firings: Firings) -> None:
    assert firings.last(entry("0 3 * * *")) is None
    assert firings.last(entry(zone="Europe/Berlin")) is None
    assert firings.last(entry(window="06:00")) is not None


# -- a beat ----------------------------------------------------------------------------------------------------------


def test_a_firing_is_started_once_whoever_looks(firings: Firings) -> None:
    started = Started()
    one, two = beat(firings, started), beat(firings, started)
    for who in (one, two, one):
        who.fire(entry(), AFTER)
    assert started.runs == ["nightly-20261124T020000Z"] == [run_id(entry(), NIGHT)]
    assert last(firings) == Firing(NIGHT, FiringState.STARTED, started.runs[0], "")


def test_before_its_time_nothing_is_started(firings: Firings) -> None:
    started = Started()
    beat(firings, started).fire(entry(), NIGHT - timedelta(seconds=1))
    assert started.runs == []


def test_a_firing_is_made_up_within_the_deadline(firings: Firings) -> None:
    started = Started()
    beat(firings, started).fire(entry(), NIGHT + timedelta(seconds=DEADLINE - 1))
    assert started.runs == [run_id(entry(), NIGHT)]


def test_a_firing_is_not_made_up_in_the_middle_of_the_day(firings: Firings, caplog: pytest.LogCaptureFixture) -> None:
    started = Started()
    beat(firings, started).fire(entry(), NIGHT + timedelta(hours=9))
    assert started.runs == []
    assert last(firings).state is FiringState.MISSED
    assert "nightly: the firing of 2026-11-24 02:00:00 UTC was missed, and is not made up" in caplog.text


def test_a_firing_is_not_made_up_once_its_window_has_closed(firings: Firings) -> None:
    started = Started()
    late = entry(window="02:05")
    beat(firings, started).fire(late, NIGHT + timedelta(minutes=6))
    assert started.runs == []
    assert last(firings).state is FiringState.MISSED


def test_an_entry_that_is_new_is_not_started_for_the_past(client: Client) -> None:
    firings, started = Firings(client), Started()
    assert firings.know(entry(), entry().last(AFTER))
    assert not firings.know(entry(), entry().last(AFTER + timedelta(days=1)))
    beat(firings, started).fire(entry(), AFTER)
    assert started.runs == []
    beat(firings, started).fire(entry(), AFTER + timedelta(days=1))
    assert len(started.runs) == 1


def test_a_start_that_fails_is_tried_again(firings: Firings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", SHORT)
    every_minute, now = due_now(firings)
    started = Started("Another run is at work", "Another run is at work", "the API database is away")
    started_by = Beat([every_minute], firings, started, 86_400, threading.Event())
    started_by.fire(every_minute, now)
    found = firings.last(every_minute)
    assert found is not None
    assert (found.state, found.run) == (FiringState.STARTED, started.runs[0])


def test_a_start_that_fails_until_the_deadline_is_given_up_with_its_reason(
    firings: Firings, caplog: pytest.LogCaptureFixture
) -> None:
    started = Started("Another run is at work on one of the databases: run x")
    beat(firings, started).fire(entry(), AFTER)  # the deadline of that night is long over
    assert started.runs == []
    assert last(firings).state is FiringState.FAILED
    assert last(firings).reason == "Another run is at work on one of the databases: run x"
    assert "could not be started: Another run is at work" in caplog.text


def test_a_beat_that_is_stopped_leaves_the_firing_to_the_next(firings: Firings) -> None:
    stop = threading.Event()
    started = Started("Another run is at work")
    started.hindrance = stop.set
    every_minute, now = due_now(firings)
    Beat([every_minute], firings, started, 86_400, stop).fire(every_minute, now)
    assert started.runs == []
    Beat([every_minute], firings, started, 86_400, threading.Event()).fire(every_minute, now)
    assert len(started.runs) == 1


def test_a_beat_shows_signs_of_life_until_it_ends(firings: Firings, client: Client) -> None:
    stop = threading.Event()
    running = beat(firings, Started(), stop)
    thread = threading.Thread(target=running.run)
    thread.start()
    until(lambda: firings.beats() == [running.name])
    stop.set()
    thread.join()
    assert firings.beats() == []


def test_a_beat_outlives_a_redis_that_is_away(
    firings: Firings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "WAKE", SHORT)
    stop, away = threading.Event(), threading.Event()
    whole = Firings.live

    def live(self: Firings, beat: str, lease: float) -> None:
        if not away.is_set():
            away.set()
            raise RedisConnectionError("Connection refused.")
        whole(self, beat, lease)

    monkeypatch.setattr(Firings, "live", live)
    running = beat(firings, Started(), stop)
    thread = threading.Thread(target=running.run)
    thread.start()
    until(lambda: firings.beats() == [running.name])
    stop.set()
    thread.join()
    assert "the store does not answer, the beat goes on" in caplog.text
