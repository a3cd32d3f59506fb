"""``cellkeeper cell_v2`` on the databases of a real cloud: each exit code, and all that is
printed.
"""

import re
from pathlib import Path
from typing import Final

import pytest

from jobs.cell_v2.map_cell0 import default_url
from novadb.mappings import DefaultUrls
from tests.integration.cells import add_nodes, mapped_hosts
from tests.support.command import call, call_all
from tests.support.program import Moment, Program
from tests.support.realcloud import DATABASES, RealCloud
from tests.support.services import MariaDB, free_port

API, CELL0, CELL1, CELL2, CELL3 = DATABASES
NOBODY: Final = "5b1c3d5e-0000-4000-8000-000000000001"
CELL0_UUID: Final = "00000000-0000-0000-0000-000000000000"
UUID: Final = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
FROM_CONFIGURATION: Final = (
    "--transport-url not provided in the command line, using the value [DEFAULT]/transport_url "
    "from the configuration "
    "file\n"
    "--database_connection not provided in the command line, using the value [database]/connection "
    "from the "
    "configuration file\n"
)
TAKEN: Final = (
    "The specified transport_url and/or database_connection combination already exists "
    "for another cell with uuid {}.\n"
)


def unknown(uuid: str = NOBODY) -> str:
    return f"Cell with uuid {uuid} was not found.\n"


def cells(cloud: RealCloud) -> dict[str, tuple[str, str, int]]:
    """Name, transport URL, database URL and whether it is disabled, of each cell."""
    sql = (
        "SELECT COALESCE(name, uuid), transport_url, database_connection, disabled FROM "
        "cell_mappings"
    )
    return {
        name: (transport, database, disabled)
        for name, transport, database, disabled in cloud.rows(API, sql)
    }


def set_option(config: Path, section: str, name: str, value: str) -> None:
    text = config.read_text()
    config.write_text(f"[DEFAULT]\n{name} = {value}\n{text}" if section == "DEFAULT" else text)


def delete_all_instances(cloud: RealCloud, database: str) -> None:
    cloud.rows(
        database, "UPDATE instances SET deleted = id, deleted_at = '2026-01-01' WHERE deleted = 0"
    )


def count(cloud: RealCloud, table: str, cell: str) -> int:
    sql = (
        f"SELECT COUNT(*) FROM {table} m JOIN cell_mappings c ON c.id = m.cell_id WHERE c.name "
        "= "
        f"'{cell}'"
    )
    return int(cloud.rows(API, sql)[0][0])


# -- lists -----------------------------------------------------------------------------------------


def test_list_cells_shows_passwords_only_when_asked(realcloud: RealCloud, config: Path) -> None:
    """CELL-1"""
    several = "rabbit://u:secret1@h1:1,u2:secret2@h2:2/v?ssl_key_password=secret3"
    realcloud.rows(
        API,
        f"UPDATE cell_mappings SET transport_url = '{several}', name = NULL WHERE name = 'cell2'",
    )
    masked, as_data = call_all(("cell_v2 list_cells", "cells_v2 list_cells -f json"), config=config)
    assert (masked.code, masked.err, as_data.code, as_data.err) == (0, "", 0, "")
    assert "secret" not in masked.out + as_data.out
    lines = masked.out.splitlines()
    assert re.fullmatch(
        r"\| +Name +\| +UUID +\| +Transport URL +\| +Database Connection +\| Disabled \|", lines[1]
    )
    shown = [[word.strip() for word in line.strip("|").split("|")] for line in lines[3:-1]]
    assert [row[0] for row in shown] == ["", "cell0", "cell1", "cell3"]
    assert shown[0][2] == "rabbit://u:****@h1:1,u2:****@h2:2/v?ssl_key_password=****"
    assert shown[1][2:] == [
        "none:/",
        f"mysql+pymysql://nova:****@127.0.0.1:{realcloud.server.port}/{CELL0}",
        "False",
    ]
    assert as_data.document[1] == {
        "name": "cell0",
        "uuid": CELL0_UUID,
        "transport_url": "none:/",
        "database_connection": shown[1][3],
        "disabled": False,
    }


def test_list_cells_shows_all_with_verbose_and_fills_templates(
    realcloud: RealCloud, config: Path
) -> None:
    set_option(config, "DEFAULT", "transport_url", "rabbit://u:p@mq:5672/")
    realcloud.rows(
        API,
        "UPDATE cell_mappings SET transport_url = '{scheme}://x:{password}@{hostname}:{port}/', "
        "database_connection = 'mysql+pymysql://n:other@{hostname}/{path}' WHERE name = 'cell3'",
    )
    realcloud.rows(
        API, "UPDATE cell_mappings SET database_connection = 'x://' WHERE name != 'cell3'"
    )
    ended = call("cell_v2 list_cells --verbose", config=config)
    assert (ended.code, ended.err) == (0, "")
    assert re.search(
        r"\| +rabbit://x:p@mq:5672/ +\| +mysql\+pymysql://n:other@127.0.0.1/nova_cell1 +\|",
        ended.out,
    )


