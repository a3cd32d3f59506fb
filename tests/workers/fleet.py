"""Workers as an operator starts them, the clouds they work on, and a look at what they did."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from redis import Redis as Client

from cli.run_summary import summarize
from runs.conductor import Conductor, queue_of
from runs.records import CellRecord, RunRecord, Stage
from runs.redis_store import RedisStore
from runs.store import RunGone
from tests.support.command import PROGRAM, Ended, Running, call, environment, until
from tests.support.realcloud import RealCloud
from tests.support.services import Redis

HOOK: Final = Path(__file__).parent / "hook"
CELLS: Final = ("cell0", "cell1", "cell2", "cell3")
EXPIRES: Final = 3600
# The URL of a RabbitMQ that carries the messages instead of the Redis.
OTHER_BROKER: Final = os.environ.get("CELLKEEPER_TEST_BROKER", "")
# What takes half a minute for an operator takes a few seconds here.
PATIENCE: Final = {
    "runs.conductor:PATIENCE.idle": 1.5,
    "runs.conductor:PATIENCE.longest": 6.0,
    "runs.conductor:PATIENCE.grace": 4.0,
    "runs.follow:LOOK_AFTER": 0.5,
    "runs.follow:AWAY": 10.0,
    "workers.heartbeat:INTERVAL": 0.5,
    "workers.heartbeat:LIFE": 3.0,
}
# It outlives whoever is killed: its input ends with the process that holds the other end, whatever
# the reason.
GUARD: Final = 'read -r _; kill -9 "-$1"'
AUDIT: Final = re.compile(r"run ([\w.-]+): [\w.]+ by .* exit code (\d+);", re.MULTILINE)


def hooked(**more: str) -> dict[str, str]:
    """Variables with which a program is less patient."""
    return {"PYTHONPATH": str(HOOK), "CELLKEEPER_TEST_PATIENCE": json.dumps(PATIENCE), **more}


class Tickets:
    """Deaths that are ordered: each ends one process at a moment of the store's, as ``hook`` names
    it.

    :ivar env: variables of a worker whose children die of them
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.env = {"CELLKEEPER_TEST_TICKETS": str(folder)}

    @property
    def of_command(self) -> dict[str, str]:
        """Variables of a command that dies of them."""
        return self.env | {"CELLKEEPER_TEST_MORTAL": "command"}

    def order(self, moment: str, deaths: int = 1, cell: str = "") -> None:
        """Let so many processes die at a moment.

        :param cell: the uuid of the cell that it is about; empty: any
        """
        for number in range(deaths):
            (self._folder / f"{moment} {number} {cell}").write_text(cell)

    def cancel(self) -> None:
        """Let nobody die of what is left."""
        for ticket in self._folder.iterdir():
            ticket.unlink(missing_ok=True)

    @property
    def left(self) -> list[str]:
        """The deaths that nobody has died."""
        return [ticket.name for ticket in self._folder.iterdir()]


