"""A SQLite file that another process has locked: each command names it, and takes it for nothing
else.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

from demo.cloud import databases
from tests.acceptance.test_check import problems
from tests.acceptance.test_metrics import samples
from tests.support.command import call

LOCKED: Final = "another process has locked the file"


@contextmanager
def locked(config: Path, name: str) -> Iterator[str]:
    """Lock a database of the sample cloud, as a process does that writes for long; yields its
    path.
    """
    file, _ = databases(config.parent)[name]
    with closing(sqlite3.connect(file, isolation_level=None)) as link:
        link.execute("BEGIN EXCLUSIVE")
        yield str(file)


@pytest.fixture
def config(untouched_sample: Path, tmp_path: Path) -> Iterator[Path]:
    """The nova.conf of the sample cloud, with a short wait for locks."""
    before = untouched_sample.read_text()
    untouched_sample.write_text(f"{before}lock_wait_timeout = 1\n")
    yield untouched_sample
    untouched_sample.write_text(before)


@pytest.mark.parametrize(("name", "where"), [("cell2", "cell2"), ("API", "API database")])
def test_check_tells_it_as_that_and_not_as_a_missing_grant(
    config: Path, name: str, where: str
) -> None:
    with locked(config, name) as file:
        ended = call("check -f json", config=config)
    assert (ended.code, ended.err) == (1, "")
    ((place, what),) = problems(ended)
    assert (place, what) == (where, "database")
    assert problems(ended)[place, what].endswith(f"{file}): {LOCKED}")


def test_metrics_tell_the_cell_as_away(config: Path) -> None:
    with locked(config, "cell2"):
        ended = call("metrics", config=config)
    found = samples(ended.out)
    assert [found["cell_up", f"cell{number}"] for number in range(4)] == [1, 1, 0, 1]


@pytest.mark.parametrize("words", ["", "--dry-run", "--until-complete"])
def test_archive_names_the_cell_in_one_line(config: Path, words: str) -> None:
    with locked(config, "cell2") as file:
        ended = call(
            f"db archive_deleted_rows --all-cells --before 2000-01-01 {words}", config=config
        )
    assert ended.code == 255
    assert ended.line == f"cell2 ({file}): {LOCKED}"
