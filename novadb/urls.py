"""URLs as Nova stores them: their templates, their drivers, and what may be shown of them."""

import hashlib
import logging
import re
from dataclasses import dataclass
from string import Formatter
from typing import Final
from urllib.parse import unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from novadb.errors import DatabaseProblem
from novadb.url_parts import HostParts, UrlParts, check_brackets

LOG = logging.getLogger("cellkeeper.urls")

HIDDEN: Final = "****"  # as the stock tool writes it
# A host with or without its port, and nothing of credentials.
_HOST: Final = re.compile(r"(\[[^]]*\]|[^:@\[\]]*)(:\d*)?")
_PASSWORD: Final = re.compile(r":.*@", re.DOTALL)
# Databases that SQLAlchemy knows and cellkeeper does not support, by the schemes of their URLs.
_UNSUPPORTED: Final = {
    "postgresql": "PostgreSQL",
    "postgres": "PostgreSQL",
    "oracle": "Oracle",
    "mssql": "SQL Server",
}
_DRIVERS: Final = {"mysql": "pymysql", "mariadb": "pymysql", "sqlite": "pysqlite"}
_SECRET_NAME: Final = re.compile(r"pass|pwd|secret|token|credential", re.IGNORECASE)


def expand_template(template: str, base: str | None) -> str:
    """Fill a templated URL of ``cell_mappings`` with the parts of a configured one.

    :param template: the stored URL, perhaps with ``{username}``, ``{hostname1}`` and the like
    :param base: the URL of the configuration that lends its parts, or None
    :returns: the URL to use. As in Nova, a template that cannot be filled (unknown name, no base)
        is logged and used unchanged
    :source: Nova, "Cells (v2)", section on templated URLs; the ``CellMapping`` object
    """
    if "{" not in template:
        return template
    if not base:
        LOG.error("A cell mapping has a URL template, but no URL is configured to fill it")
        return template
    try:
        if not _has_plain_names(template):
            raise ValueError("a format")
        return template.format(**_template_values(base))
    except (AttributeError, LookupError, TypeError, ValueError):
        LOG.error(
            "A cell mapping has a URL template that cannot be filled; it is used as it stands"
        )
        return template


def _has_plain_names(template: str) -> bool:
    """Whether the braces hold nothing but names.

    Python would obey a format with a width of a hundred million.
    """
    fields = Formatter().parse(template)
    return all(
        not spec and not conversion and (name or "").isidentifier()
        for _, name, spec, conversion in fields
        if name is not None
    )


def _template_values(base: str) -> dict[str, str]:
    """The names a template may use. A part that the base lacks reads ``None``, as in Nova."""
    url = UrlParts.split(base)
    hosts = url.authority.split(",")
    for host in hosts:
        check_brackets(host)
    values: dict[str, object] = {
        "scheme": url.scheme,
        "path": url.path.lstrip("/"),
        "query": url.query,
        "fragment": url.fragment,
        **_host_values(url.authority),
    }
    if len(hosts) > 1:
        for number, host in enumerate(hosts, start=1):
            values |= {f"{name}{number}": value for name, value in _host_values(host).items()}
    return {name: str(value) for name, value in values.items()}


def _host_values(text: str) -> dict[str, object]:
    host = HostParts.split(text)
    return {
        "username": host.username,
        "password": host.password,
        "hostname": host.name.lower() or None,
        "port": _valid_port(host.port),
    }


def _valid_port(text: str | None) -> int | None:
    """A port as Nova reads it; None: it is invalid, as in an authority of several hosts."""
    if not text or not (text.isascii() and text.isdecimal()):
        return None
    number = int(text)
    return number if number <= 65_535 else None


def parse_database_url(url: str, name: str) -> URL:
    """Parse a database URL and choose the driver.

    :param url: the URL, in SQLAlchemy's form
    :param name: what the database is called in messages
    :raises DatabaseProblem: the text is not a database URL; the message does not repeat it
    """
    try:
        parsed = make_url(re.sub(r"^(mysql|mariadb)(?=:)", "mysql+pymysql", url))
    except (ArgumentError, ValueError):
        parsed = None
    kind = parsed.get_backend_name() if parsed else ""
    if kind in _UNSUPPORTED:
        raise DatabaseProblem(
            f"{name}: {_UNSUPPORTED[kind]} is not supported; MySQL and MariaDB are "
            "(mysql+pymysql://USER:PASSWORD@HOST/DATABASE), and SQLite (sqlite:///FILE)"
        )
    # After an @ that is not encoded, a part of the password would become a part of the host.
    if parsed is None or kind not in _DRIVERS or "@" in (parsed.host or ""):
        raise DatabaseProblem(
            f"{name}: its URL cannot be used; expected mysql+pymysql://USER:PASSWORD@HOST/DATABASE "
            "(special characters percent-encoded) or sqlite:///FILE"
        )
    return parsed


