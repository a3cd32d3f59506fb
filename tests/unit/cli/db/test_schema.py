"""``db version``, ``db sync`` and their likes of ``api_db`` on SQLite."""

import pytest

from tests.support.demo_cloud import DemoCloud

HEAD = "ab450ba04102"
API_HEAD = "cdeec0c85668"


def empty(cloud: DemoCloud, file: str) -> None:
    """Have an empty database in the place of one of the cloud's."""
    (cloud.folder / file).unlink()
    (cloud.folder / file).touch()


@pytest.mark.parametrize(("category", "revision"), [("db", HEAD), ("api_db", API_HEAD)])
def test_the_version_is_printed(cloud: DemoCloud, category: str, revision: str) -> None:
    ended = cloud.call(f"{category} version")
    assert (ended.code, ended.out, ended.err) == (0, f"{revision}\n", "")


def test_a_database_without_tables_has_no_version(cloud: DemoCloud) -> None:
    empty(cloud, "nova_cell1.db")
    assert cloud.call("db version").out == "None\n"


@pytest.mark.parametrize(
    ("category", "file", "revision"),
    [("db", "nova_cell1.db", HEAD), ("api_db", "nova_api.db", API_HEAD)],
)
def test_an_empty_database_is_made(
    cloud: DemoCloud, category: str, file: str, revision: str
) -> None:
    empty(cloud, file)
    options = " --local_cell" if category == "db" else ""
    ended = cloud.call(f"{category} sync{options}")
    assert (ended.code, ended.out) == (0, "")
    assert "revision" in ended.err
    assert cloud.call(f"{category} version").out == f"{revision}\n"


def test_what_is_up_to_date_stays(cloud: DemoCloud) -> None:
    for line in ("db sync", "api_db sync", f"db sync {HEAD}"):
        ended = cloud.call(line)
        assert (ended.code, ended.out, ended.err) == (0, "", ""), line


def test_an_unknown_version_is_refused(cloud: DemoCloud) -> None:
    ended = cloud.call("db sync ffffffffffff --local_cell")
    assert (ended.code, ended.out) == (255, "")
    assert "ffffffffffff" in ended.err


def test_options_that_exclude_each_other(cloud: DemoCloud) -> None:
    ended = cloud.call("db sync --local_cell --all-cells")
    assert (ended.code, ended.out) == (2, "")
    assert "--local_cell, --all-cells and --cell exclude each other." in ended.err


def test_a_database_is_left_as_it_is_when_cell0_cannot_be_upgraded(cloud: DemoCloud) -> None:
    cloud.lose("cell0")
    empty(cloud, "nova_cell1.db")
    ended = cloud.call("db sync")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(
        "cell0 cannot be upgraded, and the configured database was left as it is: "
    )
    assert cloud.call("db version").out == "None\n"


def test_a_cloud_without_cell0_is_upgraded_all_the_same(cloud: DemoCloud) -> None:
    cloud.sql("API", "DELETE FROM cell_mappings WHERE name = 'cell0'")
    ended = cloud.call("db sync")
    assert (ended.code, ended.err) == (
        0,
        "cell0 is not mapped, and is not upgraded: cell_v2 map_cell0 maps it\n",
    )


def test_one_cell_is_upgraded_by_name_or_uuid(cloud: DemoCloud) -> None:
    for name in ("cell2", cloud.uuid("cell2").upper()):
        (cell,) = cloud.call(f"db sync --cell {name} -f json").document["cells"]
        assert (cell["cell"], cell["before"], cell["after"], cell["failure"]) == (
            "cell2",
            HEAD,
            HEAD,
            None,
        )


def test_a_cell_is_named_that_is_none_or_several(cloud: DemoCloud) -> None:
    assert cloud.call("db sync --cell nope").err == "No cell is mapped as nope\n"
    cloud.sql("API", "UPDATE cell_mappings SET name = 'twin' WHERE name IN ('cell1', 'cell2')")
    ended = cloud.call("db sync --cell twin")
    assert (ended.code, ended.err) == (255, "twin is the name of 2 cells: name one by its uuid\n")


def test_all_cells_are_upgraded_in_processes_of_their_own(cloud: DemoCloud) -> None:
    cloud.sql("API", "DELETE FROM cell_mappings WHERE name IN ('cell0', 'cell2')")
    cloud.lose("cell3")
    ended = cloud.call("db sync --all-cells")
    assert ended.code == 255
    assert sorted(ended.out.splitlines()) == [f"cell1: {HEAD}, was {HEAD}", "cell3: failed"]
    assert ended.err.startswith("cell3 (")
