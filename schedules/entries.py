"""The entries of the schedule: read from the configuration, and refused where they cannot be meant."""

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
"""The global options that a command line of the schedule may have."""


@dataclass(frozen=True)
class ParsedCommand:
    """A command line as the grammar understands it.

    :ivar path: category and command, without aliases and abbreviations
    :ivar options: by the name of the parameter
    :ivar global_options: those of the program that are given with it, in full
    """

    path: str
    options: Mapping[str, Any]
    global_options: Sequence[str] = ()


ParseCommand = Callable[[Sequence[str]], ParsedCommand]
"""Reads the words of a command line; raises ``ValueError`` with what is wrong with them."""


class InvalidSchedule(Exception):
    """The schedule cannot be meant as it stands.

    :ivar lines: what is wrong, each with the name of the entry
    """

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


@dataclass(frozen=True)
class Entry:
    """What is started when.

    :ivar cron: the expression
    :ivar words: the command line
    :ivar zone: that the expression is in
    """

    name: str
    cron: str
    words: tuple[str, ...]
    command: ParsedCommand
    zone: ZoneInfo

    def last(self, now: datetime) -> datetime | None:
        """The last nominal time up to now, in UTC; None: there was none in living memory."""
        return last_time(self.cron, self.zone, now)

    def next(self, now: datetime) -> datetime | None:
        """The next nominal time after now, in UTC; None: there will be none."""
        return next_time(self.cron, self.zone, now)

    def latest(self, nominal: datetime, deadline: timedelta) -> datetime:
        """Until when a firing may be started: within the deadline, and before its maintenance window closes."""
        closes = self.closes(nominal)
        return min(nominal + deadline, closes) if closes else nominal + deadline

    def closes(self, nominal: datetime) -> datetime | None:
        """When the maintenance window of a firing closes; None: never."""
        until = self.command.options.get("until")
        return dates.closing_time(until, self.zone, nominal) if until else None

    def shown(self, moment: datetime | None) -> str:
        """A moment for people, in the zone of the entry; empty without one."""
        return moment.astimezone(self.zone).strftime("%Y-%m-%d %H:%M:%S %Z") if moment else ""

    @property
    def line(self) -> str:
        """The command line, as one would type it."""
        return shlex.join(self.words)


def read_schedule(conf: cfg.ConfigOpts, understand: ParseCommand) -> list[Entry]:
    """The enabled entries.

    :raises Refused: an entry cannot be meant
    """
    zone = time_zone(conf)
    entries, problems = [], []
    for name in dict.fromkeys(conf.schedule.enabled):
        try:
            entries.append(_read_entry(conf, name, zone, understand))
        except ValueError as error:
            problems.append(f"{name}: {error}")
    problems += conflicting_ages(entries, datetime.now(UTC).replace(tzinfo=None))
    if conf.schedule.deadline >= conf.celery.expires:
        problems.append("deadline in section [schedule] must be below expires in section [celery]")
    if problems:
        raise InvalidSchedule(problems)
    return entries


def _read_entry(conf: cfg.ConfigOpts, name: str, zone: ZoneInfo, understand: ParseCommand) -> Entry:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}", name):
        raise ValueError("the name of an entry is made of letters, digits, '_' and '-'")
    entry_section(name).register(conf)
    section = conf[f"schedule_{name}"]
    if not section.cron or not section.command:
        missing = "cron" if not section.cron else "command"
        raise ValueError(f"it has no {missing}: set it in section [schedule_{name}]")
    _check_cron(section.cron, zone)
    words = _words(section.command)
    command = understand(words)
    _check_options(command)
    return Entry(name, section.cron, words, command, zone)


def _check_cron(cron: str, zone: ZoneInfo) -> None:
    now = datetime.now(UTC)
    try:
        CronSim(cron, now)
    except CronSimError as error:
        raise ValueError(f"bad cron expression: {error}") from None
    if next_time(cron, zone, now) is None:
        raise ValueError("bad cron expression: it never comes")


def _words(line: str) -> tuple[str, ...]:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ValueError(f"bad command line: {error}") from None
    return tuple(words[1:] if words[:1] == ["cellkeeper"] else words)


def _check_options(command: ParsedCommand) -> None:
    """What commands look at themselves only when they run: at night is too late for it.

    :raises ValueError: an option has no use in a schedule
    """
    options = command.options
    for word in command.global_options:
        if word not in DEBUGGING:
            name = word.partition("=")[0]
            raise ValueError(f"{name} is for cellkeeper beat itself, which reads one configuration and has one log")
    if "detach" not in options or options.get("dry_run"):
        raise ValueError(f"{command.path} is no work for workers: only what takes --detach can be scheduled")
    if options.get("all_cells") is False:
        raise ValueError(f"{command.path} needs --all-cells: workers work on mapped cells")
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
    if options.get("wait_for") is not None or options.get("timeout") is not None:
        raise ValueError("--wait-for and --timeout are for a command that waits: a schedule comes again")
    if "-" in (options.get("until") or ""):
        raise ValueError("--until in a schedule is a time of day: HH:MM")
    if command.path == PURGE_COMMAND and options["before"] is None and not options["everything"]:
        raise ValueError("db purge needs --before or --all")


def conflicting_ages(entries: Sequence[Entry], now: datetime) -> list[str]:
    """The purges that would delete what an archive moved a moment ago: their age is below that of the archive.

    :param now: what ages count back from; naive, in UTC
    """

    def limit(entry: Entry) -> datetime:
        before = entry.command.options.get("before")
        return dates.parse(before, now) if before else now

    def shown(entry: Entry) -> str:
        before = entry.command.options.get("before")
        return f"--before {before}" if before else "no --before"

    return [
        f"{purge.name}: it purges with {shown(purge)}, below the age of {archive.name} with {shown(archive)}: "
        "what that archives at night would be gone for good at once"
        for purge in entries
        if purge.command.path == PURGE_COMMAND
        for archive in entries
        if archive.command.path == ARCHIVE_COMMAND and limit(purge) > limit(archive)
    ]
