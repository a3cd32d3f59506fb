"""Records in Redis that are none, and names that are no names: each costs itself and one line,
whoever reads it.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis import Redis as Client

from demo.cloud import build
from jobs.action import Failure, FailureKind, Step
from jobs.actions import ACTIONS
from jobs.codec import encode
from runs import pace, rules
from runs.conductor import Conductor
from runs.records import CellRecord, CellRef, View
from runs.redis_store import RedisStore
from runs.rules import Claimant
from runs.store import Increments
from tests.support.command import Ended, call_here
from tests.support.run_records import A, moved, order, results
from tests.support.services import Redis
from workers import app

EXPIRES = 3600
NASTY = "\x1b[31mred\r\nbeside\x00\u202e'; DROP--\ttail"
LONG = "x" * 20_000
RUN, CELLS = "cellkeeper:run:bad", "cellkeeper:run:bad:0"
B = CellRef("uuid-b", NASTY, "print-b")
FIRING = "cellkeeper:firing:nightly:"
SCHEDULE = """
[schedule]
enabled = nightly
[schedule_nightly]
cron = 0 2 * * *
command = db purge --all-cells --all
"""


@pytest.fixture(scope="module")
def config(broker: Redis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cloud on SQLite with a schedule, whose runs go to workers."""
    file = build(tmp_path_factory.mktemp("cloud"))
    file.write_text(f"{file.read_text()}\n[celery]\nbroker_url = {broker.url()}\n{SCHEDULE}")
    return file


def set_record(client: Client, key: str, field: str, **values: Any) -> None:
    """Change some values of a record."""
    version, _, text = client.hget(key, field).partition(" ")
    record = msgspec.json.decode(text)
    for path, value in values.items():
        *owners, name = path.split("__")
        owner = record
        for one in owners:
            owner = owner[one]
        owner[name] = value
    client.hset(key, field, f"{version} {msgspec.json.encode(record).decode()}")


def retype(client: Client, key: str) -> None:
    client.delete(key)
    client.lpush(key, "of another type") if key.endswith((":bad", ":w")) else client.set(
        key, "of another type"
    )


def firing_key(client: Client) -> str:
    from schedules.firings import firing_key as key

    class Zone:
        key = "UTC"

    class Entry:
        name, cron, zone = "nightly", "0 2 * * *", Zone

    return key(Entry)  # type: ignore[arg-type]


def fields(key: str, field: str) -> dict[str, Callable[[Client], Any]]:
    """A record that is replaced by each kind of garbage."""
    kinds: dict[str, Any] = {
        "no JSON": "no JSON", "nothing": "", "half": "7 {", "a list": "7 []", "an empty object": "7 {}",
        "other types": '7 {"order": 5, "number": "x"}', "no UTF-8": b"7 \xff\xfe", "deep": "7 " + "[" * 5000,
        "nasty": f"7 {NASTY}", "long": f"7 {LONG}",
    }  # fmt: skip
    return {
        f"{key} {field}: {name}": lambda client, text=text: client.hset(key, field, text)  # type: ignore[misc]
        for name, text in kinds.items()
    }


def changed(key: str, field: str, **values: Any) -> dict[str, Callable[[Client], Any]]:
    """A record with other values, each one alone."""
    return {
        f"{key} {field}: {name}={str(value)[:12]!r}": partial(
            set_record, key=key, field=field, **{name: value}
        )
        for name, value in values.items()
    }


def zset(key: str, member: Any) -> dict[str, Callable[[Client], Any]]:
    return {f"{key}: {str(member)[:12]!r}": lambda client: client.zadd(key, {member: 1e12})}


