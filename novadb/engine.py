"""Connections to one database: with limits on every wait, always to its writer, and no secret in any error."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from novadb import urls
from novadb.error_numbers import CONTENDED, TOO_LARGE, TRANSIENT, UNKNOWN_DATABASE, WITHOUT_QUORUM, WRITE_SET_TOO_LARGE
from novadb.errors import MissingDatabase, Unreachable
from novadb.urls import Location
from settings.databases import Timeouts

# Engines that are kept: more than cells at work at once. One holds all the statements that it has compiled.
ENGINES: Final = 8
# What each session is set up with. Of what a server may give by default, it undoes what would refuse a statement
# without a WHERE or with a large join, return only the first rows, or leave foreign keys unchecked.
SESSION: Final = (
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION innodb_lock_wait_timeout = {lock_wait}, lock_wait_timeout = {lock_wait}, "
    "group_concat_max_len = 1048576, sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO', "
    "sql_safe_updates = 0, sql_big_selects = 1, sql_select_limit = 18446744073709551615, foreign_key_checks = 1",
)
# Options of a URL that lead elsewhere than its host, port and database.
REDIRECTING: Final = frozenset(
    {"read_default_file", "read_default_group", "host", "port", "database", "db", "unix_socket"}
)


class Database:
    """One database of the cloud. Neither its representation nor an error of its shows the URL.

    :ivar name: what the database is called in messages: ``cell1``, ``the API database``
    :ivar url: where it is; secret
    """

    def __init__(self, url: str, name: str, timeouts: Timeouts, parameters: str = "") -> None:
        """
        :param parameters: what is put behind the query of the URL: oslo.db's ``connection_parameters``
        :raises DatabaseProblem: the text is no database URL
        """
        self.name = name
        self.url: URL = urls.parse_database_url(url, name)
        if parameters:
            self.url = self.url.update_query_string(parameters, append=True)
        self.timeouts = timeouts

    def __repr__(self) -> str:
        return f"<Database {self.name} at {self.location}>"

    def with_timeouts(self, timeouts: Timeouts) -> "Database":
        """The same database, with other limits on its connections."""
        return Database(self.url.render_as_string(hide_password=False), self.name, timeouts)

    def at_host(self, host: str, port: int, name: str) -> "Database":
        """The database of the same name, user and password on another server.

        :param name: what it is called in messages
        """
        elsewhere = self.url.set(host=host, port=port).difference_update_query(["host", "port", "unix_socket"])
        return Database(elsewhere.render_as_string(hide_password=False), name, self.timeouts)

    @cached_property
    def location(self) -> Location:
        """Where it is; by the URL, and by the file of options that the URL names."""
        by_url = urls.location_of_url(self.url)
        if urls.unsupported_driver(self.url) or by_url.port is None or REDIRECTING.isdisjoint(self.url.query):
            return by_url
        from novadb import mysql

        try:
            _, options = self.url.get_dialect()().create_connect_args(self.url)
            return mysql.find_location(options)
        except (mysql.UnusableOption, TypeError, ValueError):  # whoever connects is told
            return by_url

    @property
    def server(self) -> str:
        """What shares one set of disks and locks: the cap on parallel work counts by it."""
        return self.location.server

    @property
    def fingerprint(self) -> str:
        """The same for every URL of this database."""
        return self.location.fingerprint

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open one connection, outside any transaction, and close it at the end.

        :raises MissingDatabase: the server does not know the database
        :raises Unreachable: the server refuses, does not answer in time, or its URL names another driver
        """
        if problem := urls.unsupported_driver(self.url):
            raise Unreachable(f"{self}: {problem}")
        if self.location.port is not None and not self.location.database:
            raise Unreachable(f"{self}: its URL names no database: it ends in /NAME")
        try:
            connection = _engine_of(self).connect()
        except DBAPIError as error:
            kind = MissingDatabase if error_number(error) == UNKNOWN_DATABASE else Unreachable
            raise kind(f"{self}: {server_message(error)}") from error
        except (OSError, TypeError, ValueError):  # of a driver that looks at its options late
            raise Unreachable(f"{self}: its URL cannot be used: an option has a value of the wrong kind") from None
        with connection:
            yield connection

    def __str__(self) -> str:
        return f"{self.name} ({self.location})"


