"""The folder of lock files: no other user can have a file of ours overwritten, or keep us from
working.
"""

import logging
import os
import pwd
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from runs.exclusion import Busy, hold_databases
from runs.lock_folder import LockFolder, UnusableFolder

ACTION: Final = "db.purge"
PRECIOUS: Final = "a line that must stay\n"


def take(folder: Path | None) -> None:
    """Hold a database and let it go."""
    with hold_databases(
        folder, ACTION, ["a"], wait=False, stop=threading.Event(), on_wait=pytest.fail
    ):
        pass


def give_away(path: Path) -> None:
    """Let a file or folder belong to another user, as far as this one may do that."""
    os.chown(path, 65534, 65534)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "locks"


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file that somebody else would like to have overwritten."""
    path = tmp_path / "precious"
    path.write_text(PRECIOUS)
    yield path
    assert path.read_text() == PRECIOUS


def assert_refused(folder: Path, reason: str) -> None:
    before = sorted(folder.iterdir())
    with pytest.raises(UnusableFolder) as caught:
        take(folder)
    assert str(caught.value) == (
        f"{folder} cannot be used for locks: {reason}; "
        "set lock_path in section [cellkeeper] to a folder of this user's alone"
    )
    assert sorted(folder.iterdir()) == before


def test_a_folder_of_another_user_is_refused() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path("/")
        if os.geteuid() == 0:
            folder = Path(name)
            give_away(folder)
        assert_refused(folder, "it belongs to another user")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_folder_that_others_may_write_is_refused(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    assert_refused(folder, "others may write it")


def test_a_link_in_the_place_of_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    assert_refused(folder, "it is a symbolic link")


def test_a_link_to_nothing_is_not_followed_either(folder: Path, tmp_path: Path) -> None:
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnusableFolder, match="it is a symbolic link"):
        take(folder)
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_in_the_place_of_the_folder_is_named(folder: Path) -> None:
    folder.write_text("")
    with pytest.raises(
        UnusableFolder, match="cannot be used for locks: File exists; set lock_path"
    ):
        take(folder)


@pytest.mark.parametrize("name", [f"{ACTION}.lock", f"{ACTION}-1-1.run"])
def test_a_link_in_the_folder_is_not_followed(folder: Path, victim: Path, name: str) -> None:
    folder.mkdir(mode=0o700)
    (folder / name).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        take(folder)


def test_a_folder_that_is_replaced_while_it_is_open_is_left_alone(
    folder: Path, victim: Path
) -> None:
    opened = LockFolder.open(folder)
    try:
        folder.rename(folder.with_name("moved"))
        folder.mkdir()
        (folder / "a.lock").symlink_to(victim)
        os.close(opened.open_file("a.lock", os.O_CREAT))
    finally:
        opened.close()
    assert (folder.with_name("moved") / "a.lock").is_file()


def test_what_is_made_is_for_this_user_alone(folder: Path) -> None:
    before = os.umask(0)
    try:
        with hold_databases(
            folder, ACTION, ["a"], wait=False, stop=threading.Event(), on_wait=pytest.fail
        ):
            modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes == {0o600}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of this user; temporary files lie in ``tmp`` beside it."""
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "tmp").mkdir()
    own = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(
        pwd, "getpwuid", lambda _: pwd.struct_passwd((*own[:5], str(home), own.pw_shell))
    )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return home


def temporary(home: Path) -> Path:
    """The folder among temporary files, whose name anybody can take."""
    return home.parent / "tmp" / f"cellkeeper-{os.getuid()}"


def test_by_default_locks_lie_in_the_home_of_the_user_whatever_the_environment_says(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with hold_databases(
        None, ACTION, ["a"], wait=False, stop=threading.Event(), on_wait=pytest.fail
    ):
        assert list((home / ".local" / "state" / "cellkeeper").iterdir())
        with pytest.raises(Busy):
            take(None)


@pytest.mark.parametrize("case", ["no home", "no name"])
def test_without_a_home_locks_lie_among_temporary_files(
    home: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    if case == "no name":
        monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    else:
        home.rmdir()
        home.write_text("")
    take(None)
    assert list(temporary(home).iterdir())


@pytest.mark.parametrize("case", ["folder", "link", "file"])
def test_who_takes_the_name_of_the_folder_keeps_nobody_from_working(
    home: Path, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    """The run goes on, and says that nothing keeps another one off: it ends right all the same."""
    home.rmdir()
    home.write_text("")
    folder = temporary(home)
    if case == "folder":
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
    elif case == "link":
        folder.symlink_to(home.parent)
    else:
        folder.write_text("")
    with hold_databases(
        None, ACTION, ["a"], wait=False, stop=threading.Event(), on_wait=pytest.fail
    ):
        take(None)
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert caplog.messages[0].startswith(
        f"Runs on the same database are not kept apart: {folder} cannot be used for locks: "
    )
    assert "set lock_path" in caplog.messages[0]


def test_nothing_is_made_where_nothing_is_held(home: Path) -> None:
    with hold_databases(None, ACTION, [], wait=False, stop=threading.Event(), on_wait=pytest.fail):
        assert not list(home.iterdir())
