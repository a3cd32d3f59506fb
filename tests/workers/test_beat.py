"""Beats and workers as an operator starts them: a firing is one run, whoever is killed; a window
closes by itself.
"""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final, Self

import pytest

from tests.support.command import PROGRAM, environment, until
from tests.support.inventory import Inventory
from tests.workers.fleet import PATIENCE, Site, Worker, hooked

ARCHIVE: Final = "db archive_deleted_rows --all-cells --until-complete"
EVERY: Final = 20  # seconds between two firings: a loaded machine needs some for a start
FIRINGS: Final = 4
# Shorter than a start may take: another beat then starts the same firing again.
IMPATIENT: Final = PATIENCE | {
    "schedules.beat:LEASE": 2.0,
    "schedules.beat:RETRY": 0.5,
    "schedules.beat:LONGEST_PAUSE": 0.5,
}
SELDOM: Final = 30  # seconds, where one beat after the other is started between two firings
SCHEDULE: Final = f"""
[schedule]
enabled = often
[schedule_often]
cron = */{{every}} * * * * *
command = {ARCHIVE}
"""


class BeatProcess:
    """``cellkeeper beat`` while it runs. As a context manager it is killed at the end."""

    def __init__(self, site: Site, name: str) -> None:
        self._log = site.config.with_name(f"{name}.log")
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(PROGRAM), "--config-file", str(site.config), "beat"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(hooked() | {"CELLKEEPER_TEST_PATIENCE": json.dumps(IMPATIENT)}),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        """End it as a power cut would; what it has started goes on."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def scheduled(site: Site) -> Iterator[Site]:
    """The cloud with a schedule of seconds."""
    site.config.write_text(site.config.read_text() + SCHEDULE.format(every=EVERY))
    yield site
    site.end_all()


@pytest.fixture
def seldom(site: Site) -> Iterator[Site]:
    """The cloud with a schedule of half minutes."""
    site.config.write_text(site.config.read_text() + SCHEDULE.format(every=SELDOM))
    yield site
    site.end_all()


def firing(site: Site) -> dict[str, str]:
    """What the beats' memory says of the last firing."""
    keys = list(site.client.scan_iter("cellkeeper:firing:*"))
    return site.client.hgetall(keys[0]) if keys else {}


def nominal_times(site: Site) -> list[datetime]:
    """When the runs that the schedule started were due, in order."""
    return sorted(datetime.strptime(run, "often-%Y%m%dT%H%M%S%z") for run in site.store.recent())


def check_each_is_one_run(site: Site, worker: Worker, every: int) -> None:
    """No firing was left out, each has one run, which was finished once, and the first one moved
    all there is.
    """
    times = nominal_times(site)
    for run in site.store.recent():
        site.until_ended(run)
    assert {later - sooner for sooner, later in pairwise(times)} == {timedelta(seconds=every)}
    until(lambda: len(site.audits(worker)) >= len(times))
    audits = sorted(site.audits(worker))
    assert [run for run, _ in audits] == sorted(site.store.recent())
    assert [code for _, code in audits] == [1] + [0] * (len(times) - 1)


def test_each_firing_is_one_run_with_two_beats_of_which_one_is_killed(scheduled: Site) -> None:
    site = scheduled
    before = Inventory(site.cloud)
    with ExitStack() as stack:
        worker = stack.enter_context(site.worker())
        beats = [stack.enter_context(BeatProcess(site, f"beat{number}")) for number in range(2)]
        worker.serve()
        until(lambda: len(site.store.recent()) >= 1)
        until(lambda: firing(site).get("state") == "due")
        holder = next(one for one in beats if f":{one.process.pid}:" in firing(site)["beat"])
        holder.kill()
        beats.append(stack.enter_context(BeatProcess(site, "beat2")))
        for number in range(2, FIRINGS + 1):
            until(lambda number=number: len(site.store.recent()) >= number)  # type: ignore[misc]
        for beat in beats:
            beat.kill()
        check_each_is_one_run(site, worker, EVERY)
    before.check_complete()


def test_each_firing_is_one_run_with_a_beat_that_is_killed_and_started_again(seldom: Site) -> None:
    """It is killed while a run cannot be started; then a firing comes while there is no beat at
    all.
    """
    site = seldom
    before = Inventory(site.cloud)
    with site.worker() as worker:
        worker.serve()
        with BeatProcess(site, "first") as beat:
            until(lambda: len(site.store.recent()) >= 1)
            site.until_ended(site.store.recent()[0])
            site.cloud.server.pause()
            until(lambda: "often: not started yet, trying again" in beat.log)
        assert firing(site)["state"] == "due"
        assert len(site.store.recent()) == 1
        site.cloud.server.revive()
        with BeatProcess(site, "second"):
            until(lambda: len(site.store.recent()) >= 2 and firing(site)["state"] == "started")
        missed = int(firing(site)["nominal"]) + SELDOM
        until(lambda: datetime.now(UTC).timestamp() > missed)
        assert len(site.store.recent()) == 2
        with BeatProcess(site, "third"):
            until(lambda: len(site.store.recent()) >= FIRINGS)
        check_each_is_one_run(site, worker, SELDOM)
    before.check_complete()


