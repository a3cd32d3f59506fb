"""A run that pauses while a database server suffers, and ``throttle status``."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import call
from tests.support.pressure import Pressure, pressure_on
from tests.support.program import Run
from tests.support.realcloud import RealCloud
from tests.support.waiting import wait_until

ARCHIVE = ("db", "archive_deleted_rows", "--all-cells", "--until-complete")


@pytest.fixture
def pressure(realcloud: RealCloud, config: Path) -> Iterator[Pressure]:
    with pressure_on(realcloud.server) as pressure:
        pressure.configure(config)
        yield pressure


def deleted_instances(cloud: RealCloud) -> int:
    ((number,),) = cloud.server.execute(
        "SELECT COUNT(*) FROM instances WHERE deleted != 0", cloud.cell1
    )
    return int(number)


def test_a_run_writes_nothing_while_the_server_suffers(
    realcloud: RealCloud, config: Path, pressure: Pressure
) -> None:
    before = deleted_instances(realcloud)
    log = config.with_name("archive.log")
    pressure.rise()
    with Run(config, "--log-file", str(log), *ARCHIVE) as run:
        wait_until(
            lambda: (
                log.exists() and "cell1: the work pauses: the query returns 9" in log.read_text()
            )
        )
        assert run.process.poll() is None
        assert deleted_instances(realcloud) == before
        pressure.fall()
        ended = run.end()
    assert ended.code == 1
    assert ended.err == ""
    assert deleted_instances(realcloud) == 0
    assert "cell1: the work goes on" in log.read_text()


def test_an_incident_goes_before(realcloud: RealCloud, config: Path, pressure: Pressure) -> None:
    pressure.rise()
    assert call(f"{' '.join(ARCHIVE)} --no-throttle", config=config).code == 1
    assert deleted_instances(realcloud) == 0


def test_ctrl_c_ends_a_run_that_pauses(
    realcloud: RealCloud, config: Path, pressure: Pressure
) -> None:
    log = config.with_name("archive.log")
    pressure.rise()
    with Run(config, "--log-file", str(log), *ARCHIVE) as run:
        wait_until(lambda: log.exists() and "the work pauses" in log.read_text())
        run.process.terminate()
        ended = run.end()
    assert (ended.code, ended.err) == (
        0,
        "Stopping after the current batches; interrupt again to leave at once.\n",
    )
    assert deleted_instances(realcloud) > 0


def test_a_critical_limit_ends_the_run(realcloud: RealCloud, config: Path) -> None:
    config.write_text(f"{config.read_text()}\n[throttle]\ncritical_threads_running = 1\n")
    before = deleted_instances(realcloud)
    ended = call(" ".join(ARCHIVE), config=config)
    assert (ended.code, deleted_instances(realcloud)) == (0, before)
    assert re.fullmatch(
        r"The run was ended early by the throttle: \d+ threads? running", ended.line
    )


def test_the_status_shows_every_signal_of_every_server(
    realcloud: RealCloud, config: Path, pressure: Pressure
) -> None:
    ended = call("throttle status", config=config)
    assert ended.code == 0
    place = f"127.0.0.1:{realcloud.server.port}"
    assert [line.split("|")[1:6] for line in ended.out.splitlines() if place in line] == [
        [
            f" {place} ",
            " cell0, cell1, cell2 and 1 more ",
            " threads_running ",
            " go     ",
            " 50    ",
        ],
        [
            f" {place} ",
            " cell0, cell1, cell2 and 1 more ",
            " query           ",
            " go     ",
            " 5     ",
        ],
    ]
    pressure.rise()
    ended = call("throttle status -f json", config=config)
    assert ended.code == 1
    (server,) = ended.document
    assert (server["server"], server["paused"], server["cells"]) == (
        place,
        True,
        ["cell0", "cell1", "cell2", "cell3"],
    )
    assert server["signals"][1] == {
        "signal": "query",
        "answer": "stop",
        "source": None,
        "value": 9.0,
        "limit": 5.0,
        "detail": "the query returns 9",
    }


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "replica = mysql://nova:secret-word@db2/nova",
            "replica in section [throttle]: it takes a cell and the URL",
        ),
        (
            "replica = cell1 mysql://nova:secret-word@x@db2/nova",
            "the replica of cell1: its URL cannot be used",
        ),
        (
            "http = http://freno/{cell}",
            "http in section [throttle]: its address may have {host} and {port}",
        ),
        (
            "http = freno:8111/check",
            "http in section [throttle]: it takes an address that begins with http:// or",
        ),
        ("max_lag = soon", "max_lag"),
        ("query = SELECT 1", "max_query in section [throttle]: query takes a number"),
        ("query = SELECT 1\nmax_query = nan", "max_query in section [throttle]: it takes a number"),
    ],
)
@pytest.mark.parametrize("command", ["throttle status", "db archive_deleted_rows --all-cells"])
def test_a_setting_that_cannot_be_used_is_one_line(
    realcloud: RealCloud, config: Path, command: str, line: str, words: str
) -> None:
    config.write_text(f"{config.read_text()}\n[throttle]\n{line}\n")
    before = deleted_instances(realcloud)
    ended = call(command, config=config)
    assert (ended.code, ended.out, deleted_instances(realcloud)) == (255, "", before)
    assert words in ended.err
    assert ended.err.count("\n") == 1
    assert "secret-word" not in ended.err
