"""Connections to one database: with limits on every wait, always to its writer, and no secret in any error."""

import socket
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from novadb import urls
from novadb.errors import MissingDatabase, Unreachable
from settings.databases import Timeouts

CANNOT_CONNECT: Final = 2003
UNKNOWN_DATABASE: Final = 1049
# Errors that go away by themselves: deadlock, lock wait, lost Galera certification, a node that is not
# ready, too many connections, a row changed under a snapshot, a look at a table that somebody is altering, a server
# that shuts down or went away.
TRANSIENT: Final = frozenset({1020, 1040, 1047, 1053, 1205, 1213, 1684, CANNOT_CONNECT, 2006, 2013, 2014, 2055, 4031})
# The server's words for a change that somebody else has just made: there is such a table, column or index already, or
# no more.
MADE: Final = frozenset({1050, 1051, 1060, 1061, 1091})
# A network that swallows packets is noticed after 20 seconds, whether we wait for an answer or still send.
SILENCE: Final = {"TCP_KEEPIDLE": 8, "TCP_KEEPINTVL": 4, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}
CLIENT_SSL: Final = 0x0800
# Engines that are kept: more than cells at work at once. One holds all the statements that it has compiled.
ENGINES: Final = 8
GREETING: Final = 1024  # bytes, more than any server's
# Of what a server may give each session by default, it undoes what would refuse a statement without a WHERE or with a
# large join, return only the first rows, or leave foreign keys unchecked.
SESSION: Final = (
    "SET SESSION innodb_lock_wait_timeout = {lock_wait}, lock_wait_timeout = {lock_wait}, "
    "group_concat_max_len = 1048576, sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO', "
    "sql_safe_updates = 0, sql_big_selects = 1, sql_select_limit = 18446744073709551615, foreign_key_checks = 1"
)


