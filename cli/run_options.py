"""The options that commands over cells share, as values."""

from dataclasses import dataclass
from typing import Literal

Format = Literal["table", "json"]
"""What ``--format`` takes."""


@dataclass(frozen=True)
class RunOptions:
    """The options that commands over cells share; a command that lacks one of them goes by its
    default.

    :ivar concurrency: cells at the same time; None: as configured
    :ivar no_wait: whether to end at once if another run is at work on one of the databases
    :ivar detach: whether to leave the run to the workers
    :ivar run_id: the name for the run of workers; None: a new one
    :ivar until: when the maintenance window closes, as typed; None: never
    :ivar no_throttle: whether to go on while a database server suffers
    :ivar format: how to print
    """

    concurrency: int | None = None
    no_wait: bool = False
    detach: bool = False
    run_id: str | None = None
    until: str | None = None
    no_throttle: bool = False
    format: Format = "table"

    @property
    def json(self) -> bool:
        """Whether a document is wanted instead of tables and lines."""
        return self.format == "json"
