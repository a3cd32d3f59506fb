"""Where the configuration comes from, where logs go, and what is said when either cannot be
used.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.command import PROGRAM, Ended, call, environment
from tests.support.realcloud import RealCloud
from tests.support.services import MariaDB

# Reads both databases of the configuration and writes nothing.
LOOK: Final = "db archive_deleted_rows --dry-run -f json"
# Has an audit line.
NOTHING: Final = "db archive_deleted_rows --all-cells --max_rows 0 --verbose"
AUDIT: Final = re.compile(
    r"cellkeeper\.audit .*db\.archive_deleted_rows by \S+ in 4 cells: 0 rows, 0 cells failed, "
)
SECRET_URL: Final = f"mysql+pymysql://nova:{MariaDB.PASSWORD}@127.0.0.1/nova_cell1"


@pytest.fixture
def config(untouched: RealCloud, tmp_path: Path) -> Path:
    """A nova.conf of its own for each test; the databases are the same for all."""
    return untouched.config(tmp_path)


def assert_looked_at_cell1(ended: Ended) -> None:
    assert (ended.code, ended.err) == (0, "")
    (cell,) = ended.document["cells"]
    assert cell["waiting"]["instances"]["rows"] == 53


def test_from_the_environment_alone(untouched: RealCloud, tmp_path: Path) -> None:
    env = {
        "OS_DATABASE__CONNECTION": untouched.url(untouched.cell1),
        "OS_API_DATABASE__CONNECTION": untouched.url(untouched.api),
        "OS_CELLKEEPER__LOCK_PATH": str(tmp_path),
    }
    assert_looked_at_cell1(call(LOOK, env=env))


def test_the_environment_goes_before_the_files(untouched: RealCloud, config: Path) -> None:
    ended = call(
        LOOK, config=config, env={"OS_DATABASE__CONNECTION": untouched.url(untouched.cell2)}
    )
    assert ended.document["cells"][0]["waiting"]["instances"]["rows"] == 49


def test_from_the_files_of_a_directory_in_their_order_and_from_the_last_file(
    untouched: RealCloud, config: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    own, api = (untouched.url(name) for name in (untouched.cell1, untouched.api))
    (folder / "10.conf").write_text(
        f"[database]\nconnection = {SECRET_URL}9\n[api_database]\nconnection = {api}\n"
    )
    (folder / "20.conf").write_text(f"[database]\nconnection = {own}\n")
    (folder / "30.conf.off").write_text("nonsense")
    assert_looked_at_cell1(call(f"--config-dir {folder} {LOOK}"))
    first = tmp_path / "first.conf"
    first.write_text(f"[database]\nconnection = {SECRET_URL}9\n")
    assert_looked_at_cell1(call(f"{LOOK} --config-file {config}", config=first))


def test_from_the_files_of_the_home_of_the_user(config: Path, tmp_path: Path) -> None:
    """nova.conf is read as the stock tool does, and cellkeeper.conf beside it."""
    folder = tmp_path / ".nova"
    folder.mkdir()
    config.rename(folder / "nova.conf")
    assert_looked_at_cell1(call(LOOK, env={"HOME": str(tmp_path)}))
    (folder / "cellkeeper.conf").write_text("[database]\nconnection =\n")
    ended = call(LOOK, env={"HOME": str(tmp_path)})
    assert ended.code == 255
    assert "section [database]" in ended.line


@pytest.mark.parametrize("folder", ["nova.conf.d", "nova-manage.conf.d", "cellkeeper.conf.d"])
def test_from_the_folders_beside_them(
    untouched: RealCloud, config: Path, tmp_path: Path, folder: str
) -> None:
    """Both those of the stock tool, and our own."""
    home = tmp_path / "home"
    (home / ".nova" / folder).mkdir(parents=True)
    config.rename(home / ".nova" / "nova.conf")
    api = f"[api_database]\nconnection = {SECRET_URL}9\n"
    (home / ".nova" / folder / "api.conf").write_text(api)
    ended = call(LOOK, env={"HOME": str(home)})
    assert ended.code == 3, "the folder's value counts, and not that of nova.conf"


NAMED: Final = "No database is configured: set connection in section [api_database] of nova.conf"


def test_what_is_not_configured_is_said_with_the_files_that_were_read(tmp_path: Path) -> None:
    for name in ("nova.conf", "cellkeeper.conf"):
        (tmp_path / name).write_text("[DEFAULT]\n")
    (tmp_path / "conf.d").mkdir()
    files = (
        f"--config-file {tmp_path}/nova.conf --config-file {tmp_path}/cellkeeper.conf "
        f"--config-dir {tmp_path}/conf.d"
    )
    ended = call(f"{files} {LOOK}")
    assert (
        ended.line
        == f"{NAMED} (read: {tmp_path}/nova.conf, {tmp_path}/cellkeeper.conf, {tmp_path}/conf.d)"
    )
    assert (
        call(LOOK).line == f"{NAMED} (no configuration file was found: name one with --config-file)"
    )


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("worker", 78),
        ("worker --ping", 78),
        ("flower", 78),
        ("beat", 78),
        ("runs list", 255),
        ("schedule list", 255),
    ],
)
def test_a_missing_broker_is_said_with_the_files_that_were_read(
    config: Path, command: str, code: int
) -> None:
    if command == "schedule list":
        config.write_text(f"{config.read_text()}[schedule]\nenabled = nightly_archive\n")
    ended = call(command, config=config)
    assert ended.code == code
    assert ended.line.endswith(f": set broker_url in section [celery] (read: {config})")


@pytest.mark.parametrize(
    ("command", "code", "named"),
    [
        pytest.param(LOOK, 3, NAMED, id="not configured"),
        pytest.param(
            "db purge -f json", 1, "Either --all or --before is needed", id="a missing option"
        ),
        pytest.param(
            "db purge --all --befroe 90d --format=json", 2, "No such option", id="a misspelt option"
        ),
        pytest.param("db archive_deleted_rows --before x -f json", 3, NAMED, id="several things"),
        pytest.param("runs list --format json", 255, "set broker_url in section", id="no broker"),
        pytest.param("cell_v2 discover_hosts -f json", 1, NAMED, id="another command's code"),
    ],
)
def test_an_error_is_a_document_where_json_is_wanted(command: str, code: int, named: str) -> None:
    ended = call(command)
    assert ended.code == code
    assert ended.document == {"exit_code": code, "messages": ended.err.splitlines()}
    assert named in ended.line


def test_a_warning_is_logged_once_and_without_the_name_of_a_class() -> None:
    (line,) = call("metrics").err.splitlines()
    assert line.endswith(
        f"[-] {NAMED} (no configuration file was found: name one with --config-file)"
    )


def test_a_log_file_gets_the_audit_line_and_nothing_else_is_printed(
    config: Path, tmp_path: Path
) -> None:
    ended = call(f"{NOTHING} --log-file audit.log --log-dir {tmp_path}", config=config)
    assert (ended.code, ended.out, ended.err) == (0, "Nothing was archived.\n", "")
    (line,) = (tmp_path / "audit.log").read_text().splitlines()
    assert AUDIT.search(line)
    assert line.endswith("exit code 0; throttle: none")


@pytest.mark.parametrize("options", ["--debug", "--debug --use-json"])
def test_logs_go_to_standard_error_also_with_debug(config: Path, options: str) -> None:
    """CLI-5"""
    ended = call(f"{options} {NOTHING}", config=config)
    assert (ended.code, ended.out) == (0, "Nothing was archived.\n")
    if "json" in options:
        (audit,) = [
            line
            for line in map(json.loads, ended.err.splitlines())
            if line["name"] == "cellkeeper.audit"
        ]
        assert ": db.archive_deleted_rows by " in audit["message"]
    else:
        assert len([line for line in ended.err.splitlines() if AUDIT.search(line)]) == 1


def test_a_nova_conf_that_wants_the_journal_is_no_error_without_its_module(config: Path) -> None:
    """CLI-10: openstack-ansible's has it, for an environment with the Python module systemd."""
    config.write_text(f"[DEFAULT]\nuse_journal = True\n{config.read_text()}")
    ended = call(NOTHING, config=config)
    assert (ended.code, ended.out, ended.err) == (0, "Nothing was archived.\n", "")


