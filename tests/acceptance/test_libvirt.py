"""``cellkeeper libvirt`` on the databases of a real cloud: each return code, and all that is
printed.

The hosts are those of libvirt's test driver.
"""

import signal
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pymysql
import pytest

from tests.support.command import Running, call, call_all, until
from tests.support.hypervisors import Hosts, Place, forget, reachable, recorded, unset
from tests.support.program import Moment, Program
from tests.support.realcloud import DATABASES, RealCloud

GET, UPDATE, LIST, RECORD = (
    f"libvirt {action}"
    for action in (
        "get_machine_type",
        "update_machine_type",
        "list_unset_machine_type",
        "record_machine_types",
    )
)
API, CELL0, CELL1, CELL2, CELL3 = DATABASES
CELLS: Final = (CELL1, CELL2, CELL3)
NOBODY: Final = "5b1c3d5e-0000-4000-8000-000000000002"
NONE_FOUND: Final = "No instances found without hw_machine_type set.\n"


def several(
    cloud: RealCloud, number: int, condition: str = "deleted = 0", cell: str = CELL1
) -> list[str]:
    """The first instances of a cell for which a condition holds, and that are mapped to it."""
    mapped = (
        f"SELECT instance_uuid FROM {API}.instance_mappings m JOIN {API}.cell_mappings c ON c.id = "
        "m.cell_id "
        f"WHERE c.name = '{cell.removeprefix('nova_')}'"
    )
    found = (
        f"SELECT uuid FROM instances WHERE {condition} AND uuid IN ({mapped}) ORDER BY id "
        f"LIMIT {number}"
    )
    uuids = [uuid for (uuid,) in cloud.rows(cell, found)]
    assert len(uuids) == number
    return uuids


def one(cloud: RealCloud, condition: str, cell: str = CELL1) -> str:
    """The first of them."""
    return several(cloud, 1, condition, cell)[0]


def give(cloud: RealCloud, uuid: str, machine_type: str | None, cell: str = CELL1) -> None:
    """Let an instance have a recorded machine type, or none."""
    which = f"instance_uuid = '{uuid}' AND `key` = 'image_hw_machine_type'"
    cloud.rows(cell, f"DELETE FROM instance_system_metadata WHERE {which}")
    if machine_type is not None:
        values = f"('{uuid}', 'image_hw_machine_type', '{machine_type}', 0)"
        cloud.rows(
            cell,
            "INSERT INTO instance_system_metadata (instance_uuid, `key`, value, deleted) VALUES "
            f"{values}",
        )


@pytest.fixture
def stopped(realcloud: RealCloud) -> str:
    """A stopped instance of cell1 with a machine type."""
    uuid = one(realcloud, "deleted = 0 AND vm_state = 'stopped'")
    give(realcloud, uuid, "pc-i440fx-5.1")
    return uuid


def test_get(realcloud: RealCloud, config: Path, stopped: str) -> None:
    """Each of its codes. An instance that is nowhere but in the configured database is not found:
    LIB-1
    """
    bare, deleted = one(realcloud, "deleted = 0", CELL2), one(realcloud, "deleted <> 0")
    cell0 = one(realcloud, "deleted = 0", CELL0)
    give(realcloud, bare, None, CELL2)
    give(realcloud, cell0, "", CELL0)
    homeless = one(realcloud, f"deleted = 0 AND uuid <> '{stopped}' AND vm_state = 'active'")
    realcloud.rows(
        API, f"UPDATE instance_mappings SET cell_id = NULL WHERE instance_uuid = '{homeless}'"
    )
    uuids = (stopped, bare, cell0, NOBODY, deleted, homeless)
    found, *others = ended = call_all((f"{GET} {uuid}" for uuid in uuids), config=config)
    assert [one.code for one in ended] == [0, 3, 3, 2, 2, 2]
    assert (found.out, found.err) == ("pc-i440fx-5.1\n", "")
    for uuid, unset_ in zip((bare, cell0), others, strict=False):
        assert (unset_.out, unset_.err) == (f"No machine type registered for instance {uuid}\n", "")
    unknown = [one.line for one in others[2:] if not one.out]
    mapping = "has no mapping to a cell"
    assert unknown == [
        f"Instance {NOBODY} {mapping}",
        f"Instance {deleted} could not be found",
        f"Instance {homeless} {mapping}",
    ]


