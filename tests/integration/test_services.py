"""What the other tests rely on: the private servers and the databases of the real cloud."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest

from tests.support.realcloud import RealCloud
from tests.support.services import MariaDB, MissingProgram, Redis, ServiceError, program

SERVED = """
import time
from tests.support.services import MariaDB
server = MariaDB()
server.start()
print(server.folder, flush=True)
time.sleep(600)
"""


@pytest.fixture
def own_mariadb() -> Iterator[MariaDB]:
    with MariaDB() as server:
        yield server


def test_a_killed_mariadb_comes_back_on_its_port_with_what_was_committed(
    own_mariadb: MariaDB,
) -> None:
    port = own_mariadb.port
    own_mariadb.create("stock")
    own_mariadb.execute("CREATE TABLE box (id INT PRIMARY KEY)", "stock")
    own_mariadb.execute("INSERT INTO box VALUES (1), (2)", "stock")
    own_mariadb.kill()
    with pytest.raises(pymysql.OperationalError):
        own_mariadb.execute("SELECT 1")
    own_mariadb.restart()
    assert own_mariadb.execute("SELECT @@port") == [(port,)]
    assert own_mariadb.execute("SELECT id FROM box", "stock") == [(1,), (2,)]


def test_a_stopped_mariadb_leaves_no_folder() -> None:
    with MariaDB() as server:
        assert server.folder.exists()
    assert not server.folder.exists()
    assert not server.running


def test_a_server_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(ServiceError, match="unknown option '--no-such-option'"),
        MariaDB("--no-such-option"),
    ):
        pass


def test_a_missing_program_is_named_with_the_way_to_get_it() -> None:
    with pytest.raises(
        MissingProgram, match=r"no-such-server is not installed.*tools/install-services\.sh"
    ):
        program("no-such-server")


def test_killed_tests_leave_neither_server_nor_folder() -> None:
    command = [sys.executable, "-c", SERVED]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as tests:
        assert tests.stdout is not None
        folder = Path(tests.stdout.readline().strip())
        server = int((folder / "pid").read_text())
        assert "mariadbd" in command_line(server)
        tests.kill()
    until(lambda: not folder.exists())
    assert "mariadbd" not in command_line(server)


def test_a_killed_redis_comes_back_on_its_port_with_what_it_had_answered() -> None:
    with Redis(password="redis-secret") as server:
        assert server.execute("SET box 7", "GET box") == ["+OK", "$1", "7"]
        server.kill()
        server.restart()
        assert server.execute("GET box") == ["$1", "7"]


def test_a_paused_redis_is_silent_until_it_goes_on(redis: Redis) -> None:
    redis.pause()
    assert not redis.answers()
    redis.resume()
    assert redis.answers()


def test_the_cell_mappings_of_the_real_cloud_name_the_private_server(realcloud: RealCloud) -> None:
    mappings = realcloud.rows(
        realcloud.api, "SELECT name, uuid, database_connection FROM cell_mappings ORDER BY id"
    )
    names = [realcloud.cell0, realcloud.cell1, realcloud.cell2, realcloud.cell3]
    assert [url for _name, _uuid, url in mappings] == [realcloud.url(name) for name in names]
    assert {name: uuid for name, uuid, _url in mappings} == realcloud.uuids
    assert set(realcloud.uuids) == {"cell0", "cell1", "cell2", "cell3"}


def test_the_real_cloud_keeps_its_foreign_keys(realcloud: RealCloud) -> None:
    with pytest.raises(pymysql.IntegrityError, match="foreign key constraint fails"):
        realcloud.rows(realcloud.cell1, "DELETE FROM instances WHERE deleted = 0 LIMIT 1")
    counted = (
        "SELECT COUNT(*) FROM information_schema.referential_constraints WHERE "
        "constraint_schema = DATABASE()"
    )
    dumped = {
        realcloud.api: 13,
        realcloud.cell0: 26,
        realcloud.cell1: 26,
        realcloud.cell2: 26,
        realcloud.cell3: 26,
    }
    assert {database: realcloud.rows(database, counted)[0][0] for database in dumped} == dumped


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("nova_cell1", "UPDATE instances SET deleted = id WHERE deleted = 0 LIMIT 1"),
        ("nova_cell1", "INSERT INTO shadow_instances SELECT * FROM instances"),
        (
            "nova_cell1",
            "CREATE TRIGGER refuse BEFORE DELETE ON tags FOR EACH ROW SIGNAL SQLSTATE '45000'",
        ),
        (
            "nova_cell2",
            "ALTER TABLE instance_extra DROP FOREIGN KEY instance_extra_instance_uuid_fkey",
        ),
        ("nova_cell2", "CREATE TABLE extra (id INT PRIMARY KEY)"),
        ("nova_cell3", "DROP DATABASE nova_cell3"),
        ("nova_api", "TRUNCATE TABLE request_specs"),
    ],
)
def test_damage_to_the_real_cloud_is_undone(
    loaded_realcloud: RealCloud, name: str, damage: str
) -> None:
    loaded_realcloud.restore()
    before = loaded_realcloud.states()
    loaded_realcloud.rows(name, damage)
    loaded_realcloud.restore()
    assert loaded_realcloud.states() == before
    assert loaded_realcloud.rows(name, "SHOW TRIGGERS") == []


def test_a_kill_and_an_open_transaction_do_not_reach_the_next_test(realcloud: RealCloud) -> None:
    before = realcloud.states()
    realcloud.server.kill()
    realcloud.restore()
    left = realcloud.server.connect(realcloud.cell1, autocommit=False)
    left.query("DELETE FROM tags")
    realcloud.restore()
    assert realcloud.states() == before
    left.close()


def test_the_configuration_is_that_of_a_controller_of_cell1(
    realcloud: RealCloud, tmp_path: Path
) -> None:
    lines = realcloud.config(tmp_path).read_text().splitlines()
    assert lines[:2] == ["[database]", f"connection = {realcloud.url(realcloud.cell1)}"]
    assert lines[2:4] == ["[api_database]", f"connection = {realcloud.url(realcloud.api)}"]
    assert f"lock_path = {tmp_path / 'locks'}" in lines


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.05)


def command_line(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""