def unsupported_driver(url: URL) -> str | None:
    """What is wrong with the driver of a URL, and what to write instead; None: it is supported."""
    kind, _, driver = url.drivername.partition("+")
    if driver in ("", _DRIVERS[kind]):
        return None
    scheme = "sqlite" if kind == "sqlite" else "mysql+pymysql"
    return (
        f"its URL names the driver {driver}, which is not supported: write {scheme}://, which Nova "
        "takes as well"
    )


@dataclass(frozen=True)
class Location:
    """Where a database is. Nothing of it is secret.

    :ivar host: of a server, or the file of an SQLite database
    :ivar port: None: there is no server
    :ivar database: its name on the server
    :ivar unix_socket: by which the server is reached instead
    """

    host: str
    port: int | None
    database: str = ""
    unix_socket: str | None = None

    def __str__(self) -> str:
        """For messages: ``db1:3306/nova_cell1``."""
        if self.port is None:
            return self.host
        return f"{self.unix_socket or self.server}/{self.database}"

    @property
    def server(self) -> str:
        """The database server: its databases share one disk."""
        return self.host if self.port is None else f"{self.host.lower()}:{self.port}"

    @property
    def fingerprint(self) -> str:
        """A short name that all URLs of one database share, and that reveals nothing about it."""
        return hashlib.sha256(str(self).encode()).hexdigest()[:16]


def location_of_url(url: URL) -> Location:
    """Where a database is, by its URL alone."""
    if url.get_backend_name() == "sqlite":
        return Location(url.database or "memory", None)
    unix_socket = url.query.get("unix_socket")
    return Location(
        url.host or "localhost",
        url.port or 3306,
        url.database or "",
        unix_socket if isinstance(unix_socket, str) else None,
    )


def mask_url(url: str, *, several_hosts: bool = False) -> str:
    """A URL as it may be shown, its secrets masked.

    As in the stock tool, the text is reassembled from its parts, so that ``none:///`` reads
    ``none:/``. Unlike there, each of several hosts is shown, and secrets are also masked in the
    query, and where a password holds an unescaped ``/``.

    :param several_hosts: whether the authority may name several hosts, as oslo.messaging's do
    """
    if "://" not in url:
        # Whoever forgot the scheme has not forgotten the password.
        return _mask_query(_mask_password(url))
    parts = UrlParts.split(url)
    if _is_cut_short(parts):
        return f"{parts.scheme}://{_mask_query(_mask_password(url.partition('://')[2]))}"
    masked_url = f"{parts.scheme}:" if parts.scheme else ""
    if authority := _mask_authority(parts.authority, several_hosts):
        masked_url += f"//{authority}"
    masked_url += parts.path
    if parts.query:
        masked_url += f"?{parts.query}"
    masked_url = _mask_query(masked_url)
    if parts.fragment:
        masked_url += f"#{parts.fragment}"
    return masked_url


def _is_cut_short(parts: UrlParts) -> bool:
    """Whether an unescaped ``/``, ``?`` or ``#`` of a password ended the authority too early."""
    if ":" not in parts.authority:
        return False
    if "@" in parts.path + parts.fragment:
        return True
    has_valid_host = _HOST.fullmatch(parts.authority.rpartition("@")[2])
    return "@" in parts.query and not has_valid_host


def _mask_password(text: str) -> str:
    return _PASSWORD.sub(f":{HIDDEN}@", text)


def _mask_authority(authority: str, several_hosts: bool) -> str:
    hosts = authority.split(",")
    are_valid_hosts = all(_HOST.fullmatch(host.rpartition("@")[2]) for host in hosts)
    if several_hosts and are_valid_hosts:
        return ",".join(map(_mask_password, hosts))
    # One password, which may hold commas.
    return _mask_password(authority)


def _mask_query(url: str) -> str:
    before, mark, query = url.partition("?")
    return before + mark + "&".join(map(_mask_pair, query.split("&")))


def _mask_pair(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if value and _SECRET_NAME.search(unquote(name)):
        value = HIDDEN
    return name + equals + value
