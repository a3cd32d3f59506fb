"""The program around its commands: services that cannot start, words that are none, errors that
nobody thought of.
"""

from pathlib import Path

import pytest

from tests.support.command import call, call_here
from tests.support.demo_cloud import DemoCloud


@pytest.mark.parametrize("category", ["", "db", "runs"])
def test_without_a_command_those_that_there_are_are_listed(category: str) -> None:
    ended = call_here(category)
    assert (ended.code, ended.err) == (2, "")
    assert ended.out.startswith(f"cellkeeper{' ' if category else ''}{category} <")
    assert len(ended.out.splitlines()) > 5


def test_words_for_the_completion_of_a_shell() -> None:
    assert (
        call_here("bash-completion").out
        == "api_db cell_v2 db libvirt placement runs schedule throttle\n"
    )
    assert call_here("bash-completion api_db").out == "sync version\n"
    assert call_here("bash-completion version").out == "\n"


def test_the_version_may_be_configured(tmp_path: Path) -> None:
    config = tmp_path / "cellkeeper.conf"
    config.write_text("[cellkeeper]\nreported_version = 34.0.0\n")
    for line in ("version", "--version"):
        assert call_here(line, config=config).out == "34.0.0\n"


def test_an_argument_that_is_no_utf_8_is_refused() -> None:
    ended = call_here("db purge --before '\udcff'")
    assert ended.code == 2
    assert ended.err == "cellkeeper: Argument 4 is no UTF-8. Try: cellkeeper --help\n"


def test_a_configuration_that_is_missing(tmp_path: Path) -> None:
    ended = call_here("db version", config=tmp_path / "nowhere.conf")
    assert (ended.code, ended.out) == (255, "")
    assert ended.err.startswith("The configuration cannot be used: ")
    assert str(tmp_path / "nowhere.conf") in ended.err


def test_a_value_that_makes_no_sense_is_not_repeated(tmp_path: Path) -> None:
    config = tmp_path / "nova.conf"
    config.write_text("[cellkeeper]\nconcurrency = secret\n")
    ended = call_here("check", config=config)
    assert ended.code == 255
    assert len(ended.err.splitlines()) == 1
    assert "concurrency" in ended.err
    assert "secret" not in ended.err


def test_settings_without_effect_are_warned_of(cloud: DemoCloud) -> None:
    cloud.configure("[cellkeeper]\nconcurency = 5")
    ended = cloud.call("db version")
    assert ended.code == 0
    assert ended.err.startswith("Warning: ")
    assert "concurency" in ended.err


def test_an_error_that_nobody_thought_of_is_one_line_and_its_traceback_is_for_the_asking(
    cloud: DemoCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise LookupError("what nobody thought of")

    monkeypatch.setattr("jobs.db.version.version", fail)
    ended = cloud.call("db version")
    assert (ended.code, ended.out) == (255, "")
    assert ended.err == "Unexpected error (LookupError); --debug shows where it comes from\n"
    ended = cloud.call("db version --debug")
    assert ended.code == 255
    assert "LookupError: what nobody thought of" in ended.err


def test_an_interrupted_command_says_so(cloud: DemoCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jobs.db.version.version", interrupt)
    ended = cloud.call("db version")
    assert (ended.code, ended.out, ended.err) == (130, "", "\nInterrupted.\n")


@pytest.mark.parametrize("line", ["worker", "worker --ping", "flower --no-password"])
def test_a_service_needs_a_broker(cloud: DemoCloud, line: str) -> None:
    ended = cloud.call(line)
    assert (ended.code, ended.out) == (78, "")
    assert (
        ended.err
        == f"There is no broker: set broker_url in section [celery] (read: {cloud.config})\n"
    )


@pytest.mark.parametrize(
    ("section", "options", "line"),
    [
        (
            "",
            "",
            "Flower has no password: set password in section [flower], or give --no-password\n",
        ),
        (
            "password = ü",
            "",
            "Flower compares ASCII only: choose another user or password in section [flower]\n",
        ),
        (
            "cert_file = c",
            "--no-password --port 9 --address h",
            "TLS needs both: set cert_file and key_file in ",
        ),
    ],
)
def test_a_flower_that_cannot_be_served(
    cloud: DemoCloud, section: str, options: str, line: str
) -> None:
    cloud.configure(f"[celery]\nbroker_url = redis://127.0.0.1:1/0\n[flower]\n{section}")
    # Not here: what Flower opens for its loop stays open.
    ended = call(f"flower {options}", config=cloud.config)
    assert (ended.code, ended.out) == (78, "")
    assert ended.err.startswith(line)
