"""The metrics: each is declared here, and filled from the store of runs or from the cells."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from oslo_config import cfg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from cli.schedule import reading
from cli.watch.run_samples import put_runs
from jobs.action import CellResult
from jobs.db.deleted_rows import LOOK, DeletedRows, Params
from novadb.cells import Cell
from novadb.errors import DatabaseProblem
from runs import tally
from runs.conductor import count_serving
from runs.local import LocalEngine
from runs.outcomes import FAILURES, ending_of
from runs.records import RunRecord
from runs.redis_store import RedisStore
from runs.store import RunGone
from runs.targets import api_database, mapped_cells, targets
from runs.troubles import Troubles
from schedules.entries import Entry, InvalidSchedule
from schedules.firings import Firing, FiringState
from settings.printable import printable
from settings.unknown import unknown_settings
from workers.redis_client import check_store, run_store

LOG = logging.getLogger("cellkeeper.metrics")

PREFIX: Final = "cellkeeper_"
# Name, what it says, its labels. One that ends with _total only grows.
METRICS: Final = {
    "api_database_up": ("Whether the API database can be read.", ()),
    "store_up": ("Whether the store of runs answers; missing without a broker.", ()),
    "cell_up": ("Whether the cell's database could be looked at.", ("cell",)),
    "backlog_rows": (
        "Rows that are marked as deleted; counted up to 100,000 for each table.", ("cell",)),
    "backlog_oldest_timestamp_seconds": ("When the oldest of these rows was deleted.", ("cell",)),
    "backlog_timestamp_seconds": ("When the cell was looked at.", ("cell",)),
    "rows_total": ("Rows written by all runs of workers.", ("action", "cell")),
    "throttled_seconds_total": (
        "For how long work paused, by what the server suffered.", ("signal", "cell")),
    "last_success_timestamp_seconds": (
        "When a run last ended without failure.", ("action", "cell")),
    "last_failed": ("Whether the last run failed.", ("action", "cell")),
    "last_duration_seconds": ("How long the last run took.", ("action", "cell")),
    "blocked_rows": (
        "Trees of rows that the last run left, as something is in their way.", ("action", "cell")),
    "cell_workers": ("Workers that serve the cell.", ("cell",)),
    "runs_active": ("Runs that have not ended.", ()),
    "runs": ("Runs that have not ended, by how they stand.", ("state",)),
    "oldest_waiting_run_timestamp_seconds": (
        "When the oldest of the runs that wait was ordered.", ()),
    "run_state": ("Whether the run stands like this.", ("run", "action", "state")),
    "run_queue_place": (
        "Of a run that waits: its place among those that do; 1 is the next.", ("run", "action")),
    "run_ordered_timestamp_seconds": ("When the run was ordered.", ("run", "action")),
    "run_started_timestamp_seconds": ("When the run began.", ("run", "action")),
    "run_cells": ("Cells of the current phase of the run.", ("run", "action", "state")),
    "run_rate": (
        "What the run handled in a second, in the last minute; missing while it pauses.",
        ("run", "action")),
    "run_remaining": (
        "About how much the run has still to handle, where that is known.", ("run", "action")),
    "run_eta_timestamp_seconds": (
        "When the run is through at this rate, where that is known.", ("run", "action")),
    "hold": ("Whether all runs are held.", ()),
    "hold_since_timestamp_seconds": ("When they were held.", ()),
    "hold_end_timestamp_seconds": ("When the hold ends by itself; missing if it does not.", ()),
    "last_run_outcome": ("How the last run that has ended did so.", ("action", "outcome")),
    "last_run_exit_code": ("The exit code of the last run that has ended.", ("action",)),
    "last_run_end_timestamp_seconds": ("When the last run that has ended did so.", ("action",)),
    "beats": ("Beats that are running, but for those whose clock is wrong.", ()),
    "schedule_up": ("Whether the schedule of this host's configuration can be used.", ()),
    "schedule_last_timestamp_seconds": ("When the entry was due last.", ("entry",)),
    "schedule_last_failed": (
        "Whether the last firing did not start, or its run failed in a cell.", ("entry",)),
    "schedule_next_timestamp_seconds": ("When the entry is due next.", ("entry",)),
}  # fmt: skip
# The entries of the tally.
FROM_BOOKS: Final = {
    tally.ROWS: "rows_total",
    tally.THROTTLED: "throttled_seconds_total",
    tally.SUCCESS: "last_success_timestamp_seconds",
    tally.FAILED: "last_failed",
    tally.DURATION: "last_duration_seconds",
    tally.BLOCKED: "blocked_rows",
}


class Sheet:
    """The samples of one answer."""

    def __init__(self) -> None:
        self._families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}

    def put(self, name: str, value: float, *values: str) -> None:
        """Add a sample; ``values`` are those of its labels, in which the format of Prometheus lets
        anything stand.
        """
        if name not in self._families:
            help_text, labels = METRICS[name]
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            self._families[name] = kind(PREFIX + name, help_text, labels=labels)
        self._families[name].add_metric(list(map(printable, values)), value)

    def families(self) -> Iterator[Metric]:
        """What has samples, in the order of the declaration."""
        return (self._families[name] for name in METRICS if name in self._families)


API_DATABASE: Final = "API database"
STORE: Final = "store of runs"


@dataclass
class Backlogs:
    """What the cells were like when they were last looked at.

    :ivar seen: result and time for each cell; by uuid
    """

    conf: cfg.ConfigOpts
    seen: dict[str, tuple[CellResult[DeletedRows], float]] = field(default_factory=dict)
    troubles: Troubles = field(default_factory=lambda: Troubles(LOG))

    def look(self) -> None:
        """Look at all cells at once; within limits, so that it may be done every few minutes."""
        own = self.conf.cellkeeper
        try:
            cells = mapped_cells(self.conf, api_database(self.conf))
        except DatabaseProblem as problem:
            self.troubles.begin(API_DATABASE, str(problem))
            return
        engine = LocalEngine(own.concurrency, own.concurrency_per_server)
        results = engine.work(LOOK, Params(), targets(self.conf, cells, None))
        now = time.time()
        self.seen = {result.cell.uuid or "": (result, now) for result in results}

    def keep(self, every: float, stop: threading.Event) -> None:
        """Look again and again, until ``stop`` is set."""
        while not stop.is_set():
            try:
                self.look()
            except Exception:
                LOG.exception("the cells could not be looked at; it goes on")
            stop.wait(every)


class Metrics(Collector):
    """Answers Prometheus."""

    def __init__(self, conf: cfg.ConfigOpts, backlogs: Backlogs) -> None:
        self._conf = conf
        self._backlogs = backlogs
        self._troubles = backlogs.troubles
        self._parse = reading.command_parser()
        self._unknown_settings = unknown_settings(conf)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        """All that can be told right now; what does not answer is told as down."""
        sheet = Sheet()
        names = self._cells(sheet)
        for result, looked in list(self._backlogs.seen.values()):
            _put_backlog(
                sheet, names.get(result.cell.uuid or "", result.cell.label), result, looked
            )
        if self._conf.celery.broker_url:
            try:
                self._store(sheet, names)
                sheet.put("store_up", 1)
                self._troubles.end(STORE)
            except RedisError as error:
                self._troubles.begin(STORE, f"the store of runs does not answer: {error}")
                sheet.put("store_up", 0)
        return sheet.families()

    def _cells(self, sheet: Sheet) -> dict[str, str]:
        """The names of the cells; those known before, if the API database is away."""
        try:
            cells = mapped_cells(self._conf, api_database(self._conf))
        except DatabaseProblem as problem:
            self._troubles.begin(API_DATABASE, str(problem))
            sheet.put("api_database_up", 0)
            return _names([result.cell for result, _ in self._backlogs.seen.values()])
        self._troubles.end(API_DATABASE)
        sheet.put("api_database_up", 1)
        return _names(cells)

    def _store(self, sheet: Sheet, names: dict[str, str]) -> None:
        check_store(self._conf)
        store = run_store(self._conf)
        for kind, action, uuid, value in tally.read(store.tally()):
            if uuid in names and kind in FROM_BOOKS:
                sheet.put(FROM_BOOKS[kind], value, action, names[uuid])
        workers = store.workers()
        for uuid, name in names.items():
            sheet.put("cell_workers", count_serving(workers, uuid), name)
        put_runs(sheet, store)
        self._schedule(sheet, store)

    def _schedule(self, sheet: Sheet, store: RedisStore) -> None:
        firings = reading.firings(self._conf)
        sheet.put("beats", sum(not beat.problem for beat in firings.living_beats()))
        try:
            entries = reading.read_entries(self._conf, self._parse)
        except InvalidSchedule:
            sheet.put("schedule_up", 0)
            return
        sheet.put("schedule_up", int(not self._unknown_settings))
        for entry in entries:
            _put_entry(sheet, store, entry, firings.last(entry))


def _names(cells: Sequence[Cell]) -> dict[str, str]:
    """A name per cell that no other cell has, by uuid."""
    taken = Counter(cell.label for cell in cells)
    return {
        cell.uuid or "": cell.label if taken[cell.label] == 1 else cell.identity for cell in cells
    }


def _put_backlog(sheet: Sheet, name: str, result: CellResult[DeletedRows], looked: float) -> None:
    sheet.put("cell_up", int(result.failure is None), name)
    sheet.put("backlog_timestamp_seconds", looked, name)
    if result.failure:
        return
    sheet.put("backlog_rows", result.outcome.rows, name)
    if result.outcome.oldest:
        sheet.put(
            "backlog_oldest_timestamp_seconds",
            result.outcome.oldest.replace(tzinfo=UTC).timestamp(),
            name,
        )


def _put_entry(sheet: Sheet, store: RedisStore, entry: Entry, firing: Firing | None) -> None:
    following = entry.next_due(datetime.now(UTC))
    if following:
        sheet.put("schedule_next_timestamp_seconds", following.timestamp(), entry.name)
    if firing is None or firing.state is FiringState.NEW:
        return
    sheet.put("schedule_last_timestamp_seconds", firing.nominal.timestamp(), entry.name)
    if firing.state is not FiringState.STARTED:
        sheet.put("schedule_last_failed", int(firing.state is not FiringState.DUE), entry.name)
        return
    with suppress(RunGone):  # it has expired: nobody knows
        sheet.put("schedule_last_failed", int(_failed(store.run(firing.run))), entry.name)


def _failed(run: RunRecord) -> bool:
    """Whether a run that has ended failed as a whole or in a cell."""
    return run.facts is not None and ending_of(run.facts) in FAILURES
