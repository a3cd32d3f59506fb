"""The category ``runs`` on a store in memory: runs are ordered, looked at and steered, while a
worker stands still.
"""

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.demo_cloud import DemoCloud
from tests.support.memory_runs import MemoryRuns

ARCHIVE = "db archive_deleted_rows --all-cells --until-complete"
PURGE = "db purge --all --all-cells"


def order(workers: MemoryRuns, line: str) -> str:
    """Order a run, and leave it to the workers; its id."""
    ended = workers.call(f"{line} --detach")
    assert (ended.code, ended.err) == (0, "")
    return ended.out.strip()


def archived(cloud: DemoCloud, cell: str) -> int:
    number = cloud.scalar(cell, "SELECT count(*) FROM shadow_instances")
    assert isinstance(number, int)
    return number


def test_a_command_follows_its_run_to_the_end(workers: MemoryRuns, cloud: DemoCloud) -> None:
    ended = workers.call(f"{ARCHIVE} --verbose --run-id night")
    assert ended.code == 1
    assert ended.out.startswith("Archiving...")
    assert "| cell1.instances                | 6 " in ended.out
    assert ended.err.startswith("cell2: left in instances: id 1: ")
    assert archived(cloud, "cell1") == 6
    assert workers.call("runs wait night").code == 1


def test_a_detached_command_prints_the_id_of_its_run(workers: MemoryRuns, cloud: DemoCloud) -> None:
    with workers.standing_still():
        ended = workers.call(f"{ARCHIVE} --detach --run-id night -f json")
        assert (ended.code, ended.document) == (0, {"run": "night"})
        assert archived(cloud, "cell1") == 0
    assert workers.call("runs wait night").code == 1
    assert archived(cloud, "cell1") == 6


def test_a_run_of_a_name_is_started_once(workers: MemoryRuns) -> None:
    with workers.standing_still():
        assert order(workers, f"{ARCHIVE} --run-id night") == order(
            workers, f"{ARCHIVE} --run-id night"
        )
        ended = workers.call(f"{PURGE} --run-id night")
        assert (ended.code, ended.out) == (255, "")
        assert (
            ended.err
            == "There is a run night already, of db.archive_deleted_rows: choose another --run-id\n"
        )


def test_a_second_run_waits_in_the_queue_or_is_refused(workers: MemoryRuns) -> None:
    with workers.standing_still():
        first = order(workers, ARCHIVE)
        second = order(workers, f"{ARCHIVE} --max_rows 500")
        refused = workers.call(f"{ARCHIVE} --no-wait")
        assert (refused.code, refused.out) == (255, "")
        assert refused.err.startswith("Another run is at work on one of the databases: ")
        shown = workers.call(f"runs show {second}")
        assert "waiting" in shown.out.splitlines()[0]
        assert f"It waits for db.archive_deleted_rows, run {first}" in shown.out
    assert workers.call(f"runs wait {first}").code == 1
    assert workers.call(f"runs wait {second}").code == 0


@pytest.mark.parametrize(("line", "code"), [("db purge --all", 3), ("db archive_deleted_rows", 1)])
def test_what_has_no_mapped_cell_is_done_here(workers: MemoryRuns, line: str, code: int) -> None:
    ended = workers.call(line)
    assert (ended.code, ended.out, ended.err) == (code, "", "")
    assert workers.call("runs list").out == "There are no runs to show.\n"
    assert workers.call("runs list -f json").document == []
    refused = workers.call(f"{line} --detach")
    assert refused.code == 255
    assert refused.err.startswith("--detach and --run-id need workers: ")


def test_runs_are_listed_the_newest_first(workers: MemoryRuns) -> None:
    first, second = order(workers, ARCHIVE), order(workers, PURGE)
    for run in (first, second):
        workers.call(f"runs wait {run}")
    ended = workers.call("runs list")
    assert (ended.code, ended.err) == (0, "")
    assert re.findall(rf"^\| ({first}|{second}) ", ended.out, re.MULTILINE) == [second, first]
    assert "(1 left)" in ended.out
    newest, oldest = workers.call("runs list -f json").document
    assert (newest["run"], newest["exit_code"], newest["outcome"]) == (second, 0, "ok")
    assert (oldest["exit_code"], oldest["blocked"], oldest["rows"]) == (1, 1, newest["rows"])
    assert [run["run"] for run in workers.call("runs list --limit 1 -f json").document] == [second]
    assert workers.call("runs list --failed -f json").document == []
    day = datetime.now(UTC) + timedelta(days=1)
    assert workers.call(f"runs list --since {day:%Y-%m-%d} -f json").document == []


