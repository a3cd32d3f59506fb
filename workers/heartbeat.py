"""A worker's other duties, in a thread of its main process: signs of life, new cells, runs that
nobody waits for.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from oslo_config import cfg
from redis.exceptions import RedisError

from novadb.cells import Cell
from novadb.errors import DatabaseProblem
from novadb.names import fold_name
from runs.conductor import Conductor, queue_of
from runs.targets import api_database, mapped_cells
from runs.troubles import Troubles
from workers.forking import FORKS
from workers.redis_client import ANSWER, run_store

LOG = logging.getLogger("cellkeeper.worker")

INTERVAL: Final = 5.0  # seconds
LIFE: Final = 20.0  # seconds without a sign of life after which a worker counts as dead
REPLY: Final = 3.0  # seconds for a worker to answer its own heartbeat
LOOK_FOR_CELLS: Final = 6  # intervals between two looks for cells that were mapped meanwhile


class Heartbeat:
    """A thread that begins once the worker listens, and ends with it."""

    def __init__(
        self, app: Any, conductor: Conductor, conf: cfg.ConfigOpts, names: Sequence[str], node: str
    ) -> None:
        """:param names: of the cells to serve, or their uuids; none: all
        :param node: the worker's name in Celery
        """
        self._app = app
        self._conductor = conductor
        # It asks again soon, and whoever ends does not wait for it.
        self._store = run_store(conf, 0)
        self._conf = conf
        self._names = names
        self._node = node
        self._served: set[str] = set()
        self._over = threading.Event()
        self._showing_life = threading.Lock()
        self._troubles = Troubles(LOG)
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self.id = f"{socket.gethostname()}:{os.getpid()}"

    def start(self, **_: Any) -> None:
        """Begin, once the worker listens to remote control."""
        self._thread.start()

    def stop(self, **_: Any) -> None:
        """End it, and tell that the worker has ended. No sign of life follows."""
        self._over.set()
        if not self._showing_life.acquire(timeout=2 * ANSWER):
            LOG.info("the store could not be told that this worker ends: it does not answer")
            return
        try:
            self._store.sign_off(self.id)
        except RedisError as error:
            LOG.info("the store could not be told that this worker ends: %s", error)
        finally:
            self._showing_life.release()

    def _run(self) -> None:
        rounds = 0
        while not self._over.is_set():
            if rounds % LOOK_FOR_CELLS == 0 or not self._served:
                self._try("cells", self._serve_new_cells)
            self._try("signs of life", self._show_alive)
            self._try("runs", self._look_after_runs)
            rounds += 1
            self._over.wait(INTERVAL)

    def _try(self, name: str, duty: Callable[[], None]) -> None:
        """Do one duty; that it fails now keeps nobody from the others. What keeps failing is logged
        once.
        """
        try:
            duty()
        except (DatabaseProblem, RedisError, OSError) as error:
            self._troubles.begin(name, f"{name}: {error}")
            if isinstance(error, RedisError):
                self._conductor.lose_sight()
        except Exception:
            LOG.exception("a duty of the heartbeat failed; it goes on")
        else:
            self._troubles.end(name, f"{name}: it works again")

    def _look_after_runs(self) -> None:
        with FORKS.no_fork():
            places = self._conductor.store.queue()
        for place in places:
            self._try(f"run {place.run}", partial(self._look_after, place.run))

    def _look_after(self, run: str) -> None:
        with FORKS.no_fork():
            self._conductor.look_after(run)

    def _show_alive(self) -> None:
        serves = None if not self._names else sorted(self._served)
        with self._showing_life, FORKS.no_fork():
            if not self._over.is_set():
                self._store.show_alive(self.id, serves, LIFE)
        if self._over.is_set():  # and whoever stopped it may not have waited
            self._store.sign_off(self.id)

    def _serve_new_cells(self) -> None:
        with FORKS.no_fork():
            cells = mapped_cells(self._conf, api_database(self._conf))
        for cell in served_cells(cells, self._names):
            assert cell.uuid is not None
            if cell.uuid not in self._served and self._consume(queue_of(cell.uuid)):
                self._served.add(cell.uuid)
                LOG.info("serving %s", cell.label)

    def _consume(self, queue: str) -> bool:
        """Let the worker take messages from a queue; True when it says that it does."""
        return bool(
            self._app.control.add_consumer(
                queue, destination=[self._node], reply=True, timeout=REPLY
            )
        )


def served_cells(cells: Sequence[Cell], names: Sequence[str]) -> list[Cell]:
    """The cells that a worker serves.

    :param names: names or uuids; none: all cells
    """
    uuids = {fold_name(name) for name in names}
    return [
        cell
        for cell in cells
        if not names or fold_name(cell.uuid or "") in uuids or cell.name in names
    ]
