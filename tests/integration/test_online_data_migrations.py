"""Online data migrations on the databases that Nova's own code wrote, with the work put back.

What they leave is compared with what the stock tool left of the same, and with rules where it is
wrong.
"""

import itertools
import random
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.action import Target
from jobs.db import online_data_migrations
from jobs.db.migrations import interfaces, quotas
from jobs.db.migrations.migration import CHUNK, FAKE, Defaults, Migration, Place, Tally
from jobs.db.online_data_migrations import Migrated, Params
from jobs.transaction_size import TransactionSize
from novadb.cells import Cell
from novadb.engine import Database
from settings.databases import Timeouts
from tests.integration.cells import target
from tests.support.program import Moment, Program
from tests.support.realcloud import RealCloud
from tests.support.unmigrated import API, CELLS, look, put_back, recorded

MIGRATE: Final = ("db", "online_data_migrations")
ALL: Final = (*MIGRATE, "--all-cells")
COMPLETE, PARTIAL, FAILED = 0, 1, 2


@pytest.fixture
def program(realcloud: RealCloud, tmp_path: Path) -> Program:
    return Program(realcloud.config(tmp_path), realcloud.api)


@pytest.fixture
def unmigrated(realcloud: RealCloud) -> RealCloud:
    """The real cloud with the work of all migrations put back."""
    put_back(realcloud)
    return realcloud


def config_of(cloud: RealCloud, cell: str, folder: Path) -> Path:
    """The nova.conf of a controller of a cell."""
    path = cloud.config(folder)
    path.write_text(path.read_text().replace(f"/{cloud.cell1}\n", f"/{cell}\n"))
    return path


def migrations_of(document: Any) -> dict[str, dict[str, tuple[int, int]]]:
    """By cell and migration, the rows found and done."""
    return {
        cell["cell"]: {
            name: (tally["found"], tally["done"]) for name, tally in cell["migrations"].items()
        }
        for cell in document["cells"]
    }


def assert_nothing_is_left_to_do(program: Program) -> None:
    again = program.run(*ALL, "-f", "json")
    assert (again.code, again.err) == (COMPLETE, "")
    assert not any(done for cell in migrations_of(again.data).values() for _, done in cell.values())


def test_all_cells_at_once_leave_what_the_stock_tool_leaves(
    unmigrated: RealCloud, program: Program
) -> None:
    ended = program.run(*ALL, "-f", "json")
    assert (ended.code, ended.err) == (COMPLETE, "")
    assert look(unmigrated) == recorded()
    found = migrations_of(ended.data)
    assert sum(cell["populate_queued_for_delete"][1] for cell in found.values()) == 179
    # Mappings of no cell are counted once, for the first one: not by each, and not by none.
    assert [
        cell["populate_user_id"][0] - cell["populate_user_id"][1] for cell in found.values()
    ] == [3, 0, 0, 0]
    assert_nothing_is_left_to_do(program)


def test_a_cell_at_a_time_leaves_what_the_stock_tool_leaves(
    unmigrated: RealCloud, tmp_path: Path
) -> None:
    """Without --all-cells, the first call migrates what the API database has of all of them, as
    with the stock tool.
    """
    for number, cell in enumerate(CELLS):
        program = Program(config_of(unmigrated, cell, tmp_path), API)
        ended = program.run(*MIGRATE, "-f", "json")
        assert (ended.code, ended.err) == (COMPLETE, "")
        [found] = migrations_of(ended.data).values()
        assert found["populate_queued_for_delete"] == ((179, 179) if number == 0 else (0, 0))
        assert found["fill_virtual_interface_list"] == ((134, 16) if number == 0 else (0, 0))
        assert bool(found["migration_migrate_to_uuid"][1]) == (cell != CELLS[0])
    assert look(unmigrated) == recorded()


def test_many_calls_with_a_budget_come_to_the_same_end(
    unmigrated: RealCloud, program: Program
) -> None:
    """A script calls while it says 1; no call changes more than it may, and none is starved."""
    for budget in itertools.chain([3, 60], itertools.repeat(900)):
        ended = program.run(*ALL, "--max-count", str(budget), "-f", "json")
        done = sum(done for cell in migrations_of(ended.data).values() for _, done in cell.values())
        assert ended.err == ""
        assert done <= budget
        if ended.code == COMPLETE:
            break
        assert ended.code == PARTIAL
    assert done == 0
    assert look(unmigrated) == recorded()