def test_a_logging_configuration_is_obeyed(config: Path, tmp_path: Path) -> None:
    log = tmp_path / "own.log"
    (tmp_path / "logging.conf").write_text(
        "[loggers]\nkeys = root\n[handlers]\nkeys = file\n[formatters]\nkeys =\n"
        "[logger_root]\nlevel = INFO\nhandlers = file\n"
        f"[handler_file]\nclass = FileHandler\nargs = ('{log}',)\n"
    )
    ended = call(f"{NOTHING} --log-config {tmp_path}/logging.conf", config=config)
    assert (ended.code, ended.out, ended.err) == (0, "Nothing was archived.\n", "")
    assert "db.archive_deleted_rows by " in log.read_text()


WRONG: Final = {
    "wrong type": (
        "[cellkeeper]\nconcurrency = many\n",
        "concurrency in section [cellkeeper]: it takes a whole number",
    ),
    "no Redis": (
        f"[celery]\nbroker_url = kafka://nova:{MariaDB.PASSWORD}@mq:9092/\n",
        "broker_url in section [celery]: it must be redis://",
    ),
    "no such reference": (
        f"[database]\nconnection = mysql://nova:${MariaDB.PASSWORD}@db1/nova\n",
        "connection in section [database]: $ begins the name of another option",
    ),
    "no truth": (
        f"[DEFAULT]\ndebug = {MariaDB.PASSWORD}\n",
        "debug in section [DEFAULT]: it takes true or false",
    ),
    "no section": ("connection = x\n", "nova.conf:1"),
    "half a section": ("[database\n", "nova.conf:1"),
    "a value that begins nowhere": (f"[database]\n  connection = {SECRET_URL}\n", "nova.conf:2"),
    "a value with a quote that begins nowhere": (
        f"[database]\n  connection = '{SECRET_URL}\n",
        "nova.conf:2",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_configuration_is_one_line_and_255(config: Path, case: str) -> None:
    text, named = WRONG[case]
    config.write_text(text if "section" in case or "begins" in case else config.read_text() + text)
    ended = call(NOTHING, config=config)
    assert (ended.code, ended.out) == (255, "")
    assert ended.line.startswith("The configuration cannot be used: ")
    assert named in ended.line
    assert MariaDB.PASSWORD not in ended.line


@pytest.mark.parametrize("command", ["worker", "beat", "flower", "metrics --listen 127.0.0.1:1"])
@pytest.mark.parametrize(
    "text", ["[cellkeeper]\nconcurrency = many\n", "[database\n", "[celery]\nbroker_url = x://y\n"]
)
def test_what_a_supervisor_need_not_start_again_is_78(
    tmp_path: Path, command: str, text: str
) -> None:
    """The units name this code in RestartPreventExitStatus."""
    config = tmp_path / "nova.conf"
    config.write_text(text)
    ended = call(command, config=config)
    assert (ended.code, ended.out) == (78, "")
    assert ended.line.startswith("The configuration cannot be used: ")


@pytest.mark.parametrize(
    "line",
    [
        "replica = cell1",
        "replica = cell1 mysql://nova:secret-word@x@db2/nova",
        "query = SELECT 1",
        "http = freno",
    ],
)
@pytest.mark.parametrize("command", ["worker", "beat"])
def test_a_throttle_that_cannot_be_used_ends_a_service_at_its_start(
    tmp_path: Path, command: str, line: str
) -> None:
    """Else each cell would be rung for ever."""
    config = tmp_path / "nova.conf"
    config.write_text(f"[celery]\nbroker_url = redis://127.0.0.1:1/0\n[throttle]\n{line}\n")
    ended = call(command, config=config)
    assert (ended.code, ended.out) == (78, "")
    assert ended.line.startswith("The configuration cannot be used: ")
    assert "in section [throttle]: " in ended.line
    assert "secret-word" not in ended.line


def test_celery_starts_no_worker_that_cannot_work_by_its_configuration(tmp_path: Path) -> None:
    config = tmp_path / "nova.conf"
    config.write_text(
        "[celery]\nbroker_url = redis://127.0.0.1:1/0\n[throttle]\nquery = SELECT 1\n"
    )
    command = [sys.executable, "-m", "celery", "-A", "workers.app", "worker"]
    ended = subprocess.run(
        command, env=os.environ | {"CELLKEEPER_CONFIG": str(config)}, capture_output=True, text=True
    )  # fmt: skip
    assert ended.returncode == 78
    words = (
        "max_query in section [throttle]: query takes a number here from which on the work pauses"
    )
    assert f"The configuration cannot be used: {words}\n" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--config-file /nonexistent/nova.conf", "/nonexistent/nova.conf"),
        ("--config-dir /nonexistent/conf.d", "/nonexistent/conf.d"),
        ("--log-file /nonexistent/audit.log", "/nonexistent/audit.log"),
    ],
)
def test_a_file_that_is_not_there_is_one_line_and_255(
    config: Path, options: str, named: str
) -> None:
    """CLI-6"""
    ended = call(f"{options} {NOTHING}", config=config)
    assert (ended.code, ended.out) == (255, "")
    assert named in ended.line


