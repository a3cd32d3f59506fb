"""``db online_data_migrations`` and ``db ironic_compute_node_move`` on SQLite."""

import pytest

from tests.support.demo_cloud import DemoCloud

MIGRATE = "db online_data_migrations"


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_a_count_that_is_none(cloud: DemoCloud, count: str) -> None:
    ended = cloud.call(f"{MIGRATE} --max-count={count}")
    assert (ended.code, ended.out) == (127, "")
    assert ended.err == f"Must supply a positive value for --max-count, not {count}\n"


def test_what_is_to_be_migrated_is_migrated_once(cloud: DemoCloud) -> None:
    cloud.sql("cell1", "UPDATE instances SET compute_id = NULL")
    first = cloud.call(MIGRATE)
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("Running batches of 50 until complete\n")
    assert "13 rows matched query populate_instance_compute_id, 12 migrated\n" in first.out
    assert "|              Migration              | Total Needed | Completed |" in first.out
    again = cloud.call(f"{MIGRATE} --max-count 100")
    assert (again.code, again.err) == (0, "")
    assert "Running batches" not in again.out
    assert (
        cloud.sql(
            "cell1", "SELECT uuid FROM instances WHERE compute_id IS NULL AND host IS NOT NULL"
        )
        == []
    )


def test_while_there_may_be_more_the_code_is_1(cloud: DemoCloud) -> None:
    cloud.sql("cell1", "UPDATE instances SET compute_id = NULL")
    assert cloud.call(f"{MIGRATE} --max-count 2").code == 1


def test_all_cells_are_summed_up_and_what_is_left_is_named(cloud: DemoCloud) -> None:
    ended = cloud.call(f"{MIGRATE} --all-cells --verbose")
    assert (ended.code, ended.err) == (0, "")
    headings = [line for line in ended.out.splitlines() if line.startswith(("Cell ", "All "))]
    cells = [f"Cell {cloud.uuid(name)}({name}):" for name in ("cell0", "cell1", "cell2", "cell3")]
    assert headings == [*cells, "All cells:"]
    assert "populate_instance_compute_id: 3 left: instances without a host" in ended.out


def test_migrations_as_a_document(cloud: DemoCloud) -> None:
    document = cloud.call(f"{MIGRATE} --all-cells -f json").document
    assert document["exit_code"] == 0
    found = document["cells"][1]["migrations"]["populate_instance_compute_id"]
    assert (found["found"], found["errors"]) == (
        found["done"] + sum(r["count"] for r in found["left"].values()),
        {},
    )


def test_without_the_api_database_the_migrations_that_need_it_fail(cloud: DemoCloud) -> None:
    (cloud.folder / "nova_api.db").unlink()
    ended = cloud.call(MIGRATE)
    assert ended.code == 2
    assert "Error attempting to run " in ended.err
    assert "nova_api.db): there is no such file" in ended.err
    refused = cloud.call(f"{MIGRATE} --all-cells")
    assert (refused.code, refused.out) == (2, "")


def test_a_table_that_is_missing_is_said(cloud: DemoCloud) -> None:
    cloud.sql("cell1", "DROP TABLE virtual_interfaces")
    ended = cloud.call(MIGRATE)
    assert "fill_virtual_interface_list was passed over: there is no " in ended.err


def test_an_ironic_node_is_moved_to_a_service_that_is_up(cloud: DemoCloud) -> None:
    node, host = cloud.sql(
        "cell1", "SELECT uuid, host FROM compute_nodes WHERE deleted = 0 ORDER BY id"
    )[0]
    other = cloud.scalar(
        "cell1",
        "SELECT host FROM services WHERE deleted = 0 AND binary = 'nova-compute' AND host <> ? "
        "LIMIT 1",
        host,
    )
    move = f"db ironic_compute_node_move --ironic-node-uuid {node} --destination-host {other}"
    refused = cloud.call(move)
    assert (refused.code, refused.out) == (255, "")
    assert host in refused.err
    cloud.sql("cell1", "UPDATE services SET forced_down = 1 WHERE host = ?", host)
    cloud.sql("cell1", "UPDATE compute_nodes SET hypervisor_type = 'ironic' WHERE uuid = ?", node)
    ended = cloud.call(move)
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert cloud.scalar("cell1", "SELECT host FROM compute_nodes WHERE uuid = ?", node) == other


def test_an_ironic_node_for_a_host_that_is_none(cloud: DemoCloud) -> None:
    ended = cloud.call("db ironic_compute_node_move --ironic-node-uuid x --destination-host y")
    assert (ended.code, ended.out, ended.err) == (
        255,
        "",
        "There is no nova-compute service on the host y\n",
    )
