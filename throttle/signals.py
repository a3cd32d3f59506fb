"""The table of all signals."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from settings.throttle import ThrottleSettings
from throttle import galera, history_list, http_signal, query, replica_lag, threads_running
from throttle.look import Look
from throttle.readings import Reading


@dataclass(frozen=True)
class Signal:
    """A question to a database server.

    :ivar is_on: whether the settings want it asked
    :ivar read: asks it; yields a reading for each thing that it looks at, or none where it does not
        apply
    """

    is_on: Callable[[ThrottleSettings], bool]
    read: Callable[[Look], Iterator[Reading]]


SIGNALS: Final = (
    Signal(galera.is_on, galera.read),
    Signal(replica_lag.is_on, replica_lag.read),
    Signal(threads_running.is_on, threads_running.read),
    Signal(history_list.is_on, history_list.read),
    Signal(query.is_on, query.read),
    Signal(http_signal.is_on, http_signal.read),
)
"""In this order people see them; the first that stops is the reason that they are told."""
