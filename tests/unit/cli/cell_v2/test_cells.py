"""The commands of ``cell_v2`` that map cells: what is printed, and the exit code."""

import pytest

from tests.support.demo_cloud import CELL0, DemoCloud

NOBODY = "11111111-0000-4000-8000-000000000000"
FROM_CONFIGURATION = (
    "--transport-url not provided in the command line, using the value [DEFAULT]/transport_url "
    "from the "
    "configuration file\n"
)


def test_cells_are_listed(cloud: DemoCloud) -> None:
    ended = cloud.call("cell_v2 list_cells")
    assert (ended.code, ended.err) == (0, "")
    header, *rows = [
        line.split("|")[1:3] for line in ended.out.splitlines() if line.startswith("|")
    ]
    assert [name.strip() for name in header] == ["Name", "UUID"]
    assert [uuid.strip() for _, uuid in rows] == [
        cloud.uuid(name) for name in ("cell0", "cell1", "cell2", "cell3")
    ]


def test_a_password_is_listed_only_where_it_is_asked_for(cloud: DemoCloud) -> None:
    cloud.sql(
        "API",
        "UPDATE cell_mappings SET transport_url = 'rabbit://nova:hidden@mq/' WHERE name = 'cell1'",
    )
    assert "hidden" not in cloud.call("cell_v2 list_cells").out
    (cell,) = [
        cell
        for cell in cloud.call("cell_v2 list_cells --verbose -f json").document
        if cell["name"] == "cell1"
    ]
    assert (cell["transport_url"], cell["disabled"]) == ("rabbit://nova:hidden@mq/", False)


def test_a_cell_is_created_once(cloud: DemoCloud) -> None:
    line = (
        "cell_v2 create_cell --name new --transport-url none:///x --database_connection "
        f"sqlite:///{cloud.folder}/x"
    )
    ended = cloud.call(f"{line} --verbose --disabled")
    uuid = ended.out.strip()
    assert ended.code == 0
    assert ended.err.startswith("Warning: it cannot be reached from here: the database (")
    assert cloud.sql("API", "SELECT name, disabled FROM cell_mappings WHERE uuid = ?", uuid) == [
        ("new", 1)
    ]
    again = cloud.call(line)
    assert again.code == 2
    assert again.out == (
        "The specified transport_url and/or database_connection combination already exists for "
        "another cell with "
        f"uuid {uuid}.\n"
    )


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--transport-url ://", "Invalid transport URL: no scheme specified, such as rabbit://\n"),
        (
            "--transport-url none:/// --database_connection nonsense",
            "Invalid database connection: ",
        ),
    ],
)
def test_a_cell_whose_urls_make_no_sense_is_not_created(
    cloud: DemoCloud, options: str, line: str
) -> None:
    ended = cloud.call(f"cell_v2 create_cell --name new {options}")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(line)
    assert cloud.scalar("API", "SELECT count(*) FROM cell_mappings") == 4


def test_without_a_transport_url_anywhere_one_is_asked_for(cloud: DemoCloud) -> None:
    cloud.config.write_text(
        cloud.config.read_text().replace("transport_url = none:///", "transport_url =")
    )
    ended = cloud.call("cell_v2 create_cell --name new")
    assert ended.code == 1
    assert ended.err == (
        "Must specify --transport-url if [DEFAULT]/transport_url is not set in the configuration "
        "file.\n"
    )


def test_hosts_of_a_transport_url_with_and_without_a_login_are_warned_of(cloud: DemoCloud) -> None:
    ended = cloud.call(
        f"cell_v2 create_cell --transport-url rabbit://nova:hidden@one,two/ --database_connection "
        f"sqlite:///{cloud.folder}/x"
    )
    assert ended.code == 0
    assert (
        "Warning: some hosts of the transport URL have a user and a password, others have none\n"
        in ended.err
    )
    assert "hidden" not in ended.out + ended.err


def test_a_cell_is_updated(cloud: DemoCloud) -> None:
    uuid = cloud.uuid("cell1")
    ended = cloud.call(f"cell_v2 update_cell --cell_uuid {uuid} --name first --keep-urls")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert cloud.scalar("API", "SELECT name FROM cell_mappings WHERE uuid = ?", uuid) == "first"


