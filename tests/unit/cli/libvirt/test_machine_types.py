"""The category ``libvirt``: what is printed, and the exit code."""

from pathlib import Path
from typing import Final

import pytest

from tests.support.demo_cloud import DemoCloud

KEY: Final = "key = 'image_hw_machine_type'"
NOBODY: Final = "11111111-0000-4000-8000-000000000000"
RECORD: Final = "libvirt record_machine_types"


def live(cloud: DemoCloud, cell: str = "cell1") -> list[tuple[str, str]]:
    """The instances of a cell, each with its host."""
    rows = cloud.sql(cell, "SELECT uuid, host FROM instances WHERE deleted = 0 ORDER BY id")
    return [(uuid, host) for uuid, host in rows]


def forget(cloud: DemoCloud, uuid: str) -> None:
    """Have no machine type recorded for an instance."""
    cloud.sql(
        "cell1", f"DELETE FROM instance_system_metadata WHERE {KEY} AND instance_uuid = ?", uuid
    )


@pytest.fixture
def hosts(cloud: DemoCloud, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file for each host that answers, by way of what stands for libvirt."""
    stand_ins = str(Path(__file__).parents[3] / "support" / "stand_ins")
    monkeypatch.syspath_prepend(stand_ins)
    monkeypatch.setenv("PYTHONPATH", stand_ins)
    folder = cloud.folder / "hosts"
    folder.mkdir()
    cloud.configure(f"[libvirt]\nconnection_uri = stand-in://{folder}/{{host}}")
    return folder


@pytest.mark.parametrize(
    "command", ["get_machine_type", "update_machine_type", "list_unset_machine_type --cell-uuid"]
)
def test_what_is_not_there(cloud: DemoCloud, command: str) -> None:
    ended = cloud.call(f"libvirt {command} {NOBODY}{' pc' if command.startswith('update') else ''}")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err in (
        f"Instance {NOBODY} has no mapping to a cell\n",
        f"Cell {NOBODY} has no mapping: see list_cells\n",
    )


def test_a_machine_type_is_printed(cloud: DemoCloud) -> None:
    (uuid, _), *_ = live(cloud)
    ended = cloud.call(f"libvirt get_machine_type {uuid}")
    assert (ended.code, ended.out, ended.err) == (0, "pc-q35-8.2\n", "")
    forget(cloud, uuid)
    ended = cloud.call(f"libvirt get_machine_type {uuid}")
    assert (ended.code, ended.out) == (3, f"No machine type registered for instance {uuid}\n")


def test_instances_without_a_machine_type_are_listed(cloud: DemoCloud) -> None:
    ended = cloud.call("libvirt list_unset_machine_type")
    assert (ended.code, ended.out) == (0, "No instances found without hw_machine_type set.\n")
    (first, _), (second, _), *_ = live(cloud)
    for uuid in (first, second):
        forget(cloud, uuid)
    ended = cloud.call(f"libvirt list_unset_machine_type --cell-uuid {cloud.uuid('cell1')}")
    assert (ended.code, ended.err) == (3, "")
    assert sorted(ended.out.splitlines()) == sorted([first, second])
    document = cloud.call("libvirt list_unset_machine_type -f json").document
    assert document["exit_code"] == 3
    assert [len(cell["instances"]) for cell in document["cells"]] == [2, 0, 0]


def test_a_cell_that_is_away_is_said(cloud: DemoCloud) -> None:
    cloud.lose("cell2")
    ended = cloud.call("libvirt list_unset_machine_type")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("cell2 (")


def test_a_machine_type_is_updated(cloud: DemoCloud) -> None:
    (uuid, _), *_ = live(cloud)
    update = f"libvirt update_machine_type {uuid}"
    assert cloud.call(f"{update} pc-q35-9.0").code == 3  # it is active
    cloud.sql("cell1", "UPDATE instances SET vm_state = 'stopped' WHERE uuid = ?", uuid)
    ended = cloud.call(f"{update} pc-q35-9.0")
    assert (ended.code, ended.err) == (0, "")
    assert (
        ended.out == f"Updated instance {uuid} machine type to pc-q35-9.0 (previously pc-q35-8.2)\n"
    )
    for machine_type, code in (("q35", 4), ("isapc", 5)):
        refused = cloud.call(f"{update} {machine_type}")
        assert (refused.code, refused.out, len(refused.err.splitlines())) == (code, "", 1)
    forced = cloud.call(f"{update} q35 --force")
    assert forced.code == 0
    assert forced.out.startswith("Forcing update of machine type.\n")
    assert cloud.call(f"libvirt get_machine_type {uuid}").out == "q35\n"


def test_a_machine_type_that_the_host_does_not_know_is_warned_of(
    cloud: DemoCloud, hosts: Path
) -> None:
    (uuid, host), *_ = live(cloud)
    (hosts / host).touch()
    cloud.sql("cell1", "UPDATE instances SET vm_state = 'stopped' WHERE uuid = ?", uuid)
    ended = cloud.call(f"libvirt update_machine_type {uuid} pc-q35-9.0")
    assert ended.code == 0
    assert ended.err.startswith("Warning: ")
    assert "pc-q35-9.0" in ended.err
    assert cloud.call(f"libvirt update_machine_type {uuid} pc-q35-8.2 --force").err == ""


def test_hosts_that_cannot_be_asked(cloud: DemoCloud) -> None:
    ended = cloud.call(RECORD)
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.startswith(
        "No way to the hypervisors is configured: set connection_uri in section [libvirt]"
    )


@pytest.mark.parametrize("option", [f"--cell-uuid {NOBODY}", "--host nope"])
def test_a_cell_or_a_host_that_is_not_mapped(cloud: DemoCloud, hosts: Path, option: str) -> None:
    ended = cloud.call(f"{RECORD} {option}")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err in (
        f"Cell {NOBODY} has no mapping: see list_cells\n",
        "Host nope is not mapped to any cell: see list_hosts\n",
    )


def test_what_hosts_tell_is_recorded(cloud: DemoCloud, hosts: Path) -> None:
    (uuid, host), *_ = live(cloud)
    forget(cloud, uuid)
    (hosts / host).write_text(f"{uuid} pc-q35-6.2\n")
    row = f"| cell1 | {host} | pc-q35-6.2   | 1         |"
    dry = cloud.call(f"{RECORD} --dry-run --host {host}")
    assert (dry.code, dry.err) == (0, "")
    assert row in dry.out
    assert cloud.call(f"libvirt get_machine_type {uuid}").code == 3
    ended = cloud.call(RECORD)
    assert (ended.code, ended.err) == (0, "")
    assert row in ended.out
    assert cloud.call(f"libvirt get_machine_type {uuid}").out == "pc-q35-6.2\n"
    again = cloud.call(f"{RECORD} -f json")
    assert (again.code, again.document["dry_run"]) == (0, False)
    assert [cell["left"] for cell in again.document["cells"]] == [0, 0, 0]
    assert cloud.call(RECORD).out == "Nothing was recorded.\n"


def test_what_is_left_is_said(cloud: DemoCloud, hosts: Path) -> None:
    (silent, host), (hostless, _), (domainless, other) = live(cloud)[:3]
    assert host != other
    for uuid in (silent, hostless, domainless):
        forget(cloud, uuid)
    (hosts / other).touch()
    cloud.sql("cell1", "UPDATE instances SET host = NULL WHERE uuid = ?", hostless)
    ended = cloud.call(RECORD)
    assert (ended.code, ended.out) == (3, "Nothing was recorded.\n")
    assert sorted(ended.err.splitlines()) == sorted([
        f"cell1: {host} was passed over: No route to host",
        f"cell1: {other} has no domain with a machine type for 1 instances",
        "cell1: 1 instances are on no host: use update_machine_type for them",
    ])  # fmt: skip