@contextmanager
def guarded(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """At the end, or when these tests are killed, kill a process with all that it has started.

    :param process: of a session of its own
    """
    guard = subprocess.Popen(
        ["sh", "-c", GUARD, "guard", str(process.pid)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.communicate()
        process.wait()


class Worker:
    """``cellkeeper worker`` while it runs. As a context manager it is killed at the end if it still
    runs.

    :ivar process: its main process
    """

    def __init__(
        self, config: Path, *words: str, name: str = "w", env: Mapping[str, str] | None = None
    ) -> None:
        """:param words: options of the command
        :param env: variables besides those that make it less patient
        """
        self._log = config.with_name(f"{name}.log")
        self._screen = config.with_name(f"{name}.out")
        line = [
            "--config-file",
            str(config),
            "--log-file",
            str(self._log),
            "worker",
            "--name",
            f"{name}@here",
            *words,
        ]
        if "--concurrency" not in words:
            line += ["--concurrency", "2"]
        with self._screen.open("ab") as screen:
            self.process = subprocess.Popen(
                [str(PROGRAM), *line],
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=screen,
                env=environment(hooked() | dict(env or {})),
                start_new_session=True,
            )
        self._guarded = guarded(self.process)
        self._guarded.__enter__()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._guarded.__exit__(None, None, None)

    @property
    def log(self) -> str:
        """All that it has written so far, to its log and to the screen."""
        return "".join(
            file.read_text(errors="replace") for file in (self._log, self._screen) if file.exists()
        )

    def wait_for(self, words: str) -> None:
        """Wait until it has written something."""

        def is_there() -> bool:
            assert self.process.poll() is None or words in self.log, f"the worker ended: {self.log}"
            return words in self.log

        until(is_there)

    def serve(self, *cells: str) -> Self:
        """Wait until it serves some cells, all of them unless named."""
        for cell in cells or CELLS:
            self.wait_for(f"serving {cell}")
        return self

    @property
    def children(self) -> list[int]:
        """Its child processes."""
        main = self.process.pid
        return [
            int(word) for word in Path(f"/proc/{main}/task/{main}/children").read_text().split()
        ]

    def terminate(self) -> None:
        """Ask it to end as an operator does."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End all its processes as a power cut would."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Site:
    """A cloud with a broker, as the commands of one operator see it.

    :ivar config: nova.conf of the commands and the workers
    :ivar store: what the runs' store says
    """

    def __init__(
        self,
        cloud: RealCloud,
        broker: Redis,
        folder: Path,
        database: int = 0,
        **celery: float | str,
    ) -> None:
        """:param database: of the broker's; sites in different ones know nothing of each other
        :param celery: options of that section
        """
        self.cloud = cloud
        self.broker = broker
        self.config = cloud.config(folder)
        self._log = folder / "commands.log"
        self._started: list[Running] = []
        options: dict[str, float | str] = {
            "broker_url": broker.url(database),
            "slice_seconds": 0.3,
            "lease_seconds": 2.0,
            "hang_seconds": 60.0,  # well below what a test waits for, should a child hang
        }
        if OTHER_BROKER:
            options |= {"broker_url": OTHER_BROKER, "store_url": broker.url(database)}
        options |= celery
        lines = "".join(f"{name} = {value}\n" for name, value in options.items())
        self.config.write_text(f"{self.config.read_text()}[celery]\n{lines}")
        client = Client.from_url(broker.url(database), decode_responses=True)
        self.client = client
        self.store = RedisStore(client, EXPIRES)

    def worker(self, *words: str, name: str = "w", env: Mapping[str, str] | None = None) -> Worker:
        """Start a worker."""
        return Worker(self.config, *words, name=name, env=env)

    def start(self, line: str, env: Mapping[str, str] | None = None) -> Running:
        """Start a command.

        :param env: variables besides those that make it less patient
        """
        running = Running(
            f"--log-file {self._log} {line}", config=self.config, env=hooked(**env or {})
        )
        self._started.append(running)
        return running

    def call(self, line: str) -> Ended:
        """Run a command to its end."""
        return call(f"--log-file {self._log} {line}", config=self.config, env=hooked())

    def audits(self, *workers: Worker) -> list[tuple[str, int]]:
        """The runs that these workers and all commands finished, with their exit codes."""
        logs = [*(worker.log for worker in workers), self.log]
        return [(run, int(code)) for log in logs for run, code in AUDIT.findall(log)]

    @property
    def log(self) -> str:
        """All that the commands have written to their log."""
        return self._log.read_text() if self._log.exists() else ""

    def begun(self, running: Running) -> str:
        """The id of a run that a command starts, as soon as it is there."""
        before = set(self.store.recent())
        until(lambda: bool(set(self.store.recent()) - before) or running.process.poll() is not None)
        (run,) = set(self.store.recent()) - before
        return run

    def record(self, run: str) -> RunRecord:
        """What the store says of a run."""
        return self.store.run(run)

    def state(self, run: str) -> str:
        """The state of a run in words."""
        return summarize(self.store, self.record(run)).words

    def cells(self, run: str) -> dict[str, CellRecord]:
        """The cells of a run in its current phase."""
        return {cell.ref.label: cell for cell in self.store.cells(run, self.record(run).phase)}

    def working(self, run: str) -> dict[str, int]:
        """The processes that work on a run right now, by the cell."""
        return {
            name: int(cell.worker.rsplit(":", 1)[1])
            for name, cell in self.cells(run).items()
            if cell.holder and cell.lease_until > self.store.now() and cell.stage is Stage.WORK
        }

    def rows(self, run: str, *cells: str) -> int:
        """The rows that an archive has moved so far, in all cells unless some are named."""
        outcomes = [
            cell.outcome for label, cell in self.cells(run).items() if not cells or label in cells
        ]
        return sum(sum(outcome["moved"].values()) for outcome in outcomes if outcome is not None)

    def ended(self, run: str) -> bool:
        """Whether a run is over."""
        with suppress(RunGone):
            return self.record(run).exit_code is not None
        return True

    def end_all(self) -> None:
        """End the commands and the runs that a test has left, these as soon as nobody holds a cell
        of them any more.
        """
        while self._started:
            self._started.pop().kill()
        self.broker.revive()
        conductor = Conductor(self.store, lambda _: None)

        def is_over(run: str) -> bool:
            conductor.look_after(run)
            return self.ended(run)

        for place in self.store.queue():
            with suppress(RunGone):
                conductor.cancel(place.run, "the test")
            until(partial(is_over, place.run))

    def queued(self, cell: str) -> int:
        """How many messages wait for a cell."""
        return int(self.client.llen(queue_of(cell)))

    def until_ended(self, run: str) -> int:
        """Wait until a run is over, without anybody who waits for it; its exit code."""
        until(lambda: self.ended(run))
        code = self.record(run).exit_code
        assert code is not None
        return code

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something that must happen soon."""
        until(lambda: bool(condition()))
