"""The grammar of the command line: what the stock tool and the manual allow, read from the real
commands.
"""

import shlex
from typing import Any, NamedTuple

import click
import pytest

from cli.main import cellkeeper, run
from cli.version import own_version

ARCHIVE = "db archive_deleted_rows"
DB = [
    "archive_deleted_rows",
    "ironic_compute_node_move",
    "online_data_migrations",
    "purge",
    "sync",
    "version",
]
CELL_V2 = [
    *(
        "create_cell",
        "delete_cell",
        "delete_host",
        "discover_hosts",
        "list_cells",
        "list_hosts",
        "map_cell0",
    ),
    *("map_cell_and_hosts", "map_instances", "simple_cell_setup", "update_cell", "verify_instance"),
]
CATEGORIES = ["api_db", "cell_v2", "db", "libvirt", "placement", "runs", "schedule"]
PURGE = "db purge"


class Parsed(NamedTuple):
    """What a command line means.

    :ivar command: its own name
    :ivar options: those of the command that were given
    :ivar words: the global options as oslo.config gets them, and their values
    """

    command: str | None
    options: dict[str, Any]
    words: list[str]


def parsed(line: str) -> Parsed:
    """Parse a command line as the program does, without carrying it out."""
    given: dict[str, list[str]] = {}
    command: click.Command = cellkeeper
    context = command.make_context("cellkeeper", shlex.split(line), obj=given)
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert found is not None
        command, context = found, found.make_context(name, rest, parent=context)
    source = context.get_parameter_source
    typed = {
        key: value
        for key, value in context.params.items()
        if source(key) is click.core.ParameterSource.COMMANDLINE
    }
    words = [part for word in given.get("words", []) for part in word.split("=", 1)]
    return Parsed(command.name, typed, words)