def test_a_beat_ends_with_a_signal_and_says_what_it_follows(scheduled: Site) -> None:
    with BeatProcess(scheduled, "beat") as beat:
        until(lambda: bool(list(scheduled.client.scan_iter("cellkeeper:beat:*"))))
        beat.process.terminate()
        assert beat.process.wait(60) == 0
        assert f"often: {ARCHIVE}, next at 20" in beat.log
    assert list(scheduled.client.scan_iter("cellkeeper:beat:*")) == []


def test_the_list_says_how_the_last_run_ended(scheduled: Site) -> None:
    site = scheduled
    with site.worker() as worker, BeatProcess(site, "beat"):
        worker.serve()
        until(lambda: len(site.store.recent()) >= 1)
        run = site.store.recent()[-1]
        assert site.until_ended(run) == 1
        ended = site.call("schedule list -f json")
        while ended.document["entries"][0]["state"] == "due":  # the next firing has come meanwhile
            ended = site.call("schedule list -f json")
    assert (ended.code, ended.err) == (0, "")
    (entry,) = ended.document["entries"]
    assert (entry["entry"], entry["command"], entry["reason"]) == ("often", ARCHIVE, None)
    assert (entry["run_state"], entry["exit_code"]) in (
        ("ok", 1),
        ("nothing to do", 0),
        ("running", None),
    )
    assert entry["last"] < entry["next"]
    assert len(ended.document["beats"]) == 1
    assert list(ended.document["not_enabled"]) == ["nightly_archive", "weekly_purge"]


def test_the_window_of_a_run_closes_while_nobody_waits(site: Site) -> None:
    before = Inventory(site.cloud)
    with site.worker() as worker:
        worker.serve()
        closes = datetime.now(UTC) + timedelta(seconds=20)
        slowly = f"{ARCHIVE} --max_rows 20 --sleep 0.5 --detach --until {closes.isoformat()}"
        run = site.call(slowly).out.strip()
        assert site.until_ended(run) == 1
    record = site.record(run)
    assert site.state(run) == "window closed"
    assert record.finished is not None
    assert record.finished >= closes.timestamp()
    assert any(not cell.complete and not cell.failure for cell in site.cells(run).values())
    assert site.rows(run) > 0
    before.check()
    shown = site.call(f"runs show {run}").out
    assert f"window until {closes:%Y-%m-%d %H:%M:%S} UTC: window closed, exit code 1" in shown


def test_a_command_that_waits_says_what_is_left_when_the_window_closes(site: Site) -> None:
    with site.worker() as worker:
        worker.serve()
        closes = datetime.now(UTC) + timedelta(seconds=20)
        ended = site.call(
            f"{ARCHIVE} --max_rows 20 --sleep 0.5 --verbose --until {closes.isoformat()}"
        )
    assert ended.code == 1
    assert ended.out.startswith("Archiving")
    assert ".stopped\n" in ended.out
    lines = ended.err.splitlines()
    assert lines[0].startswith(f"The window closed at {closes:%H:%M} UTC before ")
    assert lines[-1].startswith("Left in these cells: ")
    assert worker.process.poll() is not None


def test_metrics_move_with_what_happens(scheduled: Site, tmp_path: Path) -> None:
    """Each metric that comes from the runs, before and after."""
    from tests.acceptance.test_metrics import Samples, samples

    site = scheduled

    def look() -> Samples:
        return samples(site.call("metrics").out)

    share = (
        "INSERT INTO share_mapping (uuid, instance_uuid, share_id, status, tag, "
        "export_location, share_proto) "
    )
    site.cloud.rows(
        site.cloud.cell1,
        f"{share} SELECT uuid, uuid, uuid, 'active', 'tag', 'nfs', 'NFS' FROM instances WHERE "
        "deleted != 0 LIMIT 1",
    )
    before = look()
    assert (before["beats",], before["runs_active",], before["schedule_up",]) == (0, 0, 1)
    assert before["cell_workers", "cell1"] == 0
    assert not any(key[0] in ("rows_total", "schedule_last_timestamp_seconds") for key in before)
    with site.worker() as worker, BeatProcess(site, "beat"):
        worker.serve()
        until(lambda: len(site.store.recent()) >= 1)
        during = look()
        assert site.until_ended(site.store.recent()[-1]) == 1
        until(lambda: firing(site).get("state") == "started")
        after = look()
    assert (during["beats",], during["cell_workers", "cell1"]) == (1, 1)
    key = "db.archive_deleted_rows", "cell1"
    assert after["backlog_rows", "cell1"] < before["backlog_rows", "cell1"]
    assert after["rows_total", *key] > 500
    assert after["blocked_rows", *key] == 1
    assert after["last_failed", *key] == 0
    assert after["last_duration_seconds", *key] > 0
    assert after["last_success_timestamp_seconds", *key] > 1.7e9
    assert (
        after["schedule_last_timestamp_seconds", "often"]
        < after["schedule_next_timestamp_seconds", "often"]
    )
    assert after["schedule_last_failed", "often"] == 0
    gone = site.cloud.url("nova_cell9")
    site.cloud.rows(
        site.cloud.api,
        f"UPDATE cell_mappings SET database_connection = '{gone}' WHERE name = 'cell1'",
    )
    with site.worker(name="second") as worker:
        worker.serve()
        active = site.call(f"{ARCHIVE} --detach").out.strip()
        assert site.until_ended(active) == 255
    away = look()
    assert (away["last_failed", *key], away["cell_up", "cell1"]) == (1, 0)
