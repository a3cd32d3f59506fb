"""Ctrl-C at any instant ends a command as documented: 130 before the work, else after the current
batches.
"""

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from socket import create_server
from typing import Final

import pytest

from demo.cloud import build
from tests.support import moments
from tests.support.command import PATIENCE
from tests.support.instants import HERE, Instants, census, move

ROOT: Final = Path(__file__).parents[2]
ONCE: Final = "Stopping after the current batches; interrupt again to leave at once."
SEED, NUMBER = 11, 12
# A signal that comes right before a call that waits is noted, and the call waits: as here, where it
# does not reach the thread that waits.
WAITING: Final = """
import signal, socket, sys, threading
from cli import signals

signals.watch.begin()
{work}
threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGINT}})
left, right = socket.socketpair()
print("waits", flush=True)
left.recv(1)
"""
WORK: Final = """
work = signals.graceful_stop()
stop = work.__enter__()
threading.Thread(target=lambda: stop.wait() and right.send(b"."), daemon=True).start()
"""


def interrupt_a_wait(work: str) -> tuple[int, str]:
    """The exit code and the errors of a process that is interrupted while its main thread waits."""
    words = [sys.executable, "-c", WAITING.format(work=work)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "waits\n"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    return process.returncode, err


def test_a_signal_that_comes_right_before_a_wait_ends_it() -> None:
    assert interrupt_a_wait("") == (130, "Interrupted.\n")


def test_a_signal_that_comes_right_before_a_wait_in_the_work_stops_the_work() -> None:
    assert interrupt_a_wait(WORK) == (0, f"{ONCE}\n")


def test_ctrl_c_at_any_line_before_the_work_is_130(tmp_path: Path) -> None:
    """While the API database is being connected, and at any other moment: it accepts, and never
    answers.
    """
    with closing(create_server(("127.0.0.1", 0), backlog=1024)) as silent:
        (tmp_path / "nova.conf").write_text(
            "[api_database]\nconnection = "
            f"mysql+pymysql://nova:x@127.0.0.1:{silent.getsockname()[1]}/nova_api\n"
            f"[cellkeeper]\nconnect_timeout = 3600\nlock_path = {HERE}/locks\n"
        )
        runs = Instants(tmp_path, ["db", "archive_deleted_rows", "--all-cells"], nudge=True)
        ends = runs.at_lines(SEED, NUMBER, "novadb/engine.py")
    assert len(ends) > NUMBER
    assert {(end.place, end.code, end.out, end.err) for end in ends} == {
        (end.place, 130, "", "Interrupted.\n") for end in ends
    }


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A cloud that is copied for each run, without traces of where it was made."""
    folder = build(tmp_path / "cloud", instances=12).parent
    move(folder, str(folder), HERE)
    return folder


def test_ctrl_c_at_any_line_of_an_archive_loses_no_row_and_reports_what_was_done(
    template: Path,
) -> None:
    words = [
        "db",
        "archive_deleted_rows",
        "--all-cells",
        "--until-complete",
        "--max_rows",
        "20",
        "-f",
        "json",
    ]
    ends = Instants(template, words).at_lines(
        SEED, NUMBER, "cli/cell_runs.py", "cli/db/archive_deleted_rows.py", "/threading.py"
    )
    assert len(ends) > NUMBER
    archived_before = archived(census(template))
    for end in ends:
        assert "Traceback" not in end.err, end
        if end.code == 130:
            assert (end.out, end.err) == ("", "Interrupted.\n"), end
            assert archived(end.rows) == archived_before, end
            continue
        assert end.code in (0, 1), end
        cells = moments.parse(end.out)["cells"]
        reported = sum(sum(cell["archived"].values()) for cell in cells)
        assert reported == archived(end.rows) - archived_before, end
        assert all(
            line == ONCE or line.startswith("cell2: left in ") for line in end.err.splitlines()
        ), end
    assert {end.code for end in ends} >= {1, 130}
    assert len({total(end.rows) for end in ends}) == 1


def archived(rows: dict[str, int]) -> int:
    """How many rows are in the shadow tables."""
    return sum(number for name, number in rows.items() if ".shadow_" in name)


def total(rows: dict[str, int]) -> int:
    """How many rows the cells have, in their tables and shadow tables."""
    return sum(number for name, number in rows.items() if "_cell" in name)
