"""What may be wrong with workers, brokers and other runs: each is said by name, nothing hangs, the
others finish.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery

from jobs.action import Failure, FailureKind
from jobs.actions import ACTIONS
from jobs.codec import encode
from jobs.db.archive_deleted_rows import Params
from runs import rules
from runs.conductor import Conductor, queue_of
from runs.records import Bell, CellRef, Order, Phase, Wish
from tests.support.command import Running, until
from tests.support.inventory import Inventory
from tests.support.realcloud import RealCloud, load
from tests.support.services import Redis, free_port
from tests.workers.fleet import Site, Worker, hooked

ACTION = "db.archive_deleted_rows"
ARCHIVE = "db archive_deleted_rows --all-cells --until-complete"
SLOWLY = f"{ARCHIVE} --max_rows 25 --sleep 0.2"
RUNS_AT_ONCE = 8


@pytest.fixture(scope="module", autouse=True)
def without_broker(
    loaded_realcloud: RealCloud, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A command whose broker is down. It tries for some time, meanwhile the other tests run."""
    config = loaded_realcloud.config(tmp_path_factory.mktemp("alone"))
    config.write_text(
        f"{config.read_text()}[celery]\nbroker_url = redis://127.0.0.1:{free_port()}/0\n"
    )
    with Running(ARCHIVE, config=config, env=hooked()) as running:
        yield running


@pytest.fixture
def site(shared_site: Site, shared_worker: Worker, realcloud: RealCloud) -> Iterator[Site]:
    """The cloud as dumped, with a worker that serves all of it; no run outlives its test."""
    yield shared_site
    shared_site.end_all()


def detach(site: Site) -> str:
    """Start a slow run, and wait until it moves rows."""
    ended = site.call(f"{SLOWLY} --detach")
    assert (ended.code, ended.err) == (0, "")
    until(lambda: site.rows(ended.out.strip()) > 0)
    return ended.out.strip()


def test_cells_without_a_worker_are_named_and_the_others_finish(
    realcloud: RealCloud, broker: Redis, tmp_path: Path
) -> None:
    site = Site(realcloud, broker, tmp_path, database=1)
    with site.worker("--cells", "cell1") as worker:
        worker.serve("cell1")
        ended = site.call(f"{ARCHIVE} -f json")
    missing = "no worker serves it: start one with: cellkeeper worker"
    assert ended.err.splitlines() == [f"{name}: {missing}" for name in ("cell0", "cell2", "cell3")]
    assert ended.code == 255
    assert [cell["state"] for cell in ended.document["cells"]] == [
        "failed",
        "complete",
        "failed",
        "failed",
    ]
    assert realcloud.rows("nova_cell1", "SELECT COUNT(*) FROM instances WHERE deleted != 0") == [
        (0,)
    ]


def test_a_worker_that_means_another_database_refuses(
    realcloud: RealCloud, broker: Redis, tmp_path: Path
) -> None:
    """The cell's URL is a template, which the worker's own nova.conf fills differently."""
    site = Site(realcloud, broker, tmp_path, database=2)
    realcloud.rows(
        realcloud.api,
        "UPDATE cell_mappings SET database_connection = "
        "'{scheme}://{username}:{password}@{hostname}:{port}/nova_cell2' WHERE name = 'cell2'",
    )
    before, rows = Inventory(realcloud), realcloud.states()[realcloud.cell2]
    text = site.config.read_text()
    other = site.config.with_name("other.conf")
    other.write_text(
        re.sub(r"127\.0\.0\.1:\d+/nova_cell1", f"127.0.0.1:{free_port()}/nova_cell1", text)
    )
    with Worker(other) as worker:
        worker.serve()
        ended = site.call(ARCHIVE)
    assert ended.code == 255
    meant = "has another database configured for it than the one that is meant"
    assert re.fullmatch(rf"cell2: [^ ]+:\d+ {meant}", ended.line)
    assert realcloud.states()[realcloud.cell2] == rows
    gone = before.check()
    assert {name for name, keys in gone.items() if keys == before.moving[name]} == {
        "nova_cell0",
        "nova_cell1",
        "nova_cell3",
    }


