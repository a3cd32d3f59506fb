"""Look at one database server, again and again, over connections that are kept."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from novadb.engine import Database
from novadb.errors import DatabaseProblem
from settings.databases import Timeouts
from settings.throttle import ThrottleSettings
from throttle import replica_lag
from throttle.hysteresis import settle
from throttle.look import Look, unknown
from throttle.readings import CONNECTION, Answer, Reading, ServerState
from throttle.signals import SIGNALS

LIMITS: Final = Timeouts(connect=2.0, read=2.0, lock_wait=1)
"""A server that takes longer to answer is unknown: a look must not hold up the work."""
SEARCH_EVERY: Final = 60.0
"""Seconds between two questions to a primary which replicas it has."""


class ServerWatch:
    """Looks at a server. Not for two threads at once.

    As a context manager it closes its connections at the end.
    """

    def __init__(
        self, database: Database, settings: ThrottleSettings, replicas: Sequence[Database] = ()
    ) -> None:
        """
        :param database: any one on the server
        :param replicas: that the configuration names; without one, the server is asked for them
        """
        self._database = database.with_timeouts(LIMITS)
        self._settings = settings
        self._named_replicas = [replica.with_timeouts(LIMITS) for replica in replicas]
        self._found_replicas: list[Database] = []
        self._searched_at: float | None = None
        self._connections: dict[Database, Connection] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; the next look opens them anew."""
        self._connections.clear()
        self._stack.close()

    def look(self, before: ServerState | None) -> ServerState:
        """Ask all signals that are on.

        :param before: the look before, be it by another process
        :returns: what was seen; nothing is raised: what could not be asked is unknown
        """
        now = time.time()
        before = before or ServerState(at=now)
        counters: dict[str, float] = {}
        try:
            readings = self._read(before, now, counters)
        except DatabaseProblem as problem:
            readings = [Reading(CONNECTION, Answer.UNKNOWN, str(problem))]
            self.close()
        except DBAPIError as error:
            readings = [unknown(CONNECTION, error)]
            self.close()
        readings, calm_looks = settle(readings, before.calm_looks)
        return ServerState(now, readings, counters, calm_looks)

    def _read(self, before: ServerState, now: float, counters: dict[str, float]) -> list[Reading]:
        connection = self._connect(self._database)
        readings: list[Reading] = []
        replicas = self._replicas(connection, readings) if self._settings.max_lag else ()
        look = Look(
            database=self._database,
            connection=connection,
            settings=self._settings,
            replicas=replicas,
            connect_to=self._connect,
            seconds=now - before.at,
            counters_before=before.counters,
            counters=counters,
        )
        for signal in SIGNALS:
            if signal.is_on(self._settings):
                readings += signal.read(look)
                self._end_transactions()
        return readings

    def _replicas(self, primary: Connection, readings: list[Reading]) -> Sequence[Database]:
        """The replicas whose lag counts; what keeps them from being found is a reading."""
        if self._named_replicas:
            return self._named_replicas
        now = time.monotonic()
        if self._searched_at is None or now - self._searched_at > SEARCH_EVERY:
            try:
                self._found_replicas = replica_lag.find_replicas(primary, self._database)
            except DBAPIError as error:
                readings.append(
                    unknown(replica_lag.NAME, error, replica_lag.grant_to_find_replicas(primary))
                )
            else:
                self._searched_at = now
        if self._searched_at is not None and not self._found_replicas:
            words = "no replica is known: name one by option replica of section [throttle]"
            readings.append(Reading(replica_lag.NAME, Answer.UNKNOWN, words))
        return self._found_replicas

    def _connect(self, database: Database) -> Connection:
        """:raises DatabaseProblem: it cannot be reached"""
        if database not in self._connections:
            self._connections[database] = self._stack.enter_context(database.connect())
        return self._connections[database]

    def _end_transactions(self) -> None:
        """Hold no snapshot between two looks."""
        for connection in self._connections.values():
            connection.rollback()