HUGE = 1e300
RECORDS: dict[str, Callable[[Client], Any]] = {
    **fields(RUN, "record"),
    **changed(RUN, "record", phase=7, ordered=HUGE, started=HUGE, until=HUGE, cells=-1, turn=-5, exit_code=10**30,
              order__phases=[], order__by=NASTY, order__command=LONG, order__until=HUGE, steering=[], woken=-HUGE,
              budget={"x": 1}, order__format=99),
    **changed(RUN, "record", phase=-1, ordered=-HUGE, order__by=LONG, order__retry_of=NASTY,
              order__phases=[{"action": "db.of_the_future", "params": {}}],
              steering=[{"what": NASTY, "by": LONG, "at": HUGE}]),
    **fields(RUN, "names"),
    "rows that are none": lambda client: client.hset(RUN, "rows 0", "many"),
    "failures that are none": lambda client: client.hset(RUN, "failed 0", NASTY),
    **fields(CELLS, "0"),
    **changed(CELLS, "0", number=99, started=HUGE, finished=HUGE, worker=NASTY, slices=-1, outcome="none",
              ref__label=NASTY, failure={"kind": "cell", "reason": NASTY}, stage="done"),
    **changed(CELLS, "0", started=-HUGE, worker=LONG, outcome={"moved": NASTY}, ref__label=LONG, number=-1),
    **changed(CELLS, "0", rings=5000, attempts=10**30, remaining=10**400, pace={"179585825": 10**400}, slices=10**400,
              contentions=10**400, contended="x", transaction_rows=-5, lease_until=HUGE, waits_since=-HUGE),
    **changed(CELLS, "0", lease_until=-HUGE, waits_since=HUGE, contended_at=HUGE, contended_for=HUGE, remaining=-5),
    "a cell without a number": lambda client: client.hset(CELLS, NASTY, "1 {}"),
    "a cell without a number that is long": lambda client: client.hset(CELLS, LONG, "1 {}"),
    "a cell that is none of the run": lambda client: client.hset(CELLS, "99", "1 {}"),
    **zset(f"{CELLS}:look", NASTY), **zset(f"{CELLS}:leases", NASTY), **zset(f"{CELLS}:changed", NASTY),
    **zset(f"{CELLS}:look", "77"), **zset(f"{CELLS}:changed", "77"),
    **{f"{key} of another type": lambda client, key=key: retype(client, key) for key in (
        RUN, CELLS, f"{CELLS}:look", f"{CELLS}:leases", f"{CELLS}:changed", "cellkeeper:queue", "cellkeeper:hold",
        "cellkeeper:runs", "cellkeeper:tally", "cellkeeper:history", "cellkeeper:workers", "cellkeeper:worker:w",
    )},
    "a beat of another type": lambda client: client.lpush("cellkeeper:beat:bad", "x"),
    "a beat with a nasty name": lambda client: client.set(f"cellkeeper:beat:{NASTY}", NASTY),
    "a beat with a long name": lambda client: client.set(f"cellkeeper:beat:{LONG}", "1"),
    "a firing of another type": lambda client: client.set(firing_key(client), "x"),
    "a firing without its fields": lambda client: client.hset(firing_key(client), "nominal", "5"),
    "a firing that is "
    "none": lambda client: client.hset(firing_key(client), mapping={"nominal": "x", "state": NASTY}),
    "a firing of never": lambda client: client.hset(
        firing_key(client), mapping={"nominal": str(10**30), "state": "started", "run": NASTY, "reason": LONG}
    ),
    **fields("cellkeeper:queue", "record"),
    **fields("cellkeeper:hold", "record"),
    "a hold of nasty words": lambda client: client.hset(
        "cellkeeper:hold", "record", "1 " + msgspec.json.encode({"reason": NASTY, "by": LONG, "since": HUGE}).decode()
    ),
    **zset("cellkeeper:runs", NASTY), **zset("cellkeeper:runs", LONG), **zset("cellkeeper:runs", b"\xff\xfe"),
    **zset("cellkeeper:workers", NASTY), **zset("cellkeeper:workers", LONG), **zset("cellkeeper:workers", b"\xff"),
    "a worker without JSON": lambda client: client.set("cellkeeper:worker:w", "no JSON"),
    "a worker of no UTF-8": lambda client: client.set("cellkeeper:worker:w", b"\xff\xfe"),
    **{f"history: {str(text)[:12]!r}": lambda client, text=text: client.zadd("cellkeeper:history", {text: 1e12})
       for text in ("no JSON", "[]", '{"run": 5}', b"\xff", NASTY, LONG)},
    "history of never": lambda client: client.zadd(
        "cellkeeper:history",
        {re.sub(r'"(started|ordered)":[\d.]+', r'"\1":1e300', client.zrange("cellkeeper:history", 0, 0)[0]): 1e12},
    ),
    "a counter that is "
    "none": lambda client: client.hset("cellkeeper:tally", "rows db.purge uuid", "many"),
    "a counter with a nasty name": lambda client: client.hset("cellkeeper:tally", NASTY, "5"),
    "a counter of no UTF-8": lambda client: client.hset("cellkeeper:tally", b"\xff", b"\xff"),
}  # fmt: skip
# The command, whether it names the run that is good, and the codes it may end with.
READERS: dict[str, tuple[bool, set[int]]] = {
    "runs list": (True, {0}),
    "runs list -f json": (True, {0}),
    "runs list --failed --since 2d": (False, {0}),
    "runs show good": (True, {0}),
    "runs show bad": (False, {0, 255}),
    "runs show bad -f json": (False, {0, 255}),
    "runs history": (False, {0}),
    "runs history -f json": (False, {0}),
    "schedule list": (False, {0, 1}),
    "check": (False, {0, 1}),
    "metrics": (False, {0}),
    "db archive_deleted_rows --all-cells --dry-run --detach": (False, {0}),
}
STEERING = (
    "runs pause bad",
    "runs set bad until=none",
    "runs retry bad",
    "runs resume bad",
    "runs cancel bad",
)


