"""Lines that are lost: what only reads goes on, on a new one; all else is told to whoever knows the
transaction.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from jobs.retry import one_transaction
from novadb import mysql
from novadb.engine import Database, error_number
from novadb.errors import Unreachable
from settings.databases import Timeouts
from tests.support.mysql_relay import Cut, MysqlRelay
from tests.support.services import MariaDB

NAME: Final = "lost_lines"
TIMEOUTS: Final = Timeouts(lock_wait=1)
READ: Final = "SELECT id FROM box ORDER BY id"
SESSION: Final = (
    "SELECT @@tx_isolation, @@innodb_lock_wait_timeout, @@lock_wait_timeout, @@autocommit, "
    "@@sql_mode, "
    "@@sql_safe_updates, @@character_set_client"
)


@pytest.fixture
def relay(mariadb: MariaDB) -> Iterator[MysqlRelay]:
    """Before a database with a table that has two rows."""
    mariadb.revive()
    mariadb.drop(NAME)
    mariadb.create(NAME)
    mariadb.execute("CREATE TABLE box (id INT PRIMARY KEY) ENGINE = InnoDB", NAME)
    mariadb.execute("INSERT INTO box VALUES (1), (2)", NAME)
    with MysqlRelay(mariadb.port) as relay:
        yield relay


@pytest.fixture
def database(relay: MysqlRelay, mariadb: MariaDB) -> Database:
    return Database(
        mariadb.url(NAME).replace(f":{mariadb.port}/", f":{relay.port}/"), "cell1", TIMEOUTS
    )


def ids(connection: Connection) -> list[int]:
    return list(connection.execute(text(READ)).scalars())


def said(relay: MysqlRelay, words: str) -> int:
    """How often something was said."""
    return sum(words in one.text for one in relay.said)


@pytest.mark.parametrize("cut", Cut)
def test_a_read_whose_line_is_lost_is_sent_again(
    relay: MysqlRelay, database: Database, cut: Cut
) -> None:
    with database.connect() as connection:
        relay.reset(0, cut)
        assert ids(connection) == [1, 2]
        assert said(relay, READ) == 2


@pytest.mark.parametrize("cut", Cut)
def test_a_line_that_is_lost_while_it_is_made_is_made_again(
    relay: MysqlRelay, database: Database, cut: Cut
) -> None:
    for _ in range(2):  # the first one of all asks for the server's version and more
        relay.reset()
        with database.connect():
            packets = len(relay.said)
    assert packets > 5
    for number in range(packets):
        relay.reset(number, cut)
        with database.connect() as connection:
            assert relay.has_cut
            assert ids(connection) == [1, 2]


@pytest.mark.parametrize("cut", Cut)
def test_a_new_line_has_the_session_of_the_old_one(
    relay: MysqlRelay, database: Database, cut: Cut
) -> None:
    with database.connect() as connection:
        before = connection.execute(text(SESSION)).one()
        assert before[:4] == ("READ-COMMITTED", 1, 1, 0)
        relay.reset(0, cut)
        assert connection.execute(text(SESSION)).one() == before
        assert said(relay, "login") == 1


def test_a_line_that_was_lost_between_two_transactions_is_made_again(
    relay: MysqlRelay, database: Database, mariadb: MariaDB
) -> None:
    with database.connect() as connection:
        [[number]] = connection.execute(text("SELECT CONNECTION_ID()"))
        mariadb.execute(f"KILL {number}")
        connection.commit()
        connection.execute(text("INSERT INTO box VALUES (3)"))
        connection.commit()
        assert ids(connection) == [1, 2, 3]


def insert(connection: Connection) -> None:
    connection.execute(text("INSERT INTO box VALUES (3)"))


def lock(connection: Connection) -> None:
    connection.execute(text(READ + " FOR UPDATE"))


CHANGES: Final = {"a change": insert, "a lock": lock}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("cut", Cut)
def test_a_read_behind_a_change_is_not_repeated_alone(
    relay: MysqlRelay, database: Database, cut: Cut, change: Callable[[Connection], None]
) -> None:
    """The change is lost with the line: a read of the new one would not see it."""
    with database.connect() as connection:
        change(connection)
        relay.reset(0, cut)
        with pytest.raises(DBAPIError) as lost:
            ids(connection)
        assert lost.value.connection_invalidated
        assert said(relay, READ) == 1
        connection.rollback()
        assert ids(connection) == [1, 2]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("cut", Cut)
def test_a_change_is_not_repeated_by_the_connection(
    relay: MysqlRelay, database: Database, cut: Cut, change: Callable[[Connection], None]
) -> None:
    with database.connect() as connection:
        assert ids(connection) == [1, 2]
        relay.reset(0, cut)
        with pytest.raises(DBAPIError):
            change(connection)
        assert said(relay, "box") == 1


@pytest.mark.parametrize("cut", Cut)
def test_a_commit_of_a_change_is_not_taken_for_done(
    relay: MysqlRelay, database: Database, cut: Cut
) -> None:
    with database.connect() as connection:
        insert(connection)
        relay.reset(0, cut)
        with pytest.raises(DBAPIError):
            connection.commit()
        connection.rollback()
        assert ids(connection) == ([1, 2] if cut is Cut.BEFORE else [1, 2, 3])


@pytest.mark.parametrize("end", [Connection.commit, Connection.rollback])
@pytest.mark.parametrize("cut", Cut)
def test_the_end_of_a_transaction_that_only_read_needs_no_line(
    relay: MysqlRelay, database: Database, cut: Cut, end: Callable[[Connection], None]
) -> None:
    with database.connect() as connection:
        assert ids(connection) == [1, 2]
        relay.reset(0, cut)
        end(connection)
        assert ids(connection) == [1, 2]


@pytest.mark.parametrize("cut", Cut)
def test_a_change_is_rolled_back_with_its_line(
    relay: MysqlRelay, database: Database, cut: Cut
) -> None:
    with database.connect() as connection:
        insert(connection)
        relay.reset(0, cut)
        connection.rollback()
        assert ids(connection) == [1, 2]


@pytest.mark.parametrize("cut", Cut)
def test_a_transaction_is_done_once_wherever_it_is_cut(
    relay: MysqlRelay, database: Database, mariadb: MariaDB, cut: Cut
) -> None:
    def double(connection: Connection) -> int:
        numbers = ids(connection)
        connection.execute(text("DELETE FROM box"))
        connection.execute(
            text("INSERT INTO box VALUES " + ", ".join(f"({number})" for number in numbers))
        )
        return len(ids(connection))

    for _ in range(2):  # the first connection of all asks for the server's version and more
        relay.reset()
        assert one_transaction(database, double) == 2
    packets = len(relay.said)
    for number in range(packets):
        relay.reset(number, cut)
        assert one_transaction(database, double) == 2
        assert relay.has_cut
    assert mariadb.execute(READ, NAME) == [(1,), (2,)]


def test_a_read_that_takes_too_long_is_not_sent_again(
    relay: MysqlRelay, database: Database
) -> None:
    with database.with_timeouts(Timeouts(read=2)).connect() as connection:
        relay.reset()
        with pytest.raises(DBAPIError) as late:
            connection.execute(text("SELECT SLEEP(30)"))
        assert error_number(late.value) == 2013
        assert said(relay, "SLEEP") == 1


def test_a_read_waits_for_a_server_that_comes_back(mariadb: MariaDB, database: Database) -> None:
    with database.connect() as connection:
        assert ids(connection) == [1, 2]
        mariadb.kill()
        mariadb.start()
        assert ids(connection) == [1, 2]


def test_a_port_that_refuses_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Iterator[int]:
        yield 1
        raise AssertionError("it is tried again")

    monkeypatch.setattr(mysql, "attempts", none)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    refusing = Database(f"mysql://n:n@127.0.0.1:{port}/x", "cell1", TIMEOUTS)
    with pytest.raises(Unreachable, match="cannot connect: Connection refused"), refusing.connect():
        pass


def test_a_socket_that_stays_silent_is_told_in_time(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        silent = Database(
            f"mysql://n:n@/x?unix_socket={tmp_path}/s", "cell1", Timeouts(connect=0.2)
        )
        with pytest.raises(Unreachable, match=r"does not answer within 0\.2 s"), silent.connect():
            pass


@pytest.mark.parametrize(
    ("sql", "is_read"),
    [
        ("SELECT 1", True),
        ("\n  (SELECT 1) UNION (SELECT 2)", True),
        ("show tables", True),
        ("EXPLAIN SELECT 1", True),
        ("SET NAMES utf8mb4", True),
        ("SELECT a FROM b FOR UPDATE", False),
        ("select a from b for\nupdate", False),
        ("SELECT a FROM b LOCK IN SHARE MODE", False),
        ("SELECT a FROM b FOR SHARE", False),
        ("SELECT a INTO OUTFILE 'x' FROM b", False),
        ("SELECT @a := 1", False),
        ("SELECT GET_LOCK('x', 1)", False),
        ("SELECT RELEASE_ALL_LOCKS()", False),
        ("INSERT INTO a SELECT 1", False),
        ("WITH a AS (SELECT 1) DELETE FROM b", False),
        ("UPDATE a SET b = (SELECT 1)", False),
        ("SET SESSION max_statement_time = 1", False),
        ("ANALYZE SELECT 1", False),
        ("SELECT updated_at, block_device, locked_by FROM a", True),
        ("SELECTED", False),
        ("", False),
    ],
)
def test_what_is_a_read(sql: str, is_read: bool) -> None:
    assert mysql.is_plain_read(sql) is is_read
