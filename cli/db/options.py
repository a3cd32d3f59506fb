"""The options of commands that have many, as values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ArchiveOptions:
    """The options of ``db archive_deleted_rows``.

    :ivar max_rows: rows of a transaction at most; not checked yet
    :ivar before: a date or an age, as typed
    :ivar purge: whether to purge the shadow tables afterwards
    :ivar sleep: seconds to pause after each ``max_rows`` rows of a cell
    """

    max_rows: int
    before: str | None
    verbose: bool
    until_complete: bool
    purge: bool
    all_cells: bool
    task_log: bool
    sleep: float
    repair: bool
    dry_run: bool


@dataclass(frozen=True)
class PurgeOptions:
    """The options of ``db purge``.

    :ivar everything: whether all rows go, whatever their age
    :ivar before: a date or an age, as typed
    """

    everything: bool
    before: str | None
    verbose: bool
    all_cells: bool
    dry_run: bool