@pytest.mark.parametrize(
    ("cell", "options", "code", "out"),
    [
        (
            "cell1",
            "--disable --enable --keep-urls",
            4,
            "Cell cannot be disabled and enabled at the same time.\n",
        ),
        ("cell0", "--disable --keep-urls", 5, "Cell0 cannot be disabled.\n"),
        ("cell1", "--enable --keep-urls", 0, "Cell {uuid} is already enabled\n"),
        (
            "cell1",
            "--transport-url none:/// --database_connection {cell2}",
            3,
            "The specified transport_url and/or",
        ),
    ],
)
def test_an_update_that_changes_nothing(
    cloud: DemoCloud, cell: str, options: str, code: int, out: str
) -> None:
    uuid = cloud.uuid(cell)
    url = cloud.scalar("API", "SELECT database_connection FROM cell_mappings WHERE name = 'cell2'")
    before = cloud.sql("API", "SELECT * FROM cell_mappings")
    ended = cloud.call(f"cell_v2 update_cell --cell_uuid {uuid} {options.format(cell2=url)}")
    assert ended.code == code
    assert ended.out.startswith(out.format(uuid=uuid))
    assert cloud.sql("API", "SELECT * FROM cell_mappings") == before


def test_an_update_by_what_the_cell_has_says_that_nothing_is_new(cloud: DemoCloud) -> None:
    uuid = cloud.uuid("cell1")
    ended = cloud.call(f"cell_v2 update_cell --cell_uuid {uuid} --name cell1 --keep-urls")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == f"Nothing was changed: the cell {uuid} already has these values\n"


def test_an_update_takes_the_urls_of_the_configuration(cloud: DemoCloud) -> None:
    for cell in ("cell0", "cell2", "cell3"):
        cloud.sql(
            "API",
            "UPDATE cell_mappings SET transport_url = ? WHERE name = ?",
            f"none:///{cell}",
            cell,
        )
    uuid = cloud.uuid("cell1")
    cloud.sql("API", "UPDATE cell_mappings SET transport_url = 'none:///old' WHERE uuid = ?", uuid)
    ended = cloud.call(f"cell_v2 update_cell --cell_uuid {uuid}")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(FROM_CONFIGURATION)
    assert (
        cloud.scalar("API", "SELECT transport_url FROM cell_mappings WHERE uuid = ?", uuid)
        == "none:///"
    )


def test_an_update_with_a_url_that_makes_no_sense(cloud: DemoCloud) -> None:
    ended = cloud.call(
        f"cell_v2 update_cell --cell_uuid {cloud.uuid('cell1')} --transport-url :// --keep-urls"
    )
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Unable to update CellMapping: Invalid transport URL: ")


@pytest.mark.parametrize(
    ("line", "code", "on_err"),
    [
        ("update_cell", 1, False),
        ("delete_cell", 1, False),
        ("delete_host --host h", 1, False),
        ("list_hosts", 1, False),
        ("discover_hosts", 1, True),
        ("map_instances", 255, True),
    ],
)
def test_a_cell_that_is_not_mapped(cloud: DemoCloud, line: str, code: int, on_err: bool) -> None:
    ended = cloud.call(f"cell_v2 {line} --cell_uuid {NOBODY}")
    assert ended.code == code
    assert (ended.err if on_err else ended.out) == f"Cell with uuid {NOBODY} was not found.\n"


def test_a_cell_is_deleted_only_when_nothing_is_in_it(cloud: DemoCloud) -> None:
    uuid = cloud.uuid("cell3")
    delete = f"cell_v2 delete_cell --cell_uuid {uuid}"
    ended = cloud.call(delete)
    assert (ended.code, ended.out) == (
        2,
        f"There are existing hosts mapped to cell with uuid {uuid}.\n",
    )
    assert (
        cloud.call(f"{delete} --force").out
        == f"There are existing instances mapped to cell with uuid {uuid}.\n"
    )
    cloud.sql("cell3", "UPDATE instances SET deleted = id")
    cloud.sql("API", "DELETE FROM host_mappings WHERE cell_id = 4")
    ended = cloud.call(delete)
    assert ended.code == 4
    assert (
        "So execute 'cellkeeper db archive_deleted_rows --all-cells' to delete the instance "
        "mappings." in ended.out
    )
    ended = cloud.call(f"{delete} --force")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert cloud.sql("API", "SELECT * FROM cell_mappings WHERE uuid = ?", uuid) == []


