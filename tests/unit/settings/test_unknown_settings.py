"""Settings of ours that have no effect: which are found, and what is advised."""

import os
import re
from pathlib import Path
from typing import Final

import pytest

from settings.files import load_configuration
from settings.unknown import find_unknown, known_options, unknown_settings

ROOT: Final = Path(__file__).parents[3]
NOVA_NAMES: Final = ROOT / "tests" / "data" / "nova-settings.txt"
EXAMPLE: Final = ROOT / "deploy" / "config" / "cellkeeper.conf"


def printed_lines(folder: Path, text: str, environment: dict[str, str] | None = None) -> list[str]:
    """What is printed about a configuration file."""
    file = folder / "cellkeeper.conf"
    file.write_text(text + "\n")
    conf = load_configuration([f"--config-file={file}"])
    return [
        str(setting).removeprefix(f"{file}: ")
        for setting in unknown_settings(conf, environment or {})
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[cellkeeper]\ntimezne = Europe/Berlin",
            "timezne in section [cellkeeper] is unknown and has no effect: did you mean timezone?",
        ),
        (
            "[schedule]\nenable = nightly_archive",
            "enable in section [schedule] is unknown and has no effect: did you mean enabled?",
        ),
        (
            "[schedule_mine]\nuntil = 06:00",
            "until in section [schedule_mine] is unknown and has no effect: "
            "an entry has cron and command; options of the command belong in its command line",
        ),
        (
            "[schedule_mine]\ncomand = db purge",
            "comand in section [schedule_mine] is unknown and has no effect: did you mean command?",
        ),
        (
            "[cellkeeper]\nbroker_url = redis://h/0",
            "broker_url in section [cellkeeper] is unknown and has no effect: it belongs in "
            "section [celery]",
        ),
        (
            "[DEFAULT]\ntimezone = Europe/Berlin",
            "timezone in section [DEFAULT] is unknown and has no effect: it belongs in section "
            "[cellkeeper]",
        ),
        (
            "[flower]\nquite_another = 1",
            "quite_another in section [flower] is unknown and has no effect: "
            "see the example configuration for all options",
        ),
        (
            "[celery]\nBroker_URL = redis://h/0",
            "Broker_URL in section [celery] is unknown and has no effect: did you mean broker_url?",
        ),
        (
            "[cellkeper]\ntimezone = UTC",
            "section [cellkeper] is unknown and has no effect: did you mean [cellkeeper]?",
        ),
        (
            "[celry]\nexpires = 1",
            "section [celry] is unknown and has no effect: did you mean [celery]?",
        ),
        (
            "[Shedule]\ndeadline = 1",
            "section [shedule] is unknown and has no effect: did you mean [schedule]?",
        ),
        (
            "[schedule]\nenabled = nightly_archive\n[schedule_nightly_achive]\ncron = 0 3 * * *",
            "section [schedule_nightly_achive] is unknown and has no effect: did you mean "
            "[schedule_nightly_archive]?",
        ),
        (
            "[schedule]\nenabled = busy\n[schedule-busy]\ncron = 0 3 * * *",
            "section [schedule-busy] is unknown and has no effect: did you mean [schedule_busy]?",
        ),
    ],
)
def test_what_has_no_effect_is_named_with_what_may_have_been_meant(
    tmp_path: Path, text: str, line: str
) -> None:
    assert printed_lines(tmp_path, text) == [line]


@pytest.mark.parametrize(
    "text",
    [
        "[cellkeeper]\ntimezone = UTC\nconcurrency = 2\n[Celery]\nexpires = 86400\n[flower]\nport "
        "= 1",
        "[scheduler]\nworkers = 3",
        "[oslo_concurrency]\nlock_path = /x\n[DEFAULT]\nlock_path = /x\ndebug = true",
        "[schedule]\nenabled = one\n[schedule_one]\ncron = 0 3 * * *\n[schedule_two]\ncron = 0 4 "
        "* * *",
        "[schedule_nightly_archive]\ncommand = db purge\n[schedule_off_at_present]\ncron = 0 4 * "
        "* *",
        "[schedule]\nenabled = Mine\n[schedule_mine]\ncron = 0 3 * * *",
    ],
    ids=[
        "ours",
        "a section of Nova",
        "a name that others have, too",
        "an entry that is off",
        "defaults",
        "capitals",
    ],
)
def test_what_has_an_effect_or_is_not_ours_is_not_named(tmp_path: Path, text: str) -> None:
    assert printed_lines(tmp_path, text) == []


def options_by_section(text: str) -> dict[str, set[str]]:
    """The names of options in the text of a file, by section."""
    sections: dict[str, set[str]] = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            options = sections.setdefault(match[1].lower(), set())
        elif match := re.match(r"(\w+) = ", line):
            options.add(match[1])
    return sections


def test_no_setting_of_nova_is_taken_for_a_misspelt_one() -> None:
    novas = options_by_section(NOVA_NAMES.read_text())
    assert len(novas) > 60
    assert list(find_unknown(novas, known_options([], novas))) == []


def test_all_of_the_example_configuration_is_known() -> None:
    examples = options_by_section(re.sub(r"^#(\w+ = )", r"\1", EXAMPLE.read_text(), flags=re.M))
    assert examples["celery"] >= {"broker_url", "expires"}
    assert list(find_unknown(examples, known_options([], examples))) == []


def test_variables_of_the_environment_are_looked_through(tmp_path: Path) -> None:
    environment = {
        "OS_CELLKEEPER__TIMEZNE": "UTC",
        "OS_CELRY__EXPIRES": "1",
        "OS_AUTH_URL": "x",
        "OS_VAULT__URL": "x",
    }
    environment |= {"OS_SCHEDULE_NIGHTLY_ARCHIVE__UNTIL": "06:00", "OS_CELLKEEPER__TIMEZONE": "UTC"}
    assert printed_lines(tmp_path, "", environment) == [
        "OS_CELLKEEPER__TIMEZNE: timezne in section [cellkeeper] is unknown and has no effect: "
        "did you mean timezone?",
        "OS_CELRY__EXPIRES: section [celry] is unknown and has no effect: did you mean [celery]?",
        "OS_SCHEDULE_NIGHTLY_ARCHIVE__UNTIL: until in section [schedule_nightly_archive] is "
        "unknown and has no effect: an entry has cron and command; options of the command "
        "belong in its command line",
    ]


def test_a_folder_of_files_is_looked_through(tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "ours.conf").write_text("[celery]\nexpire = 86400\n")
    (folder / "ours.conf.bak").write_text("[celery]\nexpir = 86400\n")
    conf = load_configuration([f"--config-dir={folder}"])
    (setting,) = unknown_settings(conf, {})
    assert (setting.place, setting.advice) == (str(folder / "ours.conf"), "did you mean expires?")


def test_a_value_that_went_astray_is_not_repeated(tmp_path: Path) -> None:
    text = "[celery]\nbroker_url redis://:hunter2@h/0?ssl=1\nhunter2@h:6379/0 = 3"
    lines = printed_lines(tmp_path, text)
    assert len(lines) == 2
    assert not [line for line in lines if "hunter2" in line]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    conf = load_configuration([f"--config-file={os.devnull}"])
    assert unknown_settings(conf, {}) == []
