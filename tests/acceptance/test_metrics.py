"""``cellkeeper metrics``: printed, in a file, over HTTP; and that what is away is told as away."""

import re
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.command import Running, call, until
from tests.support.realcloud import RealCloud
from tests.support.services import Redis, free_port

Samples = dict[tuple[str, ...], float]


@pytest.fixture(scope="module")
def broker() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture
def config(untouched: RealCloud, tmp_path: Path) -> Path:
    return untouched.config(tmp_path)


@pytest.fixture
def with_broker(config: Path, broker: Redis) -> Path:
    broker.revive()
    config.write_text(f"{config.read_text()}[celery]\nbroker_url = {broker.url()}\n")
    return config


def samples(text: str) -> Samples:
    """Samples by name and the values of their labels."""
    return {
        (sample.name.removeprefix("cellkeeper_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_without_a_broker_the_backlog_is_told(config: Path) -> None:
    ended = call("metrics", config=config)
    assert (ended.code, ended.err) == (0, "")
    found = samples(ended.out)
    assert found["api_database_up",] == 1
    assert [found["cell_up", f"cell{number}"] for number in range(4)] == [1, 1, 1, 1]
    assert found["backlog_rows", "cell1"] > 53
    assert (
        1.7e9
        < found["backlog_oldest_timestamp_seconds", "cell1"]
        < found["backlog_timestamp_seconds", "cell1"]
    )
    assert ("store_up",) not in found


def test_as_a_file_for_node_exporter(config: Path, tmp_path: Path) -> None:
    path = tmp_path / "cellkeeper.prom"
    path.write_text("old")
    ended = call(f"metrics --file {path}", config=config)
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert samples(path.read_text())["cell_up", "cell0"] == 1
    assert [file.name for file in tmp_path.iterdir() if "prom" in file.name] == ["cellkeeper.prom"]


def test_over_http_until_a_signal(with_broker: Path) -> None:
    port = free_port()
    with_broker.write_text(f"{with_broker.read_text()}[schedule]\nenabled = nightly_archive\n")

    def ask() -> Samples:
        with (
            suppress(URLError, ConnectionError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer,
        ):
            return samples(answer.read().decode())
        return {}

    with Running(f"metrics --listen 127.0.0.1:{port}", config=with_broker) as running:
        until(lambda: ("cell_up", "cell3") in ask())
        found = ask()
        assert (found["store_up",], found["schedule_up",]) == (1, 1)
        assert found["schedule_next_timestamp_seconds", "nightly_archive"] > 1.7e9
        running.process.terminate()
        assert running.end().code == 0


def test_what_is_away_is_told_as_away(with_broker: Path, broker: Redis) -> None:
    broker.kill()
    found = samples(call("metrics", config=with_broker).out)
    assert found["store_up",] == 0
    assert found["cell_up", "cell1"] == 1
    env = {"OS_API_DATABASE__CONNECTION": "mysql+pymysql://nova:nova-secret@127.0.0.1:1/nova_api"}
    ended = call("metrics", config=with_broker, env=env)
    assert samples(ended.out) == {("api_database_up",): 0, ("store_up",): 0}
    assert ended.code == 0
    warnings = [line.split("[-] ")[1] for line in ended.err.splitlines()]
    assert len(warnings) == 2
    assert re.fullmatch(
        r"the API database \(127\.0\.0\.1:1/nova_api\): cannot connect: .*", warnings[0]
    )
    assert warnings[1].startswith("the store of runs does not answer: ")
    assert not re.search(r"Error: |Exception|Problem", ended.err)


def test_what_stays_away_is_logged_once(config: Path) -> None:
    port = free_port()
    env = {"OS_API_DATABASE__CONNECTION": "mysql+pymysql://nova:nova-secret@127.0.0.1:1/nova_api"}

    def answers() -> bool:
        with (
            suppress(URLError, ConnectionError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics"),
        ):
            return True
        return False

    line = f"metrics --listen 127.0.0.1:{port} --backlog-every 1"
    with Running(line, config=config, env=env) as running:
        until(answers)
        assert all(answers() for _ in range(5))
        running.process.terminate()
        assert (
            running.end().err.count("the API database (127.0.0.1:1/nova_api): cannot connect") == 1
        )


def test_a_cell_that_is_away_is_told_as_away(realcloud: RealCloud, tmp_path: Path) -> None:
    gone = realcloud.url("nova_cell9")
    realcloud.rows(
        realcloud.api,
        f"UPDATE cell_mappings SET database_connection = '{gone}' WHERE name = 'cell2'",
    )
    found = samples(call("metrics", config=realcloud.config(tmp_path)).out)
    assert (found["cell_up", "cell1"], found["cell_up", "cell2"]) == (1, 0)
    assert ("backlog_rows", "cell2") not in found


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--listen 18774", 2, "'18774' is no HOST:PORT"),
        ("--listen 127.0.0.1:http", 2, "'127.0.0.1:http' is no HOST:PORT"),
        ("--listen 127.0.0.1:18774 --file x", 2, "--listen and --file exclude each other"),
        (
            "--file /dev/null/cellkeeper.prom",
            255,
            "/dev/null/cellkeeper.prom cannot be written: Not a directory",
        ),
        ("--listen 192.0.2.1:18774", 255, "192.0.2.1:18774 cannot be listened at"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    config: Path, words: str, code: int, said: str
) -> None:
    ended = call(f"metrics {words}", config=config)
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.line
