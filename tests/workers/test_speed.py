"""How fast a run goes and how long it still takes, as ``runs show``, ``runs list`` and ``metrics``
tell it.
"""

import re
from datetime import datetime
from typing import Any

import pytest

from jobs.action import Step
from jobs.codec import encode
from jobs.db.archive_deleted_rows import Params
from runs import rules
from runs.conductor import Conductor
from runs.records import CellRef, Hold, Order, Phase, View
from runs.rules import Claimant
from runs.store import Increments
from tests.acceptance.test_metrics import Samples, samples
from tests.support.command import until
from tests.support.run_records import moved
from tests.workers.fleet import Site

ARCHIVE = "db.archive_deleted_rows"
LEASE = 600.0


def start(site: Site, run: str = "r", cells: tuple[str, ...] = ("cell1", "cell2")) -> Conductor:
    """A run that no worker hears of."""
    conductor = Conductor(site.store, lambda _: None)
    order = Order(run, (Phase(ARCHIVE, encode(Params(until_complete=True))),), "somebody@c1")
    conductor.start(
        order, [CellRef(site.cloud.uuids[cell], cell, f"print-{cell}") for cell in cells]
    )
    return conductor


def step(site: Site, number: int, rows: int, remaining: int | None) -> None:
    """A step of a worker, which has claimed the cell before or does so now."""
    who = Claimant(f"token-{number}", "c1:7", LEASE)
    site.store.change_cell("r", 0, number, lambda view: rules.claim(view, 0, who))
    view = site.store.change_cell(
        "r", 0, number,
        lambda view: rules.record_step(view.cell, who, view.now, Step(moved(rows), {}, remaining), moved(rows)),
        increments=Increments(rows, handled=rows),
    )  # fmt: skip
    assert isinstance(view, View)


def shown(site: Site) -> Any:
    return site.call("runs show r -f json").document


def metrics(site: Site) -> Samples:
    return samples(site.call("metrics").out)


def has_a_rate(site: Site) -> bool:
    return shown(site)["rate"] is not None


def test_a_run_tells_its_rate_and_its_end(site: Site) -> None:
    """A step goes before each look: without one for a minute there is a rate of 0, and no end."""
    start(site)
    step(site, 0, 500, 4000)
    until(lambda: has_a_rate(site))
    step(site, 0, 500, 4000)
    document = shown(site)
    assert document["rate"] > 0
    assert (document["remaining"], document["eta"]) == (None, None), (
        "of the other cell nothing is known"
    )
    first, second = document["phases"][0]["cells"]
    assert (first["remaining"], second["remaining"]) == (4000, None)
    assert datetime.fromisoformat(first["eta"]) > datetime.fromisoformat(first["started"])
    assert document["phases"][0]["rate_counts"] == "rows"
    step(site, 1, 100, 1000)
    document = shown(site)
    assert document["remaining"] == 5000
    assert datetime.fromisoformat(document["eta"]) > datetime.fromisoformat(document["started"])
    step(site, 1, 100, 1000)
    text = site.call("runs show r").out
    assert re.search(
        r"^Rate over the last minute: [\d,.]+/s \(rows\), about 5,000 left, ETA \d+:\d\d:\d\d$",
        text,
        re.MULTILINE,
    )
    step(site, 1, 100, 1000)
    assert re.search(r"running, ETA \d+:\d\d:\d\d", site.call("runs list").out)
    step(site, 1, 100, 1000)
    told = metrics(site)
    assert told["run_remaining", ARCHIVE, "r"] == 5000
    assert told["run_rate", ARCHIVE, "r"] > 0
    assert (
        told["run_eta_timestamp_seconds", ARCHIVE, "r"]
        > told["run_started_timestamp_seconds", ARCHIVE, "r"]
    )


def test_a_run_that_pauses_has_no_rate(site: Site) -> None:
    conductor = start(site)
    step(site, 0, 500, 4000)
    step(site, 1, 500, 4000)
    until(lambda: has_a_rate(site))
    conductor.pause("r", "somebody")
    document = shown(site)
    assert [document["state"], document["rate"], document["eta"], document["remaining"]] == [
        "pausing", None, None, 8000,
    ]  # fmt: skip
    assert [cell["rate"] for cell in document["phases"][0]["cells"]] == [None, None]
    assert "Rate over the last minute" not in site.call("runs show r").out
    told = metrics(site)
    assert ("run_rate", ARCHIVE, "r") not in told
    assert ("run_eta_timestamp_seconds", ARCHIVE, "r") not in told
    assert told["run_state", ARCHIVE, "r", "pausing"] == 1
    assert (told["runs", "pausing"], told["runs", "running"]) == (1, 0)


def test_the_states_of_runs_the_queue_and_the_hold_are_metrics(site: Site) -> None:
    conductor = start(site)
    step(site, 0, 5, None)
    for run in ("second", "third"):
        start(site, run)
    told = metrics(site)
    assert told["runs_active",] == 3
    assert [told["runs", state] for state in ("running", "waiting", "paused")] == [1, 2, 0]
    assert [told["run_queue_place", ARCHIVE, run] for run in ("second", "third")] == [1, 2]
    assert ("run_queue_place", ARCHIVE, "r") not in told
    assert (
        told["oldest_waiting_run_timestamp_seconds",]
        == told["run_ordered_timestamp_seconds", ARCHIVE, "second"]
    )
    cells = {
        state: told["run_cells", ARCHIVE, "r", state]
        for state in ("waiting", "working", "failed", "done")
    }
    assert cells == {"waiting": 1, "working": 1, "failed": 0, "done": 0}
    assert told["hold",] == 0
    assert ("hold_since_timestamp_seconds",) not in told
    now = site.store.now()
    conductor.hold(Hold("the primary is being replaced", "ops@c1", now, now + 600))
    told = metrics(site)
    assert (told["hold",], told["hold_since_timestamp_seconds",]) == (1, pytest.approx(now))
    assert told["hold_end_timestamp_seconds",] == pytest.approx(now + 600)
    assert told["runs", "pausing"] == 1
    conductor.hold(Hold("it was", "ops@c1", now - 20, now - 10))
    assert metrics(site)["hold",] == 0


def test_how_the_last_run_of_an_action_ended_is_told(site: Site) -> None:
    for run in ("first", "second"):
        start(site, run).cancel(run)
    told = metrics(site)
    assert told["last_run_outcome", ARCHIVE, "cancelled"] == 1
    assert told["last_run_exit_code", ARCHIVE] == 0
    assert told["last_run_end_timestamp_seconds", ARCHIVE] == site.record("second").finished
    assert told["runs", "running"] == 0
