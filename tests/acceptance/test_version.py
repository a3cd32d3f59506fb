"""``--version``: what scripts are told that compare it with a release of Nova."""

import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pytest

from cli.version import STOCK_VERSION
from novadb.migrations.upgrade import NEWEST_RELEASE
from tests.support.command import PROGRAM, call, environment

OWN: Final = version("cellkeeper")
CONFIGURED: Final = "[cellkeeper]\nreported_version = 29.1.0\n"


@pytest.mark.parametrize(
    "line",
    [
        "--config-file {} --version",
        "--version --config-file {}",
        "version --config-file {}",
        "--config-file {} db purge --version",
        "db --version --config-file {}",
        "cell_v2 delete_host --version --config-file {}",
    ],
)
def test_the_configuration_says_what_is_reported(line: str, tmp_path: Path) -> None:
    file = tmp_path / "nova.conf"
    file.write_text(CONFIGURED)
    ended = call(line.format(file))
    assert (ended.code, ended.out, ended.err) == (0, "29.1.0\n", "")


@pytest.mark.parametrize(
    "text", [b"", b"reported_version = 1\n", b"\xff\xfe\x00", b"[cellkeeper]\nreported_version =\n"]
)
def test_a_version_is_told_whatever_the_configuration_is(text: bytes, tmp_path: Path) -> None:
    file = tmp_path / "nova.conf"
    file.write_bytes(text)
    for name in (file, tmp_path / "missing.conf"):
        ended = call("--version", config=name)
        assert (ended.code, ended.out, ended.err) == (0, f"{OWN}\n", "")


@pytest.mark.parametrize(("text", "reported"), [("", STOCK_VERSION), (CONFIGURED, "29.1.0")])
def test_under_the_name_of_the_stock_tool_it_is_a_release_of_nova(
    text: str, reported: str, tmp_path: Path
) -> None:
    """Deployments ask before they discover hosts: ``[ "${NOVA_VERSION%%.*}" -gt 14 ]``."""
    (tmp_path / "nova.conf").write_text(text)
    program = tmp_path / "nova-manage"
    program.symlink_to(PROGRAM)
    command = [program, "--config-file", tmp_path / "nova.conf", "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment({}))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{reported}\n", "")
    assert int(STOCK_VERSION.partition(".")[0]) == NEWEST_RELEASE


def test_asking_for_the_version_writes_no_log(tmp_path: Path) -> None:
    file = tmp_path / "nova.conf"
    file.write_text(f"[DEFAULT]\nlog_file = {tmp_path}/nova.log\n{CONFIGURED}")
    assert call("--version", config=file).out == "29.1.0\n"
    assert not (tmp_path / "nova.log").exists()