def usage_error(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command line that must end with 2, nothing on standard output and one line on standard
    error.
    """
    assert run(shlex.split(line)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    return err


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("", {}),
        ("--max_rows 5", {"max_rows": 5}),
        ("--max_rows=5", {"max_rows": 5}),
        ("--before 2015-10-21", {"before": "2015-10-21"}),
        ("--before 'Oct 21 2015'", {"before": "Oct 21 2015"}),
        ("--verbose", {"verbose": True}),
        (
            "--until-complete --purge --all-cells",
            {"until_complete": True, "purge": True, "all_cells": True},
        ),
        ("--task-log --sleep 1", {"task_log": True, "sleep": 1.0}),
        ("--sleep 0.5", {"sleep": 0.5}),
        ("--max_rows 1 --max_rows 2", {"max_rows": 2}),
        ("--repair --dry-run --no-wait", {"repair": True, "dry_run": True, "no_wait": True}),
        ("--concurrency 4 --format json", {"concurrency": 4, "format": "json"}),
    ],
)
def test_options_of_archive(line: str, options: dict[str, Any]) -> None:
    assert parsed(f"{ARCHIVE} {line}") == ("archive_deleted_rows", options, [])


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("--all", {"everything": True}),
        ("--all --all-cells", {"everything": True, "all_cells": True}),
        ("--before 2015-10-21 --verbose", {"before": "2015-10-21", "verbose": True}),
        (
            "--dry-run --no-wait --concurrency 1",
            {"dry_run": True, "no_wait": True, "concurrency": 1},
        ),
    ],
)
def test_options_of_purge(line: str, options: dict[str, Any]) -> None:
    assert parsed(f"{PURGE} {line}") == ("purge", options, [])


@pytest.mark.parametrize(
    ("command", "short", "options"),
    [
        (ARCHIVE, "--max 5", {"max_rows": 5}),
        (ARCHIVE, "--m=5", {"max_rows": 5}),
        (ARCHIVE, "--max_r 5", {"max_rows": 5}),
        (ARCHIVE, "--max-r 5", {"max_rows": 5}),
        (ARCHIVE, "--until --verb", {"until_complete": True, "verbose": True}),
        (ARCHIVE, "--until --all-cells", {"until_complete": True, "all_cells": True}),
        (ARCHIVE, "--until", {"until_complete": True}),
        (ARCHIVE, "--v", {"verbose": True}),
        (ARCHIVE, "--b 2015-10-21", {"before": "2015-10-21"}),
        (ARCHIVE, "--a", {"all_cells": True}),
        (ARCHIVE, "--all", {"all_cells": True}),
        (ARCHIVE, "--p --t --s 1", {"purge": True, "task_log": True, "sleep": 1.0}),
        (PURGE, "--all-", {"all_cells": True}),
        (PURGE, "--all_c", {"all_cells": True}),
        (PURGE, "--all", {"everything": True}),
    ],
)
def test_an_option_of_the_stock_tool_may_be_shortened(
    command: str, short: str, options: dict[str, Any]
) -> None:
    assert parsed(f"{command} {short}").options == options


@pytest.mark.parametrize(
    ("line", "options"),
    [
        (f"{ARCHIVE} --until 06:00", {"until": "06:00"}),
        (f"{ARCHIVE} --until=6:00 --until-complete", {"until": "6:00", "until_complete": True}),
        (f"{ARCHIVE} --until --until 06:00", {"until": "06:00", "until_complete": True}),
        (f"{PURGE} --all --until 23:59", {"everything": True, "until": "23:59"}),
        (
            f"{PURGE} --all --until 2026-11-24T06:00+01:00",
            {"everything": True, "until": "2026-11-24T06:00+01:00"},
        ),
    ],
)
def test_until_means_a_time_where_one_follows(line: str, options: dict[str, Any]) -> None:
    """WIN-1"""
    assert parsed(line).options == options


@pytest.mark.parametrize("value", ["24:00", "12:60", "2026-11-24", "2026-11-24T06:00", "1200"])
def test_another_time_for_until_is_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{value!r} is neither HH:MM nor" in usage_error(f"{ARCHIVE} --until {value}", capsys)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "-a", "a/b", "x" * 101])
def test_a_run_id_that_is_no_name_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not made of letters" in usage_error(
        f"{ARCHIVE} --run-id={shlex.quote(name)}", capsys
    )


@pytest.mark.parametrize(
    "line",
    [
        f"{ARCHIVE} --max-rows 5 --until_complete --all_cells --task_log --dry_run --no_wait",
        f"{ARCHIVE} --max_rows 5 --until-complete --all-cells --task-log --dry-run --no-wait",
    ],
)
def test_both_spellings_of_an_option(line: str) -> None:
    """CLI-2"""
    names = ("max_rows", "until_complete", "all_cells", "task_log", "dry_run", "no_wait")
    assert parsed(line).options == dict.fromkeys(names, True) | {"max_rows": 5}


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (f"{PURGE} --al", ("--al ", "--all ", "--all-cells")),
        (f"{PURGE} --a --verbose", ("--a ", "--all ", "--all-cells")),
        (f"--conf nova.conf {PURGE} --all", ("--conf ", "--config-file", "--config-dir")),
        (f"--use-j {PURGE} --all", ("--use-j ", "--use-json", "--use-journal")),
        (f"--nouse-j {PURGE}", ("--nouse-j ", "--nouse-json", "--nouse-journal")),
    ],
)
def test_what_could_be_two_options_is_refused(
    line: str, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    message = usage_error(line, capsys)
    assert all(name in message for name in names)


@pytest.mark.parametrize(
    "new",
    [
        "--dry",
        "--rep",
        "--no-w",
        "--conc 4",
        "--form json",
        "--deb",
        "--config-f x",
        "--log-fi x",
        "--vers",
    ],
)
def test_behind_a_command_new_and_global_options_are_written_in_full(
    new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """CLI-1; an abbreviation that the stock tool would refuse must not begin to mean something."""
    assert new.split()[0] in usage_error(f"{ARCHIVE} {new}", capsys)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"--config-file a {PURGE}", ["--config-file", "a"]),
        (f"{PURGE} --config-file a", ["--config-file", "a"]),
        (f"{PURGE} --config-file=a --all", ["--config-file", "a"]),
        ("db --config-file a purge", ["--config-file", "a"]),
        ("--config-file a db --config-file b purge --config-file c --config-file d",
         ["--config-file", "a", "--config-file", "b", "--config-file", "c", "--config-file", "d"]),
        ("--config-dir a db purge --config-dir b", ["--config-dir", "a", "--config-dir", "b"]),
        (f"--debug {PURGE}", ["--debug"]),
        (f"{PURGE} --debug", ["--debug"]),
        (f"-d {PURGE}", ["--debug"]),
        (f"{PURGE} -d", ["--debug"]),
        (f"--debug {PURGE} --nodebug", ["--debug", "--nodebug"]),
        (f"--log-file a {PURGE} --log-dir b", ["--log-file", "a", "--log-dir", "b"]),
        (f"{PURGE} --use-json --nouse-syslog "
        "--use-journal", ["--use-json", "--nouse-syslog", "--use-journal"]),
        (f"{PURGE} --watch-log-file --post-mortem", ["--watch-log-file", "--post-mortem"]),
        (f"{PURGE} --log-date-format %H --syslog-log-facility user",
         ["--log-date-format", "%H", "--syslog-log-facility", "user"]),
    ],
)  # fmt: skip
def test_global_options_stand_before_behind_or_on_both_sides(line: str, words: list[str]) -> None:
    """CLI-1"""
    assert parsed(line).words == words


@pytest.mark.parametrize(
    ("written", "word"),
    [
        ("--logfile", "--log-file"),
        ("--logdir", "--log-dir"),
        ("--log-config", "--log-config-append"),
        ("--log_config", "--log-config-append"),
        ("--log_file", "--log-file"),
        ("--config_file", "--config-file"),
    ],
)
@pytest.mark.parametrize("line", ["{} x " + PURGE, PURGE + " {} x"])
def test_the_manuals_other_names_of_global_options(line: str, written: str, word: str) -> None:
    assert parsed(line.format(written)).words == [word, "x"]


@pytest.mark.parametrize(
    ("short", "words"),
    [
        ("--config-f x", ["--config-file", "x"]),
        ("--config_f x", ["--config-file", "x"]),
        ("--deb", ["--debug"]),
        ("--nodeb", ["--nodebug"]),
        ("--use-js", ["--use-json"]),
        ("--log-c x", ["--log-config-append", "x"]),
        ("--logf x", ["--log-file", "x"]),
        ("--log-fi=x", ["--log-file", "x"]),
    ],
)
def test_before_the_category_global_options_may_be_shortened(short: str, words: list[str]) -> None:
    assert parsed(f"{short} {PURGE}").words == words


@pytest.mark.parametrize(
    ("line", "options", "words"),
    [
        ("-df json", {"format": "json"}, ["--debug"]),
        ("-dfjson", {"format": "json"}, ["--debug"]),
        ("-fjson -d", {"format": "json"}, ["--debug"]),
        ("-d -f json", {"format": "json"}, ["--debug"]),
        ("-dd", {}, ["--debug"]),
        ("-df json --verb", {"format": "json", "verbose": True}, ["--debug"]),
        ("-dfjson --verb", {"format": "json", "verbose": True}, ["--debug"]),
        ("-f json --verb", {"format": "json", "verbose": True}, []),
    ],
)
def test_short_options_may_be_combined(
    line: str, options: dict[str, Any], words: list[str]
) -> None:
    assert parsed(f"{ARCHIVE} {line}")[1:] == (options, words)


@pytest.mark.parametrize(
    ("line", "before", "words"),
    [
        ("--before --verbose", "--verbose", []),
        ("--before --ver", "--ver", []),
        ("--before --max-rows", "--max-rows", []),
        ("--before=--ver", "--ver", []),
        ("--before -d", "-d", []),
        ("--before -5d", "-5d", []),
        ("--before --", "--", []),
        ("--before ''", "", []),
        ("--before=", "", []),
        ("--before=a=b", "a=b", []),
        ("--config-file --ver --before x", "x", ["--config-file", "--ver"]),
        ("-d --before --debug", "--debug", ["--debug"]),
    ],
)
def test_a_value_is_taken_as_it_stands(line: str, before: str, words: list[str]) -> None:
    assert parsed(f"{ARCHIVE} {line}")[1:] == ({"before": before}, words)


def test_a_value_before_the_category_is_no_category() -> None:
    assert parsed("--config-file db db purge --log-file version") == (
        "purge",
        {},
        ["--config-file", "db", "--log-file", "version"],
    )


@pytest.mark.parametrize("line", [f"-- {PURGE} --all", "db -- purge --all", f"{PURGE} --all --"])
def test_a_double_dash_ends_the_options_of_one_level(line: str) -> None:
    assert parsed(line) == ("purge", {"everything": True}, [])


def test_behind_a_double_dash_nothing_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--verb" in usage_error(f"{ARCHIVE} -- --verb", capsys)


def test_the_name_that_the_manuals_examples_use() -> None:
    """CLI-2"""
    assert parsed("db archive --max 5 --verb") == (
        "archive_deleted_rows",
        {"max_rows": 5, "verbose": True},
        [],
    )


@pytest.mark.parametrize(
    ("line", "named"),
    [
        pytest.param("nope", "nope", id="category"),
        pytest.param("purge", "purge", id="a command where a category is expected"),
        pytest.param("db nope", "nope", id="command"),
        pytest.param("db purg", "purg", id="a command's beginning"),
        pytest.param(
            "db archive-deleted-rows", "archive-deleted-rows", id="another spelling of a command"
        ),
        pytest.param(f"{ARCHIVE} --nope", "--nope", id="option"),
        pytest.param("--nope db purge", "--nope", id="global option"),
        pytest.param(f"{ARCHIVE} -x", "-x", id="short option"),
        pytest.param(f"{ARCHIVE} -dx", "-x", id="short option behind another"),
        pytest.param(f"{ARCHIVE} 5", "(5)", id="CLI-3: a value without its option"),
        pytest.param(f"{ARCHIVE} --max_rows many", "many", id="no number"),
        pytest.param(f"{ARCHIVE} --max_rows 1.5", "1.5", id="no whole number"),
        pytest.param(f"{ARCHIVE} --max_rows", "--max_rows", id="no value"),
        pytest.param(f"{ARCHIVE} --verbose=1", "--verbose", id="a value too many"),
        pytest.param(f"{ARCHIVE} --sleep -1", "-1", id="a negative pause"),
        pytest.param(f"{ARCHIVE} --concurrency 0", "--concurrency", id="no cell at a time"),
        pytest.param(f"{ARCHIVE} -f xml", "xml", id="an unknown format"),
        pytest.param(f"{PURGE} --config-file", "--config-file", id="no file"),
        pytest.param("version db", "db", id="a word too many"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_one_line(
    line: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = usage_error(line, capsys)
    assert named in message
    assert "Try: cellkeeper" in message
    assert message.rstrip().endswith("--help")


@pytest.mark.parametrize(
    ("line", "listed", "missing"),
    [
        ("", sorted(cellkeeper.commands), "archive_deleted_rows"),
        ("--debug", sorted(cellkeeper.commands), "archive_deleted_rows"),
        ("db", DB, "bash-completion"),
        ("--debug db", DB, "bash-completion"),
    ],
)
def test_without_a_command_there_is_a_list_of_them_and_2(
    line: str, listed: list[str], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """CLI-7"""
    assert run(shlex.split(line)) == 2
    out, err = capsys.readouterr()
    assert err == ""
    names = [words.split()[0] for words in out.splitlines() if words.startswith("  ")]
    assert names == sorted(names)
    assert set(listed) <= set(names)
    assert missing not in out


@pytest.mark.parametrize(
    "line", ["--version", "version", f"{PURGE} --version", "--vers", "db --version"]
)
def test_the_version(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split(line)) == 0
    assert capsys.readouterr() == (f"{own_version()}\n", "")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bash-completion", " ".join(CATEGORIES)),
        ("bash-completion db", " ".join(DB)),
        ("bash-completion cells_v2", " ".join(CELL_V2)),
        ("bash-completion nope", ""),
        ("bash-completion version", ""),
    ],
)
def test_the_words_for_completion(
    line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(shlex.split(line)) == 0
    out, err = capsys.readouterr()
    assert set(words.split()) <= set(out.split())
    assert bool(words) == bool(out.strip())
    assert (out.count("\n"), err) == (1, "")


@pytest.mark.parametrize(
    "line", ["-h", "--help", "db -h", "db --help", f"{ARCHIVE} -h", f"{PURGE} --help"]
)
def test_help_ends_with_0_on_standard_output(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split(line)) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Usage: cellkeeper")
    assert err == ""


@pytest.mark.parametrize("line", ["--he", f"{PURGE} --hel"])
def test_help_may_be_shortened(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split(line)) == 0
    assert capsys.readouterr().out.startswith("Usage: cellkeeper")
