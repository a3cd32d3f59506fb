"""Ordering the run of a firing: its command line, as if it were typed, once for each run, or the
reason why not.
"""

import logging
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cli.schedule.ordering import Orders
from runs.conductor import Conductor
from runs.records import RunState
from runs.store import TooLate
from schedules.entries import Entry, ParsedCommand
from settings.files import read_configuration
from tests.support.command import until
from tests.support.services import HOST
from tests.workers.fleet import Site
from workers import app
from workers.redis_client import run_store

PURGE = ("db", "purge", "--all", "--all-cells")
NOW = datetime.now(UTC)
LATEST = NOW + timedelta(hours=10)
FIRST, SECOND = "nightly-20261124T020000Z", "nightly-20261125T020000Z"


def entry(*words: str, window: str | None = None, name: str = "nightly") -> Entry:
    return Entry(
        name,
        "* * * * *",
        words or PURGE,
        ParsedCommand("db purge", {"until": window}),
        ZoneInfo("UTC"),
    )


def orders_of(site: Site) -> Orders:
    """Those of a beat that is started now."""
    words = [f"--config-file={site.config}"]
    app.conductor.cache_clear()
    return Orders(read_configuration(words), words)


@pytest.fixture
def orders(site: Site) -> Iterator[Orders]:
    yield orders_of(site)
    app.conductor.cache_clear()


def end(site: Site, run: str) -> None:
    Conductor(site.store, lambda _: None).cancel(run, "somebody")


def test_a_run_is_started_once_however_often_it_is_ordered(site: Site, orders: Orders) -> None:
    with ThreadPoolExecutor(4) as beats:
        attempts = list(beats.map(lambda _: orders(entry(), FIRST, NOW, LATEST), range(4)))
    assert [attempt.started for attempt in attempts] == [True] * 4
    assert site.store.recent() == [FIRST]
    assert sum(site.queued(uuid) for uuid in site.cloud.uuids.values()) == 4


def test_a_run_is_that_of_the_command_line_as_it_is_typed(site: Site, orders: Orders) -> None:
    words = (
        "db",
        "archive_deleted_rows",
        "--all-cells",
        "--before",
        "90d",
        "--max_rows",
        "17",
        "--purge",
    )
    assert orders(entry(*words), FIRST, NOW, LATEST).started
    end(site, FIRST)
    typed = site.call(f"{' '.join(words)} --detach").out.strip()
    ordered, by_hand = site.record(FIRST), site.record(typed)
    assert (ordered.cells, ordered.order.by) == (by_hand.cells, by_hand.order.by)
    for phase, same in zip(ordered.order.phases, by_hand.order.phases, strict=True):
        ages = [datetime.fromisoformat(each.params["before"]) for each in (phase, same)]
        assert timedelta(0) <= ages[1] - ages[0] < timedelta(minutes=5), (
            "an age counts from the order"
        )
        assert phase.params | {"before": ""} == same.params | {"before": ""}


def test_the_cells_are_those_that_are_mapped_when_it_fires(site: Site, orders: Orders) -> None:
    assert orders(entry(), FIRST, NOW, LATEST).started
    end(site, FIRST)
    columns = "uuid, name, transport_url, database_connection, disabled"
    late = f"UUID(), 'late', transport_url, '{site.cloud.url('nova_late')}', 0"
    site.cloud.rows(
        site.cloud.api,
        f"INSERT INTO cell_mappings ({columns}) SELECT {late} FROM cell_mappings WHERE name = "
        "'cell1'",
    )
    assert orders(entry(), SECOND, NOW, LATEST).started
    assert [site.record(run).cells for run in (FIRST, SECOND)] == [4, 5]


def test_the_window_of_a_run_counts_from_when_it_was_due(site: Site, orders: Orders) -> None:
    due = NOW - timedelta(minutes=5)
    closes = NOW + timedelta(minutes=30)
    assert orders(entry(window=f"{closes:%H:%M}"), FIRST, due, LATEST).started
    assert site.record(FIRST).order.until == closes.replace(second=0, microsecond=0).timestamp()


def test_a_run_that_finds_its_databases_held_waits_in_the_queue(site: Site, orders: Orders) -> None:
    assert site.call("db purge --all --all-cells --detach --run-id by-hand").code == 0
    assert orders(entry(), FIRST, NOW, LATEST).started
    assert site.record(FIRST).state is RunState.WAITING
    end(site, "by-hand")
    assert site.record(FIRST).state is RunState.RUNNING


def test_an_entry_with_no_wait_is_not_started_while_its_databases_are_held(
    site: Site, orders: Orders
) -> None:
    assert site.call("db purge --all --all-cells --detach --run-id by-hand").code == 0
    attempt = orders(entry(*PURGE, "--no-wait"), FIRST, NOW, LATEST)
    assert not attempt.started
    assert attempt.reason.startswith(
        "Another run is at work on one of the databases: db.purge, run by-hand by "
    )
    assert site.store.recent() == ["by-hand"], "what is refused leaves nothing behind"


