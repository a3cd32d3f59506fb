"""A misspelt option or section: a warning everywhere, a failure in check; the beat does not
start.
"""

from pathlib import Path
from typing import Final

import pytest

from tests.support.command import call

MISSPELT: Final = "[cellkeeper]\ntimezne = Europe/Berlin\n[schedule]\nenabled = nightly_archive\n"
LINE: Final = "timezne in section [cellkeeper] is unknown and has no effect: did you mean timezone?"
BROKER: Final = "[celery]\nbroker_url = redis://127.0.0.1:1/0\n"


@pytest.fixture
def config(sample: Path) -> Path:
    sample.with_name("cellkeeper.conf").write_text(MISSPELT + BROKER)
    return sample


@pytest.mark.parametrize(
    "command", ["cell_v2 list_cells", "db archive_deleted_rows --dry-run", "api_db version"]
)
def test_a_command_warns_and_works(untouched_sample: Path, tmp_path: Path, command: str) -> None:
    more = tmp_path / "more.conf"
    more.write_text(MISSPELT)
    usual = call(command, config=untouched_sample)
    warned = call(f"--config-file {more} {command}", config=untouched_sample)
    assert (warned.code, warned.out) == (usual.code, usual.out)
    assert warned.err == f"Warning: {more}: {LINE}\n{usual.err}"


def test_check_fails(config: Path) -> None:
    ended = call(
        f"--config-file {config.with_name('cellkeeper.conf')} check -f json", config=config
    )
    assert (ended.code, ended.err) == (1, "")
    finding = {
        "where": "configuration",
        "what": "settings",
        "verdict": "failed",
        "detail": f"{config.with_name('cellkeeper.conf')}: {LINE}",
    }
    assert finding in ended.document["findings"]


@pytest.mark.parametrize(("command", "code"), [("beat", 78), ("schedule list", 255)])
def test_the_schedule_is_refused(config: Path, command: str, code: int) -> None:
    more = config.with_name("cellkeeper.conf")
    ended = call(f"--config-file {more} {command}", config=config)
    assert ended.code == code
    assert ended.line == f"The schedule cannot be used: {more}: {LINE}"


def test_a_misspelt_variable_of_the_environment_is_named(untouched_sample: Path) -> None:
    ended = call(
        "cell_v2 list_cells", config=untouched_sample, env={"OS_CELERY__BROKER_ULR": "redis://h/0"}
    )
    assert ended.code == 0
    assert ended.line == (
        "Warning: OS_CELERY__BROKER_ULR: broker_ulr in section [celery] is unknown and has no "
        "effect: "
        "did you mean broker_url?"
    )
