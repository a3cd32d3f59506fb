"""``schedule list``: what is due when, and how it went."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from oslo_config import cfg

from cli.output import put, put_json, say, table
from cli.run_options import Format
from cli.run_summary import RunSummary, summarize
from cli.schedule import reading
from runs.store import RunGone
from schedules.entries import Entry, InvalidSchedule
from schedules.firings import BeatSign, Firing, FiringState
from settings.schedule import DEFAULTS
from workers.redis_client import check_store, run_store

HEADER = ("Entry", "When", "Command", "Last", "How it ended", "Run", "Next")


@dataclass(frozen=True)
class Line:
    """An entry with what became of its last firing.

    :ivar run: the run that it started; None: there was none, or it has expired
    """

    entry: Entry
    firing: Firing | None
    run: RunSummary | None

    @property
    def ending(self) -> str:
        """How the last firing ended, for people."""
        if self.firing is None or self.firing.state is FiringState.NEW:
            return "not due yet"
        if self.firing.state is not FiringState.STARTED:
            return (
                f"{self.firing.state}: {self.firing.reason}"
                if self.firing.reason
                else self.firing.state
            )
        if self.run is None:
            return "started; the run has expired"
        exit_code = self.run.record.exit_code
        return self.run.words if exit_code is None else f"{self.run.words}, exit code {exit_code}"

    @property
    def last(self) -> datetime | None:
        """When the entry was due last, as far as a beat was there to see it."""
        return (
            self.firing.nominal
            if self.firing and self.firing.state is not FiringState.NEW
            else None
        )


def list_schedule(form: Format) -> int:
    """Print all entries."""
    conf = reading.load()
    refused: tuple[str, ...] = ()
    try:
        entries = reading.read_strictly(conf)
    except InvalidSchedule as error:
        entries, refused = [], tuple(error.lines)
    lines, beats, now = _look_at_entries(conf, entries)
    off = {name: _default(conf, name) for name in DEFAULTS if name not in conf.schedule.enabled}
    if form == "json":
        document = {
            "timezone": conf.cellkeeper.timezone,
            "beats": [beat.name for beat in beats if not beat.problem],
            "beats_that_start_nothing": {beat.name: beat.problem for beat in beats if beat.problem},
            "refused": refused,
            "entries": [_as_data(line) for line in lines],
            "not_enabled": {
                name: {"cron": cron, "command": command} for name, (cron, command) in off.items()
            },
        }
        put_json(document)
    else:
        rows = [_row(line) for line in lines]
        rows += [
            (name, cron, command, "", "not enabled", "", "")
            for name, (cron, command) in off.items()
        ]
        if rows:
            put(table(HEADER, rows))
    for problem in refused:
        say(f"The schedule cannot be used: {problem}")
    if entries:
        _say_problems(lines, beats, now)
    return 255 if refused else 0


def _say_problems(lines: Sequence[Line], beats: Sequence[BeatSign], now: datetime) -> None:
    """Say what keeps entries from being started."""
    for line in lines:
        if line.firing and line.firing.nominal > now:
            say(f"{line.entry.name}: its last firing lies in the future: a clock was wrong")
    for beat in beats:
        if beat.problem:
            say(f"{beat.name} starts nothing: {beat.problem}")
    if not beats:
        say("No beat is running: start one with: cellkeeper beat")


def _look_at_entries(
    conf: cfg.ConfigOpts, entries: list[Entry]
) -> tuple[list[Line], list[BeatSign], datetime]:
    """What became of the entries, which beats are alive, and the time of the store."""
    if not entries:
        return [], [], datetime.now(UTC)
    firings, runs = reading.firings(conf), run_store(conf)
    check_store(conf)
    lines = []
    for entry in entries:
        firing, run = firings.last(entry), None
        if firing and firing.run:
            try:
                run = summarize(runs, runs.run(firing.run))
            except RunGone:
                run = None
        lines.append(Line(entry, firing, run))
    return lines, firings.living_beats(), firings.now()


def _default(conf: cfg.ConfigOpts, name: str) -> tuple[str, str]:
    section = conf[f"schedule_{name}"]
    return section.cron, section.command


def _row(line: Line) -> tuple[Any, ...]:
    entry, firing = line.entry, line.firing
    run = firing.run if firing else ""
    following = entry.next_due(datetime.now(UTC))
    return (
        entry.name,
        entry.cron,
        entry.command_line,
        entry.format_time(line.last),
        line.ending,
        run,
        entry.format_time(following),
    )


def _as_data(line: Line) -> dict[str, Any]:
    entry, firing, run = line.entry, line.firing, line.run
    return {
        "entry": entry.name,
        "cron": entry.cron,
        "command": entry.command_line,
        "last": line.last,
        "state": firing.state if firing else FiringState.NEW,
        "reason": (firing.reason if firing else "") or None,
        "run": (firing.run if firing else "") or None,
        "run_state": run.words if run else None,
        "outcome": run.ending if run else None,
        "exit_code": run.record.exit_code if run else None,
        "next": entry.next_due(datetime.now(UTC)),
    }
