"""The installed program: run to its end, or watched while it runs. Whatever it prints holds no
password.
"""

import contextlib
import io
import logging
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final, Self
from unittest import mock

from tests.support import moments
from tests.support.services import MariaDB

PROGRAM: Final = Path(sys.executable).with_name("cellkeeper")
PATIENCE: Final = 300  # seconds after which the program is taken to hang
NOTHING_READY: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True)
class Ended:
    """How the program ended.

    :ivar code: its exit code
    :ivar out: what it printed on standard output
    :ivar err: what it printed on standard error
    """

    code: int
    out: str
    err: str

    def __post_init__(self) -> None:
        assert MariaDB.PASSWORD not in self.out
        assert MariaDB.PASSWORD not in self.err
        moments.check(self.out)

    @property
    def line(self) -> str:
        """The one line that is all of its standard error."""
        assert self.err.endswith("\n"), self.err
        (line,) = self.err.splitlines()
        return line

    @property
    def document(self) -> Any:
        """The JSON that is all of its standard output."""
        return moments.parse(self.out)


class Running:
    """``cellkeeper`` while it runs. As a context manager it is killed at the end if it still runs.

    :ivar process: its process
    """

    def __init__(
        self,
        line: str,
        *,
        config: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdout: IO[Any] | int = subprocess.PIPE,
    ) -> None:
        """:param line: its words, as one would type them
        :param config: goes before them as ``--config-file``
        :param env: variables besides those of the tests
        :param stdout: where its standard output goes
        """
        before = ["--config-file", str(config)] if config else []
        self._err = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self.process = subprocess.Popen(
            [str(PROGRAM), *before, *shlex.split(line)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=self._err,
            text=True,
            env=environment(env or {}),
            cwd=cwd,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End it, if nobody has ended it, and close what it wrote to."""
        if self._err.closed:
            return
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self._err.close()

    @property
    def err(self) -> str:
        """What it has printed on standard error so far."""
        size = os.fstat(self._err.fileno()).st_size
        return os.pread(self._err.fileno(), size, 0).decode()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> Ended:
        """Wait for its end."""
        with self:
            out, _ = self.process.communicate(timeout=PATIENCE)
            return Ended(self.process.returncode, out or "", self.err)


def call(
    line: str,
    *,
    config: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: IO[Any] | int = subprocess.PIPE,
) -> Ended:
    """Run ``cellkeeper`` to its end; the parameters are those of ``Running``."""
    return Running(line, config=config, env=env, cwd=cwd, stdout=stdout).end()


def call_here(
    line: str, *, config: Path | None = None, ready: Mapping[str, Any] = NOTHING_READY
) -> Ended:
    """Run ``cellkeeper`` to its end in this process: much quicker, where it is its work that is
    tested.

    :param ready: what was made for the command before, as ``cli.main.execute`` takes it
    """
    from cli import main
    from cli.output import begin_printing

    words = [*(["--config-file", str(config)] if config else []), *shlex.split(line)]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), own_log_levels():
        with mock.patch.dict(os.environ, environment({}), clear=True):
            begin_printing()
            code = main.execute(words, ready) if ready else main.run(words)
    return Ended(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def own_log_levels() -> Iterator[None]:
    """What a command wants to be logged holds for itself alone: the next one runs in the same
    process.
    """
    loggers = [logging.getLogger(name) for name in ("", "cellkeeper.audit", "cellkeeper.beat")]
    levels = [logger.level for logger in loggers]
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """The environment of the tests without what would configure the program or Python, and with
    ``more``.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OS_", "PYTHONUNBUFFERED"))
    }
    return kept | {"HOME": "/dev/null", "TZ": "UTC0", "COLUMNS": "80"} | dict(more)


def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait for something that the program must do soon, or within so many seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


def call_all(
    lines: Iterable[str], *, config: Path | None = None, env: Mapping[str, str] | None = None
) -> list[Ended]:
    """Run several command lines at the same time, each to its end; none waits for another."""
    together = {"OS_CELLKEEPER__EXCLUSION": "false"} | dict(env or {})
    running = [Running(line, config=config, env=together) for line in lines]
    return [one.end() for one in running]
