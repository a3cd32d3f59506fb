"""Standard output and standard error: short answers, readers that go away, disks that are full."""

import os
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pytest

from tests.support.command import PROGRAM, Ended, call, environment

LOOK: Final = "db archive_deleted_rows --all-cells --dry-run"
ALL: Final = "db archive_deleted_rows --all-cells --until-complete --verbose"


@pytest.mark.parametrize(
    ("line", "code", "printed"),
    [
        ("--version", 0, f"{version('cellkeeper')}\n"),
        ("version", 0, f"{version('cellkeeper')}\n"),
        ("bash-completion schedule", 0, "list\n"),
    ],
)
def test_short_answers_need_no_configuration(line: str, code: int, printed: str) -> None:
    ended = call(line)
    assert (ended.code, ended.out, ended.err) == (code, printed, "")


def test_categories_for_completion() -> None:
    ended = call("bash-completion")
    assert (ended.code, ended.err) == (0, "")
    assert "db" in ended.out.split()
    assert not {"version", "bash-completion"} & set(ended.out.split())


@pytest.mark.parametrize(("line", "listed"), [("", "db"), ("db", "purge")])
def test_without_a_command_they_are_listed(line: str, listed: str) -> None:
    """CLI-7"""
    ended = call(line)
    assert (ended.code, ended.err) == (2, "")
    assert f"\n  {listed} " in ended.out


def test_a_usage_error_is_one_line() -> None:
    ended = call("db archive_deleted_rows --nope")
    assert (ended.code, ended.out) == (2, "")
    assert ended.line.startswith("cellkeeper db archive_deleted_rows: No such option")


@pytest.mark.parametrize("line", ["--version", "db", "db purge --help"])
def test_a_full_disk_is_a_line_and_255(line: str) -> None:
    with Path("/dev/full").open("w") as full:
        ended = call(line, stdout=full)
    assert ended.code == 255
    assert "No space left on device" in ended.line


def test_a_full_disk_behind_a_command_is_a_line_and_255(untouched_sample: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = call(f"{LOOK} -f json", config=untouched_sample, stdout=full)
    assert ended.code == 255
    assert "No space left on device" in ended.line


@pytest.mark.parametrize("options", ["", "--debug", "--debug --use-json"])
def test_a_full_disk_for_the_log_is_a_line_and_changes_no_code(sample: Path, options: str) -> None:
    ended = call(f"{options} --log-file /dev/full {ALL}", config=sample)
    assert ended.code == 1
    assert "cell1.instances" in ended.out
    said = [
        line for line in ended.err.splitlines() if not line.startswith("cell2: left in instances")
    ]
    assert said == ["The log /dev/full cannot be written: No space left on device"]


def test_a_full_disk_for_a_configured_log_is_a_line_and_changes_no_code(
    sample: Path, tmp_path: Path
) -> None:
    (tmp_path / "logging.conf").write_text(
        "[loggers]\nkeys = root, audit\n[handlers]\nkeys = full\n[formatters]\nkeys =\n"
        "[logger_root]\nlevel = INFO\nhandlers =\n"
        "[logger_audit]\nlevel = INFO\nhandlers = full\nqualname = cellkeeper.audit\n"
        "[handler_full]\nclass = FileHandler\nargs = ('/dev/full',)\n"
    )
    ended = call(f"--log-config {tmp_path}/logging.conf {ALL}", config=sample)
    assert ended.code == 1
    assert (
        ended.err.splitlines()[0] == "The log /dev/full cannot be written: No space left on device"
    )


def without_a_reader(line: str, config: Path) -> Ended:
    """Run a command whose reader has gone away."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return call(line, config=config, stdout=writer)
    finally:
        os.close(writer)


@pytest.mark.parametrize(
    "line",
    [
        LOOK,
        f"{LOOK} -f json",
        "db --help",
    ],
)
def test_a_reader_that_goes_away_makes_no_noise(untouched_sample: Path, line: str) -> None:
    ended = without_a_reader(line, untouched_sample)
    assert (ended.code, ended.err) == (0, "")


def test_a_reader_that_goes_away_does_not_end_the_work(sample: Path) -> None:
    ended = without_a_reader(f"{ALL} --max_rows 10", sample)
    assert ended.code == 1
    assert ended.line.startswith("cell2: left in instances: ")
    assert call(ALL, config=sample).code == 0


def in_shell(line: str, config: Path) -> tuple[int, str, str]:
    """Run a command with redirections of a shell."""
    command = f"'{PROGRAM}' --config-file '{config}' {line}"
    ended = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=False, env=environment({})
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        pytest.param("2>/dev/full", 1, id="a full disk for messages"),
        pytest.param(">&-", 1, id="no standard output"),
        pytest.param("2>&-", 1, id="no standard error"),
    ],
)
def test_a_missing_stream_changes_nothing_but_what_is_printed(
    sample: Path, redirection: str, code: int
) -> None:
    found, _, err = in_shell(f"{ALL} {redirection}", sample)
    assert found == code
    assert "Traceback" not in err
    assert call(ALL, config=sample).code == 0


def test_an_error_with_debug_and_no_place_for_its_traceback_is_255(tmp_path: Path) -> None:
    code, out, _ = in_shell("db archive_deleted_rows --debug 2>/dev/full", tmp_path / "nova.conf")
    assert (code, out) == (255, "")
