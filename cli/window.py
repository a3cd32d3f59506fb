"""The maintenance window: when it closes, and what is left then."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from oslo_config import cfg

from cli.output import failure_line, labels, say
from jobs.action import Action, CellResult, Target
from runs.local import LocalEngine

NAMED: Final = 10
"""How many cells are named one by one."""
COUNTING: Final = 30.0
"""Seconds in which what is left is counted: the window has closed."""


@contextmanager
def closing(stop: threading.Event, until: datetime | None) -> Iterator[None]:
    """Set ``stop`` when the window closes, if that happens while the context lasts."""
    if until is None:
        yield
        return
    seconds = max(until.timestamp() - time.time(), 0)
    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), stop.set)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def say_left(
    until: datetime,
    results: Sequence[CellResult[Any]],
    chosen: Sequence[Target],
    counting: tuple[Action[Any, Any], Any] | None,
    conf: cfg.ConfigOpts,
) -> None:
    """Say which cells the window closed on, and what is left in them.

    :param counting: a look at what there is to do, and its parameters
    """
    left = [n for n, result in enumerate(results) if not result.complete and not result.failure]
    names = labels(results)
    if not left:
        return
    shown = ", ".join(names[n] for n in left[:NAMED]) + (", ..." if len(left) > NAMED else "")
    say(
        f"The window closed at {until:%H:%M %Z} before {len(left)} of {len(results)} cells were "
        f"through: {shown}"
    )
    if counting is None:
        return
    action, params = counting
    limit = threading.Event()
    engine = LocalEngine(
        conf.cellkeeper.concurrency, conf.cellkeeper.concurrency_per_server, stop=limit
    )
    with closing(limit, datetime.now(UTC) + timedelta(seconds=COUNTING)):
        found = engine.work(action, params, [chosen[n] for n in left])
    for n, result in list(zip(left, found, strict=True))[:NAMED]:
        say(_line_of_left(names[n], result))
    total = sum(result.outcome.rows for result in found)
    exact = all(result.complete for result in found)
    say(f"Left in these cells: {'' if exact else 'at least '}{total:,} rows")


def _line_of_left(label: str, result: CellResult[Any]) -> str:
    if result.failure:
        return f"{failure_line(label, result.failure)}; what is left there was not counted"
    tables = len(result.outcome.by_table)
    at_least = "" if result.complete else "at least "
    return f"{label}: left: {at_least}{result.outcome.rows:,} rows in {tables} tables"