def test_a_bell_of_another_version_is_left_to_others_and_harms_nobody(
    site: Site, shared_worker: Worker
) -> None:
    """Those that this worker does not understand, and those that are none."""
    before = Inventory(site.cloud)
    bell = Bell("future", 0, ACTION, 0, site.cloud.uuids["cell1"], "cell1", format=99)
    with Celery(broker=site.broker.url()) as app:
        for fields in (
            asdict(bell) | {"news": "of another version"},
            {"run": "old", "sequence": 3},
            {},
        ):
            app.send_task(ACTION, kwargs=fields, queue=queue_of(bell.cell))
    shared_worker.wait_for(
        "a message of another version is left to workers of that version: future"
    )
    assert site.call(ARCHIVE).code == 1
    before.check_complete()


@pytest.fixture
def fifth_cell(site: Site) -> Iterator[str]:
    """The database of one more cell, a copy of the third."""
    name = "nova_cell4"
    load(site.cloud.server, name, f"{site.cloud.cell3}.sql.gz")
    site.cloud.rows(
        site.cloud.api,
        "INSERT INTO cell_mappings (uuid, name, transport_url, database_connection, disabled) "
        f"VALUES (UUID(), 'cell4', 'none:///', '{site.cloud.url(name)}', 0)",
    )
    yield name
    site.cloud.server.drop(name)


def test_runs_at_once_are_serialised_and_each_says_what_it_did(
    site: Site, shared_worker: Worker, fifth_cell: str
) -> None:
    before, known = Inventory(site.cloud), set(site.store.recent())
    wanted = {name: rows.total() for name, rows in before.rows_to_move().items()}
    wanted["cell4"] = wanted["cell3"]
    running = [site.start(f"{ARCHIVE} --max_rows 300 -f json") for _ in range(RUNS_AT_ONCE)]
    ended = [one.end() for one in running]
    before.check_complete()
    moved = [
        {
            cell["cell"]: sum(cell["archived"].values())
            for cell in one.document["cells"]
            if cell["archived"]
        }
        for one in ended
    ]
    (all_of_it,) = [one for one in moved if one]
    assert all_of_it == wanted
    assert site.cloud.rows(fifth_cell, "SELECT COUNT(*) FROM instances WHERE deleted != 0") == [
        (0,)
    ]
    assert sorted(one.code for one in ended) == [0] * (RUNS_AT_ONCE - 1) + [1]
    runs = sorted(
        (site.record(run) for run in set(site.store.recent()) - known),
        key=lambda run: run.started or 0,
    )
    assert len(runs) == RUNS_AT_ONCE
    for earlier, later in pairwise(runs):
        assert earlier.finished is not None
        assert later.started is not None
        assert earlier.finished <= later.started
    assert (
        sum(
            line.startswith("Waiting for another run: db.arch")
            for one in ended
            for line in one.err.split("\n")
        )
        > 0
    )
    told = [run for run, _ in site.audits(shared_worker)]
    assert len(told) == len(set(told))


