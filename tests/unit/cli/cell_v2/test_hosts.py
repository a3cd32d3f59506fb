"""The commands of ``cell_v2`` for hosts and instances: what is printed, and the exit code."""

import pytest

from tests.support.demo_cloud import DemoCloud

DISCOVER = "cell_v2 discover_hosts"


def forget(cloud: DemoCloud, host: str) -> None:
    """Have a host mapped to no cell."""
    cloud.sql("API", "DELETE FROM host_mappings WHERE host = ?", host)


def test_hosts_are_listed(cloud: DemoCloud) -> None:
    ended = cloud.call("cell_v2 list_hosts")
    assert (ended.code, ended.err) == (0, "")
    rows = [line.split("|")[1:4] for line in ended.out.splitlines() if line.startswith("|")]
    assert [name.strip() for name in rows[0]] == ["Cell Name", "Cell UUID", "Hostname"]
    assert [host.strip() for _, _, host in rows[1:]] == [
        f"cmp-c{c}-0{n}" for c in (1, 2, 3) for n in (1, 2, 3, 4)
    ]


def test_hosts_that_are_not_mapped_are_found(cloud: DemoCloud) -> None:
    forget(cloud, "cmp-c2-01")
    uuid, node = (
        cloud.uuid("cell2"),
        cloud.scalar("cell2", "SELECT uuid FROM compute_nodes WHERE host = 'cmp-c2-01'"),
    )
    ended = cloud.call(f"{DISCOVER} --verbose --cell_uuid {uuid}")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        f"Getting computes from cell 'cell2': {uuid}",
        f"Checking host mapping for compute host 'cmp-c2-01': {node}",
        f"Creating host mapping for compute host 'cmp-c2-01': {node}",
        f"Found 1 unmapped computes in cell: {uuid}",
    ]
    assert cloud.call(f"{DISCOVER} --strict").code == 1


def test_hosts_are_found_by_their_services(cloud: DemoCloud) -> None:
    forget(cloud, "cmp-c2-01")
    ended = cloud.call(f"{DISCOVER} --verbose --by-service")
    assert ended.code == 0
    assert ended.out.startswith(
        "Found 4 cell mappings.\nSkipping cell0 since it does not contain hosts.\n"
    )
    assert "Creating host mapping for service cmp-c2-01\n" in ended.out
    assert "Checking host mapping" not in ended.out


def test_hosts_as_a_document(cloud: DemoCloud) -> None:
    forget(cloud, "cmp-c3-04")
    document = cloud.call(f"{DISCOVER} -f json").document
    assert document["exit_code"] == 0
    assert {cell["cell"]: cell["mapped"] for cell in document["cells"]} == {
        "cell1": [], "cell2": [], "cell3": ["cmp-c3-04"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--timeout 3", "--timeout goes with --wait-for."),
        ("--wait-for 2 --detach", "--wait-for waits here: it does not go with --detach."),
        (
            "--wait-for 2 --until 06:00",
            "--wait-for ends by --timeout: it does not go with --until.",
        ),
    ],
)
def test_options_that_do_not_combine(cloud: DemoCloud, options: str, words: str) -> None:
    ended = cloud.call(f"{DISCOVER} {options}")
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err


def test_hosts_are_waited_for(cloud: DemoCloud) -> None:
    forget(cloud, "cmp-c1-01")
    ended = cloud.call(f"{DISCOVER} --wait-for 1")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    ended = cloud.call(f"{DISCOVER} --wait-for 2 --timeout 0")
    assert (ended.code, ended.err) == (1, "2 of the expected hosts were not mapped\n")


def test_a_cell_that_is_away_is_said(cloud: DemoCloud) -> None:
    cloud.lose("cell3")
    forget(cloud, "cmp-c1-01")
    ended = cloud.call(DISCOVER)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("cell3 (")
    assert cloud.sql("API", "SELECT host FROM host_mappings WHERE host = 'cmp-c1-01'") == [
        ("cmp-c1-01",)
    ]


def test_a_host_that_is_in_two_cells_is_said(cloud: DemoCloud) -> None:
    cloud.sql(
        "cell2", "UPDATE compute_nodes SET host = 'cmp-c1-01', mapped = 0 WHERE host = 'cmp-c2-01'"
    )
    ended = cloud.call(f"{DISCOVER} --verbose")
    assert ended.code == 0
    assert (
        ended.err
        == "cell2: cmp-c1-01 is mapped to another cell; if it has moved, use delete_host there\n"
    )