@lru_cache(maxsize=ENGINES)
def _engine_of(database: Database) -> Engine:
    if database.url.get_backend_name() == "sqlite":
        return _sqlite_engine(database)
    return _mysql_engine(database)


def _mysql_engine(database: Database) -> Engine:
    from novadb.mysql import MySQLConnection, UnusableOption

    limits = database.timeouts
    session = [statement.format(lock_wait=limits.lock_wait) for statement in SESSION]
    engine = _create_engine(
        database,
        pool_reset_on_return=None,  # closing rolls back as well; resetting a lost connection logs a traceback
        connect_args={"read_timeout": limits.read, "write_timeout": limits.read},
    )

    @event.listens_for(engine, "do_connect")
    def establish_link(_dialect: Any, _record: Any, _args: Any, options: dict[str, Any]) -> MySQLConnection:
        try:
            link = MySQLConnection(options, session, limits.connect)
        except UnusableOption as error:
            raise Unreachable(f"{database}: its URL cannot be used: {error}") from error
        try:
            link.establish()
        except RuntimeError as error:  # PyMySQL lacks a package for the way in which the server takes passwords
            raise Unreachable(f"{database}: {error}; with TLS it is not needed") from error
        return link

    return engine


def _create_engine(database: Database, **options: Any) -> Engine:
    try:
        return sqlalchemy.create_engine(database.url, poolclass=NullPool, **options)
    except (SQLAlchemyError, TypeError, ValueError):
        raise Unreachable(
            f"{database}: its URL cannot be used: its driver is unknown, or an option has a value of the wrong kind"
        ) from None


def _sqlite_engine(database: Database) -> Engine:
    """SQLite takes its write lock at the start of each transaction: its way of claiming rows."""
    path = database.url.database
    engine = _create_engine(database, connect_args={"timeout": float(database.timeouts.lock_wait)})

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


def server_message(error: DBAPIError) -> str:
    """What the server said, without the statement and its values."""
    if is_locked_file(error):
        return "another process has locked the file"
    words = getattr(error.orig, "args", ()) or (str(error.orig),)
    number = f" (error {words[0]})" if isinstance(words[0], int) and len(words) > 1 else ""
    return f"{words[-1]}{number}".replace("\n", " ")


def error_number(error: DBAPIError) -> int | None:
    """The server's number of an error; None where it has none, as of SQLite's."""
    words = getattr(error.orig, "args", ())
    return words[0] if words and isinstance(words[0], int) else None


def is_mariadb(connection: Connection) -> bool:
    """Whether the server is a MariaDB; not so of MySQL and SQLite."""
    return bool(getattr(connection.dialect, "is_mariadb", False))


def is_transient(error: DBAPIError) -> bool:
    """Whether the same work may well succeed a moment later."""
    if error.connection_invalidated:
        return True
    return (error_number(error) in TRANSIENT and not is_too_large(error)) or is_locked_file(error)


def is_without_quorum(error: DBAPIError) -> bool:
    """Whether a node of Galera does nothing until it has found the others again."""
    return error_number(error) in WITHOUT_QUORUM and not is_too_large(error)


def is_too_large(error: DBAPIError) -> bool:
    """Whether the server takes no transaction as large as this one."""
    number = error_number(error)
    return number in TOO_LARGE or (
        number in WRITE_SET_TOO_LARGE and WRITE_SET_TOO_LARGE[number] in server_message(error)
    )


def is_contended(error: DBAPIError) -> bool:
    """Whether others are at the same rows: a smaller transaction meets fewer of them."""
    return error_number(error) in CONTENDED


def is_locked_file(error: DBAPIError) -> bool:
    """Whether SQLite has waited in vain for another process to unlock the file."""
    extended_code: int = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return extended_code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