def test_a_detached_run_is_named_listed_shown_cancelled_and_waited_for(site: Site) -> None:
    before = Inventory(site.cloud)
    run = detach(site)
    shown = site.call(f"runs show {run} -f json").document
    assert (shown["run"], shown["state"], shown["exit_code"]) == (run, "running", None)
    assert shown["cells"] == 4
    (phase,) = shown["phases"]
    assert [cell["cell"] for cell in phase["cells"]] == ["cell0", "cell1", "cell2", "cell3"]
    assert {cell["state"] for cell in phase["cells"]} <= {"waiting", "working", "done"}

    again = site.call(f"{SLOWLY} --run-id {run} --detach -f json")
    assert (again.code, again.document, again.err) == (0, {"run": run}, "")

    runs = site.store.recent()
    refused = site.call(f"{ARCHIVE} --no-wait")
    holder = rf"{re.escape(ACTION)}, run {run} by [^ ]+@[^ ]+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert refused.code == 255
    assert re.fullmatch(f"Another run is at work on one of the databases: {holder}", refused.line)
    assert site.store.recent() == runs

    cancelled = site.call(f"runs cancel {run}")
    assert (cancelled.code, cancelled.out, cancelled.err) == (0, "", "")
    assert site.call(f"runs wait {run}").code == 1
    before.check()

    (listed,) = [one for one in site.call("runs list -f json").document if one["run"] == run]
    assert (listed["state"], listed["outcome"], listed["exit_code"]) == (
        "cancelled",
        "cancelled",
        1,
    )
    assert (listed["rows"], listed["failed_cells"]) == (site.rows(run), 0)
    began, ended = (datetime.fromisoformat(listed[name]) for name in ("started", "finished"))
    assert began.utcoffset() == ended.utcoffset() == timedelta(0)
    assert abs((ended - began).total_seconds() - listed["seconds"]) <= 1
    assert listed["commands"][0]["params"]["max_rows"] == 25
    table = site.call("runs list").out.splitlines()
    assert [word.strip() for word in table[1].strip("|").split("|")] == [
        "Run", "Command", "Outcome", "Code", "Cells", "Rows", "Started", "Duration", "By",
    ]  # fmt: skip
    rows = f"{listed['rows']:,}"
    (row,) = [line for line in table if line.startswith(f"| {run} ")]
    assert re.match(
        rf"\| {run} +\| {re.escape(ACTION)} +\| cancelled +\| 1 +\| 4 +\| {rows} +\| "
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC +\| 0:\d\d:\d\d +\| ",
        row,
    )

    shown = site.call(f"runs show {run} -f json").document
    moved = {
        cell["cell"]: sum(cell["outcome"]["moved"].values()) if cell["outcome"] else 0
        for cell in shown["phases"][0]["cells"]
    }
    assert sum(moved.values()) == site.rows(run) > 0
    lines = site.call(f"runs show {run}").out.splitlines()
    assert lines[0].startswith(f"Run {run}, started ")
    assert re.search(r": cancelled, exit code 1, after 0:\d\d:\d\d$", lines[0])
    for name, rows in moved.items():
        assert any(
            re.match(rf"\| {name} +\| (stopped|done) +\| {rows} +\|", line) for line in lines
        )


def test_a_worker_of_root_says_what_to_do_in_words_of_this_program(shared_worker: Worker) -> None:
    advice = (
        "This worker runs as root, which it has no need of: start it as a user who may read "
        "nova.conf"
    )
    assert shared_worker.log.count(advice) == int(os.geteuid() == 0)
    assert "--uid" not in shared_worker.log
    assert "superuser" not in shared_worker.log


def finish(site: Site, run: str, number: int, failure: Failure | None) -> None:
    """End the work in a cell that nobody works on."""
    site.store.change_cell(
        run,
        0,
        number,
        lambda view: rules.finish_cell(view.cell, "", view.now, failure, complete=not failure),
    )


def test_runs_are_listed_by_number_failure_and_age(site: Site) -> None:
    cells = [CellRef(site.cloud.uuids[name], name, "any") for name in ("cell1", "cell2")]
    for run, failures in (("quiet", 0), ("partly", 1), ("dead", 2)):
        order = Order(run, (Phase(ACTION, encode(Params(until_complete=True))),), "somebody")
        conductor = Conductor(site.store, lambda _: None)
        conductor.start(order, cells)
        for number, cell in enumerate(cells):
            failure = (
                Failure(FailureKind.CELL, f"{cell.label}: away") if number < failures else None
            )
            finish(site, run, number, failure)
        conductor.go_on(run)

    def listed(options: str) -> list[tuple[str, str]]:
        runs = site.call(f"runs list -f json {options}").document
        return [(run["run"], run["outcome"]) for run in runs]

    dead, partly, quiet = (
        ("dead", "failed"),
        ("partly", "partly failed"),
        ("quiet", "nothing to do"),
    )
    assert listed("--limit 3") == [dead, partly, quiet]
    assert [run for run in listed("--failed") if run[0] in ("dead", "partly", "quiet")] == [
        dead,
        partly,
    ]
    assert listed("--failed --limit 1") == [dead]
    assert listed("--since 1h --limit 3") == [dead, partly, quiet]
    assert listed(f"--since {datetime.now(UTC) + timedelta(minutes=5):%Y-%m-%dT%H:%M:%S}") == []
    refused = site.call("runs list --since never")
    assert (refused.code, refused.out) == (2, "")
    assert "'never' cannot be understood" in refused.err
    assert "cell1: away" in site.call("runs show dead").out


