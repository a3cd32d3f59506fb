"""``python -m demo``: what a newcomer sees first."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from demo.__main__ import STEPS
from tests.support.command import environment

ROOT: Final = Path(__file__).parents[2]
SHOWN: Final = re.compile(r"^\$ \S+ --config-file \S+ (.+)$|^exit code (\d+): ", re.MULTILINE)


def test_the_demo_shows_each_command_with_its_expected_code(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "demo", str(tmp_path / "cloud")],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment({}),
    )
    assert ended.returncode == 0
    # Its only message: the one instance that cannot be archived, by both archives.
    first, second = ended.stderr.splitlines()
    assert first == second
    assert first.startswith("cell2: left in instances: id ")
    shown = [command or int(code) for command, code in SHOWN.findall(ended.stdout)]
    assert shown == [word for step in STEPS for word in (step.command, step.expected)]
    assert [step.expected for step in STEPS] == [0, 1, 0, 0]
    assert "UNEXPECTED" not in ended.stdout
    assert ended.stdout.endswith(
        "The demo is complete: every command ended with its documented exit code.\n"
    )