def test_list_hosts(realcloud: RealCloud, config: Path) -> None:
    realcloud.rows(API, "UPDATE cell_mappings SET name = NULL WHERE name = 'cell3'")
    uuid = realcloud.uuids
    everywhere, one, as_data, none, nowhere, nowhere_as_data = call_all(
        (
            "cell_v2 list_hosts",
            f"cell_v2 list_hosts --cell_uuid {uuid['cell2']}",
            f"cell_v2 list_hosts --cell_uuid {uuid['cell2']} -f json",
            f"cell_v2 list_hosts --cell_uuid {CELL0_UUID} -f json",
            f"cell_v2 list_hosts --cell_uuid {NOBODY}",
            f"cell_v2 list_hosts --cell_uuid {NOBODY} -f json",
        ),
        config=config,
    )
    assert [one.code for one in (everywhere, one, as_data, none, nowhere, nowhere_as_data)] == [
        0,
        0,
        0,
        0,
        1,
        1,
    ]
    assert re.search(rf"\| +None +\| {uuid['cell3']} \| cmp-c3-01 \|", everywhere.out)
    hosts = [f"cmp-c2-0{number}" for number in (1, 2, 3)]
    assert [line.split("|")[3].strip() for line in one.out.splitlines()[3:-1]] == hosts
    assert as_data.document == [
        {"cell_name": "cell2", "cell_uuid": uuid["cell2"], "host": host} for host in hosts
    ]
    assert none.document == []
    assert (nowhere.out, nowhere.err) == (unknown(), "")
    assert nowhere_as_data.document == {"exit_code": 1, "messages": [unknown().rstrip()]}
    assert nowhere_as_data.err == unknown()


# -- verify_instance -------------------------------------------------------------------------------


def test_verify_instance(realcloud: RealCloud, config: Path) -> None:
    """CELL-2"""
    ((live,),) = realcloud.rows(
        CELL1, "SELECT uuid FROM instances WHERE deleted = 0 ORDER BY id LIMIT 1"
    )
    ((deleted,),) = realcloud.rows(
        CELL1, "SELECT uuid FROM instances WHERE deleted != 0 ORDER BY id LIMIT 1"
    )
    ((nowhere,),) = realcloud.rows(API, "SELECT MAX(instance_uuid) FROM instance_mappings")
    realcloud.rows(
        API, f"UPDATE instance_mappings SET cell_id = NULL WHERE instance_uuid = '{nowhere}'"
    )
    archived, purged = NOBODY[:-1] + "2", NOBODY[:-1] + "3"
    realcloud.rows(
        CELL1, f"INSERT INTO shadow_instances (id, uuid, deleted) VALUES (9, '{archived}', 9)"
    )
    for uuid in (archived, purged):
        mapping = f"SELECT '{uuid}', id, 'p' FROM cell_mappings WHERE name = 'cell1'"
        realcloud.rows(
            API, f"INSERT INTO instance_mappings (instance_uuid, cell_id, project_id) {mapping}"
        )
    known = [live, NOBODY, nowhere, deleted, archived, purged]
    ended = call_all((f"cell_v2 verify_instance --uuid {uuid}" for uuid in known), config=config)
    is_archived = (
        "The instance with uuid {} has been archived.\nHowever its instance_mapping remains.\n"
    )
    assert [(one.code, one.out) for one in ended] == [
        (0, f"Instance {live} is in cell: cell1 ({realcloud.uuids['cell1']})\n"),
        (
            1,
            f"Instance {NOBODY} is not mapped to a cell (upgrade is incomplete) or instance does "
            "not exist\n",
        ),
        (2, f"Instance {nowhere} is not mapped to a cell\n"),
        (
            3,
            f"The instance with uuid {deleted} has been deleted.\n"
            "Execute `cellkeeper db archive_deleted_rows --all-cells` command to archive this "
            "deleted instance and "
            "remove its instance_mapping.\n",
        ),
        (4, is_archived.format(archived)),
        (4, is_archived.format(purged)),
    ]
    assert [bool(one.err) for one in ended] == [False] * 5 + [True]
    assert ended[-1].line.startswith("It is not in the shadow tables either")
    quiet = call_all(
        (f"cell_v2 verify_instance --quiet --uuid {uuid}" for uuid in (live, purged)), config=config
    )
    assert [(one.code, one.out, one.err) for one in quiet] == [(0, "", ""), (4, "", "")]


# -- create_cell, update_cell ----------------------------------------------------------------------


def test_create_cell(realcloud: RealCloud, config: Path) -> None:
    """CELL-3"""
    before = cells(realcloud)
    given = f"--transport-url rabbit://west/ --database_connection {realcloud.url('nova_west')}"
    created = call(f"cell_v2 create_cell --name west --disabled --verbose {given}", config=config)
    assert created.code == 0
    assert re.fullmatch(UUID + "\n", created.out)
    assert created.line.startswith(
        "Warning: it cannot be reached from here: the database (127.0.0.1:"
    )
    assert cells(realcloud) == before | {"west": ("rabbit://west/", realcloud.url("nova_west"), 1)}
    twin = call("cell_v2 create_cell --transport-url rabbit://other/ --database_connection "
    f"{realcloud.url(CELL1)}",
                config=config)  # fmt: skip
    assert (twin.code, twin.out, twin.err) == (2, TAKEN.format(realcloud.uuids["cell1"]), "")
    template = "mysql+pymysql://{username}:{password}@{hostname}:{port}/nova_api"
    silent = call(
        f"cell_v2 create_cell --transport-url rabbit://east/ --database_connection '{template}'",
        config=config,
    )
    assert (silent.code, silent.out, silent.err) == (0, "", "")
    assert ("rabbit://east/", template, 0) in cells(realcloud).values()


