"""The example configuration files: what the code makes of its options, and nothing older."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.compose import ROOT

FOLDER: Final = ROOT / "deploy" / "config"
GENERATOR: Final = Path(sys.executable).with_name("oslo-config-generator")
ROOMS: Final = ("novadb", "clients", "jobs", "runs", "workers", "schedules", "settings", "cli")
DECLARED: Final = re.compile(r'cfg\.\w+Opt\(\s*"(\w+)"')
# It changes with the release of oslo.log.
LOGGING: Final = re.compile(r"#\n# From oslo\.log\n#\n.*?(?=\n#\n# From|\n\[)", re.DOTALL)


@pytest.mark.parametrize("name", ["cellkeeper", "nova"])
def test_it_is_what_the_code_generates(tmp_path: Path, name: str) -> None:
    made = tmp_path / "made.conf"
    subprocess.run(
        [GENERATOR, "--config-file", FOLDER / f"{name}.gen", "--output-file", made],
        check=True,
        capture_output=True,
    )
    committed = (FOLDER / f"{name}.conf").read_text()
    assert LOGGING.sub("", made.read_text()) == LOGGING.sub("", committed), "run: make config"


def test_every_option_is_there_as_a_comment() -> None:
    text = "".join((FOLDER / f"{name}.conf").read_text() for name in ("cellkeeper", "nova"))
    shown = set(re.findall(r"^#(\w+) =", text, re.MULTILINE))
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    declared = {name for file in files for name in DECLARED.findall(file.read_text())}
    assert len(declared) > 20
    assert declared - shown == set()
    assert not re.findall(r"^[^#\[\n]", text, re.MULTILINE)
    assert "From oslo.log" in text
