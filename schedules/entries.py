"""The entries of the schedule, read from the configuration and checked."""

import itertools
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from oslo_config import cfg

from jobs import dates
from jobs.db.archive_deleted_rows import MAX_ROWS_LIMIT
from schedules.times import last_time, next_time
from settings.cellkeeper import time_zone
from settings.schedule import entry_section

ARCHIVE_COMMAND: Final = "db archive_deleted_rows"
PURGE_COMMAND: Final = "db purge"
DEBUGGING: Final = frozenset({"--debug", "--nodebug"})
"""The global options that a command line in the schedule may have."""


@dataclass(frozen=True)
class ParsedCommand:
    """A command line as the grammar reads it.

    :ivar path: category and command, spelled out
    :ivar options: values by the name of the parameter
    :ivar global_options: the options before the category, as words
    """

    path: str
    options: Mapping[str, Any]
    global_options: Sequence[str] = ()


ParseCommand = Callable[[Sequence[str]], ParsedCommand]
"""Parses the words of a command line; raises ``ValueError`` if they are wrong, with the reason."""


class InvalidSchedule(Exception):
    """The schedule cannot be used as it is.

    :ivar lines: what is wrong, each with the name of the entry
    """

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


@dataclass(frozen=True)
class Entry:
    """One command line and its times.

    :ivar cron: the expression
    :ivar words: the words of the command line
    :ivar zone: the time zone of the expression
    """

    name: str
    cron: str
    words: tuple[str, ...]
    command: ParsedCommand
    zone: ZoneInfo

    def last_due(self, now: datetime) -> datetime | None:
        """The last nominal time up to now, in UTC; None: there was none in fifty years."""
        return last_time(self.cron, self.zone, now)

    def next_due(self, now: datetime) -> datetime | None:
        """The next nominal time after now, in UTC; None: there is none in fifty years."""
        return next_time(self.cron, self.zone, now)

    def latest_start(self, nominal: datetime, deadline: timedelta) -> datetime:
        """Until when a firing may be started: its deadline, or the end of its window if earlier."""
        latest = nominal + deadline
        window_end = self.window_end(nominal)
        return min(latest, window_end) if window_end else latest

    def window_end(self, nominal: datetime) -> datetime | None:
        """When the maintenance window of a firing closes; None: never."""
        until = self.command.options.get("until")
        return dates.closing_time(until, self.zone, nominal) if until else None

    def format_time(self, moment: datetime | None) -> str:
        """A moment in the zone of the entry, for messages; empty for None."""
        if moment is None:
            return ""
        return moment.astimezone(self.zone).strftime("%Y-%m-%d %H:%M:%S %Z")

    @property
    def command_line(self) -> str:
        """The command line, as it would be typed."""
        return shlex.join(self.words)


def read_schedule(conf: cfg.ConfigOpts, parse: ParseCommand) -> list[Entry]:
    """The enabled entries.

    :raises InvalidSchedule: an entry is wrong
    """
    zone = time_zone(conf)
    entries: list[Entry] = []
    problems: list[str] = []
    for name in dict.fromkeys(conf.schedule.enabled):
        try:
            entries.append(_read_entry(conf, name, zone, parse))
        except ValueError as error:
            problems.append(f"{name}: {error}")
    problems += conflicting_ages(entries, datetime.now(UTC).replace(tzinfo=None))
    if conf.schedule.deadline >= conf.celery.expires:
        problems.append("deadline in section [schedule] must be below expires in section [celery]")
    if problems:
        raise InvalidSchedule(problems)
    return entries


def _read_entry(conf: cfg.ConfigOpts, name: str, zone: ZoneInfo, parse: ParseCommand) -> Entry:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}", name):
        raise ValueError("the name of an entry is made of letters, digits, '_' and '-'")
    entry_section(name).register(conf)
    section = conf[f"schedule_{name}"]
    for option in ("cron", "command"):
        if not section[option]:
            raise ValueError(f"it has no {option}: set it in section [schedule_{name}]")
    _check_cron(section.cron, zone)
    words = _split_command_line(section.command)
    command = parse(words)
    _check_command(command)
    return Entry(name, section.cron, words, command, zone)