# What an instance has, what it is to have, and the code.
UPDATES: Final = (
    ("pc-q35-6.0.0", "pc-q35-7.0", 0),
    (None, "q35", 0),
    ("", "virt-6.0", 0),
    ("pc-i440fx-5.1", "pc-i440fx-4.2", 4),
    ("pc", "q35", 4),
    ("pc", "pc-1.2.3", 4),
    ("pc", "isapc", 5),
)


def test_update(realcloud: RealCloud, config: Path) -> None:
    uuids = several(realcloud, len(UPDATES))
    for uuid, (old, _, _) in zip(uuids, UPDATES, strict=True):
        realcloud.rows(CELL1, f"UPDATE instances SET vm_state = 'stopped' WHERE uuid = '{uuid}'")
        give(realcloud, uuid, old)
    before, had = realcloud.checksums(), recorded(realcloud, CELL1)
    lines = (f"{UPDATE} {uuid} {new}" for uuid, (_, new, _) in zip(uuids, UPDATES, strict=True))
    ended = call_all(lines, config=config)
    for uuid, (old, new, code), one in zip(uuids, UPDATES, ended, strict=True):
        assert one.code == code
        if code == 0:
            updated = f"Updated instance {uuid} machine type to {new} (previously {old or None})\n"
            assert (one.out, one.err) == (updated, "")
            had[CELL1, uuid] = new
        else:
            assert one.out == ""
            assert one.line.startswith(
                {4: f"Cannot update machine type {old} to {new}: it", 5: "Machine type isapc"}[code]
            )
    assert recorded(realcloud, CELL1) == had
    changed = {key for key, checksum in realcloud.checksums().items() if before[key] != checksum}
    assert changed == {(CELL1, "instances"), (CELL1, "instance_system_metadata")}


def test_update_looks_at_the_state_first_unless_there_is_nothing_to_change_or_it_is_forced(
    realcloud: RealCloud, config: Path
) -> None:
    running = one(realcloud, "deleted = 0 AND vm_state = 'active'")
    give(realcloud, running, "pc-q35-6.2")
    before = realcloud.checksums()
    lines = (
        f"{running} isapc",
        f"{running} pc-q35-6.2",
        f"{NOBODY} pc --force",
        f"{running} '' --force",
    )
    refused, same, nobody, empty = call_all((f"{UPDATE} {line}" for line in lines), config=config)
    assert (refused.code, refused.out) == (3, "")
    assert (
        refused.line
        == f"Instance {running} is active: it must be stopped, shelved or shelved_offloaded"
    )
    assert (same.code, same.err) == (0, "")
    assert (
        same.out
        == f"Updated instance {running} machine type to pc-q35-6.2 (previously pc-q35-6.2)\n"
    )
    assert (nobody.code, nobody.out) == (2, "Forcing update of machine type.\n")
    assert (empty.code, empty.line) == (5, "The machine type is empty: nothing is changed")
    assert realcloud.checksums() == before
    forced = call(f"{UPDATE} --force {running} isapc", config=config)
    assert (forced.code, forced.err) == (0, "")
    assert forced.out.splitlines() == [
        "Forcing update of machine type.",
        f"Updated instance {running} machine type to isapc (previously pc-q35-6.2)",
    ]
    assert recorded(realcloud, CELL1)[CELL1, running] == "isapc"


def test_the_state_that_was_checked_is_that_of_the_commit(
    realcloud: RealCloud, config: Path, stopped: str
) -> None:
    """Nobody starts the instance in between."""
    words = (*UPDATE.split(), stopped, "pc-i440fx-6.0")
    with Program(config, API).start_and_hold(Moment.CELL_COMMIT, 0, *words) as run:
        run.wait_until_held()
        with pytest.raises(pymysql.OperationalError, match="1205"):
            realcloud.server.execute(
                "SET STATEMENT innodb_lock_wait_timeout = 1 FOR "
                f"UPDATE instances SET vm_state = 'active' WHERE uuid = '{stopped}'",
                CELL1,
            )
        run.go_on()
        assert run.end().code == 0
    assert recorded(realcloud, CELL1)[CELL1, stopped] == "pc-i440fx-6.0"


