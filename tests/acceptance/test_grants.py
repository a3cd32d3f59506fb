"""What docs/security.md grants is enough for each command."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from jobs.actions import ACTIONS
from jobs.grants import API, CELL, Needs
from tests.support.command import call
from tests.support.realcloud import RealCloud
from tests.support.services import MariaDB

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "security.md"
ROWS: Final = re.findall(r"^\| (`.*?) \| (.*?) \|(.*)\|$", DOCUMENT.read_text(), re.MULTILINE)
USER: Final = "least"
# The command lines, by the words of the document, and the codes with which they end.
LINES: Final = {
    "`db archive_deleted_rows`": ("db archive_deleted_rows --all-cells --until-complete", 1),
    "`db archive_deleted_rows --dry-run`": ("db archive_deleted_rows --all-cells --dry-run", 0),
    "`db purge`": ("db purge --all --all-cells", 0),
    "`db online_data_migrations`": ("db online_data_migrations --all-cells", 0),
    "`cell_v2 discover_hosts`": ("cell_v2 discover_hosts --strict", 0),
    "`cell_v2 map_instances`": ("cell_v2 map_instances --reset --cell_uuid {cell1}", 0),
    "`libvirt list_unset_machine_type`": ("libvirt list_unset_machine_type", 3),
}


def privileges(granted: str) -> Iterator[tuple[str, str]]:
    """Each privilege of a field of the document, with its table or ``*``."""
    for part in filter(None, map(str.strip, granted.split(";"))):
        names, _, tables = part.partition(" on ")
        for table in re.findall(r"`(\w+)`", tables) or ["*"]:
            yield from ((name, table) for name in names.split(", "))


def grants(granted: str, database: str) -> Iterator[str]:
    """The statements that grant what a field of the document says."""
    for privilege, table in privileges(granted):
        yield f"GRANT {privilege} ON `{database}`.{table} TO {USER}@'%'"


@pytest.fixture
def least(realcloud: RealCloud) -> Iterator[RealCloud]:
    """The cloud, with a user who may read which cells there are, and nothing else."""
    server = realcloud.server
    server.execute(f"CREATE USER {USER}@'%' IDENTIFIED BY '{MariaDB.PASSWORD}'")
    server.execute(f"GRANT SELECT ON `{realcloud.api}`.cell_mappings TO {USER}@'%'")
    for cell in realcloud.uuids:
        url = server.url(f"nova_{cell}", user=USER)
        realcloud.rows(
            realcloud.api,
            f"UPDATE cell_mappings SET database_connection = '{url}' WHERE name = '{cell}'",
        )
    yield realcloud
    server.execute(f"DROP USER {USER}@'%'")


@pytest.mark.parametrize("command", LINES)
def test_the_grants_of_the_document_are_enough(
    least: RealCloud, tmp_path: Path, command: str
) -> None:
    (cells, api), *more = [fields for name, *fields in ROWS if command in name.split(", ")]
    assert not more
    for statement in (
        *grants(api, least.api),
        *(one for cell in least.uuids for one in grants(cells, f"nova_{cell}")),
    ):
        least.server.execute(statement)
    config = least.config(tmp_path)
    config.write_text(config.read_text().replace(f"//{MariaDB.USER}:", f"//{USER}:"))
    if command == "`db purge`":
        least.rows(
            least.cell1, "INSERT INTO shadow_instances SELECT * FROM instances WHERE deleted != 0"
        )
    line, code = LINES[command]
    ended = call(line.format(**least.uuids), config=config)
    assert "denied" not in ended.err
    assert ended.code == code, ended.err
    told = call("check -f json", config=config)
    assert not told.err
    checked = told.document
    for database in (checked["api_database"], *checked["cells"]):
        assert command.strip("`") not in database["lacking_grants"]


@pytest.mark.parametrize("needs", [CELL, API], ids=["cell", "API"])
def test_check_asks_for_what_the_document_grants(needs: Needs) -> None:
    rows = {name: fields[needs is API] for names, *fields in ROWS for name in names.split(", ")}
    for command, some in needs.items():
        granted = set(privileges(rows[f"`{command}`"]))
        everywhere = {privilege for privilege, table in granted if table == "*"}
        asked = {(need.privilege, "*" if everywhere else need.table) for need in some}
        assert asked == granted, command


def test_check_asks_for_every_action_of_workers() -> None:
    names = {name.removesuffix(".dry_run").replace(".", " ", 1) for name in ACTIONS}
    assert names == set(CELL) == set(API)
