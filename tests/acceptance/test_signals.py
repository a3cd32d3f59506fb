"""Ctrl-C, once and twice; and a second run beside the first."""

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from socket import create_server
from typing import Final

import pytest

from tests.support.command import PATIENCE, Running, call, until
from tests.support.realcloud import DATABASES, RealCloud
from tests.support.services import MariaDB

API, CELL0, CELL1, CELL2, CELL3 = DATABASES
ARCHIVE: Final = "db archive_deleted_rows --until-complete"
ONCE: Final = "Stopping after the current batches; interrupt again to leave at once.\n"
PATIENT: Final = {
    "OS_CELLKEEPER__LOCK_WAIT_TIMEOUT": str(PATIENCE),
    "OS_CELLKEEPER__READ_TIMEOUT": str(PATIENCE),
}
CHILDREN: Final = (
    "instance_extra",
    "instance_system_metadata",
    "instance_actions",
    "virtual_interfaces",
)


def count(cloud: RealCloud, what: str, database: str = CELL1) -> int:
    return int(cloud.rows(database, f"SELECT COUNT(*) FROM {what}")[0][0])


def rows(cloud: RealCloud) -> dict[str, int]:
    """The rows of cell1 by table, be they in the table or in its shadow."""
    return {
        table: count(cloud, table) + count(cloud, f"shadow_{table}")
        for table in ("instances", *CHILDREN)
    }


def assert_nothing_is_half_done(cloud: RealCloud) -> None:
    """Each tree is on one side, and API rows are there exactly for instances that are not
    archived.
    """
    for table in CHILDREN:
        assert (
            count(cloud, f"{table} WHERE instance_uuid IN (SELECT uuid FROM shadow_instances)") == 0
        )
        waiting = "SELECT uuid FROM instances WHERE deleted != 0"
        assert count(cloud, f"shadow_{table} WHERE instance_uuid IN ({waiting})") == 0
    archived = f"request_specs WHERE instance_uuid IN (SELECT uuid FROM {CELL1}.shadow_instances)"
    assert count(cloud, archived, API) == 0
    missing = f"instances WHERE uuid NOT IN (SELECT instance_uuid FROM {API}.request_specs)"
    assert count(cloud, missing) == 0


@contextmanager
def locked(cloud: RealCloud, table: str) -> Iterator[None]:
    """Hold a lock on the rows of a table of cell1, so that nothing can be done with them
    meanwhile.
    """
    with closing(cloud.server.connect(CELL1, autocommit=False)) as link:
        link.query(f"SELECT id FROM {table} FOR UPDATE")
        yield


def at_work(cloud: RealCloud, table: str = "") -> bool:
    """Whether the program has a statement on a table under way, or a connection at all."""
    # Not by innodb_trx: who looks there more often than every 0.1 s sees the same for ever.
    running = f"AND info LIKE '%{table}%'" if table else ""
    listed = (
        f"processlist WHERE user = 'nova' AND id <> CONNECTION_ID() AND db IS NOT NULL {running}"
    )
    return count(cloud, f"information_schema.{listed}") > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_ends_the_pause_and_what_was_done_is_reported(
    realcloud: RealCloud, config: Path, number: signal.Signals
) -> None:
    """ARC-6: nothing is purged any more."""
    before = rows(realcloud)
    with Running(
        f"{ARCHIVE} --max_rows 20 --sleep 3600 --verbose --purge", config=config
    ) as running:
        # The rest of the first 20 rows.
        until(lambda: count(realcloud, "shadow_instance_id_mappings") > 0)
        running.process.send_signal(number)
        ended = running.end()
    assert (ended.code, ended.err) == (1, ONCE)
    assert ended.out.startswith("Archiving...")
    dots, _, table = ended.out.partition("\n")
    assert dots.endswith(".stopped")
    assert "purge" not in table
    assert "| compute_nodes        | 1                       |" in table.splitlines()
    assert "| instance_id_mappings | 19                      |" in table.splitlines()
    assert count(realcloud, "shadow_compute_nodes") == 1
    assert count(realcloud, "shadow_instance_id_mappings") == 19
    assert rows(realcloud) == before
    assert_nothing_is_half_done(realcloud)


def test_a_first_ctrl_c_lets_the_batch_end(realcloud: RealCloud, config: Path) -> None:
    before = rows(realcloud)
    with Running(f"{ARCHIVE} --max_rows 100 -f json", config=config, env=PATIENT) as running:
        with locked(realcloud, "instance_extra"):
            until(lambda: at_work(realcloud, "INTO shadow_instance_extra"))
            running.interrupt()
            until(lambda: running.err == ONCE)
            assert running.process.poll() is None
        ended = running.end()
    assert (ended.code, ended.err) == (1, ONCE)
    (cell,) = ended.document["cells"]
    assert (cell["state"], cell["failure"]) == ("incomplete", None)
    assert 0 < cell["archived"]["instances"] == count(realcloud, "shadow_instances") < 53
    assert rows(realcloud) == before
    assert_nothing_is_half_done(realcloud)


