"""Keeping two runs of one command off the same database, on one host: a file lock per command and database.

Correctness never rests on it: rows are claimed in the database itself. A lock ends with its process, however it ends.
"""

import fcntl
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

POLL: Final = 0.2  # seconds between two looks at a lock that somebody else holds


class Busy(Exception):
    """Another run holds the database, and nobody wanted to wait. The text names the holder."""


class Interrupted(Exception):
    """The wait was called off."""


def default_folder() -> Path:
    """Where the lock files lie unless configured: a folder of this user's alone."""
    return Path(tempfile.gettempdir()) / f"cellkeeper-{os.getuid()}"


@contextmanager
def hold(
    folder: Path,
    action: str,
    fingerprints: Iterable[str],
    *,
    wait: bool,
    stop: threading.Event,
    on_wait: Callable[[str], None],
) -> Iterator[None]:
    """Hold the locks of an action on some databases.

    All are taken before the work begins, in one order everywhere, so that two runs never wait for each other.

    :param folder: where the lock files lie; made when it is not there
    :param fingerprints: of the databases
    :param wait: whether to wait for another holder
    :param stop: calls a wait off
    :param on_wait: told once about each holder that is waited for
    :raises Busy: somebody else holds a lock, and ``wait`` is false
    :raises Interrupted: ``stop`` was set during the wait
    :raises OSError: the folder cannot be used
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; set lock_path in section [cellkeeper]")
    with ExitStack() as stack:
        for fingerprint in sorted(set(fingerprints)):
            file = os.open(folder / f"{action}-{fingerprint}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, file)
            _take(file, wait, stop, on_wait)
            _sign(file, action)
        yield


def _take(file: int, wait: bool, stop: threading.Event, on_wait: Callable[[str], None]) -> None:
    told = False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 200, 0).decode(errors="replace").strip() or "another run"
            if not wait:
                raise Busy(holder) from None
            if not told:
                on_wait(holder)
                told = True
            if stop.wait(POLL):
                raise Interrupted(holder) from None
        else:
            return


def _sign(file: int, action: str) -> None:
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    os.ftruncate(file, 0)
    os.pwrite(file, f"{action}, process {os.getpid()}, since {since}".encode(), 0)