def test_1_any_other_error(realcloud: RealCloud, config: Path) -> None:
    """LIB-2: an API database that is none, one that refuses, a missing file."""
    text = config.read_text()
    config.write_text(text.replace(f"/{API}\n", f"/{CELL1}\n"))
    no_api = call_all((f"{GET} {NOBODY}", f"{UPDATE} {NOBODY} pc", LIST, RECORD), config=config)
    config.write_text(
        text.replace(realcloud.url(API), realcloud.server.url(API, password="of-old"))
    )
    refused, missing = (
        call(LIST, config=config),
        call(LIST, config=config.with_name("missing.conf")),
    )
    assert {(one.code, one.out) for one in (*no_api, refused, missing)} == {(1, "")}
    assert all("cell_mappings" in one.line for one in no_api)
    assert "Access denied" in refused.line
    assert "missing.conf" in missing.line


def test_2_a_usage_error(config: Path) -> None:
    for ended in call_all((GET, f"{UPDATE} {NOBODY}", f"{LIST} {NOBODY}"), config=config):
        assert (ended.code, ended.out) == (2, "")
        assert "--help" in ended.line


def uuids_of(places: Iterable[Place]) -> list[str]:
    return [uuid for _, uuid in places]


@pytest.fixture
def forgetful(realcloud: RealCloud) -> RealCloud:
    """The cloud with many instances without a machine type, and one of cell1 that has an empty
    one.
    """
    forget(realcloud, *CELLS)
    hollow = one(realcloud, "deleted = 0 AND id % 2 = 0")
    give(realcloud, hollow, "")
    return realcloud


def all_unset(cloud: RealCloud, *cells: str) -> list[Place]:
    """The instances without a machine type, or with an empty one."""
    empty = {place for place, machine_type in recorded(cloud, *cells).items() if not machine_type}
    return [*unset(cloud, *cells), *empty]


def test_the_list(forgetful: RealCloud, config: Path) -> None:
    """Of all cells but cell0, of one, of an unknown one. LIB-3: the named cell alone is listed."""
    names = forgetful.uuids
    lines = (
        LIST,
        f"{LIST} -f json",
        f"{LIST} --cell-uuid {names['cell2']}",
        f"{LIST} --cell-uuid {NOBODY}",
    )
    everything, data, alone, unknown = call_all(lines, config=config)
    assert [one.code for one in (everything, data, alone, unknown)] == [3, 3, 3, 2]
    assert sorted(everything.out.split()) == sorted(uuids_of(all_unset(forgetful, *CELLS)))
    assert alone.out.split() == uuids_of(unset(forgetful, CELL2))
    assert unknown.out == ""
    assert unknown.line.startswith(f"Cell {NOBODY} has no mapping")
    assert data.document["exit_code"] == 3
    assert [cell["cell"] for cell in data.document["cells"]] == ["cell1", "cell2", "cell3"]
    assert [
        uuid for cell in data.document["cells"] for uuid in cell["instances"]
    ] == everything.out.split()


def test_the_list_of_none(realcloud: RealCloud, config: Path) -> None:
    for cell in CELLS:
        realcloud.rows(cell, "UPDATE instances SET vm_state = 'building' WHERE id % 2")
        realcloud.rows(cell, "UPDATE instances SET deleted = id WHERE NOT id % 2")
    ended = call(LIST, config=config)
    assert (ended.code, ended.out, ended.err) == (0, NONE_FOUND, "")


def test_a_list_that_is_not_all_is_1(forgetful: RealCloud, config: Path) -> None:
    forgetful.rows(
        API, "UPDATE cell_mappings SET database_connection = 'nonsense' WHERE name = 'cell2'"
    )
    ended = call(LIST, config=config)
    assert ended.code == 1
    assert sorted(ended.out.split()) == sorted(uuids_of(all_unset(forgetful, CELL1, CELL3)))
    assert ended.line.startswith("cell2: its URL cannot be used")


@pytest.fixture
def hosts(config: Path, tmp_path: Path) -> Hosts:
    """The hosts of the cloud: none has a domain yet, none answers."""
    made = Hosts(tmp_path)
    reachable(config, made.template)
    return made


def test_recording_empties_the_list(forgetful: RealCloud, config: Path, hosts: Hosts) -> None:
    for cell in CELLS:
        forgetful.rows(cell, "UPDATE instances SET deleted = id WHERE host IS NULL")
    had, missing = recorded(forgetful, *CELLS), all_unset(forgetful, *CELLS)
    real = hosts.have_all(forgetful, *CELLS)
    before = forgetful.checksums()
    dry = call(f"{RECORD} --dry-run -f json", config=config)
    assert (dry.code, dry.err) == (0, "")
    assert forgetful.checksums() == before
    ended = call(f"{RECORD} -f json", config=config)
    assert (ended.code, ended.err) == (0, "")
    assert counts(ended.document) == counts(dry.document)
    assert sum(counts(ended.document).values()) == len(missing) > 20
    assert recorded(forgetful, *CELLS) == had | {place: real[place] for place in missing}
    again, listed = call_all((RECORD, LIST), config=config)
    assert (again.code, again.out, again.err) == (0, "Nothing was recorded.\n", "")
    assert (listed.code, listed.out, listed.err) == (0, NONE_FOUND, "")