@pytest.fixture
def hostile(client: Client, config: Path, damage: str) -> Iterator[Path]:
    """Runs, a worker and a summary, of which one thing was damaged."""
    app.conductor.cache_clear()
    store = RedisStore(client, EXPIRES)
    conductor = Conductor(store, lambda _: None)
    for run in ("ended", "bad", "good"):
        conductor.start(
            replace(order(run)), [replace(A, uuid=f"a {run}"), replace(B, uuid=f"b {run}")]
        )
        store.change_cell(run, 0, 1, lambda view: rules.finish_cell(
            view.cell, "", view.now, Failure(FailureKind.CELL, "away"), complete=False
        ))  # fmt: skip
    store.change_run(
        "ended",
        lambda run, now: rules.end_run(run, [results(0, 3)], now, ACTIONS),
        entries={"duration": 1},
    )
    store.show_alive("w", None, EXPIRES)
    store.change_cell(
        "bad", 0, 0, lambda view: replace(view.cell, outcome=moved(5), started=view.now)
    )
    RECORDS[damage](client)
    yield config
    app.conductor.cache_clear()


def check_words(ended: Ended) -> None:
    """Nothing unforeseen, and no control character."""
    assert "Unexpected" not in ended.err
    assert "Traceback" not in ended.err
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", ended.out + ended.err)


@pytest.mark.parametrize("damage", RECORDS)
def test_a_damaged_thing_costs_itself_and_one_line(
    hostile: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "cellkeeper")
    for line, (is_named, codes) in READERS.items():
        caplog.clear()
        app.conductor.cache_clear()
        ended = call_here(line, config=hostile)
        check_words(ended)
        assert ended.code in codes, (line, ended)
        assert not is_named or "good" in ended.out or damage == "cellkeeper:runs of another type"
        told = [record for record in caplog.records if record.name == "cellkeeper.runs"]
        assert len({record.getMessage() for record in told}) == len(told) <= 2
    for line in STEERING:
        ended = call_here(line, config=hostile)
        check_words(ended)
        assert ended.code in (0, 1, 255)
        assert len(ended.err.splitlines()) <= 1


def set_pace(client: Client, value: str) -> None:
    now = pace.recent(time.time())[-1]
    for number in range(now - 2, now + 3):
        client.set(f"{CELLS}:pace-{number}", value)


HIGHEST = str(2**63 - 1)
# What a step adds to.
SUMS: dict[str, Callable[[Client], Any]] = {
    **{f"{name} 0: {value[:12]!r}": lambda client, name=name, value=value: client.hset(RUN, f"{name} 0", value)
       for name in ("rows", "remaining", "foreseen", "failed")
       for value in ("many", "", NASTY, "1e300", HIGHEST, str(10**30))},
    **{f"a counter: {value!r}": lambda client, value=value: client.hset("cellkeeper:tally", "rows x", value)
       for value in ("many", "", "inf", "nan")},
    **{f"changes: {value!r}": lambda client, value=value: client.hset(RUN, "changes", value)
       for value in ("many", "", HIGHEST)},
    **{f"a pace: {value!r}": partial(set_pace, value=value) for value in ("many", "", HIGHEST)},
}  # fmt: skip


@pytest.mark.parametrize("damage", SUMS)
def test_a_sum_that_is_none_holds_up_no_cell(client: Client, damage: str) -> None:
    store = RedisStore(client, EXPIRES)
    Conductor(store, lambda _: None).start(order("bad"), [A])
    SUMS[damage](client)
    who = Claimant("token", "w", 60.0)

    def work(view: View) -> CellRecord:
        worked = rules.record_step(
            replace(view.cell, holder="token"), who, view.now, Step(moved(5), {}, 7), moved(5)
        )
        assert worked is not None
        return replace(worked, failure=Failure(FailureKind.CELL, "away"))

    increments = Increments(5, {"rows x": 1e308}, 5)
    assert isinstance(store.change_cell("bad", 0, 0, work, increments=increments), View)
    assert store.cell("bad", 0, 0).outcome == encode(moved(5))
    progress = store.progress("bad", 0)
    assert (progress.rows, progress.remaining, progress.foreseen, progress.failed) == (5, 7, 1, 1)
    assert store.tally()["rows x"] == 1e308
    assert 5 in progress.pace.values()
    assert [cell.number for cell in store.changes("bad", 0, 0)[1]] == [0]
