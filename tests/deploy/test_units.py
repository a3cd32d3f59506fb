"""The systemd units, as systemd's own tools judge them."""

import os
import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Final

import pytest

from cli.grammar import MISCONFIGURED
from cli.main import cellkeeper
from tests.deploy.compose import ROOT
from tests.support.command import PROGRAM

UNITS: Final = ROOT / "deploy" / "systemd"
INSTALLED: Final = "/usr/local/bin/cellkeeper"
# What systemd-analyze calls it from 0 (nothing is allowed) to 10; from 2 on it is no longer "OK".
EXPOSURE: Final = 2.0
USAGE: Final = 2
ALL: Final = (
    "cellkeeper-worker.service",
    "cellkeeper-worker@cell1.service",
    "cellkeeper-beat.service",
    "cellkeeper-flower.service",
    "cellkeeper-metrics.service",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root folder with the units, as an operator copies them, and the program where they look for
    it.
    """
    shutil.copytree(UNITS, tmp_path / "etc" / "systemd" / "system")
    for unit in (tmp_path / "etc" / "systemd" / "system").glob("*.service"):
        unit.write_text(unit.read_text().replace(INSTALLED, str(PROGRAM)))
    return tmp_path


def test_each_unit_is_looked_at() -> None:
    assert {re.sub("@cell1", "@", name) for name in ALL} == {
        file.name for file in UNITS.glob("*.service")
    }


@pytest.mark.parametrize("name", ALL)
def test_systemd_understands_it(root: Path, name: str) -> None:
    units = root / "etc" / "systemd" / "system"
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", units / name],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{units}:/lib/systemd/system"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("name", ALL)
def test_it_may_do_little(root: Path, name: str) -> None:
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"--root={root}", name],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", judged)
    assert level
    assert float(level[1]) < EXPOSURE, judged


@pytest.mark.parametrize("name", ALL)
def test_it_comes_back_and_has_time_to_drain(name: str) -> None:
    both = [UNITS / name.replace("@cell1", "@"), UNITS / "cellkeeper-.service.d" / "common.conf"]
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(both)
    service = unit["Service"]
    assert (service["Restart"], service["KillMode"], unit["Unit"]["StartLimitIntervalSec"]) == (
        "always",
        "mixed",
        "0",
    )
    assert {int(code) for code in service["RestartPreventExitStatus"].split()} == {
        USAGE,
        MISCONFIGURED,
    }
    assert int(service["TimeoutStopSec"]) >= 60
    words = service["ExecStart"].split()
    assert words[0] == INSTALLED
    assert words[1] in cellkeeper.commands or words[1] == "--config-file"