def test_create_cell_from_the_configuration(realcloud: RealCloud, config: Path) -> None:
    realcloud.rows(
        API, "UPDATE cell_mappings SET database_connection = 'mysql://other/x' WHERE name = 'cell1'"
    )
    first, second = (
        call("cell_v2 create_cell --verbose --name new", config=config) for _ in range(2)
    )
    assert (first.code, first.err) == (0, "")
    assert re.fullmatch(re.escape(FROM_CONFIGURATION) + UUID + "\n", first.out)
    assert (second.code, second.out) == (
        2,
        FROM_CONFIGURATION + TAKEN.format(first.out.split()[-1]),
    )
    assert cells(realcloud)["new"] == ("rabbit://", realcloud.url(CELL1), 0)


BAD_URLS: Final = {
    "--transport-url rabbit://u:nova-secret@h:x/ --database_connection "
    "mysql://h/d": "Invalid transport URL: a port",
    "--transport-url h:1 --database_connection "
    "mysql://nova-secret": "Invalid database connection: the database",
    "--transport-url rabbit://[/ --database_connection "
    "mysql://h/d": "Invalid transport URL: the brackets",
    "--transport-url rabbit://h/ --database_connection "
    "nonsense": "Invalid database connection: the database: its URL",
}


def test_1_a_url_that_cannot_be_used_creates_nothing(realcloud: RealCloud, config: Path) -> None:
    """CELL-3"""
    before = realcloud.checksums()
    wrong = {line: why for line, why in BAD_URLS.items() if "h:1" not in line}
    ended = call_all((f"cell_v2 create_cell {options}" for options in wrong), config=config)
    assert [(one.code, one.out) for one in ended] == [(1, "")] * len(wrong)
    for one, why in zip(ended, wrong.values(), strict=True):
        assert one.line.startswith(why)
    config.write_text(config.read_text().replace(f"connection = {realcloud.url(CELL1)}", ""))
    missing = call("cell_v2 create_cell --transport-url rabbit://h/", config=config)
    assert (missing.code, missing.out) == (1, "")
    assert missing.line == "Must specify --database_connection if [database]/connection is not set in the " \
                           "configuration file."  # fmt: skip
    assert realcloud.checksums() == before


def test_update_cell_leaves_urls_alone_only_when_told_so(
    realcloud: RealCloud, config: Path
) -> None:
    """CELL-5"""
    before, uuid = cells(realcloud), realcloud.uuids
    renamed = call(
        f"cell_v2 update_cell --cell_uuid {uuid['cell2']} --name second --keep-urls", config=config
    )
    assert (renamed.code, renamed.out, renamed.err) == (0, "", "")
    assert cells(realcloud) == {name: before[name] for name in ("cell0", "cell1", "cell3")} | {
        "second": before["cell2"]
    }
    refused = call(f"cell_v2 update_cell --cell_uuid {uuid['cell2']} --name x", config=config)
    assert (refused.code, refused.out) == (3, FROM_CONFIGURATION + TAKEN.format(uuid["cell1"]))
    own = call(f"cell_v2 update_cell --cell_uuid {uuid['cell1']} --name first", config=config)
    assert (own.code, own.out, own.err) == (0, FROM_CONFIGURATION, "")
    assert cells(realcloud)["first"] == ("rabbit://", realcloud.url(CELL1), 0)
    cell0 = call(f"cell_v2 update_cell --cell_uuid {CELL0_UUID} --name zero", config=config)
    assert (cell0.code, cell0.out) == (3, FROM_CONFIGURATION + TAKEN.format(uuid["cell1"]))
    assert cells(realcloud)["cell0"] == before["cell0"]


def test_update_cell_says_so_when_nothing_was_changed(realcloud: RealCloud, config: Path) -> None:
    before, uuid = realcloud.checksums(), realcloud.uuids["cell2"]
    for options in (
        "--keep-urls",
        "--keep-urls --name cell2",
        "--keep-urls --transport-url " + cells(realcloud)["cell2"][0],
    ):
        ended = call(f"cell_v2 update_cell --cell_uuid {uuid} {options}", config=config)
        assert (ended.code, ended.out) == (0, "")
        assert ended.line == f"Nothing was changed: the cell {uuid} already has these values"
    assert realcloud.checksums() == before


def test_cell0_follows_the_configuration_that_names_its_database(
    realcloud: RealCloud, config: Path
) -> None:
    """CELL-5, CELL-7: nova-operator maps cell0 by these two commands, where [database] names
    nova_cell0; and repeats the second one whenever the password has changed.
    """
    realcloud.rows(API, "DELETE FROM instance_mappings")
    realcloud.rows(API, "DELETE FROM cell_mappings WHERE name = 'cell0'")
    config.write_text(config.read_text().replace(realcloud.url(CELL1), realcloud.url(CELL0)))
    set_option(config, "DEFAULT", "transport_url", "rabbit://u:p@mq:5672/")
    update = f"cell_v2 update_cell --cell_uuid {CELL0_UUID}"
    mapped = call("cell_v2 map_cell0", config=config)
    assert (mapped.code, mapped.out, mapped.err) == (0, "", "")
    assert cells(realcloud)["cell0"] == ("none:///", realcloud.url(CELL0), 0)
    updated, again = (call(update, config=config) for _ in range(2))
    assert (updated.code, updated.out, updated.err) == (0, FROM_CONFIGURATION, "")
    assert (again.code, again.out) == (0, FROM_CONFIGURATION)
    assert again.line.startswith("Nothing was changed: ")
    assert cells(realcloud)["cell0"] == ("rabbit://u:p@mq:5672/", realcloud.url(CELL0), 0)
    realcloud.rows(
        API,
        "UPDATE cell_mappings SET database_connection = 'mysql+pymysql://old@h/nova_cell0_cell0' WHERE name = 'cell0'",
    )
    repaired = call(update, config=config)
    assert (repaired.code, repaired.err) == (0, "")
    assert cells(realcloud)["cell0"][1] == realcloud.url(CELL0)


