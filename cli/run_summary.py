"""What the commands say of a run: how it ended, in words, how much it did, how long it took."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any

from jobs.action import CellResult
from runs import rules
from runs.outcomes import Ending, ending_of
from runs.pace import Speed
from runs.records import Progress, RunRecord
from runs.store import RunStore


@dataclass(frozen=True)
class RunSummary:
    """A run, summed up over its cells.

    :ivar progress: of the first phase
    :ivar current: the progress of the current phase
    :ivar words: how it ended, or how it stands
    :ivar speed: of the current phase
    """

    record: RunRecord
    progress: Progress
    current: Progress
    words: str
    speed: Speed = field(default_factory=Speed)

    @property
    def ending(self) -> Ending | None:
        """How it ended; None while it goes on."""
        return ending_of(self.record.facts) if self.record.facts else None

    @property
    def rows(self) -> int:
        """Written so far by the first phase; of one that only reads, counted."""
        return self.record.facts.rows if self.record.facts else self.progress.rows

    @property
    def failed_cells(self) -> int:
        """Cells whose work failed in the first phase so far."""
        return self.record.facts.failed_cells if self.record.facts else self.progress.failed

    @property
    def blocked(self) -> int:
        """Rows that had to be left; known at the end."""
        return self.record.facts.blocked if self.record.facts else 0

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far; 0 before it began."""
        if self.record.started is None:
            return 0.0
        return max((self.record.finished or time.time()) - self.record.started, 0.0)


def summarize(store: RunStore, record: RunRecord) -> RunSummary:
    """Sum a run up. What is read does not grow with its cells."""
    # With all that they import, which the progress of a command does without.
    from jobs.actions import ACTIONS

    current = store.progress(record.order.id, record.phase)
    first = store.progress(record.order.id, 0) if record.phase else current
    hold, now = store.hold(), store.now()
    words = rules.state_in_words(record, hold, now, current.at_work)
    speed = rules.speed_of_run(current, record, hold, now, ACTIONS)
    return RunSummary(record, first, current, words, speed)


def summary_as_data(summary: RunSummary) -> dict[str, Any]:
    """What the JSON of every command says of a run."""
    record = summary.record
    return {
        "run": record.order.id,
        "commands": [
            {"action": phase.action, "params": phase.params} for phase in record.order.phases
        ],
        "by": record.order.by,
        "state": summary.words,
        "outcome": summary.ending,
        "exit_code": record.exit_code,
        "rows": summary.rows,
        "blocked": summary.blocked,
        "failed_cells": summary.failed_cells,
        **speed_as_data(summary.speed),
        "ordered": moment(record.ordered),
        "started": moment(record.started),
        "finished": moment(record.finished),
        "seconds": round(summary.seconds, 3),
        "until": moment(record.until),
        "cells": record.cells,
        "throttle": list(record.guards) if record.order.throttle else None,
        "steering": [
            {"what": step.what, "by": step.by, "at": moment(step.at)} for step in record.steering
        ],
    }


def speed_as_data(speed: Speed) -> dict[str, Any]:
    """What the JSON of every command says of how fast the work goes in a run, or in a cell."""
    left = speed.seconds_left
    return {
        "rate": None if speed.rate is None else round(speed.rate, 1),
        "remaining": speed.remaining,
        "eta": None if left is None else moment(time.time() + left),
    }


def mean_speed(result: CellResult[Any]) -> Speed:
    """How fast the work in a cell that has ended went, over all its time."""
    return Speed(
        result.outcome.handled / result.seconds
        if result.seconds and result.outcome.handled
        else None
    )


def rate_in_words(speed: Speed) -> str:
    """How much is handled in a second; empty where that is not known."""
    if speed.rate is None:
        return ""
    return f"{speed.rate:,.0f}/s" if speed.rate >= 10 else f"{speed.rate:.1f}/s"


def eta_in_words(speed: Speed) -> str:
    """How long the rest takes, as 0:00:07; empty where that is not known."""
    return "" if speed.seconds_left is None else duration(speed.seconds_left)


def moment(seconds: float | None) -> datetime | None:
    """A moment of the store, for JSON.

    :param seconds: since the epoch; None: it has not come
    """
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def clock_time(seconds: float | None, zone: tzinfo) -> str:
    """A moment for people: date, time and zone; empty if it has not come."""
    return datetime.fromtimestamp(seconds, zone).strftime("%Y-%m-%d %H:%M:%S %Z") if seconds else ""


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as 0:00:07."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