def test_rows_that_cannot_be_migrated_take_no_room_from_others(
    realcloud: RealCloud, program: Program
) -> None:
    """Of cell1's instances the first have no host; the stock tool never comes past them with a
    small budget.
    """
    realcloud.rows(
        realcloud.cell1, "UPDATE instances SET compute_id = NULL, host = NULL WHERE id <= 60"
    )
    realcloud.rows(realcloud.cell1, "UPDATE instances SET compute_id = NULL WHERE id > 100")
    realcloud.rows(
        realcloud.cell1, "UPDATE instances SET host = 'gone', deleted = 0 WHERE id > 110"
    )
    ended = program.run(*MIGRATE, "--max-count", "5", "--verbose")
    assert (ended.code, ended.err) == (PARTIAL, "")
    assert "5 rows matched query populate_instance_compute_id, 5 migrated" in ended.out
    ended = program.run(*MIGRATE, "--verbose")
    assert ended.code == COMPLETE
    gone = [
        uuid
        for (uuid,) in realcloud.rows(
            realcloud.cell1, "SELECT uuid FROM instances WHERE host = 'gone' ORDER BY id"
        )
    ]
    assert f"{len(gone)} left: instances whose host and node no compute node has" in ended.out
    assert ", ".join(gone) in ended.out
    assert "left: instances without a host" in ended.out
    left = "SELECT COUNT(*) FROM instances WHERE compute_id IS NULL AND host <> 'gone'"
    assert realcloud.rows(realcloud.cell1, left) == [(0,)]


def test_an_instance_gets_the_compute_node_that_is_alive(
    realcloud: RealCloud, program: Program
) -> None:
    """The stock tool takes the oldest of its name, also a deleted one."""
    [(old, host, name)] = realcloud.rows(
        realcloud.cell1,
        "SELECT id, host, hypervisor_hostname FROM compute_nodes WHERE deleted = 0 ORDER BY id "
        "LIMIT 1",
    )
    columns = (
        "service_id, vcpus, memory_mb, local_gb, vcpus_used, memory_mb_used, local_gb_used, "
        "hypervisor_type, "
    )
    columns += "hypervisor_version, cpu_info, hypervisor_hostname, host"
    realcloud.rows(realcloud.cell1, f"UPDATE compute_nodes SET deleted = id WHERE id = {old}")
    realcloud.rows(
        realcloud.cell1,
        f"INSERT INTO compute_nodes ({columns}, deleted) SELECT {columns}, 0 FROM compute_nodes "
        f"WHERE id = {old}",
    )
    realcloud.rows(realcloud.cell1, "UPDATE instances SET compute_id = NULL")
    assert program.run(*MIGRATE).code == COMPLETE
    given = f"SELECT DISTINCT compute_id FROM instances WHERE host = '{host}' AND node = '{name}'"
    alive = f"SELECT id FROM compute_nodes WHERE host = '{host}' AND deleted = 0"
    assert realcloud.rows(realcloud.cell1, given) == realcloud.rows(realcloud.cell1, alive)


def test_limits_that_the_api_database_has_stay_and_hold_up_no_others(
    realcloud: RealCloud, program: Program
) -> None:
    """The stock tool gives up the whole batch, deletes its rows all the same, and so loses
    limits.
    """
    [(project, cores)] = realcloud.rows(
        API,
        "SELECT project_id, hard_limit FROM quotas WHERE resource = 'cores' ORDER BY id LIMIT 1",
    )
    for cell in CELLS:
        realcloud.rows(
            cell,
            "INSERT INTO quotas (project_id, resource, hard_limit, deleted) VALUES "
            f"('{project}', 'cores', 1, 0), ('new', 'cores', 2, 0), ('of-{cell}', 'cores', 3, 0), "
            "(NULL, 'ram', 4, 0)",
        )
        realcloud.rows(
            cell,
            "INSERT INTO quota_classes (class_name, resource, hard_limit, deleted) VALUES "
            "('default', 'instances', 1, 0), ('gold', 'cores', 5, 0), ('gold', 'cores', 5, 0)",
        )
    ended = program.run(*ALL, "-f", "json")
    assert ended.code == COMPLETE
    assert all(line.endswith("which stays; the cell's was 1") for line in ended.err.splitlines())
    limits = realcloud.rows(
        API, "SELECT project_id, resource, hard_limit FROM quotas WHERE id > 12"
    )
    assert sorted(limits, key=str) == sorted(
        [("new", "cores", 2), (None, "ram", 4), *((f"of-{cell}", "cores", 3) for cell in CELLS)],
        key=str,
    )
    assert realcloud.rows(
        API, f"SELECT hard_limit FROM quotas WHERE project_id = '{project}' AND resource = 'cores'"
    ) == [(cores,)]
    classes = realcloud.rows(
        API, "SELECT class_name, resource, hard_limit FROM quota_classes ORDER BY id"
    )
    assert classes == [("default", "instances", 50), ("gold", "cores", 5)]
    for cell in CELLS:
        for table in ("quotas", "quota_classes"):
            assert realcloud.rows(
                cell, f"SELECT COUNT(*) FROM {table} WHERE deleted <> id OR deleted_at IS NULL"
            ) == [(0,)]


