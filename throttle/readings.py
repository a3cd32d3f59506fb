"""What a signal says of a database server, and what a look at all of its signals amounts to."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

CONNECTION: Final = "connection"
"""The signal of the reading that says that the server could not be asked."""


class Answer(StrEnum):
    """What a signal advises."""

    GO = "go"
    STOP = "stop"
    """Pause between two transactions."""
    CRITICAL = "critical"
    """End the run."""
    UNKNOWN = "unknown"
    """The signal could not be read. This never stops the work."""


@dataclass(frozen=True)
class Reading:
    """What one signal says.

    :ivar signal: its name
    :ivar answer: what it advises
    :ivar words: what was seen, for people
    :ivar source: where, if not on the server itself: ``db2:3306``
    :ivar value: what was compared with the limit, in the unit of the limit; None: there is no
        number
    :ivar limit: from which on the work pauses
    """

    signal: str
    answer: Answer
    words: str
    source: str = ""
    value: float | None = None
    limit: float | None = None

    @property
    def description(self) -> str:
        """What was seen, and where, if not on the server itself."""
        return f"{self.words} on {self.source}" if self.source else self.words


@dataclass(frozen=True)
class ServerState:
    """What was seen of a server at one look.

    :ivar at: seconds since the epoch
    :ivar readings: in the order of the table of signals
    :ivar counters: what only grows, for signals that compare two looks
    :ivar calm_looks: looks in a row at which a signal that still pauses had no reason to, by signal
        and source
    """

    at: float
    readings: list[Reading] = field(default_factory=list)
    counters: dict[str, float] = field(default_factory=dict)
    calm_looks: dict[str, int] = field(default_factory=dict)

    @property
    def is_silent(self) -> bool:
        """Whether the server could not be asked at all."""
        return any(reading.signal == CONNECTION for reading in self.readings)

    @property
    def verdict(self) -> Reading | None:
        """The reading that decides: the first critical one, or the first that stops. None: the work
        goes on.
        """
        for answer in (Answer.CRITICAL, Answer.STOP):
            for reading in self.readings:
                if reading.answer is answer:
                    return reading
        return None
