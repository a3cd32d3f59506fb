"""Connections to MySQL and MariaDB by PyMySQL, with a limit on every wait.

Options, the file of ``read_default_file`` and TLS are left to the driver, so a server is verified
as by any other program with the same URL. Only sockets are opened here, and lost connections
reopened.
"""

import configparser
import difflib
import inspect
import logging
import os
import re
import socket
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

from pymysql.connections import DEFAULT_CHARSET, Connection
from pymysql.err import MySQLError, OperationalError

from novadb.attempts import QUORUM_PAUSE, attempts
from novadb.error_numbers import CANNOT_CONNECT, LOST, TLS_FAILED, TRANSIENT, WITHOUT_QUORUM
from novadb.urls import Location

LOG = logging.getLogger("cellkeeper.database")

# Makes a network that drops packets known after 20 seconds, whether an answer is awaited or data is
# still being sent.
KEEPALIVE: Final = {
    "TCP_KEEPIDLE": 8,
    "TCP_KEEPINTVL": 4,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 20_000,
}
# Statements that change and hold nothing, so that they can be sent any number of times. Texts with
# one of the words below are excluded. SET NAMES is SQLAlchemy's; each session has those names
# already.
_READ: Final = re.compile(r"[\s(]*(?:SELECT|SHOW|DESCRIBE|EXPLAIN|SET\s+NAMES)\b", re.IGNORECASE)
# One pattern each, for capital letters: ten times as fast on lists of thousands of values.
_MORE_THAN_A_READ: Final = tuple(
    map(re.compile, (r"UPDATE\b", r"SHARE\b", r"LOCKS?\b", r"INTO\b", ":="))
)
_OFF: Final = frozenset({"0", "false", "no", "none", "off"})
_KNOWN_OPTIONS: Final = frozenset(inspect.signature(Connection.__init__).parameters) - {"self"}
# What PyMySQL raises for options it does not take.
_OPTION_ERRORS: Final = (
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    configparser.Error,
)


class Unanswered(OperationalError):
    """Nothing listens there, or no greeting came in time."""


class UnusableOption(Exception):
    """An option of the URL, or of the file it names, cannot be used. The text repeats no value."""