@pytest.mark.parametrize(
    ("moment", "numbers"),
    [
        (Moment.CELL_COMMIT, (4, 11, 24)),
        (Moment.API_COMMIT, (2, 9)),
        (Moment.CELL_STATEMENT, (40, 90)),
    ],
    ids=lambda value: value.value if isinstance(value, Moment) else "",
)
def test_killed_in_the_middle_and_run_again_the_result_is_the_same(
    unmigrated: RealCloud, program: Program, moment: Moment, numbers: Sequence[int]
) -> None:
    for number in numbers:
        with program.start_and_kill(moment, number, *ALL) as run:
            assert run.end().code == -signal.SIGKILL
    assert program.run(*ALL).code == COMPLETE
    assert look(unmigrated) == recorded()


def test_two_runs_at_once_do_nothing_twice(
    unmigrated: RealCloud, program: Program, tmp_path: Path
) -> None:
    """Without the locks that keep them apart: the rows decide."""
    config = tmp_path / "nova.conf"
    config.write_text(config.read_text() + "exclusion = false\n")
    with program.start(*ALL, "-f", "json") as one, program.start(*ALL, "-f", "json") as two:
        ends = [one.end(), two.end()]
    assert [ended.code for ended in ends] == [COMPLETE, COMPLETE], [ended.err for ended in ends]
    assert look(unmigrated) == recorded()
    done = [
        sum(done for cell in migrations_of(ended.data).values() for _, done in cell.values())
        for ended in ends
    ]
    assert sum(done) > 0
    for cell in CELLS:
        assert unmigrated.rows(
            cell, f"SELECT COUNT(*) <= 1 FROM virtual_interfaces WHERE uuid = '{FAKE}'"
        ) == [(1,)]


def place_in(cloud: RealCloud, cell: str) -> Place:
    """A cell as a migration sees it."""
    api = Database(cloud.url(API), "the API database", Timeouts())
    database = Database(cloud.url(cell), cell, Timeouts())
    [(number,)] = cloud.rows(
        API, f"SELECT id FROM cell_mappings WHERE name = '{cell.removeprefix('nova_')}'"
    )
    return Place(Target(Cell("uuid", cell, frozenset({number}), database), api), Defaults())


def run(place: Place, migration: Migration, size: int = CHUNK) -> int:
    """Run a migration to its end; returns how many rows it has changed."""
    after: int | None = 0
    done = 0
    while after is not None:
        batch = migration.step(place, size, after)
        place.rollback()
        done, after = done + batch.tally.done, batch.after
    return done


ports = st.lists(st.sampled_from(["p1", "p2", "p3", "p4"]), unique=True, max_size=4)


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(ports, ports), min_size=1, max_size=4))
def test_interfaces_are_those_of_the_cache_unless_there_are_more(
    realcloud: RealCloud, instances: list[tuple[list[str], list[str]]]
) -> None:
    """Each instance has some ports in its cache and some in the table; ports of other instances
    have other names.
    """
    cell = realcloud.cell3
    uuids = [
        uuid
        for (uuid,) in realcloud.rows(
            cell, "SELECT uuid FROM instances WHERE deleted = 0 ORDER BY id LIMIT 4"
        )
    ]
    realcloud.rows(cell, "DELETE FROM virtual_interfaces")
    expected = {}
    for uuid, (cached, known) in zip(uuids, instances, strict=False):
        names = {port: f"{uuid[:8]}-{port}" for port in (*cached, *known)}
        document = ", ".join(f'{{"id": "{names[port]}", "address": "fa:16"}}' for port in cached)
        realcloud.rows(
            cell,
            f"UPDATE instance_info_caches SET network_info = '[{document}]' WHERE instance_uuid = "
            f"'{uuid}'",
        )
        for port in known:
            realcloud.rows(
                cell,
                "INSERT INTO virtual_interfaces (address, uuid, instance_uuid, tag, deleted) "
                f"VALUES ('fa:16/{names[port]}', '{names[port]}', '{uuid}', 'tag of {port}', 0)",
            )
        stay = not cached or len(known) > len(cached)
        tagged = {port: f"tag of {port}" for port in known}
        expected[uuid] = [(names[port], tagged.get(port)) for port in (known if stay else cached)]
    place = place_in(realcloud, cell)
    try:
        run(place, interfaces.FILL_VIRTUAL_INTERFACE_LIST)
        for uuid, rows in expected.items():
            found = realcloud.rows(
                cell,
                f"SELECT uuid, tag FROM virtual_interfaces WHERE instance_uuid = '{uuid}' AND "
                "deleted = 0 "
                "ORDER BY created_at, id",
            )
            assert found == rows
        assert run(place, interfaces.FILL_VIRTUAL_INTERFACE_LIST) == 0
    finally:
        place.close()