@pytest.mark.parametrize("command", ["show", "wait", "cancel"])
def test_an_unknown_run_is_said_to_be_unknown(site: Site, command: str) -> None:
    ended = site.call(f"runs {command} 0123456789ab")
    assert (ended.code, ended.out) == (255, "")
    assert (
        ended.line
        == "There is no run 0123456789ab: the id is misspelt, the run has expired, or the store "
        "was emptied"
    )


def test_ctrl_c_ends_the_run_after_the_current_batches(site: Site) -> None:
    before = Inventory(site.cloud)
    running = site.start(f"{SLOWLY} --verbose")
    run = site.begun(running)
    until(lambda: site.rows(run) > 0)
    running.interrupt()
    ended = running.end()
    assert ended.code == 1
    assert ended.line == "Stopping after the current batches; interrupt again to leave at once."
    assert ".stopped\n+--" in ended.out
    assert re.search(r"^\| cell\d\.", ended.out, re.MULTILINE)
    assert (site.state(run), site.record(run).exit_code) == ("cancelled", 1)
    gone = before.check()
    assert sum(map(len, gone.values())) == site.rows(run) < sum(map(len, before.moving.values()))


def test_a_second_ctrl_c_leaves_at_once_and_says_how_to_follow(site: Site) -> None:
    # The current pause ends with the cancellation.
    running = site.start(f"{ARCHIVE} --max_rows 25 --sleep 30")
    run = site.begun(running)
    until(lambda: site.rows(run) > 0)
    running.interrupt()
    until(lambda: site.record(run).wish is Wish.CANCEL)
    running.interrupt()
    ended = running.end()
    if ended.code != 1:  # the run may have ended in between
        assert ended.code == 130
        stops = f"The run stops after its current batches: cellkeeper runs wait {run}"
        assert ended.err.splitlines()[1] in (
            stops,
            f"The run may go on: cellkeeper runs cancel {run}",
        )
    assert site.call(f"runs wait {run}").code == 1


def test_ctrl_c_while_another_run_is_waited_for_starts_nothing(site: Site) -> None:
    run = detach(site)
    runs = site.store.recent()
    running = site.start(ARCHIVE)
    until(lambda: "Waiting for another run" in running.err)
    running.interrupt()
    assert running.end().code == 0
    (withdrawn,) = set(site.store.recent()) - set(runs)
    assert site.state(withdrawn) == "cancelled"
    assert site.record(withdrawn).started is None
    assert site.state(run) == "running"
    site.call(f"runs cancel {run}")
    site.until_ended(run)


def test_a_cell_that_is_mapped_later_is_served_without_a_restart(
    site: Site, shared_worker: Worker
) -> None:
    late = str(uuid4())
    site.cloud.rows(
        site.cloud.api, f"UPDATE cell_mappings SET uuid = '{late}' WHERE name = 'cell3'"
    )
    before = Inventory(site.cloud)
    ended = site.call(ARCHIVE)
    assert (ended.code, ended.err) == (1, "")
    before.check_complete()
    assert shared_worker.log.count("serving cell3") == 2


def test_a_run_of_another_version_keeps_nobody_from_being_looked_after(
    site: Site, shared_worker: Worker
) -> None:
    """The store knows runs of a newer program, too: with an action that this one does not know."""
    newer = Order("newer", (Phase("db.of_the_future", {}),), "somebody")
    lost = CellRef(site.cloud.uuids["cell3"], "cell3", "any")
    older = Order("older", (Phase(ACTION, encode(Params(until_complete=True))),), "somebody")
    Conductor(site.store, lambda _bell: None).start(older, [lost])  # its bell is lost
    run = replace(rules.new_run(older, [], ACTIONS, site.store.now()), order=newer)
    site.store.create(run, [], frozenset(), lambda queue, _: queue)
    try:
        until(lambda: site.ended("older") or "the heartbeat failed" in shared_worker.log)
        assert "the heartbeat failed" not in shared_worker.log
    finally:
        site.store.change_queue(
            lambda queue, _: [place for place in queue if place.run not in ("newer", "older")]
        )


def test_a_broker_that_is_down_is_said_to_be_down(
    without_broker: Running, realcloud: RealCloud
) -> None:
    ended = without_broker.end()
    assert (ended.code, ended.out) == (255, "")
    assert ended.line.startswith("The store of runs cannot be used: ")
    assert "127.0.0.1" in ended.line
    assert os.strerror(111) in ended.line