class MySQLConnection(Connection):
    """One connection, which reconnects and repeats what was lost if that was nothing but reads.

    All sessions are set up alike, and a read sees what is committed when it arrives, so it does not
    matter on which session it is sent. Transactions that write or lock are repeated by the code
    that knows the whole of them.
    """

    def __init__(
        self, options: Mapping[str, Any], session_setup: Sequence[str], timeout: float
    ) -> None:
        """Nothing is connected yet.

        :param options: as PyMySQL takes them
        :param session_setup: statements for the begin of each session
        :param timeout: seconds, for the connection and again for the server's greeting
        :raises UnusableOption: one of the options
        """
        self._session_setup = session_setup
        self._timeout = timeout
        self._only_read = True  # whether the current transaction has done nothing else
        checked_options = _check_options(options)
        try:
            super().__init__(**checked_options, defer_connect=True)
        except _OPTION_ERRORS as error:
            raise UnusableOption(_option_problem(error)) from None
        self.connect_timeout = timeout

    def establish(self) -> None:
        """Connect, and set the session up. Retried if the connection is lost or the server is full.

        :raises Unanswered: no server is there
        :raises MySQLError: the server refuses, or the connection was lost each time
        """
        for _ in attempts():
            try:
                self._establish()
            except Unanswered:
                raise
            except MySQLError as error:
                if _error_number(error) not in TRANSIENT:
                    raise
                problem = error
            else:
                return
        raise problem

    def query(self, sql: str | bytes, unbuffered: bool = False) -> int:
        """Send a statement. A read is repeated if that helps and only reads came before it."""
        is_read = is_plain_read(sql if isinstance(sql, str) else sql.decode(errors="replace"))
        nothing_to_lose = self._only_read
        for _ in attempts():
            is_sent = False
            try:
                if nothing_to_lose and not self.open:
                    self._establish()
                self._only_read = nothing_to_lose and is_read
                is_sent = True
                return super().query(sql, unbuffered)
            except MySQLError as error:
                may_be_repeated = nothing_to_lose and (is_read or not is_sent)
                is_lost = is_sent and not self.open
                may_succeed = is_lost or _error_number(error) in TRANSIENT
                if not may_be_repeated or not may_succeed or _has_timed_out(error):
                    raise
                problem = error
            LOG.info("a read is repeated after error %s", _error_number(problem))
            if _error_number(problem) in WITHOUT_QUORUM:
                with suppress(MySQLError):
                    self.close()  # a proxy may know a node that has a quorum
                time.sleep(QUORUM_PAUSE)
        raise problem

    def commit(self) -> None:
        """End a transaction. If it has only read, a lost connection does not matter."""
        try:
            super().commit()
        except MySQLError:
            if self.open or not self._only_read:
                raise
        self._only_read = True

    def rollback(self) -> None:
        """End a transaction. A lost connection is not an error: the server rolls back by itself."""
        try:
            super().rollback()
        except MySQLError:
            if self.open:
                raise
        self._only_read = True

    def _establish(self) -> None:
        # connect() may send a statement of the URL's own, which must not be repeated.
        self._only_read = False
        try:
            greeted = self._greeted_socket()
            # Through a Unix socket a password may be sent unencrypted. Must be set each time: TLS
            # of an earlier connection says nothing about this one.
            self._secure = bool(self.unix_socket)
            self.connect(greeted)
            for statement in self._session_setup:
                super().query(statement)
        except OperationalError as error:
            raise _error_of_connecting(error) from error
        finally:
            self._only_read = True

    def _greeted_socket(self) -> socket.socket:
        address = str(self.unix_socket) if self.unix_socket else (self.host, self.port)
        try:
            return greeted_socket(address, self.bind_address, self._timeout)
        except OSError as error:
            raise _error_of_socket(error) from error

    def _create_ssl_ctx(self, options: Any) -> ssl.SSLContext:
        """PyMySQL's TLS context; without verification, the machine's certificates are not read.

        :param options: empty: TLS if the server offers it, without verification
        :raises UnusableOption: one of the options
        """
        if not options:
            return _unverified_tls()
        if not isinstance(options, dict):
            raise UnusableOption("ssl is not an option of a URL: use ssl_ca, ssl_cert, ssl_key")
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            options = {"password": "", **options}
            context: ssl.SSLContext = super()._create_ssl_ctx(options)  # type: ignore[misc]
        except (OSError, ValueError) as error:
            raise UnusableOption(_tls_problem(options, error)) from None
        return context


def find_location(options: Mapping[str, Any]) -> Location:
    """Where PyMySQL would connect to with these options, and with the file that they name.

    :raises UnusableOption: one of the options
    """
    without_tls = _check_options(options) | {"ssl_disabled": True}  # to read no certificates
    try:
        connection = Connection(**without_tls, defer_connect=True)
    except _OPTION_ERRORS as error:
        raise UnusableOption(_option_problem(error)) from None
    name = connection.db.decode() if isinstance(connection.db, bytes) else connection.db
    unix_socket = str(connection.unix_socket) if connection.unix_socket else None
    return Location(connection.host, connection.port, name or "", unix_socket)


