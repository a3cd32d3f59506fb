"""The databases that Nova's own code wrote, archived and purged, compared row by row with what
should be there.
"""

import itertools
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.forest import (
    FOLLOWED,
    SHADOW,
    TABLES,
    Contents,
    Row,
    assert_api_rows_are_right,
    read,
)
from tests.support.inventory import Inventory
from tests.support.program import Ended, Program
from tests.support.realcloud import RealCloud

ARCHIVE: Final = ("db", "archive_deleted_rows", "--all-cells")
PURGE: Final = ("db", "purge", "--all-cells")
NOTHING_ARCHIVED, ARCHIVED, PURGED, NOTHING_PURGED = 0, 1, 0, 3
SEPTEMBER, OCTOBER = datetime(2026, 9, 1), datetime(2026, 10, 1)


@pytest.fixture
def program(realcloud: RealCloud, tmp_path: Path) -> Program:
    return Program(realcloud.config(tmp_path), realcloud.api)


def contents(cloud: RealCloud, database: str) -> Contents:
    with closing(cloud.server.connect(database)) as link:
        return read(link)


def archived(ended: Ended) -> dict[str, dict[str, int]]:
    """The rows by cell and table of which a run says that it has moved them."""
    return {cell["cell"]: cell["archived"] for cell in ended.data["cells"]}


# What waits in the real cloud depends on the date of deletion, and on updated_at in task_log.
@pytest.mark.parametrize(
    ("options", "before", "task_log"),
    [
        ((), None, False),
        (("--before", "2026-09-01"), SEPTEMBER, False),
        (("--task-log", "--before", "2026-10-01"), OCTOBER, True),
        (("--task-log",), None, True),
    ],
    ids=["all", "before", "task_log before", "task_log"],
)
def test_what_is_due_and_nothing_else_is_archived(
    realcloud: RealCloud,
    program: Program,
    options: tuple[str, ...],
    before: datetime | None,
    task_log: bool,
) -> None:
    inventory = Inventory(realcloud, before, task_log=task_log)
    command = (*ARCHIVE, "--until-complete", *options, "--format", "json")
    ended = program.run(*command)
    assert (ended.code, ended.err) == (ARCHIVED, "")
    inventory.check_complete()
    assert archived(ended) == inventory.rows_to_move()
    again = program.run(*command)
    assert (again.code, again.err) == (NOTHING_ARCHIVED, "")
    assert not any(archived(again).values())
    inventory.check_complete()


def test_without_all_cells_only_the_configured_database_is_archived(
    realcloud: RealCloud, program: Program
) -> None:
    inventory = Inventory(realcloud)
    assert program.run("db", "archive_deleted_rows", "--until-complete") == (ARCHIVED, "", "")
    assert inventory.check() == {
        name: moving if name == realcloud.cell1 else frozenset()
        for name, moving in inventory.moving.items()
    }


def test_max_rows_is_a_total_over_the_cells_in_their_order(
    realcloud: RealCloud, program: Program
) -> None:
    """A script that runs the command until it says 0 comes to the same end."""
    inventory = Inventory(realcloud)
    gone: dict[str, frozenset[Any]] = dict.fromkeys(inventory.cells, frozenset())
    for total in itertools.chain([100, 100, 100], itertools.repeat(1500)):
        code, out, err = program.run(*ARCHIVE, "--max_rows", str(total))
        assert (out, err) == ("", "")
        before, gone = gone, inventory.check()
        new = {name: gone[name] - before[name] for name in gone}
        trees = [
            key
            for name, keys in new.items()
            for key in keys
            if key in inventory.forests[name].trees
        ]
        assert sum(map(len, new.values())) <= total or len(trees) == 1
        assert code == (ARCHIVED if trees else NOTHING_ARCHIVED)
        if not trees:
            break
        # No cell is begun before all those in front of it are done.
        open_cells = [name for name in gone if gone[name] != inventory.moving[name]]
        assert all(not gone[name] for name in open_cells[1:])
    inventory.check_complete()


