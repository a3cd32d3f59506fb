"""The program itself, as an operator starts it; and ways to end it or hold it up at a chosen
moment.
"""

import os
import subprocess
import sys
import tempfile
import time
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from tests.support import moments

PROGRAM: Final = Path(sys.executable).with_name("cellkeeper")
HOOK: Final = Path(__file__).parent / "hook"
PATIENCE: Final = 300.0  # seconds until a program that does not end is an error


class Moment(Enum):
    """Where a program can be ended or held up, in any of its cells."""

    CELL_STATEMENT = "cell statement"
    CELL_COMMIT = "cell commit"
    API_STATEMENT = "api statement"
    API_COMMIT = "api commit"
    # What hangs on some instances has left its tables, they themselves have not.
    BEFORE_THE_INSTANCES_GO = "before the instances go"
    # Instances are archived: their API rows are gone for good, they themselves are not.
    BETWEEN_THE_COMMITS = "between the commits"
    AFTER_CELL_COMMIT = "after cell commit"


class Ended(NamedTuple):
    """What a program left: its exit code, negative for a signal, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The document that it wrote."""
        return moments.parse(self.out)


class Run:
    """A program that runs. As a context manager, it is gone at the end."""

    def __init__(self, config: Path, *arguments: str, hook: str = "", api: str = "") -> None:
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._told, tell = os.pipe()
        ask, self._answer = os.pipe()
        environment = dict(os.environ)
        if hook:
            path = os.pathsep.join(filter(None, (str(HOOK), environment.get("PYTHONPATH"))))
            pipes = f"{tell},{ask}"
            environment |= {
                "PYTHONPATH": path,
                "CELLKEEPER_TEST_HOOK": hook,
                "CELLKEEPER_TEST_API": api,
                "CELLKEEPER_TEST_PIPES": pipes,
            }
        self.process = subprocess.Popen(
            [str(PROGRAM), "--config-file", str(config), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            env=environment,
            pass_fds=(tell, ask),
        )
        os.close(tell)
        os.close(ask)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for file in (self._out, self._err):
            file.close()
        os.close(self._told)
        os.close(self._answer)

    def wait_until_held(self) -> None:
        """Wait until the program is at its moment. It stays there."""
        assert os.read(self._told, 1), f"the program ended before it was held up: {self.end()}"

    def go_on(self) -> None:
        """Let the program go on from there."""
        os.write(self._answer, b".")

    def end(self, patience: float = PATIENCE) -> Ended:
        """Wait for the end.

        :raises subprocess.TimeoutExpired: it did not come within so many seconds
        """
        code = self.process.wait(patience)
        return Ended(code, _text(self._out), self.said)

    @property
    def said(self) -> str:
        """What stands on its standard error so far."""
        return _text(self._err)

    def wait_for(self, words: str) -> str:
        """Wait until the program has written something on standard error; returns the line."""
        deadline = time.monotonic() + PATIENCE
        while words not in self.said or not self.said.endswith("\n"):
            assert self.process.poll() is None, f"the program ended and said only: {self.said}"
            assert time.monotonic() < deadline, f"the program said only: {self.said}"
            time.sleep(0.02)
        return next(line for line in self.said.splitlines() if words in line)


def _text(file: Any) -> str:
    return os.pread(file.fileno(), 1 << 24, 0).decode()


class Program:
    """The program with one configuration."""

    def __init__(self, config: Path, api: str) -> None:
        """:param api: the name of the API database"""
        self._config = config
        self._api = api

    def start(self, *arguments: str) -> Run:
        """Start it."""
        return Run(self._config, *arguments)

    def start_and_hold(self, moment: Moment, number: int, *arguments: str) -> Run:
        """Start it; it stops at the moment of this number, counted from 0."""
        return Run(self._config, *arguments, hook=f"{moment.value}:{number}:hold", api=self._api)

    def start_and_kill(self, moment: Moment, number: int, *arguments: str) -> Run:
        """Start it; it kills itself at the moment of this number, counted from 0."""
        return Run(self._config, *arguments, hook=f"{moment.value}:{number}:kill", api=self._api)

    def run(self, *arguments: str) -> Ended:
        """Run it to its end."""
        with self.start(*arguments) as running:
            return running.end()