def test_a_host_is_deleted_once_nothing_is_on_it(cloud: DemoCloud) -> None:
    cell1, cell2 = cloud.uuid("cell1"), cloud.uuid("cell2")
    delete = f"cell_v2 delete_host --cell_uuid {cell2} --host"
    assert cloud.call(f"{delete} nope").out == "The host nope was not found.\n"
    ended = cloud.call(f"cell_v2 delete_host --cell_uuid {cell1} --host cmp-c2-02")
    assert (ended.code, ended.out) == (
        3,
        f"The host cmp-c2-02 was not found in the cell {cell1}.\n",
    )
    cloud.sql("cell2", "UPDATE instances SET host = 'cmp-c2-02', deleted = 0 WHERE id = 1")
    ended = cloud.call(f"{delete} cmp-c2-02")
    assert (ended.code, ended.out) == (4, "There are instances on the host cmp-c2-02.\n")
    cloud.sql("cell2", "UPDATE instances SET deleted = id")
    ended = cloud.call(f"{delete} cmp-c2-02")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert "cmp-c2-02" not in cloud.call("cell_v2 list_hosts").out


@pytest.mark.parametrize("count", ["0", "many"])
def test_instances_are_not_mapped_by_a_count_that_is_none(cloud: DemoCloud, count: str) -> None:
    ended = cloud.call(
        f"cell_v2 map_instances --cell_uuid {cloud.uuid('cell2')} --max-count {count}"
    )
    assert (ended.code, ended.out) == (127, "")
    assert ended.err == f"Must supply a positive value for max-count, not {count}\n"


def test_instances_are_mapped_some_at_a_time(cloud: DemoCloud) -> None:
    cloud.sql("API", "DELETE FROM instance_mappings WHERE cell_id = 3")
    line = f"cell_v2 map_instances --cell_uuid {cloud.uuid('cell2')}"
    first = cloud.call(f"{line} --max-count 5")
    assert (first.code, first.out, first.err) == (1, "", "")
    assert cloud.scalar("API", "SELECT count(*) FROM instance_mappings WHERE cell_id = 3") == 5
    (cell,) = cloud.call(f"{line} -f json").document["cells"]
    assert (cell["mapped"], cell["left"]) == (7, False)
    (cell,) = cloud.call(f"{line} --reset -f json").document["cells"]
    assert (cell["mapped"], cell["looked_at"]) == (0, 12)


def test_an_instance_is_verified(cloud: DemoCloud) -> None:
    (live,), (deleted,) = (
        cloud.sql("cell1", f"SELECT uuid FROM instances WHERE deleted {how} 0 ORDER BY id")[0]
        for how in ("=", "<>")
    )
    ended = cloud.call(f"cell_v2 verify_instance --uuid {live}")
    assert (ended.code, ended.out) == (
        0,
        f"Instance {live} is in cell: cell1 ({cloud.uuid('cell1')})\n",
    )
    assert cloud.call(f"cell_v2 verify_instance --uuid {live} --quiet").out == ""
    ended = cloud.call(f"cell_v2 verify_instance --uuid {deleted}")
    assert ended.code == 3
    assert ended.out.startswith(
        f"The instance with uuid {deleted} has been deleted.\nExecute `cellkeeper db archive_"
    )
    cloud.sql("cell1", "PRAGMA foreign_keys = OFF")
    cloud.sql("cell1", "DELETE FROM instances WHERE uuid = ?", deleted)
    ended = cloud.call(f"cell_v2 verify_instance --uuid {deleted}")
    assert (ended.code, ended.out.splitlines()[1]) == (4, "However its instance_mapping remains.")
    assert ended.err.startswith("It is not in the shadow tables either")
    cloud.sql("API", "UPDATE instance_mappings SET cell_id = NULL WHERE instance_uuid = ?", deleted)
    ended = cloud.call(f"cell_v2 verify_instance --uuid {deleted}")
    assert (ended.code, ended.out) == (2, f"Instance {deleted} is not mapped to a cell\n")
    ended = cloud.call("cell_v2 verify_instance --uuid nope")
    assert (ended.code, ended.err) == (1, "")
    assert ended.out.startswith("Instance nope is not mapped to a cell (upgrade is incomplete)")
