"""The entries of the schedule: what is refused, by name, and when they are due."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from oslo_config import cfg

from cli.main import cellkeeper
from cli.schedule.reading import command_parser
from schedules import entries
from schedules.entries import Entry, InvalidSchedule
from settings import schedule
from settings.files import load_configuration

ARCHIVE = "db archive_deleted_rows --all-cells --until-complete"
PURGE = "db purge --all-cells"


@pytest.fixture(autouse=True)
def within_a_command() -> Iterator[None]:
    """The grammar is that of the running program."""
    with click.Context(cellkeeper):
        yield


def read(tmp_path: Path, **commands: str) -> list[Entry]:
    """The entries of a schedule.

    :param commands: by name; the expression before a bar, if it matters
    """
    lines = ["[schedule]", f"enabled = {', '.join(commands)}"]
    for name, command in commands.items():
        cron, _, words = command.rpartition("|")
        lines += [f"[schedule_{name}]", f"cron = {cron or '0 2 * * *'}", f"command = {words}"]
    return read_text(tmp_path, "\n".join(lines))


def read_text(tmp_path: Path, text: str) -> list[Entry]:
    path = tmp_path / "cellkeeper.conf"
    path.write_text(text + "\n")
    return entries.read_schedule(load_configuration([f"--config-file={path}"]), command_parser())


def refusal(tmp_path: Path, **commands: str) -> list[str]:
    with pytest.raises(InvalidSchedule) as caught:
        read(tmp_path, **commands)
    return list(caught.value.lines)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "named"),
    [
        pytest.param(
            f"0 2 * *|{ARCHIVE}", "bad cron expression: Wrong number of fields", id="four fields"
        ),
        pytest.param(f"61 2 * * *|{ARCHIVE}", "Bad minute", id="no such minute"),
        pytest.param(f"0 2 31 2 *|{ARCHIVE}", "Bad day-of-month", id="never"),
        pytest.param(f"every night|{ARCHIVE}", "bad cron expression", id="words"),
        pytest.param(
            "db archive 'x",
            "bad command line: No closing quotation",
            id="a quotation that does not end",
        ),
        pytest.param("db", "it names no command", id="a category"),
        pytest.param("dp purge --all", "No such command 'dp'", id="no such category"),
        pytest.param("db purje --all", "No such command 'purje'", id="no such command"),
        pytest.param(f"{PURGE} --all --nope", "No such option '--nope'", id="no such option"),
        pytest.param(f"{PURGE} --all more", "unexpected extra argument", id="an argument too many"),
        pytest.param(
            f"{ARCHIVE} --max_rows many", "Invalid value for '--max_rows'", id="not a number"
        ),
        pytest.param(
            f"{ARCHIVE} --max_rows -1", "invalid value for --max_rows: -1", id="out of range"
        ),
        pytest.param(
            f"{ARCHIVE} --before 01/02/2015",
            "invalid value for --before",
            id="a date of two meanings",
        ),
        pytest.param(f"{ARCHIVE} --until 25:00", "Invalid value for '--until'", id="no such time"),
        pytest.param(
            f"{ARCHIVE} --until 2026-11-24T06:00+00:00", "a time of day: HH:MM", id="a moment"
        ),
        pytest.param(
            "placement heal_allocations --max-count 0",
            "invalid value for --max-count: 0",
            id="no instance",
        ),
        pytest.param(
            "cell_v2 discover_hosts --wait-for 2",
            "are for a command that waits",
            id="a command that waits",
        ),
        pytest.param(f"{PURGE}", "db purge needs --before or --all", id="a purge without an age"),
        pytest.param("db purge --all", "needs --all-cells", id="the configured database"),
        pytest.param(f"{ARCHIVE} --dry-run", "--dry-run counts", id="a dry run"),
        pytest.param("placement audit", "cannot run on workers", id="an audit"),
        pytest.param("worker", "cannot run on workers", id="a worker"),
        pytest.param("runs list", "cannot run on workers", id="a look"),
        pytest.param("db purge --help", "it only prints something", id="help"),
        pytest.param(
            f"--log-file x {ARCHIVE}", "--log-file is for cellkeeper beat itself", id="another log"
        ),
        pytest.param(
            f"{ARCHIVE} --config-file=x",
            "--config-file is for cellkeeper beat",
            id="another configuration",
        ),
        pytest.param(
            f"--post-mortem {ARCHIVE}", "--post-mortem is for cellkeeper beat", id="a debugger"
        ),
        pytest.param("--version", "it only prints something", id="the version"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused_by_name(
    tmp_path: Path, command: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = refusal(tmp_path, mine=command)
    assert line.startswith("mine: ")
    assert named in line
    assert capsys.readouterr().out == ""


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    lines = refusal(tmp_path, one="db nope", good=ARCHIVE, two=f"61 * * * *|{ARCHIVE}")
    assert [line.partition(":")[0] for line in lines] == ["one", "two"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[schedule]\nenabled = mine", "mine: it has no cron: set it in section [schedule_mine]"),
        (
            "[schedule]\nenabled = mine\n[schedule_mine]\ncron = * * * * *",
            "mine: it has no command",
        ),
        ("[schedule]\nenabled = my entry", "my entry: the name of an entry is made of letters"),
        (
            f"[schedule]\ndeadline = {86_400 * 30}",
            "deadline in section [schedule] must be below expires",
        ),
    ],
)
def test_a_section_that_lacks_something_is_refused(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        read_text(tmp_path, text)
    assert caught.value.lines[0].startswith(named)


@pytest.mark.parametrize(
    ("archive", "purge", "refused"),
    [
        ("--before 90d", "--before 180d", False),
        ("--before 90d", "--before 90d", False),
        ("--before 90d", "--before 89d", True),
        ("--before 90d", "--all", True),
        ("--before '3 months'", "--before 12w", True),
        ("--before 2w", "--before '1 month'", False),
        ("--before 2026-01-01", "--before 2026-02-01", True),
        ("--before 2026-01-01", "--before 2025-12-01", False),
        ("", "--all", False),
        ("", "--before 1d", False),
    ],
)
def test_a_purge_younger_than_the_archive_is_refused(
    tmp_path: Path, archive: str, purge: str, refused: bool
) -> None:
    commands = {"nightly": f"{ARCHIVE} {archive}", "weekly": f"{PURGE} {purge}"}
    if not refused:
        assert len(read(tmp_path, **commands)) == 2
        return
    (line,) = refusal(tmp_path, **commands)
    assert line.startswith("weekly: it purges with ")
    assert "below the age of nightly" in line


def test_what_comes_along_is_off_and_can_be_enabled_as_it_is(tmp_path: Path) -> None:
    assert read_text(tmp_path, "") == []
    found = read_text(tmp_path, f"[schedule]\nenabled = {','.join(schedule.DEFAULTS)}")
    assert [entry.name for entry in found] == ["nightly_archive", "weekly_purge"]


def test_a_command_line_is_understood_as_the_program_does(tmp_path: Path) -> None:
    (entry,) = read(
        tmp_path, mine="cellkeeper --debug db archive --all-c --until --before 90d --max-rows=5"
    )
    assert entry.command.path == "db archive_deleted_rows"
    said = {
        name: entry.command.options[name]
        for name in ("all_cells", "until_complete", "before", "max_rows")
    }
    assert said == {"all_cells": True, "until_complete": True, "before": "90d", "max_rows": 5}
    assert entry.words[0] == "--debug"
    (entry,) = read(tmp_path, mine="placement sync_aggregates --until 06:00")
    assert entry.command.path == "placement sync_aggregates"


# -- when ------------------------------------------------------------------------------------------


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    """At 02:30 in Berlin, until 06:00."""
    text = (
        "[cellkeeper]\ntimezone = Europe/Berlin\n[schedule]\nenabled = mine\n[schedule_mine]\n"
        f"cron = 30 2 * * *\ncommand = {ARCHIVE} --until 06:00"
    )
    return read_text(tmp_path, text)[0]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "last", "following"),
    [
        pytest.param("2026-11-24T12:00", "2026-11-24T01:30", "2026-11-25T01:30", id="at noon"),
        pytest.param(
            "2026-11-24T01:30:00", "2026-11-24T01:30", "2026-11-25T01:30", id="to the second"
        ),
        pytest.param(
            "2026-11-24T01:29:59.9", "2026-11-23T01:30", "2026-11-24T01:30", id="a moment before"
        ),
        pytest.param(
            "2026-11-24T01:30:00.1", "2026-11-24T01:30", "2026-11-25T01:30", id="a moment after"
        ),
        pytest.param(
            "2026-03-29T12:00",
            "2026-03-29T01:00",
            "2026-03-30T00:30",
            id="02:30 is missing that night",
        ),
        pytest.param(
            "2026-10-25T12:00",
            "2026-10-25T00:30",
            "2026-10-26T01:30",
            id="02:30 comes twice that night",
        ),
        pytest.param(
            "2026-10-25T01:30",
            "2026-10-25T00:30",
            "2026-10-26T01:30",
            id="the second 02:30 is none",
        ),
    ],
)
def test_when_an_entry_is_due(entry: Entry, now: str, last: str, following: str) -> None:
    assert entry.last_due(moment(now)) == moment(last)
    assert entry.next_due(moment(now)) == moment(following)


@pytest.mark.parametrize(
    "cron", ["*/10 * * * * *", "*/7 3,5 * * 1-5", "30 2 * * *", "0 0 29 2 *", "59 23 L * *"]
)
def test_the_next_firing_is_the_last_one_once_it_is_there(tmp_path: Path, cron: str) -> None:
    text = (
        "[cellkeeper]\ntimezone = Europe/Berlin\n[schedule]\nenabled = mine\n[schedule_mine]\n"
        f"cron = {cron}\ncommand = {ARCHIVE}"
    )
    (entry,) = read_text(tmp_path, text)
    now = moment("2026-03-27T00:00:01")
    for _ in range(60):
        following = entry.next_due(now)
        assert following is not None
        assert entry.last_due(following) == following
        assert entry.last_due(following - timedelta(microseconds=1)) != following
        now = following


@pytest.mark.parametrize(
    ("deadline", "latest"), [(3600, "2026-11-24T02:30"), (86_400, "2026-11-24T05:00")]
)
def test_nothing_is_started_after_the_deadline_or_when_the_window_has_closed(
    entry: Entry, deadline: int, latest: str
) -> None:
    assert entry.latest_start(moment("2026-11-24T01:30"), timedelta(seconds=deadline)) == moment(
        latest
    )


# -- the documentation -----------------------------------------------------------------------------

DOCS = Path(__file__).parents[3] / "docs" / "schedule.md"


@pytest.mark.parametrize("option", schedule.OPTIONS, ids=lambda option: option.name)
def test_each_option_is_documented_with_its_default(option: cfg.Opt) -> None:
    default = "" if option.default == [] else option.default
    assert f"| `{option.name}` | {default} | " in DOCS.read_text()


@pytest.mark.parametrize("name", schedule.DEFAULTS)
def test_what_comes_along_is_documented(name: str) -> None:
    cron, command = schedule.DEFAULTS[name]
    assert f"| `{name}` | `{cron}` | `{command}` |" in DOCS.read_text()
