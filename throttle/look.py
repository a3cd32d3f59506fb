"""One look at a database server: what every signal may ask, and what it keeps for the next look."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from novadb.engine import Database, error_number, server_message
from novadb.error_numbers import ACCESS_DENIED
from novadb.lazy import lazy_property
from settings.throttle import ThrottleSettings
from throttle.readings import Answer, Reading

STATUS: Final = (
    "Threads_running",
    "Innodb_history_list_length",
    "wsrep_connected",
    "wsrep_flow_control_paused_ns",
    "wsrep_local_recv_queue",
    "wsrep_local_state",
    "wsrep_local_state_comment",
)
"""The server's status variables that signals need; read in one statement."""


@dataclass
class Look:
    """What a signal is given.

    :ivar database: one on the server
    :ivar connection: to it, outside any transaction
    :ivar replicas: of the server
    :ivar connect_to: a connection to a replica; it is kept for the next look
    :ivar seconds: since the look before; 0: this is the first one
    :ivar counters_before: what signals kept at that look
    :ivar counters: what they keep at this one
    """

    database: Database
    connection: Connection
    settings: ThrottleSettings
    replicas: Sequence[Database]
    connect_to: Callable[[Database], Connection]
    seconds: float
    counters_before: dict[str, float]
    counters: dict[str, float]

    @lazy_property
    def status(self) -> dict[str, str]:
        """The status variables of ``STATUS`` that the server has."""
        names = ", ".join(f"'{name}'" for name in STATUS)
        rows = self.connection.execute(text(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({names})"))
        return {row.Variable_name: row.Value for row in rows}

    def growth(self, counter: str, value: float) -> float | None:
        """Note a counter.

        :param value: that it has now
        :returns: by how much it has grown each second since the look before; None: that cannot be
            told
        """
        self.counters[counter] = value
        before = self.counters_before.get(counter)
        if before is None or not self.seconds or value < before:
            return None
        return (value - before) / self.seconds


def compare(signal: str, value: float, limit: float, words: str, source: str = "") -> Reading:
    """The reading of a number: pause once it has reached its limit."""
    answer = Answer.STOP if value >= limit else Answer.GO
    return Reading(signal, answer, words, source, value, limit)


def unknown(signal: str, error: DBAPIError, grant: str = "", source: str = "") -> Reading:
    """The reading of a signal whose question failed.

    :param grant: the privilege that the question needs
    """
    words = server_message(error)
    if grant and error_number(error) in ACCESS_DENIED:
        words = f"the database user may not look at it; allow it by: GRANT {grant} ON *.* TO USER"
    return Reading(signal, Answer.UNKNOWN, words, source)