def counts(document: Any) -> dict[tuple[str, str], int]:
    """Instances by host and machine type."""
    return {
        (host, kind): number
        for cell in document["cells"]
        for host, kinds in cell["recorded"].items()
        for kind, number in kinds.items()
    }


def test_what_cannot_be_recorded_is_named_and_left(
    forgetful: RealCloud, config: Path, hosts: Hosts
) -> None:
    """One host has a domain without a machine type, one has one with it, the others do not
    answer.
    """
    (_, lost), (_, kept), (_, nowhere), *others = unset(forgetful, CELL1)
    for uuid, host in ((lost, "'gone'"), (kept, "'there'"), (nowhere, "NULL")):
        forgetful.rows(CELL1, f"UPDATE instances SET host = {host} WHERE uuid = '{uuid}'")
    for place in others:
        forgetful.rows(CELL1, f"UPDATE instances SET host = 'silent' WHERE uuid = '{place[1]}'")
    give(forgetful, one(forgetful, "deleted = 0 AND id % 2 = 0"), "pc")
    hosts.have("gone", {lost: None})
    hosts.have("there", {kept: "pc-q35-7.2"})
    ended = call(f"{RECORD} --cell-uuid {forgetful.uuids['cell1']}", config=config)
    assert ended.code == 3
    assert "| cell1 | there | pc-q35-7.2   | 1         |" in ended.out
    assert recorded(forgetful, CELL1)[CELL1, kept] == "pc-q35-7.2"
    problem, no_domain, no_host = ended.err.splitlines()
    assert problem.startswith("cell1: silent was passed over: ")
    assert "silent.xml" in problem
    assert no_domain == "cell1: gone has no domain with a machine type for 1 instances"
    assert no_host == "cell1: 1 instances are on no host: use update_machine_type for them"
    assert unset(forgetful, CELL1) == [(CELL1, lost), (CELL1, nowhere), *others]


def test_one_host(forgetful: RealCloud, config: Path, hosts: Hosts) -> None:
    """It alone is asked, and must be mapped, to the named cell if one is named."""
    real = hosts.have_all(forgetful, CELL1)
    first = unset(forgetful, CELL1)[0]
    ((host,),) = forgetful.rows(CELL1, f"SELECT host FROM instances WHERE uuid = '{first[1]}'")
    here = {
        (CELL1, uuid)
        for (uuid,) in forgetful.rows(CELL1, f"SELECT uuid FROM instances WHERE host = '{host}'")
    }
    missing = unset(forgetful, *CELLS)
    unknown, wrong = call_all(
        (
            f"{RECORD} --host nowhere",
            f"{RECORD} --host {host} --cell-uuid {forgetful.uuids['cell2']}",
        ),
        config=config,
    )
    assert [(one.code, one.out) for one in (unknown, wrong)] == [(2, "")] * 2
    assert unknown.line == "Host nowhere is not mapped to any cell: see list_hosts"
    assert wrong.line == f"Host {host} is not mapped to this cell: see list_hosts"
    ended = call(f"{RECORD} --host {host}", config=config)
    assert (ended.code, ended.err) == (0, "")
    assert recorded(forgetful, CELL1)[first] == real[first]
    assert unset(forgetful, *CELLS) == [place for place in missing if place not in here]


def test_a_host_that_hangs_is_passed_over(
    forgetful: RealCloud, config: Path, silent_port: int
) -> None:
    """Its libvirt accepts the connection and never says a word."""
    reachable(config, f"qemu+tcp://127.0.0.1:{silent_port}/system?name={{host}}", timeout=1)
    before = forgetful.checksums()
    ended = call(f"{RECORD} --cell-uuid {forgetful.uuids['cell1']}", config=config)
    assert (ended.code, ended.out) == (3, "Nothing was recorded.\n")
    assert (
        "cell1: cmp-c1-01 was passed over: it does not answer within 1 s" in ended.err.splitlines()
    )
    assert forgetful.checksums() == before


