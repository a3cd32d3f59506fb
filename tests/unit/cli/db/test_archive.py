"""``db archive_deleted_rows`` and ``db purge`` on SQLite: what is printed, and the exit code."""

import pytest

from tests.support.demo_cloud import DemoCloud

ARCHIVE = "db archive_deleted_rows"
NEEDS_WORKERS = (
    "--detach and --run-id need workers: broker_url in section [celery], and --all-cells\n"
)


def deleted_instances(cloud: DemoCloud, cell: str) -> int:
    number = cloud.scalar(cell, "SELECT count(*) FROM instances WHERE deleted <> 0")
    assert isinstance(number, int)
    return number


def archived_instances(cloud: DemoCloud, cell: str) -> int:
    number = cloud.scalar(cell, "SELECT count(*) FROM shadow_instances")
    assert isinstance(number, int)
    return number


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (
            "--max_rows -1",
            2,
            "Invalid value for --max_rows: -1; it must lie between 0 and 2147483647\n",
        ),
        (
            "--before soon",
            4,
            "Invalid value for --before: 'soon' cannot be understood for sure (no date)",
        ),
        (
            "--until 2020-01-01T00:00+00:00",
            255,
            "--until 2020-01-01T00:00+00:00 is in the past; nothing was started\n",
        ),
        (
            "--detach",
            255,
            "--detach and --run-id need workers: broker_url in section [celery], and --all-cells\n",
        ),
        (
            "--run-id night",
            255,
            "--detach and --run-id need workers: broker_url in section [celery], and --all-cells\n",
        ),
    ],
)
def test_an_archive_that_is_refused_changes_nothing(
    cloud: DemoCloud, options: str, code: int, line: str
) -> None:
    ended = cloud.call(f"{ARCHIVE} --until-complete {options}")
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith(line)
    assert archived_instances(cloud, "cell1") == 0


def test_without_the_api_database_nothing_is_archived(cloud: DemoCloud) -> None:
    (cloud.folder / "nova_api.db").unlink()
    ended = cloud.call(f"{ARCHIVE} --all-cells")
    assert (ended.code, ended.out) == (3, "")
    assert "nova_api.db): there is no such file" in ended.err


def test_all_cells_are_archived_and_the_blocked_instance_is_named(cloud: DemoCloud) -> None:
    deleted = {cell: deleted_instances(cloud, cell) for cell in ("cell1", "cell2")}
    ended = cloud.call(f"{ARCHIVE} --all-cells --until-complete --verbose")
    assert ended.code == 1
    assert ended.out.startswith("Archiving...")
    assert ".complete\n" in ended.out
    assert f"| cell1.instances                | {deleted['cell1']} " in ended.out
    assert "| API_DB.instance_mappings " in ended.out
    assert ended.err.startswith("cell2: left in instances: id 1: 1 in share_mapping")
    assert archived_instances(cloud, "cell1") == deleted["cell1"]
    assert archived_instances(cloud, "cell2") == deleted["cell2"] - 1
    assert deleted_instances(cloud, "cell2") == 1


def test_the_second_time_nothing_is_archived(cloud: DemoCloud) -> None:
    cloud.call(f"{ARCHIVE} --until-complete")
    ended = cloud.call(f"{ARCHIVE} --verbose")
    assert (ended.code, ended.out, ended.err) == (0, "Nothing was archived.\n", "")


def test_a_bounded_archive_names_its_tables(cloud: DemoCloud) -> None:
    ended = cloud.call(f"{ARCHIVE} --max_rows 1 --verbose")
    assert (ended.code, ended.err) == (1, "")
    assert "Archiving" not in ended.out
    assert ended.out.splitlines()[1].split() == [
        "|",
        "Table",
        "|",
        "Number",
        "of",
        "Rows",
        "Archived",
        "|",
    ]
    assert "| pci_devices " in ended.out or "| instance_id_mappings " in ended.out


def test_an_archive_as_a_document_with_the_purge_behind_it(cloud: DemoCloud) -> None:
    ended = cloud.call(f"{ARCHIVE} --all-cells --until-complete --purge -f json")
    document = ended.document
    assert document["exit_code"] == ended.code == 1
    assert [cell["state"] for cell in document["cells"]] == ["complete"] * 4
    assert [cell["blocked_count"] for cell in document["cells"]] == [0, 0, 1, 0]
    purged = {cell["cell"]: cell["purged"]["shadow_instances"] for cell in document["purged"]}
    archived = {cell["cell"]: cell["archived"]["instances"] for cell in document["cells"]}
    assert purged == archived
    assert archived_instances(cloud, "cell1") == 0