@pytest.mark.parametrize(
    ("options", "code"),
    [
        pytest.param("--watch-log-file --log-file watched.log", 0, id="watch-log-file"),
        pytest.param("--nowatch-log-file", 0, id="nowatch-log-file"),
        pytest.param("--config-file -x", 255, id="a file whose name begins with a dash"),
    ],
)
def test_what_oslo_does_not_take_on_its_command_line(
    config: Path, tmp_path: Path, options: str, code: int
) -> None:
    ended = call(f"{NOTHING} {options}", config=config, cwd=tmp_path)
    assert ended.code == code
    assert len(ended.err.splitlines()) <= 1


@pytest.mark.parametrize(
    ("line", "traceback"),
    [
        (NOTHING, False),
        (f"--debug {NOTHING}", True),
        (f"{NOTHING} -d", True),
        (f"--debug {NOTHING} --nodebug", False),
    ],
)
def test_only_debug_shows_where_an_error_comes_from(
    config: Path, line: str, traceback: bool
) -> None:
    """CLI-4"""
    config.write_text(config.read_text() + "purge_chunk = none\n")
    ended = call(line, config=config)
    assert (ended.code, ended.out) == (255, "")
    assert ended.err.startswith("The configuration cannot be used: ")
    assert ("Traceback (most recent call last)" in ended.err) is traceback
    assert traceback or ended.line


NAMELESS: Final = "54321"
# root may take any number for itself, also where there are no namespaces of users; others need one
# for that.
AS_NAMELESS: Final = (
    ["setpriv", f"--ruid={NAMELESS}"]
    if os.geteuid() == 0
    else ["unshare", "--user", f"--map-user={NAMELESS}"]
)


def test_a_user_without_a_name_is_known_by_the_number(config: Path, tmp_path: Path) -> None:
    """As in a container that is run under any number."""
    log = tmp_path / "audit.log"
    nameless = environment(dict.fromkeys(("USER", "LOGNAME", "LNAME", "USERNAME"), ""))
    nameless["OS_CELLKEEPER__EXCLUSION"] = "false"  # the folder of locks would not be that user's
    words = [str(PROGRAM), "--config-file", str(config), "--log-file", str(log), *NOTHING.split()]
    ended = subprocess.run(
        [*AS_NAMELESS, *words], env=nameless, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"db.archive_deleted_rows by {NAMELESS}" in log.read_text()