def test_ctrl_c_while_hosts_hang(forgetful: RealCloud, config: Path, silent_port: int) -> None:
    reachable(config, f"qemu+tcp://127.0.0.1:{silent_port}/system?name={{host}}", timeout=2)
    with Running(RECORD, config=config) as running:
        until(lambda: bool(children(running.process.pid)))
        running.interrupt()
        ended = running.end()
    assert (ended.code, ended.out) == (1, "Nothing was recorded.\n")
    assert "Stopping after the current batches" in ended.err


def children(pid: int) -> list[str]:
    return [
        word
        for task in Path(f"/proc/{pid}/task").iterdir()
        for word in (task / "children").read_text().split()
    ]


@pytest.mark.parametrize("number", [0, 2])
def test_killed_while_it_records(
    forgetful: RealCloud, config: Path, hosts: Hosts, number: int
) -> None:
    """Each host's instances are one transaction; another run does the rest."""
    real = hosts.have_all(forgetful, *CELLS)
    missing = [place for place in unset(forgetful, *CELLS) if place in real]
    with Program(config, API).start_and_kill(Moment.CELL_COMMIT, number, *RECORD.split()) as run:
        assert run.end().code == -signal.SIGKILL
    ended = call(RECORD, config=config)
    assert ended.code == 3
    assert all("on no host" in line for line in ended.err.splitlines())
    now = recorded(forgetful, *CELLS)
    assert {place: now[place] for place in missing} == {place: real[place] for place in missing}


def test_4_nobody_can_be_asked(realcloud: RealCloud, config: Path, tmp_path: Path) -> None:
    before = realcloud.checksums()
    unset_uri = call(RECORD, config=config)
    reachable(config, "qemu+tls://{host}/system")
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['libvirt'] = None\n")
    no_extra = call(RECORD, config=config, env={"PYTHONPATH": str(tmp_path)})
    assert [(one.code, one.out) for one in (unset_uri, no_extra)] == [(4, "")] * 2
    assert "set connection_uri in section [libvirt]" in unset_uri.line
    assert no_extra.line == (
        "libvirt-python is not installed: install cellkeeper with its extra libvirt, see "
        "docs/libvirt.md"
    )
    assert realcloud.checksums() == before


def test_update_says_when_the_host_could_not_be_asked(
    realcloud: RealCloud, config: Path, hosts: Hosts, stopped: str
) -> None:
    """The update stands. A libvirt that names no machine types at all, as that of the test driver,
    raises no doubt.
    """
    ((host,),) = realcloud.rows(CELL1, f"SELECT host FROM instances WHERE uuid = '{stopped}'")
    away = call(f"{UPDATE} {stopped} pc-i440fx-6.0", config=config)
    hosts.have(host, {stopped: "pc-i440fx-6.0"})
    there = call(f"{UPDATE} {stopped} pc-i440fx-7.0", config=config)
    assert (away.code, there.code, there.err) == (0, 0, "")
    warning, _, libvirts_words = away.line.partition(" pc-i440fx-6.0: ")
    assert warning == f"Warning: {host} could not be asked whether it knows the machine type"
    assert f"{host}.xml" in libvirts_words
    assert recorded(realcloud, CELL1)[CELL1, stopped] == "pc-i440fx-7.0"


def test_without_a_server(sample: Path) -> None:
    """The same on SQLite."""
    with closing(sqlite3.connect(sample.parent / "nova_cell1.db")) as link:
        link.execute("DELETE FROM instance_system_metadata WHERE key = 'image_hw_machine_type'")
        link.commit()
    listed = call(LIST, config=sample)
    assert (listed.code, listed.err) == (3, "")
    first, second, *others = listed.out.split()
    forced = call(f"{UPDATE} --force {first} q35", config=sample)
    assert (forced.code, forced.err) == (0, "")
    with closing(sqlite3.connect(sample.parent / "nova_cell1.db")) as link:
        ((host,),) = link.execute("SELECT host FROM instances WHERE uuid = ?", (second,))
    hosts = Hosts(sample.parent)
    hosts.have(host, {second: "pc-q35-7.2"})
    reachable(sample, hosts.template)
    asked = call(RECORD, config=sample)
    assert asked.code == 3
    assert f"| cell1 | {host} | pc-q35-7.2   | 1 " in asked.out
    found, less = call_all((f"{GET} {first}", LIST), config=sample)
    assert (found.code, found.out) == (0, "q35\n")
    assert (less.code, less.out.split()) == (3, others)
