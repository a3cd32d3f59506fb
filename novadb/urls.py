"""URLs as Nova stores them: templates, database drivers, and what may be shown of them."""

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

HIDDEN: Final = "****"
# A host with or without its port, and nothing of credentials.
_HOST: Final = re.compile(r"(\[[^]]*\]|[^:@\[\]]*)(:\d*)?")
_PASSWORD: Final = re.compile(r":.*@", re.DOTALL)
# Kinds of databases that SQLAlchemy knows, by the schemes of their URLs, and that are not worked on here.
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
    :returns: the URL to use. As in Nova, a template that cannot be filled (an unknown name, no base)
        is logged and used as it stands
    :source: Nova, "Cells (v2)", section on templated URLs; the ``CellMapping`` object
    """
    if "{" not in template:
        return template
    if not base:
        LOG.error("A cell mapping has a URL template, but no URL is configured that could fill it")
        return template
    try:
        if not _has_plain_names(template):
            raise ValueError("a format")
        return template.format(**_parts(base))
    except (AttributeError, LookupError, TypeError, ValueError):
        LOG.error("A cell mapping has a URL template that cannot be filled; it is used as it stands")
        return template


def _has_plain_names(template: str) -> bool:
    """Whether nothing but names stands in the braces: a width of a hundred million would be obeyed."""
    fields = Formatter().parse(template)
    return all(
        not spec and not conversion and (name or "").isidentifier()
        for _, name, spec, conversion in fields
        if name is not None
    )


def _parts(base: str) -> dict[str, str]:
    """The names a template may use. A part that the base does not have reads ``None``, as in Nova."""
    url = UrlParts.split(base)
    hosts = url.authority.split(",")
    for host in hosts:
        check_brackets(host)
    values: dict[str, object] = {
        "scheme": url.scheme,
        "path": url.path.lstrip("/"),
        "query": url.query,
        "fragment": url.fragment,
        **_parts_of_host(url.authority),
    }
    if len(hosts) > 1:
        for number, host in enumerate(hosts, start=1):
            values |= {f"{name}{number}": value for name, value in _parts_of_host(host).items()}
    return {name: str(value) for name, value in values.items()}


def _parts_of_host(text: str) -> dict[str, object]:
    host = HostParts.split(text)
    return {
        "username": host.username,
        "password": host.password,
        "hostname": host.name.lower() or None,
        "port": _port(host.port),
    }


def _port(text: str | None) -> int | None:
    """A port as Nova has it: None for what is none, as of several hosts in one authority."""
    if not text or not (text.isascii() and text.isdecimal()):
        return None
    number = int(text)
    return number if number <= 65_535 else None


def parse_database_url(url: str, name: str) -> URL:
    """Parse a database URL and choose the driver.

    :param url: the URL, in SQLAlchemy's form
    :param name: what the database is called in messages
    :raises DatabaseProblem: the text is no database URL; the message does not repeat it
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
    # An @ that is not encoded would make a part of the password a part of the host.
    if parsed is None or kind not in _DRIVERS or "@" in (parsed.host or ""):
        raise DatabaseProblem(
            f"{name}: its URL cannot be used; expected mysql+pymysql://USER:PASSWORD@HOST/DATABASE "
            "(special characters percent-encoded) or sqlite:///FILE"
        )
    return parsed


def unsupported_driver(url: URL) -> str | None:
    """What is wrong with the driver that a URL names, and which one to name instead; None: it can be used."""
    kind, _, driver = url.drivername.partition("+")
    if driver in ("", _DRIVERS[kind]):
        return None
    scheme = "sqlite" if kind == "sqlite" else "mysql+pymysql"
    return f"its URL names the driver {driver}, which is not supported: write {scheme}://, which Nova takes as well"


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
        """In words: ``db1:3306/nova_cell1``."""
        if self.port is None:
            return self.host
        return f"{self.unix_socket or self.server}/{self.database}"

    @property
    def server(self) -> str:
        """The database server: what shares one disk and one set of locks."""
        return self.host if self.port is None else f"{self.host.lower()}:{self.port}"

    @property
    def fingerprint(self) -> str:
        """A short name of the database that tells nothing about it: two URLs of one database share it."""
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
    """A URL for people, without what is secret in it.

    As in the stock tool, the text is put together anew from its parts, so that ``none:///`` reads ``none:/``; unlike
    there, each of several hosts is shown, and a secret may stand behind an unescaped ``/`` or in the query.

    :param several_hosts: whether the authority may name several hosts, as oslo.messaging's do
    """
    parts = UrlParts.split(url)
    if "://" not in url:  # whoever forgot the scheme has not forgotten the password
        return _mask_query(_PASSWORD.sub(f":{HIDDEN}@", url))
    if _password_goes_on(parts):
        shown = _PASSWORD.sub(f":{HIDDEN}@", url.partition("://")[2])
        return f"{parts.scheme}://{_mask_query(shown)}"
    authority = _mask_authority(parts.authority, several_hosts)
    shown = f"{parts.scheme}:" if parts.scheme else ""
    shown += (f"//{authority}" if authority else "") + parts.path
    return _mask_query(shown + (f"?{parts.query}" if parts.query else "")) + (
        f"#{parts.fragment}" if parts.fragment else ""
    )


def _password_goes_on(parts: UrlParts) -> bool:
    """Whether an unescaped ``/``, ``?`` or ``#`` of a password has cut the authority short."""
    if ":" not in parts.authority:
        return False
    whole = _HOST.fullmatch(parts.authority.rpartition("@")[2])
    return "@" in parts.path + parts.fragment or ("@" in parts.query and not whole)


def _mask_authority(authority: str, several_hosts: bool) -> str:
    hosts = authority.split(",")
    if several_hosts and all(_HOST.fullmatch(host.rpartition("@")[2]) for host in hosts):
        return ",".join(_PASSWORD.sub(f":{HIDDEN}@", host) for host in hosts)
    return _PASSWORD.sub(f":{HIDDEN}@", authority)


def _mask_query(url: str) -> str:
    before, mark, query = url.partition("?")
    return before + mark + "&".join(map(_mask_pair, query.split("&")))


def _mask_pair(pair: str) -> str:
    name, equals, value = pair.partition("=")
    return name + equals + (HIDDEN if value and _SECRET_NAME.search(unquote(name)) else value)