def _check_cron(cron: str, zone: ZoneInfo) -> None:
    now = datetime.now(UTC)
    try:
        CronSim(cron, now)
    except CronSimError as error:
        raise ValueError(f"bad cron expression: {error}") from None
    if next_time(cron, zone, now) is None:
        raise ValueError("bad cron expression: it is never due")


def _split_command_line(line: str) -> tuple[str, ...]:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ValueError(f"bad command line: {error}") from None
    return tuple(words[1:] if words[:1] == ["cellkeeper"] else words)


def _check_command(command: ParsedCommand) -> None:
    """Check what commands themselves check only when they run: at night is too late for it.

    :raises ValueError: an option cannot be used in a schedule
    """
    for word in command.global_options:
        if word not in DEBUGGING:
            name = word.partition("=")[0]
            raise ValueError(
                f"{name} is for cellkeeper beat itself, which reads one configuration and has one "
                "log"
            )
    _check_is_for_workers(command)
    _check_values(command)
    _check_limits_of_time(command.options)


def _check_is_for_workers(command: ParsedCommand) -> None:
    options = command.options
    if options.get("dry_run"):
        raise ValueError("--dry-run counts and changes nothing: nobody would read it")
    if "detach" not in options:
        raise ValueError(
            f"{command.path} cannot run on workers: only what takes --detach can be scheduled"
        )
    if options.get("all_cells") is False:
        raise ValueError(f"{command.path} needs --all-cells: workers work on mapped cells")


def _check_values(command: ParsedCommand) -> None:
    options = command.options
    if options.get("before") is not None:
        try:
            dates.parse(options["before"])
        except ValueError as error:
            raise ValueError(f"invalid value for --before: {error}") from None
    if not 0 <= (options.get("max_rows") or 0) <= MAX_ROWS_LIMIT:
        raise ValueError(f"invalid value for --max_rows: {options['max_rows']}")
    count = options.get("max_count")
    if count is not None and not (count.isdecimal() and int(count)):
        raise ValueError(f"invalid value for --max-count: {count}")
    is_purge = command.path == PURGE_COMMAND
    if is_purge and options["before"] is None and not options["everything"]:
        raise ValueError("db purge needs --before or --all")


def _check_limits_of_time(options: Mapping[str, Any]) -> None:
    if options.get("wait_for") is not None or options.get("timeout") is not None:
        raise ValueError(
            "--wait-for and --timeout are for a command that waits; a schedule comes again"
        )
    # A date has hyphens, a time of day none.
    if "-" in (options.get("until") or ""):
        raise ValueError("--until in a schedule is a time of day: HH:MM")


def conflicting_ages(entries: Sequence[Entry], now: datetime) -> list[str]:
    """The purges that would delete rows soon after an archive moved them, in words.

    That is, purges whose age is below that of an archive.

    :param now: what ages count back from; without a zone, in UTC
    """
    purges = [entry for entry in entries if entry.command.path == PURGE_COMMAND]
    archives = [entry for entry in entries if entry.command.path == ARCHIVE_COMMAND]
    return [
        _describe_conflict(purge, archive)
        for purge, archive in itertools.product(purges, archives)
        if _newest_deletion(purge, now) > _newest_deletion(archive, now)
    ]


def _describe_conflict(purge: Entry, archive: Entry) -> str:
    return (
        f"{purge.name}: it purges with {_age_option(purge)}, below the age of {archive.name} with "
        f"{_age_option(archive)}: rows archived at night would soon be deleted for good"
    )


def _newest_deletion(entry: Entry, now: datetime) -> datetime:
    """Until when rows must have been deleted for a command to work on them."""
    before = entry.command.options.get("before")
    return dates.parse(before, now) if before else now


def _age_option(entry: Entry) -> str:
    before = entry.command.options.get("before")
    return f"--before {before}" if before else "no --before"
