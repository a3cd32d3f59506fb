"""Whether a cell's database server lets the work go on. All processes that work on a server share
their looks at it.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Final, Protocol

from oslo_config import cfg

from novadb.cells import Cell
from novadb.engine import Database
from runs.store import RunStore
from throttle.in_force import signals_in_force
from throttle.readings import Reading, ServerState
from throttle.server_watch import ServerWatch
from throttle.servers import servers_of, usable_throttle

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at a server, by whoever works on it."""
LOOK_PATIENCE: Final = 2.0
"""Seconds to wait for the look of another thread or process at the same server; then what was seen
last counts.
"""
POLL: Final = 0.05
"""Seconds between two questions whether another process has seen something."""
PAUSE_AFTER_SILENCE: Final = 30.0
"""Seconds after which a server that did not answer is looked at again: it must not hold up cell
after cell.
"""


class Watch(Protocol):
    """Looks at one server."""

    def look(self, before: ServerState | None) -> ServerState:
        """What is seen, given what was seen before."""

    def close(self) -> None:
        """Close all connections; the next look opens them anew."""


WatchMaker = Callable[[Database], Watch]
"""Makes what looks at the server of a database."""


def watch_maker(conf: cfg.ConfigOpts, cells: Callable[[], list[Cell]]) -> WatchMaker:
    """What makes watches of servers as the configuration says.

    :param cells: those whose replicas may be named in the configuration
    :raises InvalidSetting: the section ``[throttle]`` cannot be used
    """
    settings = usable_throttle(conf)

    def watch(database: Database) -> ServerWatch:
        servers = servers_of(cells(), settings, conf.database.slave_connection or "")
        replicas = [
            replica
            for server in servers
            if server.name == database.server
            for replica in server.replicas
        ]
        return ServerWatch(database, settings, replicas)

    return watch


class Throttles:
    """The verdicts on the servers that a process works on. Its threads may ask at the same time."""

    def __init__(self, store: RunStore, make_watch: WatchMaker, every: float = LOOK_EVERY) -> None:
        """:param every: seconds between two looks at a server"""
        self._store = store
        self._make_watch = make_watch
        self._every = every
        self._watches: dict[str, Watch] = {}
        self._states: dict[str, ServerState | None] = {}
        self._next_look: dict[str, float] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def verdict(self, database: Database) -> Reading | None:
        """What keeps the work from going on, as it was seen within the last moments; None: nothing.

        To be asked between two transactions: it may take some seconds.
        """
        if database.location.port is None:
            return None
        server = database.server
        if self._locks[server].acquire(timeout=LOOK_PATIENCE):
            try:
                self._look_if_due(server, database)
            finally:
                self._locks[server].release()
        state = self._states.get(server)
        return state.verdict if state else None

    def signals(self, database: Database) -> tuple[str, ...]:
        """The names of the signals that guard a server, by what was seen last."""
        state = self._states.get(database.server)
        return signals_in_force(state.readings) if state else ()

    def _look_if_due(self, server: str, database: Database) -> None:
        if time.monotonic() < self._next_look.get(server, 0.0):
            return
        state = self._state(server, database)
        self._states[server] = state
        pause = PAUSE_AFTER_SILENCE if state and state.is_silent else self._every
        self._next_look[server] = time.monotonic() + pause

    def _state(self, server: str, database: Database) -> ServerState | None:
        is_granted, state = self._claim_look(server)
        if not is_granted:
            return state
        if server not in self._watches:
            self._watches[server] = self._make_watch(database)
        state = self._watches[server].look(state)
        self._store.keep_look(server, state)
        return state

    def _claim_look(self, server: str) -> tuple[bool, ServerState | None]:
        """The right to look, or what was seen last. A first look by another process is waited for a
        moment.
        """
        until = time.monotonic() + LOOK_PATIENCE
        while True:
            is_granted, state = self._store.claim_look(server, self._every)
            if is_granted or state or time.monotonic() > until:
                return is_granted, state
            time.sleep(POLL)

    def close(self) -> None:
        """Close all connections. Whoever asks again opens them anew, by the URLs that cells have
        then.
        """
        for server in list(self._watches):
            with self._locks[server]:
                self._watches.pop(server).close()
