"""Connections to one database: every wait has a limit, and no error holds a secret."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from novadb import urls
from novadb.error_numbers import (
    CONTENDED,
    TOO_LARGE,
    TRANSIENT,
    UNKNOWN_DATABASE,
    WITHOUT_QUORUM,
    WRITE_SET_TOO_LARGE,
)
from novadb.errors import MissingDatabase, Unreachable
from novadb.lazy import lazy_property
from novadb.urls import Location
from settings.databases import Timeouts

# How many engines are kept: more than cells at work at once, as each holds its compiled statements.
MAX_ENGINES: Final = 8
# Undoes server defaults that would refuse a statement without WHERE or with a large join, return
# only the first rows, or leave foreign keys unchecked.
SESSION_SETUP: Final = (
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION innodb_lock_wait_timeout = {lock_wait}, lock_wait_timeout = {lock_wait}, "
    "group_concat_max_len = 1048576, sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO', "
    "sql_safe_updates = 0, sql_big_selects = 1, sql_select_limit = 18446744073709551615, "
    "foreign_key_checks = 1",
)
# Options of a URL that lead elsewhere than its host, port and database.
REDIRECTING_OPTIONS: Final = frozenset(
    {"read_default_file", "read_default_group", "host", "port", "database", "db", "unix_socket"}
)


class Database:
    """One database of the cloud. Neither its representation nor its errors show the URL.

    :ivar name: what the database is called in messages: ``cell1``, ``the API database``
    :ivar url: where it is; secret
    """

    def __init__(self, url: str, name: str, timeouts: Timeouts, parameters: str = "") -> None:
        """
        :param parameters: appended to the query of the URL: oslo.db's ``connection_parameters``
        :raises DatabaseProblem: the text is not a database URL
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
        url = self.url.set(host=host, port=port)
        url = url.difference_update_query(["host", "port", "unix_socket"])
        return Database(url.render_as_string(hide_password=False), name, self.timeouts)

    @lazy_property
    def location(self) -> Location:
        """Where the database is, by its URL and by the file of options that the URL names."""
        by_url = urls.location_of_url(self.url)
        is_redirected = not REDIRECTING_OPTIONS.isdisjoint(self.url.query)
        if urls.unsupported_driver(self.url) or by_url.port is None or not is_redirected:
            return by_url
        from novadb import mysql

        try:
            _, options = self.url.get_dialect()().create_connect_args(self.url)
            return mysql.find_location(options)
        except (mysql.UnusableOption, TypeError, ValueError):
            # Not an error yet: connecting will report it.
            return by_url

    @property
    def server(self) -> str:
        """The database server, by which parallel work is limited: databases share its disks."""
        return self.location.server

    @property
    def fingerprint(self) -> str:
        """A short name that all URLs of this database share."""
        return self.location.fingerprint

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open one connection, outside any transaction, and close it at the end.

        :raises MissingDatabase: the server does not know the database
        :raises Unreachable: the server refuses or does not answer in time, or the URL names another
            driver
        """
        if problem := urls.unsupported_driver(self.url):
            raise Unreachable(f"{self}: {problem}")
        if self.location.port is not None and not self.location.database:
            raise Unreachable(f"{self}: its URL names no database: it ends in /NAME")
        try:
            connection = _engine_of(self).connect()
        except DBAPIError as error:
            is_missing = error_number(error) == UNKNOWN_DATABASE
            kind = MissingDatabase if is_missing else Unreachable
            raise kind(f"{self}: {server_message(error)}") from error
        except (OSError, TypeError, ValueError):
            # Some options are looked at only when the connection is made.
            raise Unreachable(
                f"{self}: its URL cannot be used: an option has a value of the wrong kind"
            ) from None
        with connection:
            yield connection

    def __str__(self) -> str:
        return f"{self.name} ({self.location})"


@lru_cache(maxsize=MAX_ENGINES)
def _engine_of(database: Database) -> Engine:
    if database.url.get_backend_name() == "sqlite":
        return _sqlite_engine(database)
    return _mysql_engine(database)


def _mysql_engine(database: Database) -> Engine:
    from novadb.mysql import MySQLConnection, UnusableOption

    limits = database.timeouts
    session_setup = [statement.format(lock_wait=limits.lock_wait) for statement in SESSION_SETUP]
    engine = _create_engine(
        database,
        # Closing rolls back as well, and resetting a lost connection logs a traceback.
        pool_reset_on_return=None,
        connect_args={"read_timeout": limits.read, "write_timeout": limits.read},
    )

    @event.listens_for(engine, "do_connect")
    def establish_connection(
        _dialect: Any, _record: Any, _args: Any, options: dict[str, Any]
    ) -> MySQLConnection:
        try:
            connection = MySQLConnection(options, session_setup, limits.connect)
        except UnusableOption as error:
            raise Unreachable(f"{database}: its URL cannot be used: {error}") from error
        try:
            connection.establish()
        except RuntimeError as error:
            # PyMySQL lacks a package for the way in which the server takes passwords.
            raise Unreachable(f"{database}: {error}; with TLS it is not needed") from error
        return connection

    return engine


def _create_engine(database: Database, **options: Any) -> Engine:
    try:
        return sqlalchemy.create_engine(database.url, poolclass=NullPool, **options)
    except (SQLAlchemyError, TypeError, ValueError):
        raise Unreachable(
            f"{database}: its URL cannot be used: its driver is unknown, or an option has a value "
            "of the wrong kind"
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
    arguments = getattr(error.orig, "args", ()) or (str(error.orig),)
    message = str(arguments[-1])
    if isinstance(arguments[0], int) and len(arguments) > 1:
        message += f" (error {arguments[0]})"
    return message.replace("\n", " ")


def error_number(error: DBAPIError) -> int | None:
    """The server's number of an error; None: it has none, as with SQLite."""
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def is_mariadb(connection: Connection) -> bool:
    """Whether the server is MariaDB, and neither MySQL nor SQLite."""
    return bool(getattr(connection.dialect, "is_mariadb", False))


def is_transient(error: DBAPIError) -> bool:
    """Whether the same work may well succeed a moment later."""
    if error.connection_invalidated:
        return True
    return (error_number(error) in TRANSIENT and not is_too_large(error)) or is_locked_file(error)


def is_without_quorum(error: DBAPIError) -> bool:
    """Whether a Galera node refuses all statements until it has found the others again."""
    return error_number(error) in WITHOUT_QUORUM and not is_too_large(error)


def is_too_large(error: DBAPIError) -> bool:
    """Whether the transaction is too large for the server."""
    number = error_number(error)
    if number in TOO_LARGE:
        return True
    return number in WRITE_SET_TOO_LARGE and WRITE_SET_TOO_LARGE[number] in server_message(error)


def is_contended(error: DBAPIError) -> bool:
    """Whether others use the same rows: a smaller transaction meets fewer of them."""
    return error_number(error) in CONTENDED


def is_locked_file(error: DBAPIError) -> bool:
    """Whether SQLite has waited in vain for another process to unlock the file."""
    extended_code: int = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return extended_code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