DATABASE_TEMPLATE: Final = "{scheme}://{username}:{password}@{hostname}:{port}/{path}?{query}"
TRANSPORT_TEMPLATE: Final = "{scheme}://{username}:{password}@{hostname}:{port}/{path}?{query}"
OTHERS: Final = ("--transport-url rabbit://other/", "--database_connection mysql+pymysql://u:p@h/d")


@pytest.mark.parametrize("first", ["as templates", "filled"])
def test_2_for_a_cell_whose_templates_come_to_the_urls_of_another(
    realcloud: RealCloud, config: Path, first: str
) -> None:
    """CELL-12: openstack-ansible maps each cell by templates, and looks by itself whether it was
    there.
    """
    config.write_text(
        config.read_text().replace(
            realcloud.url(CELL1), f"{realcloud.url('nova_new')}?charset=utf8"
        )
    )
    set_option(config, "DEFAULT", "transport_url", "rabbit://u:p@mq:5672/new?ssl=1")
    by_templates = (
        f"--database_connection '{DATABASE_TEMPLATE}' --transport-url '{TRANSPORT_TEMPLATE}'"
    )
    created = call(
        f"cell_v2 create_cell --name new --verbose {by_templates if first == 'as templates' else ''}",
        config=config,
    )
    assert created.code == 0
    uuid = created.out.split()[-1]
    count_before = len(cells(realcloud))
    database, transport = by_templates.split(" --transport-url ")
    again = {
        "": (2, FROM_CONFIGURATION + TAKEN.format(uuid)),
        by_templates: (2, TAKEN.format(uuid)),
        f"{database} {OTHERS[0]}": (2, TAKEN.format(uuid)),
        f"--transport-url {transport} {OTHERS[1]}": (2, TAKEN.format(uuid)),
    }
    ended = call_all(
        (f"cell_v2 create_cell --name new {options}" for options in again), config=config
    )
    assert [(one.code, one.out) for one in ended] == list(again.values())
    taken = call(
        f"cell_v2 update_cell --cell_uuid {realcloud.uuids['cell2']} {by_templates}", config=config
    )
    assert (taken.code, taken.out) == (3, TAKEN.format(uuid))
    own = call(f"cell_v2 update_cell --cell_uuid {uuid} {by_templates}", config=config)
    assert own.code == 0
    assert len(cells(realcloud)) == count_before


def test_update_cell_disables_and_enables(realcloud: RealCloud, config: Path) -> None:
    command = f"cell_v2 update_cell --keep-urls --cell_uuid {realcloud.uuids['cell2']}"
    ended = [
        call(f"{command} {switch}", config=config)
        for switch in ("--disable", "--disable", "--enable", "--enable")
    ]
    uuid = realcloud.uuids["cell2"]
    assert [(one.code, one.out, one.err) for one in ended] == [
        (0, "", ""), (0, f"Cell {uuid} is already disabled\n", ""),
        (0, "", ""), (0, f"Cell {uuid} is already enabled\n", ""),
    ]  # fmt: skip


def test_update_cell_refuses_and_changes_nothing(realcloud: RealCloud, config: Path) -> None:
    """CELL-4"""
    before, uuid = realcloud.checksums(), realcloud.uuids
    refused: dict[str, tuple[int, str]] = {
        f"--cell_uuid {NOBODY} --name x": (1, unknown()),
        f"--cell_uuid {uuid['cell2']} --name x --transport-url rabbit://h:x/ --keep-urls": (2, ""),
        f"--cell_uuid {uuid['cell2']} --name x --database_connection x --keep-urls": (2, ""),
        f"--cell_uuid {uuid['cell2']} --name {'x' * 300} --keep-urls": (2, ""),
        f"--cell_uuid {uuid['cell2']} --name x --keep-urls --database_connection {realcloud.url(CELL3)}": (
            3,
            TAKEN.format(uuid["cell3"]),
        ),
        f"--cell_uuid {uuid['cell2']} --name x --keep-urls --enable --disable": (
            4,
            "Cell cannot be disabled and enabled at the same time.\n",
        ),
        f"--cell_uuid {CELL0_UUID} --name x --disable --keep-urls": (
            5,
            "Cell0 cannot be disabled.\n",
        ),
        f"--cell_uuid {CELL0_UUID} --name x --enable --keep-urls": (
            5,
            "Cell0 cannot be disabled.\n",
        ),
    }
    ended = call_all((f"cell_v2 update_cell {options}" for options in refused), config=config)
    assert [(one.code, one.out) for one in ended] == list(refused.values())
    for one in ended:
        assert one.code != 2 or one.line.startswith("Unable to update CellMapping: ")
    assert realcloud.checksums() == before


# -- delete_cell, delete_host ----------------------------------------------------------------------


