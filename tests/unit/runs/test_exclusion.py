"""Exclusion: of two runs on one database the second one waits, for a holder it can name, and never
for ever.
"""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

import pytest

from runs.exclusion import Busy, Interrupted, hold_databases

ROOT: Final = Path(__file__).parents[3]
# Takes locks, says so, keeps them until its input ends.
HOLDER: Final = """
import sys, threading
from pathlib import Path
from runs.exclusion import hold_databases

def say(line):
    print(line, flush=True)

folder, action, *fingerprints = sys.argv[1:]
waits = lambda holder: say(f"waits for: {holder}")
with hold_databases(Path(folder), action, fingerprints, wait=True, stop=threading.Event(), on_wait=waits):
    say("holds")
    sys.stdin.read()
"""
PROCESSES, TIMES = 4, 25
# Adds to a number in a file, which two at once would get wrong.
COUNTER: Final = f"""
import sys, threading
from pathlib import Path
from runs import exclusion

exclusion.POLL = 0.001
folder, counter, own = sys.argv[1:]
for _ in range({TIMES}):
    with exclusion.hold_databases(
        Path(folder), "db.purge", ["a", own], wait=True, stop=threading.Event(), on_wait=lambda holder: None
    ):
        number = int(Path(counter).read_text())
        Path(counter).write_text(str(number + 1))
"""


class Holder:
    """Another process that takes locks."""

    def __init__(self, folder: Path, *fingerprints: str, action: str = "db.purge") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder), action, *fingerprints],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def says(self) -> str:
        """Its next line."""
        assert self.process.stdout
        return self.process.stdout.readline().rstrip()

    def let_go(self) -> None:
        """Make it release its locks and end."""
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait() == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            self.process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "locks"


def take(folder: Path, *fingerprints: str, action: str = "db.purge") -> None:
    """Take locks in this process and release them.

    :raises Busy: somebody else holds one
    """
    with hold_databases(
        folder, action, fingerprints, wait=False, stop=threading.Event(), on_wait=pytest.fail
    ):
        pass


def free(folder: Path, *fingerprints: str) -> bool:
    try:
        take(folder, *fingerprints)
    except Busy:
        return False
    return True


def test_the_second_process_waits_for_the_first_and_names_it(folder: Path) -> None:
    with Holder(folder, "a") as first:
        assert first.says() == "holds"
        with Holder(folder, "a") as second:
            waits = second.says()
            assert waits.startswith(f"waits for: db.purge, process {first.process.pid}, since 2")
            assert waits.endswith(" UTC")
            first.let_go()
            assert second.says() == "holds"


def test_the_locks_of_a_killed_process_are_free(folder: Path) -> None:
    with Holder(folder, "a", "b") as first:
        assert first.says() == "holds"
        assert not free(folder, "a")
        with Holder(folder, "b") as second:
            assert second.says().startswith("waits for: ")
            first.process.kill()
            first.process.wait()
            assert second.says() == "holds"
            assert free(folder, "a")


def test_who_does_not_wait_is_told_who_holds_the_database(folder: Path) -> None:
    with Holder(folder, "a") as first:
        assert first.says() == "holds"
        with pytest.raises(
            Busy, match=rf"^db\.purge, process {first.process.pid}, since \d{{4}}-\d\d-\d\d "
        ):
            take(folder, "a")


def test_a_wait_can_be_called_off(folder: Path) -> None:
    stop = threading.Event()
    told: list[str] = []

    def on_wait(holder: str) -> None:
        told.append(holder)
        stop.set()

    with Holder(folder, "a") as first:
        assert first.says() == "holds"
        with pytest.raises(Interrupted):
            with hold_databases(folder, "db.purge", ["a"], wait=True, stop=stop, on_wait=on_wait):
                pytest.fail("it is held by another process")
    assert len(told) == 1


@pytest.mark.parametrize("wanted", [("a", "b"), ("b", "c")])
def test_who_waits_for_one_database_holds_none_of_the_others(
    folder: Path, wanted: tuple[str, str]
) -> None:
    with Holder(folder, "b") as first:
        assert first.says() == "holds"
        with Holder(folder, *wanted) as second:
            assert second.says().startswith("waits for: ")
            assert free(folder, "a", "c")
            first.let_go()
            assert second.says() == "holds"
            assert not any(free(folder, name) for name in wanted)


def test_each_holder_that_is_waited_for_is_named_once(folder: Path) -> None:
    with Holder(folder, "a") as first, Holder(folder, "b") as second:
        assert (first.says(), second.says()) == ("holds", "holds")
        with Holder(folder, "a", "b") as third:
            line = third.says()
            named, other = (
                (first, second) if f"process {first.process.pid}," in line else (second, first)
            )
            named.let_go()
            assert f"process {other.process.pid}," in third.says()
            other.let_go()
            assert third.says() == "holds"


def test_who_gets_only_some_locks_and_does_not_wait_keeps_none(folder: Path) -> None:
    with Holder(folder, "b") as first:
        assert first.says() == "holds"
        with pytest.raises(Busy):
            take(folder, "a", "b")
        assert free(folder, "a")


@pytest.fixture
def held(folder: Path) -> Iterator[Path]:
    """The folder, while purge is held on the database a."""
    with ExitStack() as stack:
        stack.enter_context(
            hold_databases(
                folder,
                "db.purge",
                ["a", "a"],
                wait=False,
                stop=threading.Event(),
                on_wait=pytest.fail,
            )
        )
        yield folder


def test_one_database_by_two_mappings_is_taken_once(held: Path) -> None:
    assert not free(held, "a")


def test_another_database_and_another_command_wait_for_nobody(held: Path) -> None:
    take(held, "b")
    take(held, "a", action="db.archive_deleted_rows")
    take(held)


def test_an_error_while_locks_are_held_frees_them(folder: Path) -> None:
    locks = hold_databases(
        folder, "db.purge", ["a"], wait=False, stop=threading.Event(), on_wait=pytest.fail
    )
    with pytest.raises(RuntimeError), locks:
        raise RuntimeError
    assert free(folder, "a")


def test_nobody_else_may_look_into_the_folder(held: Path) -> None:
    assert stat.S_IMODE(held.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in held.iterdir()} == {0o600}


def test_three_hundred_databases_need_no_more_open_files_than_one(folder: Path) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = open_files()
    databases = [f"cell{number}" for number in range(300)]
    with hold_databases(
        folder, "db.purge", databases[:1], wait=False, stop=threading.Event(), on_wait=pytest.fail
    ):
        while_one_is_held = open_files()
    with hold_databases(
        folder, "db.purge", databases, wait=False, stop=threading.Event(), on_wait=pytest.fail
    ):
        assert open_files() == while_one_is_held
        assert not free(folder, "cell299")
    assert open_files() == before


def test_the_file_of_a_run_goes_with_it_or_with_the_next_run(folder: Path) -> None:
    with Holder(folder, "a") as killed:
        assert killed.says() == "holds"
    assert len(list(folder.glob("*.run"))) == 1
    take(folder, "b")
    assert not list(folder.glob("*.run"))


def test_of_many_processes_one_at_a_time_holds_a_database(folder: Path, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COUNTER, str(folder), str(counter), f"own{number}"], cwd=ROOT
        )
        for number in range(PROCESSES)
    ]
    assert [process.wait() for process in processes] == [0] * PROCESSES
    assert counter.read_text() == str(PROCESSES * TIMES)
