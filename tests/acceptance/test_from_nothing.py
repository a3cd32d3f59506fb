"""From nothing to a running cloud and on to an archive, typed one command after the other."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.support.command import call
from tests.support.realcloud import NOVA_CONF
from tests.support.services import MariaDB

NAMES: Final = ("first_api", "first", "first_cell0")
# What nova-compute would write at its start, and what users leave behind.
NODE: Final = (
    "INSERT INTO compute_nodes (deleted, mapped, host, hypervisor_hostname, uuid, vcpus, "
    "memory_mb, local_gb, "
    "vcpus_used, memory_mb_used, local_gb_used, hypervisor_type, hypervisor_version, cpu_info) "
    "VALUES "
    "(0, 0, 'host{0}', 'host{0}', '5b1c3d5e-0000-4000-8000-00000000000{0}', 1, 1, 1, 0, 0, 0, "
    "'QEMU', 1, '')"
)
INSTANCE: Final = (
    "INSERT INTO instances (uuid, project_id, user_id, created_at, deleted_at, deleted, hidden) "
    "VALUES "
    "('5b1c3d5e-0000-4000-8000-00000000010{0}', 'p', 'u', '2026-01-0{0} 00:00:00', {1}, {2}, 0)"
)


class Cloud(NamedTuple):
    """The databases of a cloud that is still empty.

    :ivar config: its nova.conf
    :ivar ask: runs a statement in a database of that name
    """

    config: Path
    ask: Callable[[str, str], list[tuple[Any, ...]]]


def on_mariadb(mariadb: MariaDB, folder: Path) -> Cloud:
    for name in NAMES:
        mariadb.drop(name)
        mariadb.create(name)
    return Cloud(configure(folder, mariadb.url), lambda name, sql: mariadb.execute(sql, name))


def on_sqlite(_: MariaDB, folder: Path) -> Cloud:
    def ask(name: str, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(folder / name)) as link, link:
            return link.execute(sql).fetchall()

    for name in NAMES:
        (folder / name).touch()
    return Cloud(configure(folder, lambda name: f"sqlite:///{folder / name}"), ask)


def configure(folder: Path, url: Callable[[str], str]) -> Path:
    config = folder / "nova.conf"
    text = NOVA_CONF.format(cell1=url("first"), api=url("first_api"), locks=folder / "locks")
    config.write_text(f"[DEFAULT]\ntransport_url = rabbit://u:p@mq:5672/\n{text}")
    return config


@pytest.mark.parametrize("make", [on_mariadb, on_sqlite])
def test_from_nothing_to_a_running_cloud(
    mariadb: MariaDB, tmp_path: Path, make: Callable[[MariaDB, Path], Cloud]
) -> None:
    cloud = make(mariadb, tmp_path)

    def type_in(line: str, code: int = 0) -> str:
        ended = call(line, config=cloud.config)
        assert ended.code == code, (line, ended)
        return ended.out

    type_in("api_db sync")
    type_in("cell_v2 map_cell0")
    type_in("db sync")
    uuid = type_in("cell_v2 create_cell --name first --verbose").split()[-1]
    for number in (1, 2):
        cloud.ask("first", NODE.format(number))
    type_in("cell_v2 discover_hosts --strict")
    assert cloud.ask("first_api", "SELECT host FROM host_mappings ORDER BY host") == [
        ("host1",),
        ("host2",),
    ]
    assert cloud.ask("first", "SELECT DISTINCT mapped FROM compute_nodes") == [(1,)]
    type_in("cell_v2 discover_hosts --strict", 1)
    for number, deleted in ((1, 0), (2, 1), (3, 0)):
        cloud.ask(
            "first",
            INSTANCE.format(
                number, "'2026-02-01 00:00:00'" if deleted else "NULL", number * deleted
            ),
        )
    type_in(f"cell_v2 map_instances --cell_uuid {uuid} --max-count 2", 1)
    type_in(f"cell_v2 map_instances --cell_uuid {uuid} --max-count 2")
    type_in("cell_v2 verify_instance --uuid 5b1c3d5e-0000-4000-8000-000000000101")
    type_in("cell_v2 verify_instance --uuid 5b1c3d5e-0000-4000-8000-000000000102", 3)
    type_in("db archive_deleted_rows --all-cells --until-complete", 1)
    type_in("cell_v2 verify_instance --uuid 5b1c3d5e-0000-4000-8000-000000000102", 1)
    assert cloud.ask("first_api", "SELECT COUNT(*) FROM instance_mappings") == [(2,)]
    listed = type_in("cell_v2 list_hosts")
    assert f"|   first   | {uuid} |  host2   |" in listed
    type_in("cell_v2 simple_cell_setup")
