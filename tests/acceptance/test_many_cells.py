"""Three hundred cells, of which ten refuse and five are silent: a line for each of those, and all
else is done.
"""

import re
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from demo.cloud import build
from tests.support.command import call
from tests.support.services import MariaDB, free_port

CELLS, REFUSED, SILENT = 300, 10, 5
LOGIN: Final = f"nova:{MariaDB.PASSWORD}"
FAILED: Final = 255


@pytest.fixture
def config(tmp_path: Path, silent_port: int) -> Path:
    """The nova.conf of a cloud whose cells are small files, but for those whose servers do not
    serve.
    """
    nova_conf = build(tmp_path / "cloud", instances=4)
    nova_conf.write_text(
        nova_conf.read_text().replace("[cellkeeper]", "[cellkeeper]\nconnect_timeout = 2")
    )
    folder = nova_conf.parent
    refused, files = free_port(), CELLS - REFUSED - SILENT
    urls = [
        f"mysql+pymysql://{LOGIN}@127.0.0.1:{refused}/refused{number}" for number in range(REFUSED)
    ]
    urls += [
        f"mysql+pymysql://{LOGIN}@127.0.0.1:{silent_port}/silent{number}"
        for number in range(SILENT)
    ]
    for number in range(files):
        shutil.copy(folder / "nova_cell1.db", folder / f"many{number}.db")
        urls.append(f"sqlite:///{folder}/many{number}.db")
    map_only(folder / "nova_api.db", urls)
    return nova_conf


def map_only(api: Path, urls: Sequence[str]) -> None:
    """Let the cloud have these cells and no others."""
    with closing(sqlite3.connect(api)) as database, database:
        for table in ("host_mappings", "instance_mappings", "cell_mappings"):
            database.execute(f"DELETE FROM {table}")
        database.executemany(
            "INSERT INTO cell_mappings (uuid, name, transport_url, database_connection, disabled) "
            "VALUES (?, ?, 'none:///', ?, 0)",
            [
                (f"00000000-0000-4000-8000-{number:012}", f"many{number}", url)
                for number, url in enumerate(urls)
            ],
        )


def named(lines: Sequence[str]) -> list[str]:
    """The cells that lines name, each line one."""
    return sorted(match[1] for line in lines if (match := re.match(r"(many\d+)\b", line)))


def test_a_run_does_what_can_be_done_and_names_each_cell_that_cannot(config: Path) -> None:
    away = sorted(f"many{number}" for number in range(REFUSED + SILENT))
    counted = call("db archive_deleted_rows --all-cells --dry-run -f json", config=config)
    assert counted.code == FAILED
    assert named(counted.err.splitlines()) == away
    archived = call("db archive_deleted_rows --all-cells --until-complete -f json", config=config)
    assert archived.code == FAILED
    assert named(archived.err.splitlines()) == away
    states = [cell["state"] for cell in archived.document["cells"]]
    assert (states.count("failed"), states.count("complete")) == (len(away), CELLS - len(away))
    assert all(
        cell["archived"] for cell in archived.document["cells"] if cell["state"] == "complete"
    )


def test_check_and_metrics_name_each_of_them_once(config: Path) -> None:
    checked = call("check -f json", config=config)
    assert checked.code == 1
    failed = [
        finding["where"]
        for finding in checked.document["findings"]
        if finding["verdict"] == "failed"
    ]
    assert sorted(failed) == sorted(f"many{number}" for number in range(REFUSED + SILENT))
    measured = call("metrics", config=config)
    assert measured.code == 0
    up = re.findall(r'^cellkeeper_cell_up\{cell="many\d+"\} (\d)', measured.out, re.MULTILINE)
    assert (up.count("0"), up.count("1")) == (REFUSED + SILENT, CELLS - REFUSED - SILENT)