def test_delete_cell_refuses_and_changes_nothing(realcloud: RealCloud, config: Path) -> None:
    uuid = realcloud.uuids
    realcloud.rows(
        API,
        "DELETE h FROM host_mappings h JOIN cell_mappings c ON c.id = h.cell_id WHERE name = 'cell3'",
    )
    for database in (CELL0, CELL3):
        delete_all_instances(realcloud, database)
    before = realcloud.checksums()
    deleted_only = (
        f"There are instance mappings to cell with uuid {uuid['cell3']}, but all instances have been deleted in the "
        "cell.\nSo execute 'cellkeeper db archive_deleted_rows --all-cells' to delete the instance mappings.\n"
    )
    refused = {
        f"--cell_uuid {NOBODY}": (1, unknown()),
        f"--cell_uuid {uuid['cell1']}": (
            2,
            f"There are existing hosts mapped to cell with uuid {uuid['cell1']}.\n",
        ),
        f"--cell_uuid {uuid['cell1']} --force": (
            3,
            f"There are existing instances mapped to cell with uuid {uuid['cell1']}.\n",
        ),
        f"--cell_uuid {uuid['cell3']}": (4, deleted_only),
    }
    ended = call_all((f"cell_v2 delete_cell {options}" for options in refused), config=config)
    assert [(one.code, one.out, one.err) for one in ended] == [
        (*told, "") for told in refused.values()
    ]
    assert realcloud.checksums() == before


def test_delete_cell_with_all_that_is_mapped_to_it(realcloud: RealCloud, config: Path) -> None:
    delete_all_instances(realcloud, CELL3)
    realcloud.rows(CELL3, "UPDATE compute_nodes SET mapped = 1")
    ended = call(
        f"cell_v2 delete_cell --force --cell_uuid {realcloud.uuids['cell3']}", config=config
    )
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert cells(realcloud).keys() == {"cell0", "cell1", "cell2"}
    for table in ("host_mappings", "instance_mappings"):
        sql = f"SELECT COUNT(*) FROM {table} WHERE cell_id IS NOT NULL AND cell_id NOT IN (SELECT id FROM cell_mappings)"
        assert realcloud.rows(API, sql) == [(0,)]
    assert realcloud.rows(CELL3, "SELECT DISTINCT mapped FROM compute_nodes WHERE deleted = 0") == [
        (0,)
    ]


def test_delete_cell_warns_when_cell0_goes_before_the_others(
    realcloud: RealCloud, config: Path
) -> None:
    """CELL-6"""
    delete_all_instances(realcloud, CELL0)
    ended = call(f"cell_v2 delete_cell --force --cell_uuid {CELL0_UUID}", config=config)
    assert (ended.code, ended.out) == (0, "")
    assert ended.line.startswith("Warning: cell0 is no longer mapped")
    assert ended.line.endswith("cellkeeper cell_v2 map_cell0")
    assert "cell0" not in cells(realcloud)


def test_a_teardown_that_deletes_all_cells_ends_with_0(realcloud: RealCloud, config: Path) -> None:
    """CELL-6"""
    for database in (CELL0, CELL1, CELL2, CELL3):
        delete_all_instances(realcloud, database)
    uuids = [uuid for name, uuid in sorted(realcloud.uuids.items(), reverse=True)]
    ended = [
        call(f"cell_v2 delete_cell --force --cell_uuid {uuid}", config=config) for uuid in uuids
    ]
    assert [(one.code, one.out, one.err) for one in ended] == [(0, "", "")] * 4
    assert cells(realcloud) == {}


def test_delete_cell_does_not_take_a_cell_for_empty_that_does_not_answer(
    realcloud: RealCloud, config: Path
) -> None:
    url = f"mysql+pymysql://nova:{MariaDB.PASSWORD}@127.0.0.1:{free_port()}/x"
    realcloud.rows(
        API, f"UPDATE cell_mappings SET database_connection = '{url}' WHERE name = 'cell3'"
    )
    before = realcloud.checksums()
    ended = call(
        f"cell_v2 delete_cell --force --cell_uuid {realcloud.uuids['cell3']}", config=config
    )
    assert (ended.code, ended.out) == (255, "")
    assert ended.line.startswith("cell3 (127.0.0.1:")
    assert realcloud.checksums() == before


def test_delete_host(realcloud: RealCloud, config: Path) -> None:
    uuid = realcloud.uuids
    host = "cmp-c1-01"
    before = realcloud.checksums()
    refused = {
        f"--cell_uuid {NOBODY} --host {host}": (1, unknown()),
        f"--cell_uuid {uuid['cell1']} --host nobody": (2, "The host nobody was not found.\n"),
        f"--cell_uuid {uuid['cell2']} --host {host}": (
            3,
            f"The host {host} was not found in the cell {uuid['cell2']}.\n",
        ),
        f"--cell_uuid {uuid['cell1']} --host {host}": (
            4,
            f"There are instances on the host {host}.\n",
        ),
    }
    ended = call_all((f"cell_v2 delete_host {options}" for options in refused), config=config)
    assert [(one.code, one.out, one.err) for one in ended] == [
        (*why, "") for why in refused.values()
    ]
    assert realcloud.checksums() == before
    realcloud.rows(CELL1, f"UPDATE instances SET deleted = id WHERE host = '{host}'")
    done = call(f"cell_v2 delete_host --cell_uuid {uuid['cell1']} --host {host}", config=config)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert realcloud.rows(API, f"SELECT * FROM host_mappings WHERE host = '{host}'") == []
    assert realcloud.rows(CELL1, f"SELECT mapped FROM compute_nodes WHERE host = '{host}'") == [
        (0,)
    ]


# -- map_cell0, map_cell_and_hosts, simple_cell_setup ----------------------------------------------


