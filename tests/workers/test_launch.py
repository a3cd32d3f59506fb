"""Starting a firing: the program itself, once for each run, with its reason where it does not start."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from runs.conductor import Conductor
from schedules.entries import Command, Entry
from schedules.launch import Launcher
from tests.workers.fleet import Site

WORDS = ("db", "purge", "--all", "--all-cells")
NOW = datetime.now(UTC)


def entry(window: str | None = None, words: tuple[str, ...] = WORDS) -> Entry:
    return Entry("nightly", "* * * * *", words, Command("db purge", {"until": window}), ZoneInfo("UTC"))


@pytest.fixture
def launcher(site: Site) -> Launcher:
    return Launcher([f"--config-file={site.config}"])


def test_a_run_is_started_once_however_often_it_is_launched(site: Site, launcher: Launcher) -> None:
    assert [launcher(entry(), "nightly-1", NOW, 60).started for _ in range(2)] == [True, True]
    assert site.store.recent() == ["nightly-1"]
    assert sum(site.queued(uuid) for uuid in site.cloud.uuids.values()) == 4


def test_the_window_of_a_run_counts_from_when_it_was_due(site: Site, launcher: Launcher) -> None:
    due = NOW - timedelta(minutes=5)
    closes = NOW + timedelta(minutes=30)
    assert launcher(entry(f"{closes:%H:%M}"), "nightly-2", due, 60).started
    record = site.record("nightly-2")
    assert record.order.until == closes.replace(second=0, microsecond=0).timestamp()


def test_a_run_that_finds_its_databases_held_is_not_started(site: Site, launcher: Launcher) -> None:
    assert launcher(entry(), "by-hand", NOW, 60).started
    attempt = launcher(entry(), "nightly-3", NOW, 60)
    assert not attempt.started
    assert attempt.reason.startswith("Another run is at work on one of the databases: db.purge, run by-hand by ")
    assert site.store.recent() == ["by-hand"], "what is refused leaves nothing behind"
    Conductor(site.store, lambda _: None).cancel("by-hand", "somebody")
    assert launcher(entry(), "nightly-3", NOW, 60).started


def test_a_name_that_another_command_has_taken_is_refused(site: Site, launcher: Launcher) -> None:
    assert launcher(entry(), "nightly-6", NOW, 60).started
    archive = entry(words=("db", "archive_deleted_rows", "--all-cells"))
    assert launcher(archive, "nightly-6", NOW, 60).reason == (
        "There is a run nightly-6 already, of db.purge: choose another --run-id"
    )


def test_what_keeps_a_run_from_its_start_is_told(site: Site, launcher: Launcher, silent: Path) -> None:
    assert "has no readable table" in launcher(entry(), "nightly-4", NOW, 60).reason
    assert launcher(entry(), "nightly-5", NOW, 0.01).reason == "it did not start within 0.01 s"
    assert site.store.recent() == []


@pytest.fixture
def silent(site: Site) -> Path:
    """The API database is none."""
    site.config.write_text(site.config.read_text().replace("/nova_api\n", "/nova_cell0\n"))
    return site.config