def test_a_second_ctrl_c_leaves_at_once_and_the_batch_never_was(
    realcloud: RealCloud, config: Path
) -> None:
    before = rows(realcloud)
    with Running(f"{ARCHIVE} --all-cells --verbose", config=config, env=PATIENT) as running:
        with locked(realcloud, "instance_extra"):
            until(lambda: at_work(realcloud, "INTO shadow_instance_extra"))
            running.interrupt()
            until(lambda: running.err == ONCE)
            running.interrupt()
            ended = running.end()
    assert (ended.code, ended.err) == (130, f"{ONCE}Left at once.\n")
    until(lambda: not at_work(realcloud))
    assert count(realcloud, "shadow_instances") == 0
    assert rows(realcloud) == before
    assert_nothing_is_half_done(realcloud)


def test_ctrl_c_before_the_work_is_130(config: Path) -> None:
    with closing(create_server(("127.0.0.1", 0))) as silent:
        silent.settimeout(PATIENCE)
        url = (
            f"mysql+pymysql://nova:{MariaDB.PASSWORD}@127.0.0.1:{silent.getsockname()[1]}/nova_api"
        )
        env = {"OS_API_DATABASE__CONNECTION": url, "OS_CELLKEEPER__CONNECT_TIMEOUT": str(PATIENCE)}
        with Running(ARCHIVE, config=config, env=env) as running:
            link, _ = silent.accept()
            with link:
                running.interrupt()
                ended = running.end()
    assert (ended.code, ended.out, ended.err.strip()) == (130, "", "Interrupted.")


def test_ctrl_c_ends_a_purge_behind_its_chunk(realcloud: RealCloud, config: Path) -> None:
    realcloud.rows(CELL1, "INSERT INTO shadow_services SELECT * FROM services")
    realcloud.rows(CELL1, "INSERT INTO shadow_instances SELECT * FROM instances")
    there = count(realcloud, "shadow_instances")
    with Running(
        "db purge --all -f json", config=config, env=PATIENT | {"OS_CELLKEEPER__PURGE_CHUNK": "10"}
    ) as running:
        with locked(realcloud, "shadow_instances"):
            until(lambda: at_work(realcloud, "DELETE FROM shadow_instances"))
            running.interrupt()
            until(lambda: running.err == ONCE)
        ended = running.end()
    assert (ended.code, ended.err) == (0, ONCE)
    (cell,) = ended.document["cells"]
    assert (cell["state"], cell["purged"]) == ("incomplete", {"shadow_instances": 10})
    assert count(realcloud, "shadow_instances") == there - 10
    assert count(realcloud, "shadow_services") > 0


def test_a_second_run_waits_says_for_whom_and_may_be_told_not_to(
    realcloud: RealCloud, config: Path
) -> None:
    """ARC-18"""
    holder = "db.archive_deleted_rows, process {}, since 2"
    with Running(f"{ARCHIVE} --max_rows 20 --sleep 3600", config=config) as first:
        until(lambda: count(realcloud, "shadow_compute_nodes") > 0)
        named = holder.format(first.process.pid)
        with Running(f"{ARCHIVE} --all-cells", config=config) as second:
            until(lambda: second.err.startswith(f"Waiting for another run: {named}"))
            third = call(f"{ARCHIVE} --no-wait", config=config)
            assert (third.code, third.out) == (255, "")
            assert third.line.startswith(f"Another run is at work on one of the databases: {named}")
            # Another command keeps off nobody, and neither does a look.
            assert call("db purge --all --no-wait", config=config).code == 0
            assert call(f"{ARCHIVE} --no-wait --dry-run", config=config).code == 0
            with Running(f"{ARCHIVE} --verbose", config=config) as fourth:
                until(lambda: fourth.err.startswith(f"Waiting for another run: {named}"))
                fourth.interrupt()
                ended = fourth.end()
            assert (ended.code, ended.out) == (0, "Archiving...stopped\nNothing was archived.\n")
            assert ended.err.endswith(ONCE)
            first.process.kill()
            ended = second.end()
    assert ended.code == 1
    assert ended.line.startswith("Waiting for another run: ")
    assert count(realcloud, "instances WHERE deleted != 0") == 0
    assert_nothing_is_half_done(realcloud)
