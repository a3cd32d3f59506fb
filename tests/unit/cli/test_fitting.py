"""Tables on a terminal that is too narrow for them."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from pathlib import Path
from typing import Final

import pytest

from cli import output
from cli.fitting import column_widths, paragraph, wrap
from tests.support.command import PROGRAM, environment

RUN: Final = "nightly_archive-20261125T010000Z"
UUID: Final = "76427c32-57d0-40e4-965a-548f913f09d8"


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("", 5, [""]),
        ("short", 5, ["short"]),
        ("none is running: start one", 12, ["none is", "running:", "start one"]),
        ("2026-11-28 09:34:13 UTC", 10, ["2026-11-28", "09:34:13", "UTC"]),
        ("cell0.instance_system_metadata", 22, ["cell0.instance_system_", "metadata"]),
        ("mysql+pymysql://h:3306/nova_api", 16, ["mysql+pymysql://", "h:3306/nova_api"]),
        (RUN, 32, [RUN]),
        (UUID, 36, [UUID]),
    ],
)
def test_a_cell_is_wrapped_where_it_stays_readable(text: str, width: int, lines: list[str]) -> None:
    assert wrap(text, width).split("\n") == lines


def test_a_table_that_fits_keeps_its_widths() -> None:
    assert column_widths(("A", "Name"), [("xyz", "b")], 20) == [3, 4]


def test_the_widest_column_gives_way_first() -> None:
    assert column_widths(("A", "Detail"), [("short", "word " * 10)], 40) == [5, 28]


@pytest.mark.parametrize(
    "rows", [[(RUN, RUN)], [(UUID, UUID)], [("x" * 60, "")]], ids=["runs", "uuids", "a long word"]
)
def test_a_table_of_words_that_stay_whole_does_not_fit(rows: list[tuple[str, str]]) -> None:
    assert column_widths(("A", "B"), rows, 60) is None


def test_a_table_without_rows_is_as_wide_as_its_header() -> None:
    assert column_widths(("Run", "Command"), [], 80) == [3, 7]


def test_a_row_as_a_paragraph_leaves_out_what_is_empty() -> None:
    header = ("Run", "Command", "Code", "Rows", "Started")
    row = (RUN, "db.archive_deleted_rows", "", "1,294", "2026-11-28 09:38:18 UTC")
    assert paragraph(header, row, 60).splitlines() == [
        RUN,
        "  Command: db.archive_deleted_rows   Rows: 1,294",
        "  Started: 2026-11-28 09:38:18 UTC",
    ]


def test_a_paragraph_wraps_what_is_longer_than_a_line() -> None:
    command = "db archive_deleted_rows --all-cells --until-complete --before 90d"
    assert paragraph(("Entry", "Command"), ("soon", command), 50).splitlines() == [
        "soon",
        "  Command: db archive_deleted_rows --all-cells",
        "      --until-complete --before 90d",
    ]


def lines_on_terminal(columns: int, *words: str, cwd: Path) -> list[str]:
    """What a command prints on a terminal of this width; 0: one that does not tell its width."""
    terminal, standard_output = pty.openpty()
    fcntl.ioctl(standard_output, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with open(terminal, "rb", buffering=0) as reader:
        process = subprocess.Popen(
            [str(PROGRAM), *words],
            stdout=standard_output,
            stderr=subprocess.DEVNULL,
            env=environment({}),
            cwd=cwd,
        )
        os.close(standard_output)
        printed = b""
        try:
            while piece := reader.read(4096):
                printed += piece
        except OSError:  # the other end of the terminal is closed
            pass
        process.wait()
    return printed.decode().splitlines()


def test_no_line_of_a_table_is_wider_than_the_terminal(tmp_path: Path) -> None:
    narrow, unknown = (lines_on_terminal(columns, "check", cwd=tmp_path) for columns in (60, 0))
    assert max(map(len, narrow)) == 60
    assert max(map(len, unknown)) > 80


def test_a_table_of_the_stock_tool_is_the_same_on_every_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    header, rows = (
        ("Name", "Database Connection"),
        [("cell1", "mysql+pymysql://nova:****@db/cell1")],
    )
    as_in_a_pipe = str(output.stock_table(header, rows))
    monkeypatch.setattr(output, "terminal_width", lambda: 30)
    assert str(output.stock_table(header, rows)) == as_in_a_pipe
    assert str(output.table(header, rows)) != as_in_a_pipe