def _check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as PyMySQL takes them, after a warning of what it would silently ignore.

    :raises UnusableOption: PyMySQL does not know one of them
    """
    if unknown := options.keys() - _KNOWN_OPTIONS:
        raise UnusableOption(_unknown_options_problem(unknown))
    # A character set of the file would also apply to names and texts; oslo.db sets its own, too.
    checked_options = {"charset": DEFAULT_CHARSET, **options, "autocommit": False}
    # A text, and PyMySQL takes every text for true.
    if str(checked_options.get("ssl_disabled", True)).lower() in _OFF:
        del checked_options["ssl_disabled"]
    if file := checked_options.get("read_default_file"):
        _warn_if_unreadable(file)
    return checked_options


def _unknown_options_problem(names: Iterable[str]) -> str:
    similar_names: list[str] = []
    for name in names:
        similar_names += difflib.get_close_matches(name, _KNOWN_OPTIONS, 1)
    problem = "it has an option that PyMySQL does not know"
    if similar_names:
        problem += f"; is {' and '.join(sorted(similar_names))} meant?"
    return problem


@cache
def _warn_if_unreadable(file: str) -> None:
    """PyMySQL silently ignores a file that it cannot open, and with it what that says about TLS."""
    try:
        with open(os.path.expanduser(file)):
            pass
    except OSError as error:
        LOG.warning(
            "The file that read_default_file names in a database URL cannot be read (%s): its "
            "options, also those of TLS, are not used",
            error.strerror,
        )


def greeted_socket(
    address: str | tuple[str, int], bind_address: str | None, timeout: float
) -> socket.socket:
    """Connect to a MySQL server and wait for the first byte of its greeting, without taking it.

    This finds servers that are stopped, and ports that accept and stay silent, so that the limit on
    statements can be long. The driver has one limit for both.

    :param address: host and port, or the path of a Unix socket
    :param bind_address: of this host, to connect from
    :param timeout: seconds, for the connection and again for the greeting
    :raises OSError: refused, unknown host, or no greeting in time
    """
    if isinstance(address, str):
        link = _unix_socket(address, timeout)
    else:
        link = _tcp_socket(address, bind_address, timeout)
    try:
        link.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        link.close()
        raise TimeoutError(
            f"it accepts connections but does not answer within {timeout:g} s"
        ) from None
    except BaseException:
        link.close()
        raise
    link.settimeout(None)
    return link


def _unix_socket(path: str, timeout: float) -> socket.socket:
    link = socket.socket(socket.AF_UNIX)
    try:
        link.settimeout(timeout)
        link.connect(path)
    except BaseException:
        link.close()
        raise
    return link


def _tcp_socket(
    address: tuple[str, int], bind_address: str | None, timeout: float
) -> socket.socket:
    source = (bind_address, 0) if bind_address else None
    link = socket.create_connection(address, timeout, source_address=source)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option, value in KEEPALIVE.items():
        if hasattr(socket, option):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return link


@cache
def _unverified_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def is_plain_read(sql: str) -> bool:
    """Whether a statement only reads: it neither locks rows nor changes the session."""
    if _READ.match(sql) is None:
        return False
    capitals = sql.upper()
    return not any(word.search(capitals) for word in _MORE_THAN_A_READ)


def _error_number(error: MySQLError) -> int | None:
    number = error.args[0] if error.args else None
    return number if isinstance(number, int) else None


def _has_timed_out(error: MySQLError) -> bool:
    """Whether a time limit of ours ended it.

    A connection that the kernel gives up is a TimeoutError as well, but has an error number.
    """
    cause = error.__cause__ or error.__context__
    if not isinstance(cause, TimeoutError):
        return False
    return cause.errno is None or isinstance(error, Unanswered)


def _error_of_connecting(error: OperationalError) -> OperationalError:
    """What went wrong with the socket, for which PyMySQL has a single number."""
    cause = getattr(error, "original_exception", None)
    return _error_of_socket(cause) if isinstance(cause, OSError) else error


def _error_of_socket(error: OSError) -> OperationalError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return OperationalError(
            TLS_FAILED, f"its certificate is not accepted: {error.verify_message}"
        )
    if isinstance(
        error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, BrokenPipeError)
    ):
        return OperationalError(LOST, "the connection was lost while it was being made")
    if isinstance(error, ssl.SSLError):
        return OperationalError(TLS_FAILED, f"no TLS with it: {error.reason or error}")
    return Unanswered(CANNOT_CONNECT, f"cannot connect: {error.strerror or error}")


def _option_problem(error: Exception) -> str:
    """What is wrong with an option, without its value."""
    if isinstance(error, configparser.Error | UnicodeDecodeError):
        return "the file that read_default_file names is not an option file as MySQL has them"
    if isinstance(error, AttributeError):
        # PyMySQL looks the character set up, and fails at the result.
        return "unknown charset"
    if isinstance(error, NotImplementedError):
        return "compress and named_pipe are not supported"
    return "one of its options has a value that PyMySQL does not take"


def _tls_problem(options: Mapping[str, Any], error: Exception) -> str:
    """What is wrong with the options of TLS: a file, if one cannot be read."""
    for name in ("ca", "cert", "key"):
        if file := options.get(name):
            try:
                with open(file, "rb"):
                    pass
            except OSError as unreadable:
                return f"the file of ssl_{name} cannot be read: {unreadable.strerror}"
    reason = getattr(error, "reason", None) or error
    return f"its options of TLS cannot be used: {reason}"
