"""What the commands say of a run: how it ended, in words, how much it did, how long it took."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from jobs.actions import ACTIONS
from runs.conductor import results_of_phases
from runs.outcomes import Ending, RunFacts, ending_of, facts_of
from runs.records import RunRecord
from runs.redis_store import RedisStore


@dataclass(frozen=True)
class RunSummary:
    """A run, summed up over its cells.

    :ivar facts: None: the run is of a newer program, whose actions are not known here
    """

    record: RunRecord
    facts: RunFacts | None

    @property
    def ending(self) -> Ending | None:
        """How it ended; None while it goes on."""
        has_ended = self.record.exit_code is not None
        return ending_of(self.facts) if has_ended and self.facts else None

    @property
    def words(self) -> str:
        """How it ended, or how it stands."""
        return self.ending or self.record.state

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        return max((self.record.finished or time.time()) - self.record.started, 0.0)


def summarize(store: RedisStore, record: RunRecord) -> RunSummary:
    """Sum a run up.

    :raises RunGone: it has expired meanwhile
    """
    actions = [ACTIONS.get(phase.action) for phase in record.order.phases]
    if actions[0] is None or None in actions:
        return RunSummary(record, None)
    return RunSummary(record, facts_of(record, actions[0], results_of_phases(store, record)))


def summary_as_data(summary: RunSummary) -> dict[str, Any]:
    """What the JSON of every command says of a run."""
    record, facts = summary.record, summary.facts
    return {
        "run": record.order.id,
        "commands": [{"action": phase.action, "params": phase.params} for phase in record.order.phases],
        "by": record.order.by,
        "state": record.state,
        "outcome": summary.ending,
        "exit_code": record.exit_code,
        "rows": facts.rows if facts else None,
        "blocked": facts.blocked if facts else None,
        "failed_cells": facts.failed_cells if facts else None,
        "started": moment(record.started),
        "finished": moment(record.finished),
        "seconds": round(summary.seconds, 3),
        "until": moment(record.order.until),
        "cells": [cell.label for cell in record.order.cells],
    }


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