def test_a_run_is_shown_with_its_cells(workers: MemoryRuns) -> None:
    run = order(workers, f"{ARCHIVE} --purge")
    assert workers.call(f"runs wait {run}").code == 1
    ended = workers.call(f"runs show {run}")
    assert (ended.code, ended.err) == (0, "")
    assert re.match(rf"Run {run}, started \S+ \S+ UTC by \S+: ok, exit code 1, after 0:", ended.out)
    assert ended.out.count("| worker:1 |") == 8
    assert "| cell1.instances " in ended.out
    assert "\nThrottle: none\n" in ended.out, "SQLite is no server"
    assert "cell2: left in instances: id 1: " in ended.out
    document = workers.call(f"runs show {run} -f json").document
    assert document["throttle"] == []
    phases = document["phases"]
    assert [phase["action"] for phase in phases] == ["db.archive_deleted_rows", "db.purge"]
    assert [cell["state"] for cell in phases[0]["cells"]] == ["done"] * 4


def test_a_run_without_throttle_is_shown_as_such(workers: MemoryRuns) -> None:
    run = order(workers, f"{ARCHIVE} --no-throttle")
    assert "\nThrottle: off by --no-throttle\n" in workers.call(f"runs show {run}").out
    assert workers.call(f"runs show {run} -f json").document["throttle"] is None


def test_a_run_with_a_failed_cell_is_tried_again(workers: MemoryRuns, cloud: DemoCloud) -> None:
    database = cloud.folder / "nova_cell3.db"
    database.rename(cloud.folder / "away")
    run = order(workers, ARCHIVE)
    waited = workers.call(f"runs wait {run}")
    assert (waited.code, waited.out) == (255, "")
    assert (
        waited.line
        == f"Run {run}: partly failed, exit code 255; its cells: cellkeeper runs show {run}"
    )
    assert "cell3 (" in workers.call(f"runs show {run}").out
    assert "partly failed" in workers.call("runs list --failed").out
    (cloud.folder / "away").rename(database)
    ended = workers.call(f"runs retry {run}")
    assert (ended.code, ended.err) == (0, "")
    again = ended.out.strip()
    assert workers.call(f"runs wait {again}").code == 1
    assert f"It retries the failed cells of run {run}\n" in workers.call(f"runs show {again}").out
    assert archived(cloud, "cell3") == 6
    refused = workers.call(f"runs retry {again} -f json")
    assert (refused.code, refused.err) == (1, f"Run {again}: none of its cells failed\n")


def test_a_retry_goes_to_the_database_that_is_mapped_now(
    workers: MemoryRuns, cloud: DemoCloud
) -> None:
    (mapped,) = cloud.sql(
        "API", "SELECT database_connection FROM cell_mappings WHERE name = 'cell3'"
    )
    cloud.lose("cell3")
    run = order(workers, f"{ARCHIVE} --no-throttle")
    assert workers.call(f"runs wait {run}").code == 255
    cloud.sql(
        "API", "UPDATE cell_mappings SET database_connection = ? WHERE name = 'cell3'", *mapped
    )
    again = workers.call(f"runs retry {run}").out.strip()
    assert workers.call(f"runs wait {again}").code == 1
    assert archived(cloud, "cell3") == 6
    assert "Throttle: off by --no-throttle\n" in workers.call(f"runs show {again}").out


def test_a_retry_of_a_cell_that_is_mapped_no_more(workers: MemoryRuns, cloud: DemoCloud) -> None:
    cloud.lose("cell3")
    run = order(workers, ARCHIVE)
    workers.call(f"runs wait {run}")
    uuid = cloud.uuid("cell3")
    cloud.sql("API", "DELETE FROM cell_mappings WHERE name = 'cell3'")
    again = workers.call(f"runs retry {run}").out.strip()
    assert workers.call(f"runs wait {again}").code == 255
    assert (
        f"{uuid}: no such cell is mapped in the API database\n"
        in workers.call(f"runs show {again}").out
    )