class Database:
    """One database of the cloud. Neither its representation nor an error of its shows the URL.

    :ivar name: what the database is called in messages: ``cell1``, ``the API database``
    :ivar url: where it is; secret
    """

    def __init__(self, url: str, name: str, timeouts: Timeouts) -> None:
        """:raises DatabaseProblem: the text is no database URL"""
        self.name = name
        self.url: URL = urls.parse(url, name)
        self.timeouts = timeouts

    def __repr__(self) -> str:
        return f"<Database {self.name} at {urls.place(self.url)}>"

    def with_timeouts(self, timeouts: Timeouts) -> "Database":
        """The same database, with other limits on its connections."""
        return Database(self.url.render_as_string(hide_password=False), self.name, timeouts)

    @property
    def server(self) -> str:
        """What shares one set of disks and locks: the cap on parallel work counts by it."""
        return urls.server(self.url)

    @property
    def fingerprint(self) -> str:
        """The same for every URL of this database."""
        return urls.fingerprint(self.url)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open one connection, outside any transaction, and close it at the end.

        :raises MissingDatabase: the server does not know the database
        :raises Unreachable: the server refuses, does not answer in time, or its URL names another driver
        """
        if problem := urls.unsupported_driver(self.url):
            raise Unreachable(f"{self}: {problem}")
        try:
            connection = _engine_of(self).connect()
        except DBAPIError as error:
            kind = MissingDatabase if number_of(error) == UNKNOWN_DATABASE else Unreachable
            raise kind(f"{self}: {reason(error)}") from error
        except AttributeError as error:  # all that the driver says of a character set that it does not know
            raise Unreachable(f"{self}: its URL cannot be used: unknown charset") from error
        except (
            SQLAlchemyError,
            OSError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:  # an unknown driver, option, file
            raise Unreachable(f"{self}: its URL cannot be used: {error}") from error
        with connection:
            yield connection

    def __str__(self) -> str:
        return f"{self.name} ({urls.place(self.url)})"


@lru_cache(maxsize=ENGINES)
def _engine_of(database: Database) -> Engine:
    if database.url.get_backend_name() == "sqlite":
        return _sqlite_engine(database)
    return _mysql_engine(database)


def _mysql_engine(database: Database) -> Engine:
    limits = database.timeouts
    engine = sqlalchemy.create_engine(
        database.url,
        poolclass=NullPool,
        pool_reset_on_return=None,  # closing rolls back as well; resetting a lost connection logs a traceback
        isolation_level="READ COMMITTED",
        connect_args={
            "read_timeout": limits.read,
            "write_timeout": limits.read,
            "init_command": SESSION.format(lock_wait=limits.lock_wait),
        },
    )

    @event.listens_for(engine, "do_connect")
    def open_with_own_socket(dialect: Dialect, _record: Any, _args: list[Any], options: dict[str, Any]) -> Any:
        if options.get("unix_socket"):
            return None
        host, port = options.get("host") or "localhost", options.get("port") or 3306
        driver: Any = dialect.loaded_dbapi
        try:
            greeted = greeted_socket(host, port, limits.connect)
        except OSError as error:
            raise driver.OperationalError(CANNOT_CONNECT, f"cannot connect: {error.strerror or error}") from error
        if "ssl" not in options:
            options |= tls_options(greeted.recv(GREETING, socket.MSG_PEEK))
        link = driver.connect(**options, defer_connect=True)
        link.connect(greeted)
        return link

    return engine


def greeted_socket(host: str, port: int, timeout: float) -> socket.socket:
    """Connect to a MySQL server and wait for the first byte of its greeting, without taking it.

    A server that is stopped, or a port that accepts and stays silent, is found here, so that the limit on
    statements can be long. The driver's own limits do not tell the two apart.

    :param timeout: seconds, for the connection and again for the greeting
    :raises OSError: refused, unknown host, or no greeting in time
    """
    link = socket.create_connection((host, port), timeout)
    try:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in SILENCE.items():
            if hasattr(socket, option):
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        try:
            link.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            raise TimeoutError(f"it accepts connections but does not answer within {timeout:g} s") from None
        link.settimeout(None)
    except BaseException:
        link.close()
        raise
    return link


def tls_options(greeting: bytes) -> dict[str, Any]:
    """How to connect where the URL says nothing of TLS: encrypted if the server offers it, without verification.

    This is what the driver does by itself; but it reads the machine's certificates for it, at each connection anew.

    :param greeting: the first packet of the server
    :source: MySQL's protocol, HandshakeV10: version, thread id (4), scramble (8), filler (1), capabilities (2)
    """
    capabilities = greeting[greeting.find(0, 5) + 14 :][:2]
    if int.from_bytes(capabilities, "little") & CLIENT_SSL:
        return {"ssl": _unverified_tls()}
    return {"ssl_disabled": True}


@cache
def _unverified_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _sqlite_engine(database: Database) -> Engine:
    """SQLite takes its write lock at the start of each transaction: its way of claiming rows."""
    path = database.url.database
    engine = sqlalchemy.create_engine(
        database.url, poolclass=NullPool, connect_args={"timeout": float(database.timeouts.lock_wait)}
    )

    @event.listens_for(engine, "do_connect")
    def refuse_to_create(*_: Any) -> None:
        if path and not Path(path).is_file():
            raise sqlite3.OperationalError("there is no such file")

    @event.listens_for(engine, "connect")
    def configure(link: Any, _record: Any) -> None:
        link.isolation_level = None
        link.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def claim(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def reason(error: DBAPIError) -> str:
    """What the server said, without the statement and its values."""
    if is_locked_file(error):
        return "another process has locked the file"
    words = getattr(error.orig, "args", ()) or (str(error.orig),)
    number = f" (error {words[0]})" if isinstance(words[0], int) and len(words) > 1 else ""
    return f"{words[-1]}{number}".replace("\n", " ")


def number_of(error: DBAPIError) -> int | None:
    """The server's number of an error; None where it has none, as of SQLite's."""
    words = getattr(error.orig, "args", ())
    return words[0] if words and isinstance(words[0], int) else None


def is_transient(error: DBAPIError) -> bool:
    """Whether the same work may well succeed a moment later."""
    if error.connection_invalidated:
        return True
    return number_of(error) in TRANSIENT or is_locked_file(error)


def is_locked_file(error: DBAPIError) -> bool:
    """Whether SQLite has waited in vain for another process to unlock the file."""
    extended_code: int = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return extended_code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
