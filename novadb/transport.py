"""Transport URLs, understood as oslo.messaging does: where the message queue of a cell is."""

from dataclasses import dataclass
from urllib.parse import unquote

from novadb.url_parts import HostParts, MisplacedBrackets, UrlParts, check_brackets


class InvalidTransportUrl(Exception):
    """A text is not a transport URL. The message says why; it repeats nothing of the text."""


@dataclass(frozen=True)
class TransportHost:
    """One of the hosts of a transport URL; what is not given is None."""

    name: str | None
    port: int | None
    username: str | None
    password: str | None

    @property
    def has_credentials(self) -> bool:
        """Whether both are given: to oslo.messaging, a user without a password is no login."""
        return self.username is not None and self.password is not None


@dataclass(frozen=True)
class TransportUrl:
    """A transport URL in its parts.

    :ivar driver: such as ``rabbit``; need not be installed
    """

    driver: str
    hosts: tuple[TransportHost, ...]
    virtual_host: str | None

    @property
    def credentials_are_mixed(self) -> bool:
        """Whether only some hosts have credentials, of which oslo.messaging warns."""
        return len({host.has_credentials for host in self.hosts}) > 1


def parse_transport_url(url: str) -> TransportUrl:
    """Take a transport URL apart.

    :param url: ``driver://[user:pass@]host:port[,[userN:passN@]hostN:portN]/virtual_host?query``,
        its templates filled
    :raises InvalidTransportUrl: oslo.messaging would not take it
    :source: oslo.messaging, ``TransportURL``; oslo.utils, ``parse_host_port``
    """
    parts = UrlParts.split(url)
    if not parts.scheme:
        raise InvalidTransportUrl("no scheme specified, such as rabbit://")
    hosts = tuple(_parse_host(text) for text in parts.authority.split(",") if text)
    virtual_host = unquote(parts.path[1:]) if parts.path.startswith("/") else None
    return TransportUrl(parts.scheme, hosts, virtual_host)


def _parse_host(text: str) -> TransportHost:
    credentials, _, address = text.rpartition("@")
    # No parser that oslo.messaging uses takes them.
    if "[" in credentials or "]" in credentials:
        raise InvalidTransportUrl("brackets in a user or a password must be percent-encoded")
    try:
        check_brackets(text)
    except MisplacedBrackets as error:
        raise InvalidTransportUrl(str(error)) from None
    host = HostParts.split(text)
    name, port = host.name, host.port
    # An IPv6 address without brackets cannot have a port.
    if not address.startswith("[") and address.count(":") > 1:
        name, port = address, None
    return TransportHost(
        name if address else None,
        _parse_port(port),
        _decode(host.username),
        _decode(host.password),
    )


def _decode(text: str | None) -> str | None:
    return None if text is None else unquote(text)


def _parse_port(port: str | None) -> int | None:
    try:
        return None if port is None else int(port)
    except ValueError:
        raise InvalidTransportUrl(
            "a port is not a number; special characters in passwords must be percent-encoded"
        ) from None