limits = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["cores", "ram"])), st.integers(1, 9)
)


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(limits, limits, st.integers(1, 3))
def test_limits_move_unless_they_are_there_already(
    realcloud: RealCloud,
    in_cell: dict[tuple[str, str], int],
    in_api: dict[tuple[str, str], int],
    size: int,
) -> None:
    for database, found, extra in ((realcloud.cell2, in_cell, ", deleted"), (API, in_api, "")):
        for table, owner in (("quotas", "project_id"), ("quota_classes", "class_name")):
            realcloud.rows(database, f"DELETE FROM {table}")
            for (name, resource), limit in found.items():
                values = f"'{name}', '{resource}', {limit}" + (", 0" if extra else "")
                realcloud.rows(
                    database,
                    f"INSERT INTO {table} ({owner}, resource, hard_limit{extra}) VALUES ({values})",
                )
    place = place_in(realcloud, realcloud.cell2)
    try:
        for migration in (quotas.MIGRATE_QUOTA_LIMITS, quotas.MIGRATE_QUOTA_CLASSES):
            assert run(place, migration, size) == len(in_cell)
            assert run(place, migration, size) == 0
    finally:
        place.close()
    for table, owner in (("quotas", "project_id"), ("quota_classes", "class_name")):
        rows = realcloud.rows(API, f"SELECT {owner}, resource, hard_limit FROM {table}")
        assert {(name, resource): limit for name, resource, limit in rows} == in_cell | in_api
        assert len(rows) == len(in_cell | in_api)
        assert realcloud.rows(
            realcloud.cell2, f"SELECT COUNT(*) FROM {table} WHERE deleted = 0"
        ) == [(0,)]


def test_more_rows_than_one_transaction_takes(realcloud: RealCloud, program: Program) -> None:
    rows = 2 * CHUNK + random.Random(1).randrange(1, CHUNK)
    sequence = f"SELECT seq FROM seq_1_to_{rows}"
    [(uuid,)] = realcloud.rows(realcloud.cell1, "SELECT uuid FROM instances ORDER BY id LIMIT 1")
    realcloud.rows(
        realcloud.cell1,
        f"INSERT INTO block_device_mapping (instance_uuid, deleted) SELECT '{uuid}', 0 FROM "
        f"({sequence}) numbers",
    )
    ended = program.run(*MIGRATE)
    assert (ended.code, ended.err) == (COMPLETE, "")
    assert f"{rows} rows matched query populate_uuids, {rows} migrated" in ended.out
    assert realcloud.rows(
        realcloud.cell1,
        "SELECT COUNT(*), COUNT(DISTINCT uuid) = COUNT(*) FROM block_device_mapping WHERE uuid IS "
        "NULL",
    ) == [(0, 1)]


def test_a_budget_of_looks_is_the_same_however_small_transactions_are(realcloud: RealCloud) -> None:
    """Instances without a cache of their network count for the budget of their cell, and are not
    told as found.
    """
    name, cell = interfaces.FILL_VIRTUAL_INTERFACE_LIST.name, realcloud.cell3
    live = "SELECT uuid FROM instances WHERE deleted = 0"
    realcloud.rows(
        cell,
        "UPDATE instance_info_caches SET network_info = '[]' WHERE instance_uuid IN "
        f"(SELECT uuid FROM ({live} ORDER BY created_at, id LIMIT 2) AS oldest)",
    )
    ((instances,),) = realcloud.rows(cell, f"SELECT COUNT(*) FROM ({live}) AS living")
    ends = []
    for size in (TransactionSize(), TransactionSize(seconds=0.000001, rows=2)):
        realcloud.rows(cell, f"DELETE FROM virtual_interfaces WHERE instance_uuid = '{FAKE}'")
        steps = online_data_migrations.work(
            replace(target(realcloud, "cell3"), size=size), Params(max_count=instances - 1), None
        )
        outcome = sum((step.outcome for step in steps), start=Migrated())
        tally: Tally = outcome.tallies[name]
        marker = realcloud.rows(
            cell, f"SELECT tag FROM virtual_interfaces WHERE instance_uuid = '{FAKE}'"
        )
        ends.append((tally.found, tally.unseen, marker))
    assert ends[0] == ends[1]
    assert ends[0][1]
