"""Connections to MySQL and MariaDB by PyMySQL, with a limit on every wait.

Options, the file of ``read_default_file`` and TLS are left to the driver: a server is verified as by any other program
with the same URL. Only sockets are opened here, and what was lost is opened anew.
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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

from pymysql.connections import DEFAULT_CHARSET, Connection
from pymysql.err import MySQLError, OperationalError

from novadb.attempts import QUORUM_PAUSE, attempts
from novadb.error_numbers import CANNOT_CONNECT, LOST, TLS_FAILED, TRANSIENT, WITHOUT_QUORUM
from novadb.urls import Location

LOG = logging.getLogger("cellkeeper.database")

# A network that swallows packets is noticed after 20 seconds, whether we wait for an answer or still send.
SILENCE: Final = {"TCP_KEEPIDLE": 8, "TCP_KEEPINTVL": 4, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}
# Statements that change nothing and hold nothing, so that it does not matter how often they are sent. A text that has
# one of the other words anywhere is not taken for one. SQLAlchemy sets the names that each session has already.
_READ: Final = re.compile(r"[\s(]*(?:SELECT|SHOW|DESCRIBE|EXPLAIN|SET\s+NAMES)\b", re.IGNORECASE)
# Searched for one by one, and in capital letters: a list of thousands of values is looked through ten times as fast.
_MORE_THAN_A_READ: Final = tuple(map(re.compile, (r"UPDATE\b", r"SHARE\b", r"LOCKS?\b", r"INTO\b", ":=")))
_OFF: Final = frozenset({"0", "false", "no", "none", "off"})
_KNOWN_OPTIONS: Final = frozenset(inspect.signature(Connection.__init__).parameters) - {"self"}
_REFUSALS: Final = (AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError, configparser.Error)


class Unanswered(OperationalError):
    """Nobody listens there, or whoever listens does not greet in time."""


class UnusableOption(Exception):
    """An option of the URL, or of the file that it names, cannot be used. The text repeats no value."""


class MySQLConnection(Connection):
    """One connection. Where the line is lost, and nothing but reads is lost with it, they are sent again on a new one.

    All sessions are set up alike, and each read sees what is committed when it comes: it is the same on which line it
    is sent. What writes or locks is done again by whoever knows the whole transaction.
    """

    def __init__(self, options: Mapping[str, Any], session: Sequence[str], timeout: float) -> None:
        """Nothing is connected yet.

        :param options: as PyMySQL takes them
        :param session: statements that set a session up
        :param timeout: seconds, for the connection and again for the server's greeting
        :raises UnusableOption: one of the options
        """
        self._session = session
        self._timeout = timeout
        self._only_read = True  # whether the current transaction has done nothing else
        usable = _usable(options)
        try:
            super().__init__(**usable, defer_connect=True)
        except _REFUSALS as error:
            raise UnusableOption(_words(error)) from None
        self.connect_timeout = timeout

    def establish(self) -> None:
        """Connect, and set the session up. A line that is lost at that is tried again, as is a server that is full.

        :raises Unanswered: nobody is there
        :raises MySQLError: the server refuses, or the line was lost each time
        """
        for _ in attempts():
            try:
                self._establish()
            except Unanswered:
                raise
            except MySQLError as error:
                if _number(error) not in TRANSIENT:
                    raise
                problem = error
            else:
                return
        raise problem

    def query(self, sql: str | bytes, unbuffered: bool = False) -> int:
        """Send a statement; a read again where that helps, and nothing but reads went before it."""
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
                is_lost = is_sent and not self.open
                may_be_repeated = nothing_to_lose and (is_read or not is_sent)
                if not may_be_repeated or _timed_out(error) or not (is_lost or _number(error) in TRANSIENT):
                    raise
                problem = error
            LOG.info("a read is repeated after error %s", _number(problem))
            if _number(problem) in WITHOUT_QUORUM:
                with suppress(MySQLError):
                    self.close()  # a proxy may know a node that has a quorum
                time.sleep(QUORUM_PAUSE)
        raise problem

    def commit(self) -> None:
        """End a transaction. That the line is lost at the end of one that has only read is no error."""
        try:
            super().commit()
        except MySQLError:
            if self.open or not self._only_read:
                raise
        self._only_read = True

    def rollback(self) -> None:
        """End a transaction. That the line is lost is no error: the server rolls back what it was in."""
        try:
            super().rollback()
        except MySQLError:
            if self.open:
                raise
        self._only_read = True

    def _establish(self) -> None:
        self._only_read = False  # connect() may send a statement of the URL's own, which is not to be repeated
        try:
            greeted = self._greeted_socket()
            # By a Unix socket a password may be sent as it is; an earlier line's TLS says nothing of this one.
            self._secure = bool(self.unix_socket)
            self.connect(greeted)
            for statement in self._session:
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
        """What PyMySQL makes of its TLS options, without reading the machine's certificates where nothing is verified.

        :param options: empty: TLS where the server offers it, without verification
        :raises UnusableOption: one of the options
        """
        if not options:
            return _unverified_tls()
        if not isinstance(options, dict):
            raise UnusableOption("ssl is no option of a URL: use ssl_ca, ssl_cert, ssl_key")
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            context: ssl.SSLContext = super()._create_ssl_ctx({"password": "", **options})  # type: ignore[misc]
        except (OSError, ValueError) as error:
            raise UnusableOption(_words_on_tls(options, error)) from None
        return context


def find_location(options: Mapping[str, Any]) -> Location:
    """Where PyMySQL would connect to with these options, and with the file that they name.

    :raises UnusableOption: one of the options
    """
    usable = _usable(options) | {"ssl_disabled": True}  # no certificate is read for it
    try:
        link = Connection(**usable, defer_connect=True)
    except _REFUSALS as error:
        raise UnusableOption(_words(error)) from None
    name = link.db.decode() if isinstance(link.db, bytes) else link.db
    return Location(link.host, link.port, name or "", str(link.unix_socket) if link.unix_socket else None)


def _usable(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as PyMySQL takes them, with a word for what it would pass over in silence."""
    if unknown := options.keys() - _KNOWN_OPTIONS:
        meant = sorted(near for name in unknown for near in difflib.get_close_matches(name, _KNOWN_OPTIONS, 1))
        raise UnusableOption(
            "it has an option that PyMySQL does not know" + (f"; is {' and '.join(meant)} meant?" if meant else "")
        )
    # A character set of the file would be that of names and texts as well; oslo.db gives its own, too.
    usable = {"charset": DEFAULT_CHARSET, **options, "autocommit": False}
    if str(usable.get("ssl_disabled", True)).lower() in _OFF:  # a text, and true for PyMySQL whatever it says
        del usable["ssl_disabled"]
    if file := usable.get("read_default_file"):
        _warn_if_unreadable(file)
    return usable