def test_instances_that_another_cell_has_keep_their_api_rows(
    realcloud: RealCloud, program: Program
) -> None:
    """A cross-cell move leaves a deleted copy behind, and a mapping without a cell is nobody
    else's.
    """
    elsewhere, unscheduled = deleted_with_api_rows(realcloud, "cell1")[:2]
    cells = dict(realcloud.rows(realcloud.api, "SELECT name, id FROM cell_mappings"))
    for uuid, number in ((elsewhere, cells["cell2"]), (unscheduled, "NULL")):
        realcloud.rows(
            realcloud.api,
            f"UPDATE instance_mappings SET cell_id = {number} WHERE instance_uuid = '{uuid}'",
        )
        realcloud.rows(
            realcloud.api,
            f"INSERT INTO instance_group_member (instance_uuid, group_id) VALUES ('{uuid}', 1)",
        )
    # The one that is in two cells for real: alive in both. Its copy in cell1 is deleted here.
    [(moving,)] = realcloud.rows(
        realcloud.cell1, "SELECT uuid FROM instances JOIN nova_cell2.instances AS two USING (uuid)"
    )
    realcloud.rows(
        realcloud.cell1,
        f"UPDATE instances SET deleted = id, deleted_at = '2026-11-01' WHERE uuid = '{moving}'",
    )
    realcloud.rows(
        realcloud.api,
        f"UPDATE instance_mappings SET cell_id = {cells['cell2']} WHERE instance_uuid = '{moving}'",
    )
    inventory = Inventory(realcloud)
    assert program.run(*ARCHIVE, "--until-complete") == (ARCHIVED, "", "")
    inventory.check_complete()
    for table in ("instance_mappings", "request_specs", "instance_group_member"):
        left = {
            uuid for (uuid,) in realcloud.rows(realcloud.api, f"SELECT instance_uuid FROM {table}")
        }
        assert elsewhere in left
        assert unscheduled not in left
    assert (moving,) in realcloud.rows(realcloud.api, "SELECT instance_uuid FROM request_specs")
    assert (moving,) in realcloud.rows(realcloud.cell2, "SELECT uuid FROM instances")
    assert (moving,) in realcloud.rows(realcloud.cell1, f"SELECT uuid FROM {SHADOW}instances")


def test_instances_that_something_refers_to_stay_whole_and_are_named(
    realcloud: RealCloud, program: Program
) -> None:
    instances = realcloud.rows(
        realcloud.cell1, "SELECT id, uuid FROM instances WHERE deleted <> 0 ORDER BY id LIMIT 9"
    )
    referred = dict(zip(("share_mapping", "consoles", "fixed_ips"), instances[::4], strict=True))
    for table, (_, uuid) in referred.items():
        realcloud.rows(realcloud.cell1, f"INSERT INTO {table} (instance_uuid) VALUES ('{uuid}')")
    inventory = Inventory(realcloud)
    assert inventory.forests[realcloud.cell1].blocked == {
        ("instances", number) for number, _ in referred.values()
    }
    code, out, err = program.run(*ARCHIVE, "--until-complete")
    assert (code, out) == (ARCHIVED, "")
    inventory.check_complete()
    assert err.count("\n") == len(referred)
    for table, (number, _) in referred.items():
        [line] = [line for line in err.splitlines() if f" {table} " in line]
        assert line.startswith(f"cell1: left in instances: id {number}: ")


def stamp_of(shadow: str, row: Row) -> Any:
    """The time by which the age of a shadow row is told: nova-manage looks at the same."""
    if shadow in ("shadow_instance_actions", "shadow_instance_actions_events"):
        return row["created_at"]
    if shadow == "shadow_task_log":
        return row["updated_at"]
    return next(
        row[column] for column in ("deleted_at", "updated_at", "created_at") if column in row
    )


def purged(rows: Contents, before: datetime | None) -> Contents:
    """What a purge is to leave of the rows of a cell."""

    def stays(table: str, row: Row) -> bool:
        if not table.startswith(SHADOW):
            return True
        if before is None:
            return False
        stamp = stamp_of(table, row)
        return stamp is None or stamp >= before

    return {
        table: {key: row for key, row in found.items() if stays(table, row)}
        for table, found in rows.items()
    }


@pytest.fixture
def archived_cloud(realcloud: RealCloud, program: Program) -> RealCloud:
    """The real cloud with all that can be in its shadow tables."""
    assert program.run(*ARCHIVE, "--until-complete", "--task-log").code == ARCHIVED
    # A retired table's shadow counts, and a row without a time stays unless everything goes.
    realcloud.rows(
        realcloud.cell2,
        "INSERT INTO shadow_networks (id, deleted_at) VALUES (1, '2026-08-31 23:59:59')",
    )
    realcloud.rows(
        realcloud.cell2, "INSERT INTO shadow_networks (id, deleted_at) VALUES (2, '2026-09-01')"
    )
    realcloud.rows(
        realcloud.cell2, "INSERT INTO shadow_networks (id, created_at) VALUES (3, '2020-01-01')"
    )
    return realcloud


