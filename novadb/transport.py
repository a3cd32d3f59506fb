"""Transport URLs, understood as oslo.messaging does: where the message queue of a cell is."""

from dataclasses import dataclass
from urllib.parse import unquote

from novadb.url_parts import HostParts, MisplacedBrackets, UrlParts, check_brackets


class InvalidTransportUrl(Exception):
    """The text is no transport URL. The message says why, and repeats nothing of it: it may hold a password."""


@dataclass(frozen=True)
class TransportHost:
    """One of the hosts of a transport; what is not given is None."""

    name: str | None
    port: int | None
    username: str | None
    password: str | None

    @property
    def has_credentials(self) -> bool:
        """Whether both are given: oslo.messaging takes a host without either for one that lacks them."""
        return self.username is not None and self.password is not None


@dataclass(frozen=True)
class TransportUrl:
    """A transport URL in its parts.

    :ivar driver: such as ``rabbit``; whether it is installed is not looked at
    """

    driver: str
    hosts: tuple[TransportHost, ...]
    virtual_host: str | None

    @property
    def credentials_are_mixed(self) -> bool:
        """Whether some hosts have credentials and others none, of which oslo.messaging warns."""
        return len({host.has_credentials for host in self.hosts}) > 1


def parse_transport_url(url: str) -> TransportUrl:
    """Take a transport URL apart.

    :param url: ``driver://[user:pass@]host:port[,[userN:passN@]hostN:portN]/virtual_host?query``, templates filled
    :raises InvalidTransport: oslo.messaging would not take it
    :source: oslo.messaging, ``TransportURL``; oslo.utils, ``parse_host_port``
    """
    parts = UrlParts.split(url)
    if not parts.scheme:
        raise InvalidTransportUrl("no scheme specified, such as rabbit://")
    hosts = tuple(_host(text) for text in parts.authority.split(",") if text)
    return TransportUrl(parts.scheme, hosts, unquote(parts.path[1:]) if parts.path.startswith("/") else None)


def _host(text: str) -> TransportHost:
    credentials, _, address = text.rpartition("@")
    if "[" in credentials or "]" in credentials:  # which no parser of oslo.messaging's takes
        raise InvalidTransportUrl("brackets in a user or a password must be percent-encoded")
    try:
        check_brackets(text)
    except MisplacedBrackets as error:
        raise InvalidTransportUrl(str(error)) from None
    host = HostParts.split(text)
    name, port = host.name, host.port
    if not address.startswith("[") and address.count(":") > 1:  # an IPv6 address without brackets has no port
        name, port = address, None
    return TransportHost(
        name if address else None,
        _number(port),
        _decoded(host.username),
        _decoded(host.password),
    )


def _decoded(text: str | None) -> str | None:
    return None if text is None else unquote(text)


def _number(port: str | None) -> int | None:
    try:
        return None if port is None else int(port)
    except ValueError:
        raise InvalidTransportUrl(
            "a port is no number; special characters in passwords must be percent-encoded"
        ) from None
