"""Runs of workers without a server: the store in memory, and a thread that answers the bells."""

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from cli.configuration import CONFIGURATION
from cli.runs.store import CONDUCTOR
from clients.services import Services
from runs.cell_worker import CellWorker
from runs.conductor import Conductor, Fleet
from runs.memory_store import MemoryStore
from runs.records import NEVER, Bell
from runs.slices import SliceLimits, WorkingProcess
from runs.targets import Registry
from settings.files import read_configuration
from tests.support.command import Ended
from tests.support.demo_cloud import DemoCloud

BROKER: Final = "[celery]\nbroker_url = redis://127.0.0.1:1/0"
"""With a broker a command leaves its cells to workers; this one is never asked."""


class MemoryRuns:
    """The workers of a cloud, and what commands need to reach them.

    :ivar conductor: that of the commands and of the worker
    """

    def __init__(self, cloud: DemoCloud) -> None:
        cloud.configure(BROKER)
        self._cloud = cloud
        self._conf = read_configuration([f"--config-file={cloud.config}"])
        self._held_back: list[Bell] = []
        self._lock = threading.Lock()
        self._is_working = True
        self._pool = ThreadPoolExecutor(1, "worker")
        self.conductor = Conductor(
            MemoryStore(), self._ring, fleet=Fleet(lambda: {"worker:1": None})
        )
        registry = Registry(self._conf, Services(self._conf))
        process = WorkingProcess("worker:1", SliceLimits(work=NEVER, lease=60.0))
        self._worker = CellWorker(self.conductor, registry.target, process)

    def call(self, line: str) -> Ended:
        """Carry out a command line."""
        ready: Mapping[str, Any] = {CONFIGURATION: self._conf, CONDUCTOR: self.conductor}
        return self._cloud.call(line, ready)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """The worker answers no bell while the context lasts; those that were rung meanwhile it
        answers then.
        """
        self._is_working = False
        try:
            yield
        finally:
            with self._lock:
                self._is_working = True
                bells, self._held_back = self._held_back, []
            for bell in bells:
                self._ring(bell)

    def close(self) -> None:
        """Let the worker end."""
        self._pool.shutdown()

    def _ring(self, bell: Bell) -> None:
        with self._lock:
            if not self._is_working:
                self._held_back.append(bell)
                return
        self._pool.submit(self._worker.answer, bell)