@pytest.mark.parametrize(
    ("options", "before"),
    [(("--all",), None), (("--before", "2026-09-01"), SEPTEMBER)],
    ids=["all", "before"],
)
def test_what_is_old_enough_in_the_shadow_tables_and_nothing_else_is_purged(
    archived_cloud: RealCloud, program: Program, options: tuple[str, ...], before: datetime | None
) -> None:
    names = ("cell0", "cell1", "cell2", "cell3")
    was = {name: contents(archived_cloud, f"nova_{name}") for name in names}
    api = contents(archived_cloud, archived_cloud.api)
    ended = program.run(*PURGE, *options, "--format", "json")
    assert (ended.code, ended.err) == (PURGED, "")
    told = {cell["cell"]: cell["purged"] for cell in ended.data["cells"]}
    for name in names:
        left = purged(was[name], before)
        assert contents(archived_cloud, f"nova_{name}") == left
        gone = {table: len(was[name][table]) - len(left[table]) for table in left}
        assert told[name] == {table: rows for table, rows in gone.items() if rows}
        assert told[name]
    assert contents(archived_cloud, archived_cloud.api) == api
    assert program.run(*PURGE, *options) == (NOTHING_PURGED, "", "")


def test_archive_and_purge_in_one_go_purge_by_the_same_date(
    realcloud: RealCloud, program: Program
) -> None:
    inventory = Inventory(realcloud, SEPTEMBER)
    ended = program.run(*ARCHIVE, "--until-complete", "--before", "2026-09-01", "--purge")
    assert ended == (ARCHIVED, "", "")
    for name, rows in inventory.cells.items():
        expected = {table: dict(found) for table, found in rows.items()}
        for table, number in inventory.moving[name]:
            expected[SHADOW + table][number] = expected[table].pop(number)
        assert contents(realcloud, name) == purged(expected, SEPTEMBER)


def crash_of_the_stock_tool(cloud: RealCloud, database: str, uuid: str) -> None:
    """Move an instance with all that hangs on it, and leave its API rows."""
    [(number,)] = cloud.rows(database, f"SELECT id FROM instances WHERE uuid = '{uuid}'")
    tree = {("instances", number)}
    rows = contents(cloud, database)
    for child, column, parent, parent_column in sorted(
        FOLLOWED, key=lambda key: TABLES.index(key[2])
    ):
        named = {rows[parent][key][parent_column] for table, key in tree if table == parent}
        tree |= {(child, key) for key, row in rows[child].items() if row[column] in named}
    with closing(cloud.server.connect(database, init_command="SET foreign_key_checks = 0")) as link:
        for table, key in tree:
            link.query(f"INSERT INTO {SHADOW}{table} SELECT * FROM {table} WHERE id = {key}")
            link.query(f"DELETE FROM {table} WHERE id = {key}")


def deleted_with_api_rows(cloud: RealCloud, cell: str) -> list[str]:
    """The deleted instances of a cell that are mapped to it and queued for deletion."""
    return [
        uuid
        for (uuid,) in cloud.rows(
            f"nova_{cell}",
            "SELECT i.uuid FROM instances i JOIN nova_api.instance_mappings m ON m.instance_uuid = "
            "i.uuid "
            "JOIN nova_api.request_specs s ON s.instance_uuid = i.uuid "
            f"JOIN nova_api.cell_mappings c ON c.id = m.cell_id AND c.name = '{cell}' "
            "WHERE i.deleted <> 0 AND m.queued_for_delete = 1 ORDER BY i.uuid",
        )
    ]


