"""Which signals guard a server, in short words: for people, and for the record of a run."""

from collections.abc import Iterable
from typing import Final

from throttle import galera
from throttle.readings import Answer, Reading

OF_GALERA: Final = frozenset({galera.NODE, galera.FLOW_CONTROL, galera.RECEIVE_QUEUE})


def signals_in_force(readings: Iterable[Reading]) -> tuple[str, ...]:
    """The names of the signals that could be read, in the order in which people see them."""
    signals = [reading.signal for reading in readings if reading.answer is not Answer.UNKNOWN]
    return tuple(
        dict.fromkeys(galera.GROUP if signal in OF_GALERA else signal for signal in signals)
    )


def in_words(signals: Iterable[str]) -> str:
    """Names of signals for people."""
    return ", ".join(signals) or "none"