def test_map_cell0(realcloud: RealCloud, config: Path) -> None:
    """CELL-7"""
    before = realcloud.checksums()
    again = call(f"cell_v2 map_cell0 --database_connection {realcloud.url(CELL0)}", config=config)
    assert (again.code, again.out, again.err) == (0, "Cell0 is already setup\n", "")
    assert realcloud.checksums() == before
    realcloud.rows(API, "DELETE FROM instance_mappings")
    realcloud.rows(API, "DELETE FROM cell_mappings WHERE name = 'cell0'")
    url = f"mysql+pymysql://nova:{MariaDB.PASSWORD}%40%2Fx@127.0.0.1:{{}}/nova_cell1"
    port = realcloud.server.port
    text = config.read_text().replace(
        f"connection = {realcloud.url(CELL1)}", f"connection = {url.format(port)}"
    )
    config.write_text(text)
    done = call("cell_v2 map_cell0", config=config)
    assert (done.code, done.out) == (0, "")
    assert done.line.startswith(
        f"Warning: it cannot be reached from here: the database (127.0.0.1:{port}/"
    )
    assert cells(realcloud)["cell0"] == ("none:///", f"{url.format(port)}_cell0", 0)


@pytest.mark.parametrize(
    ("configured", "cell0"),
    [
        (
            "mysql+pymysql://u:p@h/nova?ssl_ca=/x&charset=utf8",
            "mysql+pymysql://u:p@h/nova_cell0?ssl_ca=/x&charset=utf8",
        ),
        ("mysql://u:p@h/nova?a=%2Fx&b=c%20d", "mysql://u:p@h/nova_cell0?a=%2Fx&b=c%20d"),
        ("mysql+pymysql://u:a?b%25c@h:1/nova", "mysql+pymysql://u:a?b%25c@h:1/nova_cell0"),
        (
            "mysql+pymysql://u:p@[::1]:1/nova?x=a?b/c@d",
            "mysql+pymysql://u:p@[::1]:1/nova_cell0?x=a?b/c@d",
        ),
        (
            "mysql+pymysql://u:p@h/nova_cell0?ssl_ca=/x",
            "mysql+pymysql://u:p@h/nova_cell0?ssl_ca=/x",
        ),
        ("sqlite:////var/nova.db", "sqlite:////var/nova.db_cell0"),
    ],
)
def test_map_cell0_changes_the_name_of_the_database_and_nothing_else(
    configured: str, cell0: str
) -> None:
    """CELL-7"""
    assert default_url(DefaultUrls(configured, "rabbit://")) == cell0


def test_map_cell_and_hosts(realcloud: RealCloud, config: Path) -> None:
    uuid = realcloud.uuids["cell1"]
    command = "cell_v2 map_cell_and_hosts --name fresh --transport-url rabbit://fresh/"
    mapped = "".join(
        f"Host cmp-c1-0{number} is already mapped to cell {uuid}\n" for number in range(1, 5)
    )
    before = realcloud.checksums()
    nothing = call(f"{command} --verbose", config=config)
    assert (nothing.code, nothing.out, nothing.err) == (
        0,
        mapped + "All hosts are already mapped to cell(s).\n",
        "",
    )
    assert realcloud.checksums() == before
    realcloud.rows(API, "DELETE FROM host_mappings WHERE host = 'cmp-c1-01'")
    one = call(f"{command} --verbose", config=config)
    assert (one.code, one.out) == (0, mapped.partition("\n")[2] + f"{uuid}\n")
    assert "fresh" not in cells(realcloud)
    realcloud.rows(API, "DELETE FROM host_mappings")
    fresh = call(f"{command} --verbose", config=config)
    assert re.fullmatch(UUID + "\n", fresh.out)
    assert cells(realcloud)["fresh"] == ("rabbit://fresh/", realcloud.url(CELL1), 0)
    assert count(realcloud, "host_mappings", "fresh") == 4
    bad = call("cell_v2 map_cell_and_hosts --transport-url rabbit://h:x/", config=config)
    assert (bad.code, bad.out) == (1, "")
    assert bad.line.startswith("Invalid transport URL: ")
    realcloud.rows(CELL1, "UPDATE compute_nodes SET deleted = id")
    none = call("cell_v2 map_cell_and_hosts --transport-url rabbit://h/", config=config)
    assert (none.code, none.out, none.err) == (0, "No hosts found to map to cell, exiting.\n", "")


def test_simple_cell_setup(realcloud: RealCloud, config: Path) -> None:
    command = "cell_v2 simple_cell_setup --transport-url rabbit://mq/"
    cell0 = f"{CELL1}_cell0"
    for table in ("host_mappings", "instance_mappings", "cell_mappings"):
        realcloud.rows(API, f"DELETE FROM {table}")
    realcloud.server.create(cell0)
    try:
        first = call(command, config=config)
        assert (first.code, first.out) == (0, "")
        assert cells(realcloud)["cell0"] == ("none:///", realcloud.url(cell0), 0)
        assert realcloud.rows(cell0, "SELECT COUNT(*) FROM instances") == [(0,)]
        state = realcloud.checksums()
        again = call(command, config=config)
        assert (again.code, again.out) == (
            0,
            "Cell0 is already setup\nAll hosts are already mapped to cell(s).\n",
        )
        assert realcloud.checksums() == state
    finally:
        realcloud.server.drop(cell0)
    assert realcloud.rows(API, "SELECT COUNT(*) FROM host_mappings") == [(4,)]
    instances = "SELECT uuid FROM {}.instances WHERE NOT COALESCE(hidden, 0)"
    unmapped = f"SELECT COUNT(*) FROM ({instances.format(CELL1)}) i LEFT JOIN instance_mappings m ON uuid = instance_uuid"
    assert realcloud.rows(API, f"{unmapped} WHERE m.id IS NULL") == [(0,)]


