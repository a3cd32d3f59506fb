"""Servers that take a row without a look for its parent: nothing is lost, and ``check`` names them.

MySQL 9.7 does so, unless innodb_native_foreign_keys is ON, where another column of the key's index
is NULL.
"""

from pathlib import Path
from typing import Final

import pymysql
import pytest

from tests.support.forest import SHADOW
from tests.support.inventory import Inventory
from tests.support.late_rows import FOREIGN_KEY, LOCK_WAIT, add_late
from tests.support.program import Moment, Program
from tests.support.realcloud import RealCloud

ARCHIVE: Final = (
    "db",
    "archive_deleted_rows",
    "--all-cells",
    "--until-complete",
    "--max_rows",
    "30",
)
ARCHIVED: Final = 1
# As Nova writes it: updated_at comes later.
ACTION: Final = (
    "INSERT INTO instance_actions (created_at, deleted, action, instance_uuid) VALUES "
    "('2026-11-01', 0, 'late', %s)"
)
# The late actions, and whether each is without its instance.
LATE: Final = (
    "SELECT action.id, instance.id IS NULL FROM {0}instance_actions AS action "
    "LEFT JOIN {0}instances AS instance ON instance.uuid = action.instance_uuid WHERE "
    "action.action = 'late'"
)


@pytest.fixture
def cloud(realcloud: RealCloud) -> RealCloud:
    """The real cloud with the index of instance_uuid and updated_at as the first one of the foreign
    key.

    The dump, of MariaDB, lists another one first; where db sync made the table on MySQL, this one
    is first.
    """
    for name in (realcloud.cell0, realcloud.cell1, realcloud.cell2, realcloud.cell3):
        realcloud.rows(name, "ALTER TABLE instance_actions DROP INDEX instance_uuid_idx")
    return realcloud


@pytest.fixture
def program(cloud: RealCloud, tmp_path: Path) -> Program:
    return Program(cloud.config(tmp_path), cloud.api)


@pytest.fixture
def takes_orphans(cloud: RealCloud) -> bool:
    """Whether the server takes an action of an instance that is nowhere."""
    try:
        cloud.rows(cloud.cell1, ACTION.replace("%s", "'nowhere'"))
    except pymysql.IntegrityError:
        return False
    cloud.rows(cloud.cell1, "DELETE FROM instance_actions WHERE instance_uuid = 'nowhere'")
    return True


@pytest.mark.parametrize("moment", [Moment.BEFORE_THE_INSTANCES_GO, Moment.BETWEEN_THE_COMMITS])
def test_a_late_row_moves_with_its_instance_or_stays_and_is_never_lost_or_doubled(
    cloud: RealCloud, program: Program, takes_orphans: bool, moment: Moment
) -> None:
    inventory = Inventory(cloud)
    with program.start_and_hold(moment, 5, *ARCHIVE) as run:
        run.wait_until_held()
        accepted, refused = add_late(cloud, inventory, ACTION)
        run.go_on()
        assert run.end() == (ARCHIVED, "", "")
    stayed = {name: dict(cloud.rows(name, LATE.format(""))) for name in accepted}
    moved = {name: dict(cloud.rows(name, LATE.format(SHADOW))) for name in accepted}
    for name, numbers in accepted.items():
        assert sorted([*stayed[name], *moved[name]]) == numbers
        assert all(stayed[name].values()), (
            "it has its instance, which is deleted, and stayed all the same"
        )
        assert not any(moved[name].values()), "it was archived without its instance"
        assert cloud.rows(name, "SELECT COUNT(*) FROM instances WHERE deleted <> 0") == [(0,)]
    assert refused.keys() <= {LOCK_WAIT, FOREIGN_KEY}
    assert any(stayed.values()) == takes_orphans
    assert any(moved.values())


def test_check_names_a_server_that_takes_orphans(
    cloud: RealCloud, program: Program, takes_orphans: bool
) -> None:
    ended = program.run("check", "-f", "json")
    assert ended.code == 0
    found = [finding for finding in ended.data["findings"] if finding["what"] == "foreign keys"]
    assert [finding["where"] for finding in found] == (
        ["cell0", "cell1", "cell2", "cell3"] if takes_orphans else []
    )
    assert all("innodb_native_foreign_keys=ON" in finding["detail"] for finding in found)
