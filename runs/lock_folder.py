"""The folder of lock files: of one user alone, opened once, and no link in it is ever followed."""

import logging
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

LOG = logging.getLogger("cellkeeper.exclusion")

NO_LINK: Final = os.O_CLOEXEC | os.O_NOFOLLOW
OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
ADVICE: Final = "set lock_path in section [cellkeeper] to a folder of this user's alone"


class UnusableFolder(Exception):
    """The lock files cannot lie there. The text names the folder, the reason, and what to do."""


@dataclass(frozen=True)
class LockFolder:
    """A folder that belongs to this user, and that nobody else may write.

    :ivar descriptor: the open folder: whatever its path comes to mean, it is this one
    """

    descriptor: int

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder, which is made if it is not there.

        :raises UnusableFolder: it is a link, belongs to another user, or others may write it
        """
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | NO_LINK)
        except OSError as error:
            reason = "it is a symbolic link" if path.is_symlink() else error.strerror
            raise UnusableFolder(f"{path} cannot be used for locks: {reason}; {ADVICE}") from error
        status = os.fstat(descriptor)
        if status.st_uid != os.getuid():
            reason = "it belongs to another user"
        elif status.st_mode & OTHERS_MAY_WRITE:
            reason = "others may write it"
        else:
            return cls(descriptor)
        os.close(descriptor)
        raise UnusableFolder(f"{path} cannot be used for locks: {reason}; {ADVICE}")

    def close(self) -> None:
        """Files that were opened stay open."""
        os.close(self.descriptor)

    def names(self, beginning: str, ending: str) -> list[str]:
        """The files whose names begin and end like this."""
        return [
            name
            for name in os.listdir(self.descriptor)
            if name.startswith(beginning) and name.endswith(ending)
        ]

    def open_file(self, name: str, flags: int = 0) -> int:
        """Open a file to read and write it.

        :raises FileNotFoundError: it is not there
        :raises OSError: it is a link
        """
        return os.open(name, os.O_RDWR | NO_LINK | flags, 0o600, dir_fd=self.descriptor)

    def remove_file(self, name: str) -> None:
        """Remove a file.

        :raises FileNotFoundError: it is not there
        """
        os.unlink(name, dir_fd=self.descriptor)


@contextmanager
def opened(path: Path | None) -> Iterator[LockFolder | None]:
    """The folder of lock files.

    :param path: as configured; None: the first of the default folders that can be used. Where there
        is none, None is yielded: nobody can keep another user from working by taking the names of
        his folders
    :raises UnusableFolder: the configured one cannot be used
    """
    folder = LockFolder.open(path) if path else _default()
    try:
        yield folder
    finally:
        if folder:
            folder.close()


def _default() -> LockFolder | None:
    problem = UnusableFolder(f"There is no folder for locks; {ADVICE}")
    for path in default_paths():
        try:
            return LockFolder.open(path)
        except UnusableFolder as unusable:
            problem = unusable
    LOG.warning("Runs on the same database are not kept apart: %s", problem)
    return None


def default_paths() -> Iterator[Path]:
    """Where lock files may lie unless configured: in the home of this user, else among temporary
    files.

    The home is that of the list of users: the environment differs between a terminal, sudo and
    cron.
    """
    with suppress(KeyError):  # a container that is run under any number
        yield Path(pwd.getpwuid(os.getuid()).pw_dir) / ".local" / "state" / "cellkeeper"
    with suppress(OSError):  # no temporary files can be made anywhere
        yield Path(tempfile.gettempdir()) / f"cellkeeper-{os.getuid()}"
