"""``check`` and ``metrics`` on SQLite: what is printed, and the exit code."""

import json
from typing import Any

import pytest

from tests.support.demo_cloud import DemoCloud

AWAY = "[celery]\nbroker_url = redis://127.0.0.1:1/0"
NIGHTLY = "[schedule]\nenabled = nightly_archive"


def findings(document: dict[str, Any], where: str) -> dict[str, str]:
    """The verdicts of what was found in one place, by what it is about."""
    return {
        finding["what"]: finding["verdict"]
        for finding in document["findings"]
        if finding["where"] == where
    }


def test_a_cloud_without_workers_is_well(cloud: DemoCloud) -> None:
    ended = cloud.call("check")
    assert (ended.code, ended.err) == (0, "")
    rows = [
        [cell.strip() for cell in line.split("|")[1:5]]
        for line in ended.out.splitlines()
        if line[0] == "|"
    ]
    assert rows[0] == ["Where", "What", "Verdict", "Detail"]
    found = {(where, what): (verdict, detail) for where, what, verdict, detail in rows[1:]}
    assert found["configuration", "files"] == ("ok", str(cloud.config))
    assert found["configuration", "workers"][0] == "warning"
    assert found["API database", "cells"] == ("ok", "4 are mapped")
    assert found["cell1", "backlog"][1].startswith("127 deleted rows, the oldest of ")


def test_what_is_not_well_is_found(cloud: DemoCloud) -> None:
    cloud.lose("cell3")
    cloud.configure("[cellkeeper]\nnonsense = 1")
    ended = cloud.call("check -f json")
    assert (ended.code, ended.err) == (1, "")
    document = ended.document
    assert document["exit_code"] == 1
    assert findings(document, "configuration")["settings"] == "failed"
    assert findings(document, "cell3")["database"] == "failed"
    assert findings(document, "cell1")["backlog"] == "ok"
    assert [cell["deleted_rows"] for cell in document["cells"]] == [20, 127, 134, 0]
    assert document["api_database"]["schema"]


def test_cells_at_different_versions_are_found(cloud: DemoCloud) -> None:
    cloud.sql("cell2", "UPDATE alembic_version SET version_num = 'd67eeaabee36'")
    document = cloud.call("check -f json").document
    assert "cells" in {finding["where"] for finding in document["findings"]}


@pytest.mark.parametrize("statement", ["DELETE FROM cell_mappings", "DROP TABLE cell_mappings"])
def test_without_cells_there_is_nothing_to_work_on(cloud: DemoCloud, statement: str) -> None:
    cloud.sql("API", "DELETE FROM host_mappings")
    cloud.sql("API", "DELETE FROM instance_mappings")
    cloud.sql("API", statement)
    ended = cloud.call("check -f json")
    assert ended.code == 1
    assert "failed" in findings(ended.document, "API database").values()


def test_a_store_that_is_away_is_found(cloud: DemoCloud) -> None:
    cloud.configure(f"{AWAY}\n{NIGHTLY}")
    ended = cloud.call("check -f json")
    assert ended.code == 1
    document = ended.document
    assert set(findings(document, "Redis").values()) == {"failed"}
    (entry,) = [finding for finding in document["findings"] if finding["where"] == "schedule"]
    assert (entry["what"], entry["verdict"]) == ("entry", "ok")
    assert entry["detail"].startswith("nightly_archive: next at ")


@pytest.mark.parametrize(
    ("schedule", "verdict", "detail"),
    [
        ("", "warning", "nothing is scheduled: option enabled of section [schedule]"),
        (
            "[schedule]\nenabled = nope",
            "failed",
            "nope: it has no cron: set it in section [schedule_nope]",
        ),
    ],
)
def test_a_schedule_that_starts_nothing_is_found(
    cloud: DemoCloud, schedule: str, verdict: str, detail: str
) -> None:
    cloud.configure(f"{AWAY}\n{schedule}")
    found = [
        one
        for one in cloud.call("check -f json").document["findings"]
        if one["where"] == "schedule"
    ]
    assert [(one["verdict"], one["detail"]) for one in found] == [(verdict, detail)]


def samples(text: str) -> dict[str, float]:
    """What was measured, by name and labels."""
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_metrics_are_printed(cloud: DemoCloud) -> None:
    cloud.lose("cell3")
    ended = cloud.call("metrics")
    assert (ended.code, ended.err) == (0, "")
    told = samples(ended.out)
    assert told["cellkeeper_api_database_up"] == 1
    assert told['cellkeeper_cell_up{cell="cell3"}'] == 0
    assert told['cellkeeper_backlog_rows{cell="cell1"}'] == 127
    assert 'cellkeeper_backlog_rows{cell="cell3"}' not in told
    assert "cellkeeper_store_up" not in told


def test_metrics_of_a_cloud_whose_databases_are_away(cloud: DemoCloud) -> None:
    cloud.configure(f"{AWAY}\n{NIGHTLY}")
    (cloud.folder / "nova_api.db").unlink()
    ended = cloud.call("metrics")
    assert ended.code == 0
    told = samples(ended.out)
    assert (told["cellkeeper_api_database_up"], told["cellkeeper_store_up"]) == (0, 0)


def test_metrics_are_written_as_a_whole(cloud: DemoCloud) -> None:
    file = cloud.folder / "cellkeeper.prom"
    ended = cloud.call(f"metrics --file {file}")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert samples(file.read_text())['cellkeeper_cell_up{cell="cell1"}'] == 1
    ended = cloud.call(f"metrics --file {cloud.folder}/nowhere/x.prom")
    assert (ended.code, ended.out) == (255, "")
    assert (
        ended.err == f"{cloud.folder}/nowhere/x.prom cannot be written: No such file or directory\n"
    )


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (
            "--listen x:1 --file y",
            2,
            "cellkeeper metrics: --listen and --file exclude each other. ",
        ),
        ("--listen nonsense", 2, "cellkeeper metrics: 'nonsense' is no HOST:PORT to listen at. "),
        ("--listen 203.0.113.1:9000", 255, "203.0.113.1:9000 cannot be listened at: "),
    ],
)
def test_metrics_that_cannot_be_served(
    cloud: DemoCloud, options: str, code: int, line: str
) -> None:
    ended = cloud.call(f"metrics {options}")
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith(line)


def test_a_failed_look_is_a_document_for_whoever_wants_one(cloud: DemoCloud) -> None:
    ended = cloud.call("check -f json --config-file /nowhere")
    assert ended.code == 255
    document = json.loads(ended.out)
    assert document["exit_code"] == 255
    assert document["messages"] == ended.err.splitlines()
