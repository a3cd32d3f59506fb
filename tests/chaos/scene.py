"""The processes and servers of a round: started, killed, brought back, and looked at when all is
quiet again.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, Self

from kombu import Connection
from redis import Redis as Client

from runs.conductor import queue_of
from runs.records import RunState
from runs.store import RunGone
from tests.chaos.census import Census
from tests.chaos.plan import SLOWLY, Plan, Servers, Victim
from tests.chaos.rabbitmq import RabbitMQ
from tests.support.command import Ended, Running, until
from tests.support.inventory import Inventory
from tests.support.placement import Placement, nova_conf
from tests.support.realcloud import RealCloud
from tests.support.services import Redis, Service
from tests.workers.fleet import PATIENCE, Site, Worker
from tests.workers.test_beat import BeatProcess

WORKERS: Final = 2
# A machine under load takes its time to start a worker.
PATIENT: Final = {
    "CELLKEEPER_TEST_PATIENCE": json.dumps(PATIENCE | {"runs.conductor:PATIENCE.grace": 30.0})
}
LONGEST_PAUSE: Final = 0.6  # seconds between two kills
LONGEST_ABSENCE: Final = 0.5  # seconds for which a killed server is away
EVERY: Final = 5  # seconds between two firings
SCHEDULE: Final = f"""
[schedule]
enabled = often
[schedule_often]
cron = */{EVERY} * * * * *
command = {SLOWLY}
"""
# What a worker says when its event loop runs.
READY: Final = "serving cell"
# What a beat says when it begins.
FOLLOWING: Final = "next at 20"
UNEXPECTED: Final = ("Unexpected error", "Traceback (most recent call last)")
OPEN_TRANSACTIONS: Final = (
    "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id != 0"
)


class Scene:
    """A round while it is played. As a context manager it ends all that it has started.

    :ivar killed: who was killed so far, in words
    """

    def __init__(self, plan: Plan, cloud: RealCloud, placement: Placement, folder: Path) -> None:
        self.killed: list[str] = []
        self._plan = plan
        self._cloud = cloud
        self._placement = placement
        self._stack = ExitStack()
        self._workers: list[Worker] = []
        self._groups: list[int] = []
        self._started = 0
        self._command: Running | None = None
        self._beat: BeatProcess | None = None
        self._harms: Mapping[Victim, Callable[[], str]] = {
            Victim.CHILD: self._kill_child,
            Victim.WORKER: self._kill_worker,
            Victim.MAIN_PROCESS: self._kill_main_process,
            Victim.COMMAND: self._kill_command,
            Victim.BEAT: self._kill_beat,
            Victim.STORE: lambda: self._kill_server(self._store),
            Victim.EMPTIED_STORE: lambda: self._empty(self._store),
            Victim.BROKER: lambda: self._kill_server(self._broker),
            Victim.EMPTIED_BROKER: lambda: self._empty(self._broker),
            Victim.DATABASE: lambda: self._kill_server(self._cloud.server),
        }
        self._store = self._stack.enter_context(Redis())
        self._broker: Redis | RabbitMQ = self._store
        self._site = self._site_in(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _site_in(self, folder: Path) -> Site:
        servers = self._plan.servers
        if servers is Servers.RABBITMQ:
            self._broker = self._stack.enter_context(RabbitMQ())
        elif servers is Servers.TWO_REDIS:
            self._broker = self._stack.enter_context(Redis())
        broker = self._broker.url if isinstance(self._broker, RabbitMQ) else self._broker.url()
        slices = self._plan.dice.choice((0.0, 0.3, 1.0))
        site = Site(
            self._cloud, self._store, folder,
            broker_url=broker, store_url=self._store.url(), slice_seconds=slices, lease_seconds=1.0,
        )  # fmt: skip
        text = site.config.read_text() + nova_conf(self._placement.url)
        if servers is Servers.NONE:
            text = text.replace("broker_url", "# broker_url")
        site.config.write_text(text + (SCHEDULE if self._plan.work.scheduled else ""))
        return site

    # -- the play ----------------------------------------------------------------------------------

    def play(self, expected: Any) -> None:
        """Order the work, kill, let it come to its end and look at what is there, until all victims
        are dead.

        :param expected: what is there in the end where nothing is killed
        """
        if self._plan.servers is not Servers.NONE:
            for _ in range(WORKERS):
                self._start_worker()
            for worker in self._workers:
                worker.serve()
        victims = list(reversed(self._plan.victims))
        while victims:
            self._begin()
            while victims and self._is_under_way():
                time.sleep(self._plan.dice.uniform(0, LONGEST_PAUSE))
                self._harm(victims.pop())
            self._let_finish()
            self._check()
            self._complete(expected)

    def _begin(self) -> None:
        """Order the work, on a cloud as dumped."""
        work = self._plan.work
        self._cloud.restore()
        self._placement.revive()
        work.prepare(self._cloud)
        self._census = Census(self._cloud) if work.is_archive else None
        self._inventory = Inventory(self._cloud)
        self._known = set(self._site.store.recent())
        if work.scheduled:
            self._start_beat()
        else:
            self._order()

    def _order(self) -> None:
        self._command = self._stack.enter_context(
            self._site.start(self._line(self._plan.work.line), PATIENT)
        )

    def _line(self, words: str) -> str:
        return words.format(**self._cloud.uuids)

    def _is_under_way(self) -> bool:
        """Whether there is something to be harmed still."""
        if self._command:
            return self._command.process.poll() is None
        runs = self._runs()
        return not runs or any(not self._site.ended(run) for run in runs)

    def _runs(self) -> list[str]:
        """The runs of this bout, as far as the store knows them, the newest first."""
        return [run for run in self._site.store.recent() if run not in self._known]

    # -- harm --------------------------------------------------------------------------------------

    def _harm(self, victim: Victim) -> None:
        self.killed.append(f"{victim} {self._harms[victim]()}".strip())
        if self._census:
            self._census.check(purged=self._plan.work.purges)

    def _kill_child(self) -> str:
        """One that works, if there is any. Celery ends a worker that loses one while it starts."""
        until(lambda: bool(self._children()))
        children = self._children()
        at_work = {
            pid for run in self._runs() if not self._site.ended(run) for pid in self._working(run)
        }
        chosen = self._plan.dice.choice(sorted(children & at_work or children))
        with suppress(ProcessLookupError):
            os.kill(chosen, signal.SIGKILL)
        return "" if chosen in at_work else "(idle)"

    def _children(self) -> set[int]:
        """The children of all workers that have started."""
        return {pid for worker in self._workers if READY in worker.log for pid in worker.children}

    def _working(self, run: str) -> list[int]:
        with suppress(RunGone):
            return list(self._site.working(run).values())
        return []

    def _kill_worker(self) -> str:
        worker = self._replace_worker()
        worker.kill()
        self._start_worker()
        return ""

    def _kill_main_process(self) -> str:
        worker = self._replace_worker()
        os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        self._start_worker()
        return ""

    def _replace_worker(self) -> Worker:
        """One of the workers, which is a worker no longer."""
        worker = self._workers.pop(self._plan.dice.randrange(len(self._workers)))
        self._groups.append(worker.process.pid)
        return worker

    def _start_worker(self) -> None:
        self._started += 1
        worker = self._site.worker(name=f"worker{self._started}", env=PATIENT)
        self._workers.append(self._stack.enter_context(worker))

    def _kill_command(self) -> str:
        """And do what an operator does: wait for its run, or give the command again."""
        assert self._command
        self._command.process.kill()
        killed = self._command.end()
        runs = self._runs()
        if killed.code != -signal.SIGKILL:
            self._check_ended(killed)
        if runs:
            self._command = self._stack.enter_context(
                self._site.start(f"runs wait {runs[0]}", PATIENT)
            )
        else:
            self._order()
        return ""

    def _start_beat(self) -> None:
        self._started += 1
        self._beat = self._stack.enter_context(BeatProcess(self._site, f"beat{self._started}"))

    def _kill_beat(self) -> str:
        assert self._beat
        self._beat.kill()
        self._start_beat()
        return ""

    def _kill_server(self, server: Service) -> str:
        server.kill()
        time.sleep(self._plan.dice.uniform(0, LONGEST_ABSENCE))
        server.start()
        return ""

    def _empty(self, server: Service) -> str:
        assert isinstance(server, Redis)
        server.kill()
        server.lose()
        server.start()
        return ""

    # -- the end -----------------------------------------------------------------------------------

    def _let_finish(self) -> None:
        """Wait until the runs of this bout have ended, and whoever waits for them."""
        if beat := self._beat:
            until(lambda: FOLLOWING in beat.log)  # before that, a signal ends it as any process
            beat.process.terminate()
            assert beat.process.wait(60) == 0, beat.log
            self._beat = None
        if self._command:
            self._check_ended(self._command.end())
            self._command = None
        until(lambda: all(self._site.ended(run) for run in self._runs()))

    def _check_ended(self, ended: Ended) -> None:
        """See that a command says what became of its run, with a code that the documents name."""
        assert ended.code in self._plan.work.codes, ended
        assert not any(words in ended.err for words in UNEXPECTED), ended
        runs = self._runs()
        if not runs or "store of runs does not answer" in ended.err:
            return
        until(lambda: self._site.ended(runs[0]))
        with suppress(RunGone):
            assert ended.code == self._site.record(runs[0]).exit_code, ended

    def _check(self) -> None:
        """See that nobody holds anything any more, nothing is stuck, and no row is lost or
        doubled.
        """
        store = self._site.store
        until(lambda: store.queue() == [])
        for run in self._runs():
            record = store.run(run)
            assert (record.state, store.open_cells(run, record.phase)) == (RunState.ENDED, []), run
            assert record.exit_code in self._plan.work.codes, run
        until(lambda: self._leases() == 0)
        until(lambda: self._messages() == 0)
        until(lambda: self._cloud.rows(self._cloud.api, OPEN_TRANSACTIONS) == [(0,)])
        self._check_processes()
        if self._census:
            self._census.check(purged=self._plan.work.purges)
        if self._census and not self._plan.work.purges:
            self._inventory.check()

    def _leases(self) -> int:
        """Claims that have not lapsed."""
        now = self._site.store.now()
        return sum(
            self._site.client.zcount(key, now, "+inf")
            for key in self._site.client.scan_iter("cellkeeper:run:*:leases")
        )

    def _messages(self) -> int:
        """Messages that nobody has taken."""
        queues = [queue_of(uuid) for uuid in self._cloud.uuids.values()]
        if isinstance(self._broker, RabbitMQ):
            with Connection(self._broker.url) as connection:
                channel = connection.channel()
                return sum(
                    channel.queue_declare(queue, passive=True).message_count for queue in queues
                )
        with Client.from_url(self._broker.url()) as client:
            return sum(client.llen(queue) for queue in queues)

    def _check_processes(self) -> None:
        """Whoever was not killed lives; of whoever was, no process is left."""
        for worker in self._workers:
            assert worker.process.poll() is None, worker.log
            assert "a duty of the heartbeat failed" not in worker.log, worker.log
        until(lambda: not any(_lives(group) for group in self._groups))

    def _complete(self, expected: Any) -> None:
        """The next command does what is left, waits for nobody, and leaves what an undisturbed one
        leaves.
        """
        for line in self._plan.work.undisturbed:
            ended = self._site.call(f"{self._line(line)} --no-wait")
            assert (ended.code in self._plan.work.codes - {255}, ended.err) == (True, ""), ended
        if self._census and not self._plan.work.purges:
            self._inventory.check_complete()
        found = self._plan.work.look(self._cloud)
        differing = [place for place in expected if found.get(place) != expected[place]]
        assert not differing, differing


def _lives(group: int) -> bool:
    """Whether a process of a group is there, other than dead ones that nobody has asked for yet."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                return True
    return False