def test_repair_removes_what_a_crash_of_the_stock_tool_left_and_nothing_else(
    realcloud: RealCloud, program: Program
) -> None:
    leftover, requeued, other = deleted_with_api_rows(realcloud, "cell1")[:3]
    elsewhere = deleted_with_api_rows(realcloud, "cell2")[0]
    for uuid in (leftover, requeued, other):
        crash_of_the_stock_tool(realcloud, realcloud.cell1, uuid)
    crash_of_the_stock_tool(realcloud, realcloud.cell2, elsewhere)
    for line in api_rows_to_be_left_alone(realcloud, requeued, elsewhere):
        realcloud.rows(realcloud.api, line)
    inventory = Inventory(realcloud)
    assert program.run(*ARCHIVE, "--until-complete") == (ARCHIVED, "", "")
    inventory.check_complete()
    api = contents(realcloud, realcloud.api)
    code, out, err = program.run(*ARCHIVE, "--until-complete", "--repair")
    assert (code, out) == (NOTHING_ARCHIVED, "")
    assert err.startswith("cell1: repaired ")
    assert err.count("\n") == 1
    assert_api_rows_are_right(api, contents(realcloud, realcloud.api), gone={leftover, other})
    assert program.run(*ARCHIVE, "--until-complete", "--repair") == (NOTHING_ARCHIVED, "", "")


def api_rows_to_be_left_alone(cloud: RealCloud, requeued: str, elsewhere: str) -> Iterator[str]:
    """Statements that make API rows which look like leftovers, and are not.

    :param requeued: an instance in the shadow table of cell1 only
    :param elsewhere: an instance in the shadow table of cell2 only
    """
    cells = dict(cloud.rows(cloud.api, "SELECT name, id FROM cell_mappings"))
    yield f"UPDATE instance_mappings SET queued_for_delete = 0 WHERE instance_uuid = '{requeued}'"
    yield f"UPDATE instance_mappings SET cell_id = {cells['cell3']} WHERE instance_uuid = '{elsewhere}'"
    # Being created: a request spec, later with a mapping. Deleted before it came to a cell: queued,
    # in no cell.
    for name, mapping in {
        "being-created": None,
        "being-scheduled": "NULL, 0",
        "being-built": f"{cells['cell1']}, 0",
        "never-built": f"{cells['cell1']}, 1",
    }.items():
        yield f"INSERT INTO request_specs (instance_uuid, spec) VALUES ('{name}', '{{}}')"
        if mapping:
            yield (
                "INSERT INTO instance_mappings (instance_uuid, project_id, cell_id, queued_for_delete) "
                f"VALUES ('{name}', 'p', {mapping})"
            )
    # Alive, and in the shadow table too: it was moved away and came back.
    [(uuid, number)] = cloud.rows(
        cloud.cell1,
        "SELECT i.uuid, i.id FROM instances i JOIN nova_api.instance_mappings ON instance_uuid = uuid "
        "WHERE deleted = 0 AND hidden = 0 ORDER BY i.id LIMIT 1",
    )
    cloud.rows(
        cloud.cell1,
        f"INSERT INTO shadow_instances (id, uuid, deleted) VALUES ({number + 10_000}, '{uuid}', 1)",
    )
    yield f"UPDATE instance_mappings SET queued_for_delete = 1 WHERE instance_uuid = '{uuid}'"


def test_repair_moves_a_row_whose_twin_lies_in_the_shadow_table_and_leaves_what_differs(
    realcloud: RealCloud, program: Program
) -> None:
    first, second = (
        number
        for (number,) in realcloud.rows(
            realcloud.cell1, "SELECT id FROM instances WHERE deleted <> 0 ORDER BY id LIMIT 2"
        )
    )
    for number in (first, second):
        realcloud.rows(
            realcloud.cell1,
            f"INSERT INTO shadow_instances SELECT * FROM instances WHERE id = {number}",
        )
    realcloud.rows(
        realcloud.cell1, f"UPDATE shadow_instances SET host = 'other' WHERE id = {second}"
    )
    inventory = Inventory(realcloud)
    assert program.run(*ARCHIVE, "--until-complete").code == ARCHIVED
    assert inventory.forests[realcloud.cell1].blocked == {
        ("instances", first),
        ("instances", second),
    }
    inventory.check_complete()
    inventory = Inventory(realcloud, repair=True)
    code, out, err = program.run(*ARCHIVE, "--until-complete", "--repair")
    assert (code, out) == (ARCHIVED, "")
    inventory.check_complete()
    assert [
        number for table, number in inventory.moving[realcloud.cell1] if table == "instances"
    ] == [first]
    assert err.startswith(f"cell1: left in instances: id {second}: ")
    assert "1 of shadow_instances" in err
