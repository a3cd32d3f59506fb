"""Names from databases that would steer a terminal, or begin a line of their own: they are shown,
not obeyed.
"""

import os
import pty
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from demo.cloud import build
from tests.support.command import PROGRAM, call, environment
from tests.support.hostile import CONTROL, NAME, SHOWN, assert_shown

ARCHIVE: Final = "db archive_deleted_rows --all-cells"


def rename(folder: Path) -> None:
    """Give cell1 and all hosts of the cloud that name."""
    changes = {
        "nova_api": ("UPDATE cell_mappings SET name = ? WHERE name = 'cell1'",
                     "UPDATE host_mappings SET host = host || ?"),
        "nova_cell1": ("UPDATE compute_nodes SET host = host || ?, mapped = "
        "0", "UPDATE services SET host = host || ?",
                       "UPDATE instances SET host = host || ?"),
    }  # fmt: skip
    for database, statements in changes.items():
        with closing(sqlite3.connect(folder / f"{database}.db")) as link, link:
            for statement in statements:
                link.execute(statement, (NAME,))


@pytest.fixture
def renamed(sample: Path) -> Path:
    """The nova.conf of a cloud with such names, of its own for each test."""
    rename(sample.parent)
    return sample


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nova.conf of a cloud with such names, in which nothing is changed."""
    config = build(tmp_path_factory.mktemp("hostile") / "cloud")
    rename(config.parent)
    return config


@pytest.mark.parametrize(
    "line",
    [
        "cell_v2 list_cells",
        "cell_v2 list_hosts",
        f"{ARCHIVE} --dry-run",
        "check",
    ],
)
def test_what_is_looked_at(looked_at: Path, line: str) -> None:
    assert_shown(call(line, config=looked_at).out)


def test_a_label_of_prometheus(looked_at: Path) -> None:
    """Its own notation has none for control characters: the name itself is the one that is
    shown.
    """
    printed = call("metrics", config=looked_at).out
    assert not CONTROL.search(printed)
    labels = {
        tuple(sample.labels.values()) for family in families(printed) for sample in family.samples
    }
    assert (SHOWN,) in labels


@pytest.mark.parametrize(
    "line",
    [
        "cell_v2 discover_hosts --verbose",
        f"{ARCHIVE} --verbose --until-complete",
        "db online_data_migrations --all-cells",
        "db sync --all-cells",
    ],
)
def test_what_is_done(renamed: Path, line: str) -> None:
    assert_shown(call(line, config=renamed).out)


def test_what_has_failed(renamed: Path) -> None:
    (renamed.parent / "nova_cell1.db").unlink()
    ended = call(f"{ARCHIVE} --until-complete", config=renamed)
    assert ended.code == 255
    assert_shown(ended.err)


def test_a_row_that_is_left(renamed: Path) -> None:
    with closing(sqlite3.connect(renamed.parent / "nova_cell1.db")) as link, link:
        link.execute(
            "CREATE TRIGGER no BEFORE INSERT ON shadow_instances BEGIN SELECT RAISE(ABORT, 'x'); "
            "END"
        )
    ended = call(f"{ARCHIVE} --until-complete", config=renamed)
    assert_shown(ended.err)


def test_what_the_server_says(renamed: Path) -> None:
    text = NAME.replace("'", "''")
    with closing(sqlite3.connect(renamed.parent / "nova_cell1.db")) as link, link:
        link.execute(
            "CREATE TRIGGER no BEFORE INSERT ON shadow_instances BEGIN SELECT RAISE(ABORT, "
            f"'{text}'); END"
        )
    ended = call(f"{ARCHIVE} --until-complete --debug", config=renamed)
    assert not CONTROL.search(ended.err)
    assert "title" in ended.err


@pytest.mark.parametrize("options", ["--debug", "--debug --use-json"])
def test_the_log(renamed: Path, tmp_path: Path, options: str) -> None:
    log = tmp_path / "log"
    (renamed.parent / "nova_cell2.db").write_text("This is no database.")
    call(f"{options} --log-file {log} cell_v2 discover_hosts", config=renamed)
    assert not CONTROL.search(log.read_text())


def test_an_argument() -> None:
    ended = call(f"'db{NAME}'")
    assert ended.code == 2
    assert not CONTROL.search(ended.err)
    assert len(ended.err.splitlines()) == 1


def test_the_program_that_reads_json_gets_the_name_itself(looked_at: Path) -> None:
    ended = call("cell_v2 list_cells -f json", config=looked_at)
    assert NAME in [cell["name"] for cell in ended.document]
    assert not CONTROL.search(ended.out)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: the one that reads, and the program's."""
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


def test_the_live_table(renamed: Path, terminal: tuple[int, int]) -> None:
    reader, writer = terminal
    words = [str(PROGRAM), "--config-file", str(renamed), *ARCHIVE.split(), "--until-complete"]
    env = environment({"COLUMNS": "200", "TERM": "xterm"})
    ended = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=writer,
        env=env,
        check=False,
    )
    assert ended.returncode == 1
    os.set_blocking(reader, False)
    drawn = os.read(reader, 1 << 20).decode()
    assert SHOWN in drawn
    assert "\x1b]0;" not in drawn
    assert "\x1b[2J\n" not in drawn