@cache
def _warn_if_unreadable(file: str) -> None:
    """PyMySQL passes over a file that it cannot open, and what it says of TLS with it."""
    try:
        with open(os.path.expanduser(file)):
            pass
    except OSError as error:
        LOG.warning(
            "The file that read_default_file names in a database URL cannot be read (%s): its options, also those of "
            "TLS, are not used",
            error.strerror,
        )


def greeted_socket(address: str | tuple[str, int], bind_address: str | None, timeout: float) -> socket.socket:
    """Connect to a MySQL server and wait for the first byte of its greeting, without taking it.

    A server that is stopped, or a port that accepts and stays silent, is found here, so that the limit on
    statements can be long. The driver's own limits do not tell the two apart.

    :param address: host and port, or the path of a Unix socket
    :param bind_address: of this host, to connect from
    :param timeout: seconds, for the connection and again for the greeting
    :raises OSError: refused, unknown host, or no greeting in time
    """
    link = _unix_socket(address, timeout) if isinstance(address, str) else _tcp_socket(address, bind_address, timeout)
    try:
        link.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        link.close()
        raise TimeoutError(f"it accepts connections but does not answer within {timeout:g} s") from None
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


def _tcp_socket(address: tuple[str, int], bind_address: str | None, timeout: float) -> socket.socket:
    link = socket.create_connection(address, timeout, source_address=(bind_address, 0) if bind_address else None)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option, value in SILENCE.items():
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
    """Whether a statement reads, and does nothing else: neither does it lock, nor change the session."""
    if _READ.match(sql) is None:
        return False
    capitals = sql.upper()
    return not any(word.search(capitals) for word in _MORE_THAN_A_READ)


def _number(error: MySQLError) -> int | None:
    number = error.args[0] if error.args else None
    return number if isinstance(number, int) else None


def _timed_out(error: MySQLError) -> bool:
    """Whether a limit of time is what ended it. A line that the kernel gives up is lost, and has its own number."""
    cause = error.__cause__ or error.__context__
    return isinstance(cause, TimeoutError) and (cause.errno is None or isinstance(error, Unanswered))


def _error_of_connecting(error: OperationalError) -> OperationalError:
    """What went wrong with the socket; PyMySQL calls all of that by one number."""
    cause = getattr(error, "original_exception", None)
    return _error_of_socket(cause) if isinstance(cause, OSError) else error


def _error_of_socket(error: OSError) -> OperationalError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return OperationalError(TLS_FAILED, f"its certificate is not accepted: {error.verify_message}")
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, BrokenPipeError)):
        return OperationalError(LOST, "the connection was lost while it was being made")
    if isinstance(error, ssl.SSLError):
        return OperationalError(TLS_FAILED, f"no TLS with it: {error.reason or error}")
    return Unanswered(CANNOT_CONNECT, f"cannot connect: {error.strerror or error}")


def _words(error: Exception) -> str:
    if isinstance(error, configparser.Error | UnicodeDecodeError):
        return "the file that read_default_file names is no option file as MySQL has them"
    if isinstance(error, AttributeError):  # all that PyMySQL says of it
        return "unknown charset"
    if isinstance(error, NotImplementedError):
        return "compress and named_pipe are not supported"
    return "one of its options has a value that PyMySQL does not take"


def _words_on_tls(options: Mapping[str, Any], error: Exception) -> str:
    for name in ("ca", "cert", "key"):
        if file := options.get(name):
            try:
                with open(file, "rb"):
                    pass
            except OSError as unreadable:
                return f"the file of ssl_{name} cannot be read: {unreadable.strerror}"
    reason = getattr(error, "reason", None) or error
    return f"its options of TLS cannot be used: {reason}"