def test_simple_cell_setup_without_hosts_or_with_a_bad_url(
    realcloud: RealCloud, config: Path
) -> None:
    realcloud.rows(CELL1, "UPDATE compute_nodes SET deleted = id")
    none, bad = call_all(
        (
            "cell_v2 simple_cell_setup --transport-url rabbit://mq/",
            "cell_v2 simple_cell_setup --transport-url rabbit://mq:x/",
        ),
        config=config,
    )
    assert (none.code, none.out) == (
        1,
        "Cell0 is already setup\nNo hosts found to map to cell, exiting.\n",
    )
    assert (bad.code, bad.out) == (1, "")
    assert bad.line.startswith("Invalid transport URL: ")


# -- map_instances ---------------------------------------------------------------------------------


def test_map_instances(realcloud: RealCloud, config: Path) -> None:
    """CELL-8, CELL-9"""
    command = f"cell_v2 map_instances --cell_uuid {realcloud.uuids['cell3']}"
    ((instances,),) = realcloud.rows(
        CELL3, "SELECT COUNT(*) FROM instances WHERE NOT COALESCE(hidden, 0)"
    )
    realcloud.rows(API, "DELETE FROM instance_mappings")
    half = instances // 2
    ended = [call(f"{command} --max-count {half}", config=config) for _ in range(3)]
    assert [(one.code, one.out, one.err) for one in ended] == [
        (1, "", ""),
        (int(instances % 2 > 0), "", ""),
        (0, "", ""),
    ]
    assert count(realcloud, "instance_mappings", "cell3") == instances
    assert realcloud.rows(API, "SELECT COUNT(*) FROM instance_mappings WHERE cell_id IS NULL") == [
        (0,)
    ]
    realcloud.rows(API, "DELETE FROM instance_mappings")
    whole = call(f"{command} -f json", config=config)
    assert (whole.code, whole.err) == (0, "")
    (cell,) = whole.document["cells"]
    assert (cell["mapped"], cell["looked_at"], cell["left"]) == (instances, instances, False)
    refused = {
        f"{command} --max-count 0": (127, "Must supply a positive value for max-count, not 0\n"),
        f"{command} --max-count many": (
            127,
            "Must supply a positive value for max-count, not many\n",
        ),
        f"cell_v2 map_instances --cell_uuid {NOBODY}": (255, unknown()),
    }
    ended = call_all(refused, config=config)
    assert [(one.code, one.err) for one in ended] == list(refused.values())


# -- discover_hosts --------------------------------------------------------------------------------


def test_discover_hosts_says_what_it_looks_at(realcloud: RealCloud, config: Path) -> None:
    nodes = dict(realcloud.rows(CELL2, "SELECT host, uuid FROM compute_nodes"))
    nodes |= dict(realcloud.rows(CELL3, "SELECT host, uuid FROM compute_nodes"))
    uuid = realcloud.uuids
    looked = {
        host: f"Checking host mapping for compute host '{host}': {nodes[host]}\n"
        f"Creating host mapping for compute host '{host}': {nodes[host]}\n"
        for host in ("cmp-c2-04", "cmp-c3-03")
    }
    first, second = (call("cell_v2 discover_hosts --verbose", config=config) for _ in range(2))
    cells_of = "Found 4 cell mappings.\nSkipping cell0 since it does not contain hosts.\n"
    for ended, new in ((first, 1), (second, 0)):
        assert (ended.code, ended.err) == (0, "")
        assert ended.out == cells_of + "".join(
            f"Getting computes from cell '{name}': {uuid[name]}\n{text if new else ''}"
            f"Found {found} unmapped computes in cell: {uuid[name]}\n"
            for name, text, found in (
                ("cell1", "", 0),
                ("cell2", looked["cmp-c2-04"], new),
                ("cell3", looked["cmp-c3-03"], new),
            )
        )


def test_discover_hosts_in_one_cell_strictly(realcloud: RealCloud, config: Path) -> None:
    command = "cell_v2 discover_hosts --strict --cell_uuid"
    first, second, cell0 = (
        call(f"{command} {uuid}", config=config)
        for uuid in (realcloud.uuids["cell2"], realcloud.uuids["cell2"], CELL0_UUID)
    )
    assert [(one.code, one.out, one.err) for one in (first, second, cell0)] == [
        (0, "", ""),
        (1, "", ""),
        (1, "", ""),
    ]
    assert realcloud.rows(API, "SELECT COUNT(*) FROM host_mappings WHERE host = 'cmp-c3-03'") == [
        (0,)
    ]
    named = call(f"cell_v2 discover_hosts --verbose --cell_uuid {CELL0_UUID}", config=config)
    assert (named.code, named.out) == (0, "Skipping cell0 since it does not contain hosts.\n")


def test_discover_hosts_by_service(realcloud: RealCloud, config: Path) -> None:
    ended = call("cell_v2 discover_hosts --by-service --verbose", config=config)
    assert (ended.code, ended.err) == (0, "")
    assert [line for line in ended.out.splitlines() if "ing host" in line] == [
        f"Creating host mapping for service {host}"
        for host in ("irn-c1-01", "cmp-c2-04", "cmp-c3-03")
    ]


