"""The way out of the program: text from outside is shown, and there is one place where that
happens.
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from cli.output import Lines, put, say, table
from settings.printable import printable, printable_lines

ROOT: Final = Path(__file__).parents[2]
# Besides the one place: the live table; fixed words at a signal; answers to the process that has
# asked; a log that cannot be written.
PRINTERS: Final = {
    "cli/output.py",
    "cli/progress.py",
    "cli/signals.py",
    "cli/start.py",
    "clients/probe.py",
    "settings/log_handlers.py",
}
WAYS_OUT: Final = {"print", "click.echo", "click.secho", "os.write", "sys.stdout.write", "sys.stderr.write",
                   "traceback.print_exception", "traceback.print_exc"}  # fmt: skip
DRAWING: Final = {"rich", "prettytable"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("cell1", "cell1"),
        ("zürich-ćell 東京 🚀", "zürich-ćell 東京 🚀"),
        (r"C:\new\x1b", r"C:\new\x1b"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nb\r\nc", r"a\nb\r\nc"),
        ("a\tb\vc\fd\be\0f\x7fg", r"a\tb\x0bc\x0cd\x08e\x00f\x7fg"),
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
        ("cell\u202e1llec\u2066", r"cell\u202e1llec\u2066"),
        ("a\u061cb\u200ec\u200fd", r"a\u061cb\u200ec\u200fd"),
        ("\udcff\ud83d", r"\udcff\ud83d"),
        ("a\u200db\u00adc", "a\u200db\u00adc"),
    ],
)
def test_what_would_steer_a_terminal_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_text_of_several_lines_keeps_them() -> None:
    assert printable_lines("a\n\x1b\n\n") == "a\n\\x1b\n\n"


def test_a_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    put("a\nb")
    say("c\nd")
    put(Lines("e\nf\x1b"))
    assert capsys.readouterr() == ("a\\nb\ne\nf\\x1b\n", "c\\nd\n")


def test_a_cell_of_a_table_is_as_wide_as_it_is_shown() -> None:
    assert table(("A", "B"), [("x\n\x1b", 12), (None, 3.5)]).splitlines() == [
        "+---------+-----+",
        "| A       | B   |",
        "+---------+-----+",
        r"| x\n\x1b | 12  |",
        "| None    | 3.5 |",
        "+---------+-----+",
    ]


def prints(source: str) -> bool:
    """Whether a file prints by itself, or draws what is to be printed."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in WAYS_OUT:
            return True
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in DRAWING:
            return True
    return False


def test_there_is_one_place_that_prints() -> None:
    rooms = ("cli", "schedules", "workers", "runs", "jobs", "clients", "novadb", "settings")
    files = {
        str(file.relative_to(ROOT)): file for room in rooms for file in (ROOT / room).rglob("*.py")
    }
    assert {name for name, file in files.items() if prints(file.read_text())} == PRINTERS


@pytest.mark.parametrize(
    "source",
    [
        "print('x')",
        "import sys\nsys.stderr.write('x')",
        "import click\ndef say():\n    click.echo('x')",
        "def draw():\n    from prettytable import PrettyTable",
        "from rich.console import Console",
    ],
)
def test_what_prints_is_found(source: str) -> None:
    assert prints(source)


CONFIGURED: Final = """\
[loggers]
keys = root, own
[handlers]
keys = file
[formatters]
keys = plain
[logger_root]
level = INFO
handlers =
[logger_own]
level = INFO
handlers = file
qualname = cellkeeper.hostile
[formatter_plain]
format = %(name)s %(message)s
[handler_file]
class = FileHandler
formatter = plain
args = ({log!r},)
"""
# Logs what a server might say, in a process of its own: it changes how all of a process logs.
SCRIPT: Final = r"""
import logging, sys
from settings.files import load_configuration

load_configuration(sys.argv[1:])
log = logging.getLogger("cellkeeper.hostile")
log.warning("host %s", "a\x1b[2J\nb")
log.warning("a line of a library\n")
try:
    raise ValueError("c\x1b]0;\x07\nd")
except ValueError:
    log.exception("it failed: %s", "e\x9b")
"""


@pytest.mark.parametrize("options", ["--log-file={log}", "--log-config-append={configured}"])
def test_a_record_of_the_log_is_a_line_and_a_traceback_keeps_its_lines(
    tmp_path: Path, options: str
) -> None:
    log, configured = tmp_path / "log", tmp_path / "logging.conf"
    configured.write_text(CONFIGURED.format(log=str(log)))
    words = options.format(log=log, configured=configured)
    subprocess.run([sys.executable, "-c", SCRIPT, words], cwd=ROOT, check=True)
    text = log.read_text()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    lines = text.splitlines()
    assert lines[0].endswith(r"host a\x1b[2J\nb")
    assert lines[1].endswith("a line of a library")
    assert r"it failed: e\x9b" in lines[2]
    assert "Traceback (most recent call last)" in lines[3]
    assert any(line.endswith(r"ValueError: c\x1b]0;\x07") for line in lines)


def test_a_record_of_the_log_in_json_is_a_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    subprocess.run(
        [sys.executable, "-c", SCRIPT, f"--log-file={log}", "--use-json"], cwd=ROOT, check=True
    )
    first, _, third = map(json.loads, log.read_text().splitlines())
    assert first["message"] == "host a\x1b[2J\nb"
    assert third["traceback"].startswith("Traceback")