@pytest.mark.parametrize("waits", [False, True], ids=["runs", "waits"])
def test_runs_of_one_entry_do_not_pile_up(site: Site, orders: Orders, waits: bool) -> None:
    if waits:
        assert site.call("db purge --all --all-cells --detach --run-id by-hand").code == 0
    assert orders(entry(), FIRST, NOW, LATEST).started
    for _ in range(2):
        attempt = orders(entry(), SECOND, NOW, LATEST)
        assert not attempt.started
        assert attempt.reason.startswith(f"its run before has not ended: db.purge, run {FIRST} by ")
        assert ("; it waits for db.purge, run by-hand by " in attempt.reason) == waits
    assert orders(entry(name="other"), "other-20261125T020000Z", NOW, LATEST).started, (
        "another entry's run waits behind it"
    )
    end(site, FIRST)
    assert orders(entry(), SECOND, NOW, LATEST).started


def test_a_name_that_another_command_has_taken_is_refused(site: Site, orders: Orders) -> None:
    assert orders(entry(), FIRST, NOW, LATEST).started
    archive = entry("db", "archive_deleted_rows", "--all-cells")
    assert orders(archive, FIRST, NOW, LATEST).reason == (
        f"There is a run {FIRST} already, of db.purge: choose another --run-id"
    )


def test_what_keeps_a_run_from_its_start_is_told(
    site: Site, orders: Orders, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The reason is the line that the command would have ended with; a traceback that is asked for
    goes to the log.
    """
    text = site.config.read_text()
    site.config.write_text(text.replace("/nova_api\n", "/nova_cell0\n"))
    assert "has no readable table" in orders(entry(), FIRST, NOW, LATEST).reason
    site.config.write_text(text + "[cellkeeper]\nconnect_timeout = soon\n")
    assert "connect_timeout" in orders(entry(), FIRST, NOW, LATEST).reason
    site.config.write_text(
        text.replace("broker_url = ", "store_url = redis://127.0.0.1:1\nbroker_url = ")
    )
    assert orders(entry(), FIRST, NOW, LATEST).reason == (
        "the broker or the store was changed since this beat was started: start it again"
    )
    site.config.unlink()
    assert str(site.config) in orders(entry(), FIRST, NOW, LATEST).reason
    assert site.store.recent() == []
    site.config.write_text(text)
    assert orders(entry(), FIRST, NOW, LATEST).started
    assert capfd.readouterr() == ("", "")
    assert "Traceback" not in caplog.text


def test_a_store_that_is_away_is_the_reason(
    site: Site, monkeypatch: pytest.MonkeyPatch, orders: Orders
) -> None:
    monkeypatch.setattr(app, "run_store", partial(run_store, patience=0.1))
    site.broker.pause()
    try:
        assert "store" in orders(entry(), FIRST, NOW, LATEST).reason
    finally:
        site.broker.revive()


def test_an_order_that_comes_through_too_late_starts_nothing(site: Site, orders: Orders) -> None:
    """The store stands still until the deadline has passed; a run that was ordered before is found
    by its name.
    """
    assert orders(entry(name="other"), "other-20261125T020000Z", NOW, LATEST).started
    with ThreadPoolExecutor(1) as beat:
        site.broker.pause()
        try:
            latest = datetime.now(UTC) + timedelta(seconds=1)
            attempt = beat.submit(orders, entry(), FIRST, NOW, latest)
            until(lambda: datetime.now(UTC) > latest + timedelta(seconds=1))
        finally:
            site.broker.revive()
        assert not attempt.result().started
    assert attempt.result().reason == str(TooLate())
    assert site.store.recent() == ["other-20261125T020000Z"]
    assert orders(entry(name="other"), "other-20261125T020000Z", NOW, latest).started


def test_an_order_changes_nothing_of_the_process(site: Site, orders: Orders) -> None:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    site.config.write_text(
        f"[DEFAULT]\nlog_file = {site.config}.log\ndebug = true\n{site.config.read_text()}"
    )
    attempts: list[Any] = []
    thread = threading.Thread(
        target=lambda: attempts.append(orders(entry("--debug", *PURGE), FIRST, NOW, LATEST))
    )
    thread.start()
    thread.join()
    assert [attempt.started for attempt in attempts] == [True]
    assert (logging.getLogger().handlers, logging.getLogger().level) == (handlers, level)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == signals
    assert not Path(f"{site.config}.log").exists()


def test_a_database_that_is_silent_holds_up_nobody_else(site: Site, orders: Orders) -> None:
    """Its order ends by the limits of the configuration; others that ask another database are
    through before.
    """
    text = site.config.read_text()
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        away = text.replace(f":{site.cloud.server.port}/nova_api", f":{port}/nova_api")
        assert away != text
        site.config.write_text(f"{away}[cellkeeper]\nconnect_timeout = 3\n")
        with ThreadPoolExecutor(3) as entries:
            hung = [
                entries.submit(orders, entry(name=f"hung{number}"), f"hung{number}-1", NOW, LATEST)
                for number in range(2)
            ]
            until_connected(silent, len(hung))
            site.config.write_text(text)
            assert entries.submit(orders, entry(), FIRST, NOW, LATEST).result().started
            assert not any(attempt.done() for attempt in hung)
            reasons = [attempt.result().reason for attempt in hung]
    assert all("API database" in reason for reason in reasons)
    assert site.store.recent() == [FIRST]


def until_connected(server: socket.socket, number: int) -> None:
    """Wait for connections, and keep them."""
    server.settimeout(60)
    KEPT.extend(server.accept()[0] for _ in range(number))


KEPT: list[socket.socket] = []