def test_discover_hosts_1_for_any_error_and_the_other_cells_are_done(
    realcloud: RealCloud, config: Path
) -> None:
    """DISC-1, DISC-4"""
    url = f"mysql+pymysql://nova:{MariaDB.PASSWORD}@127.0.0.1:{free_port()}/x"
    realcloud.rows(
        API, f"UPDATE cell_mappings SET database_connection = '{url}' WHERE name = 'cell2'"
    )
    ended = call("cell_v2 discover_hosts -f json", config=config)
    assert ended.code == ended.document["exit_code"] == 1
    assert ended.line.startswith("cell2 (127.0.0.1:")
    assert {cell["cell"]: cell["mapped"] for cell in ended.document["cells"]} == {
        "cell1": [],
        "cell2": [],
        "cell3": ["cmp-c3-03"],
    }
    nobody = call(f"cell_v2 discover_hosts --cell_uuid {NOBODY}", config=config)
    assert (nobody.code, nobody.out, nobody.err) == (1, "", unknown())
    realcloud.rows(API, "RENAME TABLE cell_mappings TO elsewhere")
    broken = call("cell_v2 discover_hosts", config=config)
    assert (broken.code, broken.out) == (1, "")
    assert broken.line.startswith("A database refused a statement: ")


def test_discover_hosts_2_when_somebody_else_maps_the_same_host(
    realcloud: RealCloud, config: Path
) -> None:
    """DISC-2. The program is held up between its look at the mappings and its own row."""
    add_nodes(realcloud, CELL2, 3)
    command = ["cell_v2", "discover_hosts", "--strict", "--cell_uuid", realcloud.uuids["cell2"]]
    program = Program(config, API)
    with program.start_and_hold(Moment.API_STATEMENT, 2, *command) as running:
        running.wait_until_held()
        realcloud.rows(
            API,
            "INSERT INTO host_mappings (host, cell_id) SELECT 'new-00002', id FROM cell_mappings WHERE name = 'cell2'",
        )
        running.go_on()
        code, out, err = running.end()
    assert (code, out) == (2, "")
    assert err.startswith("Duplicate host mapping: new-00002: somebody else was first")
    assert len(mapped_hosts(realcloud)) == 3
    assert program.run(*command).code == 1


REFUSAL: Final = (
    "CREATE TRIGGER refuse BEFORE INSERT ON {} FOR EACH ROW IF NEW.{} = '{}' THEN SIGNAL SQLSTATE '45000' "
    "SET MESSAGE_TEXT = 'not this one'; END IF"
)


def test_a_host_that_the_api_database_refuses_is_named_and_all_others_are_mapped(
    realcloud: RealCloud, config: Path
) -> None:
    add_nodes(realcloud, CELL2, 3)
    realcloud.rows(API, REFUSAL.format("host_mappings", "host", "new-00002"))
    ended = call(
        f"cell_v2 discover_hosts -f json --cell_uuid {realcloud.uuids['cell2']}", config=config
    )
    assert ended.code == 1
    assert ended.line.startswith("cell2: new-00002 could not be mapped: ")
    assert ended.line.endswith("not this one (error 1644)")
    (cell,) = ended.document["cells"]
    assert [one["host"] for one in cell["refused"]] == ["new-00002"]
    assert mapped_hosts(realcloud).keys() == {"new-00001", "new-00003"}
    add_nodes(realcloud, CELL1, 2)
    mapped = call("cell_v2 map_cell_and_hosts", config=config)
    assert (mapped.code, mapped.line.partition(":")[0]) == (
        255,
        "Host new-00002 could not be mapped",
    )


def test_an_instance_that_the_api_database_refuses_is_named_and_all_others_are_mapped(
    realcloud: RealCloud, config: Path
) -> None:
    visible = "SELECT uuid FROM instances WHERE NOT COALESCE(hidden, 0) ORDER BY id"
    uuids = [uuid for (uuid,) in realcloud.rows(CELL3, visible)]
    realcloud.rows(API, "DELETE FROM instance_mappings")
    realcloud.rows(API, REFUSAL.format("instance_mappings", "instance_uuid", uuids[1]))
    ended = call(f"cell_v2 map_instances --cell_uuid {realcloud.uuids['cell3']}", config=config)
    assert (ended.code, ended.out) == (255, "")
    assert ended.line.startswith(f"Instance {uuids[1]} could not be mapped: ")
    assert {
        uuid for (uuid,) in realcloud.rows(API, "SELECT instance_uuid FROM instance_mappings")
    } == {*uuids} - {uuids[1]}


def test_discover_hosts_waits_for_hosts(realcloud: RealCloud, config: Path) -> None:
    """DISC-5"""
    given, missing = (
        call(f"cell_v2 discover_hosts --wait-for 2 {more}", config=config)
        for more in ("", "--timeout 0")
    )
    assert (given.code, given.out, given.err) == (0, "", "")
    assert (missing.code, missing.out) == (1, "")
    assert missing.line == "2 of the expected hosts were not mapped"


def test_discover_hosts_refuses_options_that_do_not_go_together(config: Path) -> None:
    wrong = ["--timeout 5", "--wait-for 0", "--wait-for 2 --detach", "--wait-for 2 --until 6:00"]
    ended = call_all((f"cell_v2 discover_hosts {options}" for options in wrong), config=config)
    assert [(one.code, one.out) for one in ended] == [(2, "")] * len(wrong)
    assert all(one.line.startswith("cellkeeper cell_v2 discover_hosts: ") for one in ended)
