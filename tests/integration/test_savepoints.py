"""What is undone alone, and what takes the whole transaction with it."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from jobs.retry import savepoint
from novadb.engine import Database, is_contended
from settings.databases import Timeouts
from tests.support.services import MariaDB
from tests.support.waiting import wait_until

SCHEMA = "savepoints"


@pytest.fixture
def connection(mariadb: MariaDB) -> Iterator[Connection]:
    mariadb.revive()
    mariadb.drop(SCHEMA)
    mariadb.create(SCHEMA)
    mariadb.execute("CREATE TABLE numbers (id INT PRIMARY KEY, value INT)", SCHEMA)
    mariadb.execute("INSERT INTO numbers SELECT seq, 0 FROM seq_1_to_100", SCHEMA)
    with Database(mariadb.url(SCHEMA), "cell1", Timeouts(lock_wait=50)).connect() as connection:
        yield connection
    mariadb.drop(SCHEMA)


def test_a_row_that_is_refused_takes_nothing_else_along(connection: Connection) -> None:
    connection.execute(text("INSERT INTO numbers VALUES (101, 1)"))
    with pytest.raises(IntegrityError), savepoint(connection):
        connection.execute(text("INSERT INTO numbers VALUES (102, 1), (101, 1)"))
    connection.commit()
    assert connection.execute(text("SELECT id FROM numbers WHERE id > 100")).scalars().all() == [
        101
    ]


def test_a_deadlock_within_is_told_as_one(connection: Connection, mariadb: MariaDB) -> None:
    with closing(mariadb.connect(SCHEMA, autocommit=False)) as other, other.cursor() as cursor:
        connection.execute(text("UPDATE numbers SET value = 1 WHERE id = 1"))
        # Much to undo: the other one is the victim.
        cursor.execute("UPDATE numbers SET value = 2 WHERE id > 1")
        waiting = threading.Thread(
            target=cursor.execute, args=("UPDATE numbers SET value = 2 WHERE id = 1",)
        )
        waiting.start()
        waits = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
        wait_until(lambda: mariadb.execute(waits) == [(1,)])
        with pytest.raises(DBAPIError) as caught, savepoint(connection):
            connection.execute(text("UPDATE numbers SET value = 1 WHERE id = 2"))
        waiting.join()
        other.rollback()
    assert is_contended(caught.value)
    connection.rollback()
    assert connection.execute(text("SELECT MAX(value) FROM numbers")).scalar() == 0
