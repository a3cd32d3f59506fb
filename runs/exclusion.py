"""Keeping two runs of one command off the same database, on one host: a locked file per run.

The file names the run and its databases. It stays locked as long as the process lives: however that
ends, the databases are free. Correctness never rests on it: rows are claimed in the database
itself.
"""

import fcntl
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from runs.lock_folder import LockFolder, opened

POLL: Final = 0.2  # seconds between two looks whether another run has ended


class Busy(Exception):
    """Another run holds the database, and nobody wanted to wait. The text names the holder."""


class Interrupted(Exception):
    """The wait was called off."""


@contextmanager
def hold_databases(
    folder: Path | None,
    action: str,
    fingerprints: Iterable[str],
    *,
    wait: bool,
    stop: threading.Event,
    on_wait: Callable[[str], None],
) -> Iterator[None]:
    """Hold some databases for an action: all of them or none, so that two runs never wait for each
    other.

    :param folder: where the lock files lie, made when it is not there; None: a default place, or
        nowhere if there is none to be had: the run then keeps off nobody
    :param fingerprints: of the databases
    :param wait: whether to wait for another holder
    :param stop: calls a wait off
    :param on_wait: told once about each holder that is waited for
    :raises Busy: somebody else holds one of them, and ``wait`` is false
    :raises Interrupted: ``stop`` was set during the wait
    :raises lock_folder.UnusableFolder: the folder cannot be used
    """
    databases = frozenset(fingerprints)
    if not databases:
        yield
        return
    with opened(folder) as lock_folder:
        if lock_folder is None:
            yield
            return
        holding = _wait_for_turn(lock_folder, action, databases, wait, stop, on_wait)
        try:
            yield
        finally:
            holding.release()


def _wait_for_turn(
    folder: LockFolder,
    action: str,
    databases: frozenset[str],
    wait: bool,
    stop: threading.Event,
    on_wait: Callable[[str], None],
) -> "Holding":
    """Hold the databases as soon as nobody else holds one of them; see ``hold_databases``."""
    announced = ""
    while isinstance(holding := _take(folder, action, databases), Holder):
        holder = holding.name
        if not wait:
            raise Busy(holder)
        if holder != announced:
            on_wait(holder)
            announced = holder
        if stop.wait(POLL):
            raise Interrupted(holder)
    return holding


@dataclass(frozen=True)
class Holder:
    """Another run that lives.

    :ivar name: for people
    :ivar databases: the fingerprints of what it holds
    """

    name: str
    databases: frozenset[str]

    @classmethod
    def read(cls, folder: LockFolder, name: str) -> Self | None:
        """The run that has written this file; None: it has ended, and the file is removed."""
        try:
            file = folder.open_file(name)
        except FileNotFoundError:
            return None
        with open(file, "rb") as record:
            try:
                fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder, *databases = json.load(record)
                return cls(holder, frozenset(databases))
            with suppress(FileNotFoundError):
                folder.remove_file(name)
            return None


@dataclass(frozen=True)
class Holding:
    """What this process holds."""

    folder: LockFolder
    name: str
    file: int

    @classmethod
    def create(cls, folder: LockFolder, action: str, databases: Iterable[str]) -> Self:
        """Write the file that says so."""
        file_name = f"{action}-{os.getpid()}-{secrets.token_hex(4)}.run"
        holding = cls(folder, file_name, folder.open_file(file_name, os.O_CREAT | os.O_EXCL))
        try:
            fcntl.flock(holding.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            name = f"{action}, process {os.getpid()}, since {since}"
            with open(holding.file, "w", closefd=False) as record:
                json.dump([name, *sorted(databases)], record)
        except BaseException:
            holding.release()
            raise
        return holding

    def release(self) -> None:
        """Let go of it."""
        with suppress(FileNotFoundError):
            self.folder.remove_file(self.name)
        os.close(self.file)


def _take(folder: LockFolder, action: str, databases: frozenset[str]) -> Holding | Holder:
    """Hold the databases, unless another run holds one of them.

    Only one process at a time looks for the others and adds itself; nobody waits longer for that
    than a look takes.
    """
    with _alone(folder, f"{action}.lock"):
        for name in folder.names(f"{action}-", ".run"):
            holder = Holder.read(folder, name)
            if holder and not holder.databases.isdisjoint(databases):
                return holder
        return Holding.create(folder, action, databases)


@contextmanager
def _alone(folder: LockFolder, name: str) -> Iterator[None]:
    file = folder.open_file(name, os.O_CREAT)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