def test_a_retry_names_its_run_in_a_document(workers: MemoryRuns, cloud: DemoCloud) -> None:
    cloud.lose("cell3")
    run = order(workers, ARCHIVE)
    workers.call(f"runs wait {run}")
    (again,) = workers.call(f"runs retry {run} -f json").document["runs"]
    assert workers.call(f"runs wait {again}").code == 255


def test_a_run_is_steered(workers: MemoryRuns) -> None:
    with workers.standing_still():
        run = order(workers, ARCHIVE)
        for line in (
            f"pause {run}",
            f"set {run} max_rows=5 until=05:00",
            f"set {run} until=none",
            f"resume {run}",
        ):
            ended = workers.call(f"runs {line}")
            assert (ended.code, ended.out, ended.err) == (0, "", ""), line
        document = workers.call(f"runs show {run} -f json").document
        steps = [step["what"] for step in document["steering"]]
        assert steps == ["pause", "set max_rows=5, set until=05:00", "set until=none", "resume"]
        assert document["commands"][0]["params"]["max_rows"] == 5
        assert document["until"] is None
        assert workers.call(f"runs cancel {run}").code == 0
    assert workers.call(f"runs wait {run}").code == 0
    assert "cancelled" in workers.call("runs list").out
    for line in (f"pause {run}", f"resume {run}"):
        ended = workers.call(f"runs {line}")
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.startswith(f"Run {run} has ended, or is about to end: it cannot be ")


def test_what_changes_nothing_is_said(workers: MemoryRuns) -> None:
    def told(line: str) -> str:
        ended = workers.call(f"runs {line}")
        assert (ended.code, ended.out) == (0, "")
        return ended.err

    assert told("release") == "No runs were held\n"
    with workers.standing_still():
        run = order(workers, ARCHIVE)
        assert told(f"resume {run}") == f"Run {run} was not paused\n"
        assert told(f"pause {run}") == ""
        assert told(f"pause {run}") == f"Run {run} was already asked to pause\n"
        assert told("hold --reason test") == ""
        assert re.fullmatch(
            r"All runs are held, by \S+ since .* UTC: test\n", told(f"resume {run}")
        )
        assert told("release") == ""
        assert told(f"cancel {run}") == ""
    workers.call(f"runs wait {run}")
    assert told(f"cancel {run}") == f"Run {run} had already ended, with exit code 0\n"


@pytest.mark.parametrize(
    ("setting", "code", "words"),
    [
        ("max_rows", 2, "'max_rows' is not NAME=VALUE."),
        ("until=dawn", 2, "until: 'dawn' is neither HH:MM nor a moment with an offset"),
        (
            "until=2026-01-01T06:00",
            2,
            "until: '2026-01-01T06:00' is neither HH:MM nor a moment with an offset",
        ),
        (
            "until=9999-12-31T23:59Z",
            2,
            "until: '9999-12-31T23:59Z' is later than the year 9998; until=none opens",
        ),
        (
            "until=2026-01-01T06:00Z",
            1,
            "until is in the past: what ends it now is cellkeeper runs cancel\n",
        ),
        ("until=none until=06:00", 2, "until is given twice."),
        ("max_rows=5", 1, "max_rows cannot be set; what can: until\n"),
    ],
)
def test_what_cannot_be_set_is_said(
    workers: MemoryRuns, setting: str, code: int, words: str
) -> None:
    with workers.standing_still():
        run = order(workers, PURGE)
        ended = workers.call(f"runs set {run} {setting}")
        assert (ended.code, ended.out) == (code, "")
        assert words in ended.err


def test_all_runs_are_held_and_released(workers: MemoryRuns, cloud: DemoCloud) -> None:
    assert workers.call("runs hold --reason 'kernel update' --for 2h").code == 0
    held = r"All runs are held until .* UTC, by \S+ since .* UTC: kernel update\n"
    ordered = workers.call(f"{ARCHIVE} --detach")
    assert ordered.code == 0
    assert re.fullmatch(held, ordered.err)
    run = ordered.out.strip()
    assert re.fullmatch(held, workers.call("runs list").err)
    assert re.search(held, workers.call(f"runs show {run}").out)
    assert archived(cloud, "cell1") == 0
    assert workers.call("runs release").code == 0
    assert workers.call(f"runs wait {run}").code == 1
    assert workers.call("runs list").err == ""