def test_a_purge_behind_an_archive_is_announced(cloud: DemoCloud) -> None:
    ended = cloud.call(f"{ARCHIVE} --until-complete --purge --verbose")
    assert ended.code == 1
    _, _, purge = ended.out.partition("Rows were archived, running purge...\n")
    assert "DB: Deleted 6 rows from shadow_instances based on timestamp column (n/a)\n" in purge


def test_a_cell_that_is_away_fails_and_the_others_are_archived(cloud: DemoCloud) -> None:
    cloud.lose("cell3")
    ended = cloud.call(f"{ARCHIVE} --all-cells --until-complete")
    assert ended.out == ""
    assert ended.code == 255
    assert ended.err.splitlines()[-1].startswith("cell3 (")
    assert ended.err.endswith("there is no such file\n")
    assert archived_instances(cloud, "cell1") > 0


def test_a_dry_run_counts_and_writes_nothing(cloud: DemoCloud) -> None:
    ended = cloud.call(f"{ARCHIVE} --dry-run --all-cells")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[1].split("|")[1:5] == [
        " Table                         "
        " ", " Rows ", " Oldest deletion (UTC) ", " Newest deletion (UTC) ",
    ]  # fmt: skip
    assert "| cell1.instances                | 6    |" in ended.out
    assert archived_instances(cloud, "cell1") == 0
    document = cloud.call(f"{ARCHIVE} --dry-run --all-cells -f json").document
    assert document["dry_run"] is True
    assert document["cells"][1]["waiting"]["instances"]["rows"] == 6


def test_a_repair_says_what_it_removed(cloud: DemoCloud) -> None:
    names = ", ".join(row[1] for row in cloud.sql("cell1", "PRAGMA table_info(services)"))
    (number,) = cloud.sql("cell1", "SELECT id FROM services WHERE deleted <> 0")[0]
    cloud.sql(
        "cell1",
        f"INSERT INTO shadow_services ({names}) SELECT {names} FROM services WHERE id = ?",
        number,
    )
    blocked = cloud.call(f"{ARCHIVE} --until-complete")
    assert "left in services" in blocked.err
    ended = cloud.call(f"{ARCHIVE} --until-complete --repair")
    assert ended.code == 1
    assert (
        "repaired by removing rows that were double or left over: 1 of shadow_services" in ended.err
    )


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (
            "",
            1,
            "Either --all or --before is needed: without a date, --all says that everything goes\n",
        ),
        ("--before soon", 2, "Invalid value for --before: 'soon' cannot be understood for sure"),
    ],
)
def test_a_purge_that_is_refused(cloud: DemoCloud, options: str, code: int, line: str) -> None:
    ended = cloud.call(f"db purge {options}")
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith(line)


def test_a_purge_of_all_cells_needs_the_api_database(cloud: DemoCloud) -> None:
    (cloud.folder / "nova_api.db").unlink()
    ended = cloud.call("db purge --all --all-cells")
    assert (ended.code, ended.out) == (4, "")
    assert "nova_api.db): there is no such file" in ended.err


def test_what_was_archived_is_purged(cloud: DemoCloud) -> None:
    assert cloud.call("db purge --all").code == 3
    cloud.call(f"{ARCHIVE} --all-cells --until-complete")
    rows = archived_instances(cloud, "cell1")
    counted = cloud.call("db purge --all --dry-run")
    assert (counted.code, counted.err) == (3, "")  # it purges nothing
    assert f"| shadow_instances                | {rows} " in counted.out
    ended = cloud.call("db purge --all --verbose")
    assert (ended.code, ended.err) == (0, "")
    assert (
        f"DB: Deleted {rows} rows from shadow_instances based on timestamp column (n/a)\n"
        in ended.out
    )
    assert archived_instances(cloud, "cell1") == 0
    document = cloud.call("db purge --before 2000-01-01 --all-cells -f json").document
    assert document["exit_code"] == 3
    assert [cell["purged"] for cell in document["cells"]] == [{}] * 4
