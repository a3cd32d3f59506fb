"""Ordering the run of an entry: its command line, carried out in this process as if it were typed
with ``--detach``.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from oslo_config import cfg

from cli.configuration import CONFIGURATION, LATEST
from cli.errors import one_line
from cli.main import execute
from cli.output import Lines, captured
from runs.conductor import Conductor
from schedules.beat import OrderAttempt
from schedules.entries import Entry
from schedules.firings import is_run_of
from settings.files import read_configuration
from workers import app

LOG = logging.getLogger("cellkeeper.beat")

STATEMENT_LIMIT: Final = (
    30.0  # seconds at most for a statement of the API database: an order reads a few rows
)


class Orders:
    """Orders runs for a beat, in any of its threads."""

    def __init__(self, conf: cfg.ConfigOpts, words: Sequence[str]) -> None:
        """:param conf: as the beat has read it: all its runs go to that broker and that store
        :param words: the global options of the beat
        """
        app.configure(conf)
        self._broker_and_store = _broker_and_store(conf)
        self._words = list(words)

    def __call__(self, entry: Entry, run: str, nominal: datetime, latest: datetime) -> OrderAttempt:
        """Order the run of a firing. Where another run holds its databases, it waits in the queue.

        :param run: its id
        :param nominal: when the firing was due: a maintenance window counts from it
        :param latest: until when the run may be ordered: later, nothing is started
        """
        try:
            conf = self._read_configuration()
            if _broker_and_store(conf) != self._broker_and_store:
                return OrderAttempt(
                    False,
                    "the broker or the store was changed since this beat was started: start it "
                    "again",
                )
            if before := run_before(app.conductor(), entry, run):
                return OrderAttempt(False, f"its run before has not ended: {before}")
        except Exception as error:
            LOG.debug("%s: the run %s could not be ordered", entry.name, run, exc_info=True)
            return OrderAttempt(False, one_line(error))
        return _carry_out(
            command_line(entry, run, nominal), {CONFIGURATION: conf, LATEST: latest.timestamp()}
        )

    def _read_configuration(self) -> cfg.ConfigOpts:
        """The configuration as it stands now: that of a command that is typed now."""
        conf = read_configuration(self._words)
        limit = min(conf.cellkeeper.read_timeout, STATEMENT_LIMIT)
        conf.set_override("read_timeout", limit, group="cellkeeper")
        return conf


def command_line(entry: Entry, run: str, nominal: datetime) -> list[str]:
    """What one would type to order the run of a firing."""
    closes = entry.window_end(nominal)
    window = [f"--until={closes.isoformat()}"] if closes else []
    return [*entry.words, "--detach", f"--run-id={run}", *window]


def run_before(conductor: Conductor, entry: Entry, run: str) -> str:
    """The run of another firing of an entry that has not ended, in words; empty if there is none.

    :param run: of the firing that is due
    """
    for place in conductor.store.queue():
        if place.run == run or not is_run_of(entry, place.run):
            continue
        conductor.look_after(place.run)  # it may be about to end
        if any(other.run == place.run for other in conductor.store.queue()):
            return _describe_with_blocker(conductor, place.run)
    return ""


def _describe_with_blocker(conductor: Conductor, run: str) -> str:
    """A run, and the one that it waits for."""
    blocker = conductor.waits_for(run)
    waiting = f"; it waits for {conductor.describe(blocker)}" if blocker else ""
    return conductor.describe(run) + waiting


def _carry_out(words: Sequence[str], ready: Mapping[str, Any]) -> OrderAttempt:
    with captured() as said:
        code = execute(words, ready)
    for text in said:
        if isinstance(text, Lines):  # a traceback, which --debug asks for
            LOG.info("%s", text)
    if code == 0:
        return OrderAttempt(True)
    reasons = [text for text in said if not isinstance(text, Lines)]
    return OrderAttempt(False, reasons[-1] if reasons else f"it ended with exit code {code}")


def _broker_and_store(conf: cfg.ConfigOpts) -> tuple[str | None, ...]:
    """Where the runs of a configuration are: its broker, and its store."""
    section = conf.celery
    return section.broker_url, section.store_url, section.sentinel_master