@pytest.mark.parametrize(
    ("span", "words"),
    [
        *(
            (text, "is not a number with a unit, such as 30m, 2h or 1d.")
            for text in ("2", "2 hours", "h", "-1h")
        ),
        *(
            (text, "is not between 1s and 3650d.")
            for text in ("0s", "3651d", "2900000d", "999999999d", "9" * 5000 + "d")
        ),
    ],
)
def test_a_span_that_is_none(workers: MemoryRuns, span: str, words: str) -> None:
    ended = workers.call(f"runs hold --reason x --for '{span}'")
    assert (ended.code, ended.out) == (2, "")
    assert f"'{span}' {words}" in ended.err
    assert workers.call("runs release").err == "No runs were held\n"


def test_a_hold_names_the_one_that_it_replaces(workers: MemoryRuns) -> None:
    assert workers.call("runs hold --reason 'new primary'").err == ""
    ended = workers.call("runs hold --reason lunch --for 30m")
    assert ended.code == 0
    assert re.fullmatch(
        r"This hold replaces another one: All runs are held, by \S+ since .* UTC: new primary\n",
        ended.err,
    )


@pytest.mark.parametrize("limit", [1, 10**30])
def test_the_newest_runs_alone_are_listed(workers: MemoryRuns, limit: int) -> None:
    runs = [order(workers, PURGE) for _ in range(2)]
    shown = [run["run"] for run in workers.call(f"runs list --limit {limit} -f json").document]
    assert shown == runs[::-1][:limit]


def test_a_window_ends_before_the_end_of_time(workers: MemoryRuns) -> None:
    ended = workers.call(f"{PURGE} --detach --until 9999-12-31T23:59:59+00:00")
    assert (ended.code, ended.out) == (2, "")
    assert "'9999-12-31T23:59:59+00:00' is later than the year 9998." in ended.err
    assert workers.call("runs list -f json").document == []


def test_history_outlives_runs(workers: MemoryRuns) -> None:
    run = order(workers, ARCHIVE)
    workers.call(f"runs wait {run}")
    ended = workers.call("runs history")
    assert (ended.code, ended.err) == (0, "")
    assert f"| {run} | db.archive_deleted_rows | ok " in ended.out
    (line,) = workers.call("runs history --action db.archive_deleted_rows -f json").document
    assert (line["run"], line["exit_code"], line["cells"], line["failed_cells"]) == (run, 1, 4, 0)
    assert workers.call("runs history --action db.purge -f json").document == []
    assert "Invalid value for '--since'" in workers.call("runs history --since soon").err
    unknown = workers.call("runs history --action db.purgee")
    assert (unknown.code, unknown.out) == (2, "")
    assert "Invalid value for '--action': 'db.purgee' is none of: " in unknown.err
    assert "db.purge, " in unknown.err


@pytest.mark.parametrize("line", ["show", "wait", "pause", "cancel", "retry"])
def test_a_run_that_nobody_knows(workers: MemoryRuns, line: str) -> None:
    ended = workers.call(f"runs {line} nope")
    assert (ended.code, ended.out) == (255, "")
    assert (
        ended.err
        == "There is no run nope: the id is misspelt, the run has expired, or the store was "
        "emptied\n"
    )


def test_without_a_broker_there_are_no_runs(cloud: DemoCloud) -> None:
    ended = cloud.call("runs list")
    assert (ended.code, ended.out) == (255, "")
    assert ended.err == (
        "There are no runs without workers: set broker_url in section [celery] (read: "
        f"{cloud.config})\n"
    )


@pytest.mark.parametrize("line", ["runs list", ARCHIVE, "db purge --all --all-cells --detach"])
def test_a_store_that_is_away_is_one_line(cloud: DemoCloud, line: str) -> None:
    cloud.configure("[celery]\nbroker_url = redis://127.0.0.1:1/0")
    ended = cloud.call(line)
    assert (ended.code, ended.out) == (255, "")
    assert ended.err.startswith("The store of runs cannot be used: ")
    assert len(ended.err.splitlines()) == 1


def test_a_dry_run_that_reaches_no_cell_does_not_say_that_there_is_nothing_to_do(
    cloud: DemoCloud,
) -> None:
    for database in cloud.folder.glob("nova_cell*.db"):
        database.rename(database.with_suffix(".away"))
    ended = cloud.call("db archive_deleted_rows --all-cells --dry-run")
    assert (ended.code, ended.out) == (255, "")
    assert len(ended.err.splitlines()) == 4
