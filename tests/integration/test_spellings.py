"""One host or UUID in several spellings: MySQL finds it, and so does the program, wherever it
looks.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from jobs.db.api_rows import ApiRows
from novadb.engine import Database
from tests.integration.cells import TIMEOUTS
from tests.support.command import call_here
from tests.support.placement import Placement, nova_conf
from tests.support.realcloud import RealCloud
from tests.support.small_cloud import SMALL, flavor
from tests.support.two_cells import CELLS, TwoCells

NODE: Final = "cccccccc-0000-4000-8000-00000000000a"
VM: Final = "11111111-0000-4000-8000-00000000000a"
AGGREGATE: Final = "aaaaaaaa-0000-4000-8000-00000000000a"
ROOM: Final = {"VCPU": 64, "MEMORY_MB": 65536, "DISK_GB": 1000}

Call = Callable[[str], Any]


@pytest.fixture
def cloud(two_cells: TwoCells, placement: Placement, tmp_path: Path) -> TwoCells:
    """A host that its compute node, its instance, its mapping and an aggregate spell in four
    ways.
    """
    two_cells.node("cell1", NODE.upper(), "CMP1", "Cmp1.example.org")
    two_cells.instance("cell1", VM, "cmp1 ", "cmp1.EXAMPLE.org", project_id="p1", user_id="u1")
    two_cells.equip("cell1", VM, flavor())
    two_cells.map_instance(VM.upper(), "cell1")
    two_cells.map_host("Cmp1", "cell1")
    placement.provide(NODE, "cmp1.example.org", ROOM)
    two_cells.config(tmp_path, nova_conf(placement.url))
    return two_cells


@pytest.fixture
def call(cloud: TwoCells, tmp_path: Path) -> Call:
    """Runs a command on that cloud, in JSON."""
    return lambda line: call_here(f"{line} -f json", config=tmp_path / "nova.conf")


HEAL: Final = "placement heal_allocations --skip-port-allocations"


@pytest.mark.parametrize(
    "options",
    ["", f"--instance {VM}", f"--instance {VM.upper()}", f"--cell {CELLS['cell1'].upper()}"],
)
def test_heal_finds_the_compute_node(call: Call, placement: Placement, options: str) -> None:
    healed, again = call(f"{HEAL} {options}"), call(f"{HEAL} {options}")
    assert (healed.code, healed.err, again.code, again.err) == (0, "", 4, "")
    assert placement.held(VM) == {NODE: SMALL}


@pytest.mark.parametrize("consumer", [VM, VM.upper()])
def test_audit_takes_no_allocation_of_a_live_instance(
    call: Call, placement: Placement, consumer: str
) -> None:
    placement.allocate(consumer, {NODE: SMALL}, "p1", "u1")
    ended = call("placement audit --delete")
    assert (ended.code, ended.document["orphans"], ended.err) == (0, [], "")
    assert placement.held(consumer) == {NODE: SMALL}
    one = call(f"placement audit --resource_provider {NODE.upper()}")
    assert (one.code, one.err) == (0, "")


def test_sync_aggregates_writes_a_provider_once_for_all_spellings_of_its_host(
    call: Call, cloud: TwoCells, placement: Placement
) -> None:
    other = AGGREGATE.replace("a-", "b-", 1)
    cloud.aggregate(AGGREGATE, "one", "cmp1")
    cloud.aggregate(other, "two", "CMP1  ")
    cloud.aggregate(AGGREGATE.replace("a", "c"), "nowhere", "lost")
    cloud.aggregate(AGGREGATE.replace("a", "d"), "nowhere else", "LOST")
    ended, again = call("placement sync_aggregates"), call("placement sync_aggregates")
    assert {one["aggregate_name"] for one in ended.document["added"]} == {"one", "two"}
    assert placement.aggregates(NODE) == {AGGREGATE, other}
    assert again.document["added"] == []
    assert [one["host"] for one in again.document["problems"]] == ["lost"]


@pytest.fixture
def config(realcloud: RealCloud, tmp_path: Path) -> Path:
    return realcloud.config(tmp_path)


def test_populate_missing_availability_zones_gives_the_zone_of_the_host(
    realcloud: RealCloud, config: Path
) -> None:
    """The zone is written once, and never looked at again."""
    realcloud.rows(
        realcloud.cell1, "UPDATE instances SET availability_zone = NULL, host = 'cmp4' WHERE id = 4"
    )
    realcloud.rows(realcloud.api, "INSERT INTO aggregates (uuid, name) VALUES (UUID(), 'spelling')")
    realcloud.rows(
        realcloud.api,
        "INSERT INTO aggregate_metadata (aggregate_id, `key`, value) "
        "SELECT id, 'availability_zone', 'az-of-cmp4' FROM aggregates WHERE name = 'spelling'",
    )
    realcloud.rows(
        realcloud.api,
        "INSERT INTO aggregate_hosts (aggregate_id, host) SELECT id, 'Cmp4 ' FROM aggregates WHERE "
        "name = 'spelling'",
    )
    ended = call_here("db online_data_migrations", config=config)
    assert (ended.code, ended.err) == (0, "")
    assert realcloud.rows(
        realcloud.cell1, "SELECT availability_zone FROM instances WHERE id = 4"
    ) == [("az-of-cmp4",)]


def test_mappings_get_the_user_and_the_state_of_their_instance(
    realcloud: RealCloud, config: Path
) -> None:
    ((live, user),) = realcloud.rows(
        realcloud.cell1,
        "SELECT uuid, user_id FROM instances WHERE deleted = 0 AND vm_state = 'active' LIMIT 1",
    )
    ((deleted,),) = realcloud.rows(
        realcloud.cell1, "SELECT uuid FROM instances WHERE deleted <> 0 LIMIT 1"
    )
    for uuid in (live, deleted):
        realcloud.rows(
            realcloud.api,
            f"UPDATE instance_mappings SET instance_uuid = '{uuid.upper()}', user_id = NULL, "
            "queued_for_delete = NULL "
            f"WHERE instance_uuid = '{uuid}'",
        )
    ended = call_here("db online_data_migrations", config=config)
    assert (ended.code, ended.err) == (0, "")
    state = (
        "SELECT queued_for_delete, user_id IS NULL FROM instance_mappings WHERE instance_uuid "
        "= '{}'"
    )
    assert realcloud.rows(realcloud.api, state.format(live)) == [(0, 0)]
    assert realcloud.rows(realcloud.api, state.format(deleted)) == [(1, 0)]
    assert realcloud.rows(
        realcloud.api, f"SELECT user_id FROM instance_mappings WHERE instance_uuid = '{live}'"
    ) == [(user,)]


def test_archiving_leaves_the_rows_of_an_instance_that_lives_in_another_cell(
    realcloud: RealCloud,
) -> None:
    ((number, uuid),) = realcloud.rows(
        realcloud.api,
        "SELECT m.cell_id, m.instance_uuid FROM instance_mappings m JOIN request_specs r USING "
        "(instance_uuid) "
        "JOIN cell_mappings c ON c.id = m.cell_id WHERE c.name = 'cell2' LIMIT 1",
    )
    api = Database(realcloud.url(realcloud.api), "the API database", TIMEOUTS)
    with ApiRows(api, frozenset({number + 100})) as rows:
        assert not +rows.delete([uuid.upper()])
    kept = f"SELECT COUNT(*) FROM request_specs WHERE instance_uuid = '{uuid}'"
    assert realcloud.rows(realcloud.api, kept) == [(1,)]


COMMANDS: Final = {
    "cell_v2 list_hosts --cell_uuid {CELL}": 0,
    "cell_v2 discover_hosts --strict --cell_uuid {CELL}": 0,
    "cell_v2 map_instances --cell_uuid {CELL}": 0,
    "cell_v2 update_cell --keep-urls --name second --cell_uuid {CELL}": 0,
    "cell_v2 delete_cell --cell_uuid {CELL}": 2,
    "cell_v2 delete_host --cell_uuid {CELL} --host CMP-C2-01": 4,
    "cell_v2 verify_instance --uuid {INSTANCE}": 0,
    "libvirt get_machine_type {INSTANCE}": 0,
    "libvirt list_unset_machine_type --cell-uuid {CELL}": 3,
    "db sync --cell {CELL}": 0,
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_uuid_in_upper_case_is_taken(realcloud: RealCloud, config: Path, line: str) -> None:
    ((uuid,),) = realcloud.rows(
        realcloud.cell2,
        "SELECT uuid FROM instances WHERE deleted = 0 AND vm_state = 'active' AND NOT hidden LIMIT "
        "1",
    )
    written = line.format(CELL=realcloud.uuids["cell2"].upper(), INSTANCE=uuid.upper())
    ended = call_here(written, config=config)
    assert ended.code == COMMANDS[line], ended.err + ended.out


def test_a_cell_is_not_taken_for_its_own_twin(realcloud: RealCloud, config: Path) -> None:
    uuid, url = realcloud.uuids["cell2"].upper(), realcloud.url(realcloud.cell2)
    same = f"--transport-url rabbit://nova:nova@rabbit-cell2:5672/ --database_connection {url}"
    ended = call_here(f"cell_v2 update_cell --cell_uuid {uuid} --name second {same}", config=config)
    assert (ended.code, ended.out, ended.err) == (0, "", "")