def test_a_cloud_without_cell0_is_warned_of_and_cell0_is_mapped_again(cloud: DemoCloud) -> None:
    cloud.sql("API", "DELETE FROM instance_mappings WHERE cell_id = 1")
    cloud.sql("cell0", "UPDATE instances SET deleted = id")
    ended = cloud.call(f"cell_v2 delete_cell --cell_uuid {CELL0} --force")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith("Warning: cell0 is no longer mapped")
    line = f"cell_v2 map_cell0 --database_connection sqlite:///{cloud.folder}/nova_cell0.db"
    assert cloud.call(line).out == ""
    assert cloud.call(line).out == "Cell0 is already setup\n"
    assert cloud.uuid("cell0") == CELL0


def test_cell0_cannot_have_what_is_no_url(cloud: DemoCloud) -> None:
    ended = cloud.call("cell_v2 map_cell0 --database_connection nonsense")
    assert (ended.code, ended.out) == (255, "")
    assert ended.err.startswith("Invalid database connection: ")


def test_a_setup_from_nothing(cloud: DemoCloud) -> None:
    for table in ("instance_mappings", "host_mappings", "cell_mappings"):
        cloud.sql("API", f"DELETE FROM {table}")
    url = cloud.folder / "nova_cell1.db"
    cell0 = cloud.folder / "nova_cell1.db_cell0"
    cell0.touch()
    ended = cloud.call("cell_v2 simple_cell_setup")
    assert (ended.code, ended.out) == (0, FROM_CONFIGURATION)
    assert "revision" in ended.err
    cells = dict(cloud.sql("API", "SELECT uuid, database_connection FROM cell_mappings"))
    assert cells.pop(CELL0) == f"sqlite:///{cell0}"
    assert [*cells.values()] == [f"sqlite:///{url}"]
    assert cloud.scalar("API", "SELECT count(*) FROM instance_mappings") == 12
    assert cloud.scalar("API", "SELECT count(*) FROM host_mappings") == 4
    again = cloud.call("cell_v2 simple_cell_setup --transport-url none:///")
    assert (again.code, again.err) == (0, "")
    assert again.out == "Cell0 is already setup\nAll hosts are already mapped to cell(s).\n"


def test_a_setup_goes_on_where_cell0_has_no_database(cloud: DemoCloud) -> None:
    cloud.lose("cell0")
    ended = cloud.call("cell_v2 simple_cell_setup")
    assert ended.code == 0
    assert "Unable to sync cell0 schema: " in ended.err


@pytest.mark.parametrize("command", ["simple_cell_setup", "map_cell_and_hosts"])
def test_a_setup_needs_a_transport_url_and_a_host(cloud: DemoCloud, command: str) -> None:
    ended = cloud.call(f"cell_v2 {command} --transport-url ://")
    assert (ended.code, ended.err) == (
        1,
        "Invalid transport URL: no scheme specified, such as rabbit://\n",
    )
    cloud.sql("cell1", "DELETE FROM compute_nodes")
    ended = cloud.call(f"cell_v2 {command} --transport-url none:///")
    assert ended.code == (1 if command == "simple_cell_setup" else 0)
    assert ended.out.endswith("No hosts found to map to cell, exiting.\n")


def test_hosts_are_mapped_to_their_cell(cloud: DemoCloud) -> None:
    uuid = cloud.uuid("cell1")
    cloud.sql("API", "DELETE FROM host_mappings WHERE host IN ('cmp-c1-02', 'cmp-c1-03')")
    ended = cloud.call("cell_v2 map_cell_and_hosts --transport-url none:/// --verbose")
    assert (ended.code, ended.err) == (0, "")
    already = [
        f"Host {host} is already mapped to cell {uuid}" for host in ("cmp-c1-01", "cmp-c1-04")
    ]
    assert ended.out.splitlines() == [*already, uuid]
    assert len(cloud.call(f"cell_v2 list_hosts --cell_uuid {uuid} -f json").document) == 4
