"""The tally: numbers that runs leave behind for whoever watches them, by action and cell. They
outlive the runs.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from jobs.action import CellResult

ROWS: Final = "rows"
"""Rows written so far, by all runs; counted with each step."""
SUCCESS: Final = "success"
"""When a run last ended without failure and had written rows, or found nothing left; seconds since
the epoch.
"""
FAILED: Final = "failed"
"""Whether the last run failed, 1 or 0."""
BLOCKED: Final = "blocked"
"""Trees of rows that the last run left, because something is in their way."""
DURATION: Final = "duration"
"""Seconds from the begin of the last run to its end."""
THROTTLED: Final = "throttled"
"""Seconds for which the work in a cell paused, by signal instead of by action."""


def entry_name(kind: str, action: str, cell: str) -> str:
    """The name of an entry."""
    return f"{kind} {action} {cell}"


def entries(action: str, results: Iterable[CellResult[Any]], now: float) -> dict[str, float]:
    """What a run that has ended enters.

    :param results: of one phase. What is not begun for want of a budget or of time enters nothing
    """
    new_entries: dict[str, float] = {}
    for result in results:
        cell, outcome = result.cell.uuid or "", result.outcome
        if not (result.complete or result.failure or outcome.rows):
            continue
        new_entries[entry_name(FAILED, action, cell)] = int(result.failure is not None)
        new_entries[entry_name(BLOCKED, action, cell)] = outcome.stayed
        new_entries[entry_name(DURATION, action, cell)] = result.seconds
        if not result.failure:
            new_entries[entry_name(SUCCESS, action, cell)] = now
    return new_entries


def read(numbers: dict[str, float]) -> Sequence[tuple[str, str, str, float]]:
    """The entries as kind, action, cell and number, in order. One whose name is none of ours is
    left out.
    """
    entries = []
    for entry, number in numbers.items():
        words = entry.split(" ", 2)
        if len(words) == 3:
            kind, action, cell = words
            entries.append((kind, action, cell, number))
    return sorted(entries)
