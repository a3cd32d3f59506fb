"""Transport URLs, understood as oslo.messaging does: where the message queue of a cell is."""

from dataclasses import dataclass
from urllib.parse import unquote, urlparse


class InvalidTransport(Exception):
    """The text is no transport URL. The message says why, and repeats nothing of it: it may hold a password."""


@dataclass(frozen=True)
class Host:
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
class Transport:
    """A transport URL in its parts.

    :ivar driver: such as ``rabbit``; whether it is installed is not looked at
    """

    driver: str
    hosts: tuple[Host, ...]
    virtual_host: str | None

    @property
    def credentials_are_mixed(self) -> bool:
        """Whether some hosts have credentials and others none, of which oslo.messaging warns."""
        return len({host.has_credentials for host in self.hosts}) > 1


def parse(url: str) -> Transport:
    """Take a transport URL apart.

    :param url: ``driver://[user:pass@]host:port[,[userN:passN@]hostN:portN]/virtual_host?query``, templates filled
    :raises InvalidTransport: oslo.messaging would not take it
    :source: oslo.messaging, ``TransportURL``; oslo.utils, ``parse_host_port``
    """
    try:
        parts = urlparse(url)
    except ValueError:
        raise InvalidTransport("its hosts cannot be understood") from None
    if not parts.scheme:
        raise InvalidTransport("no scheme specified, such as rabbit://")
    hosts = tuple(_host(text) for text in parts.netloc.split(",") if text)
    return Transport(parts.scheme, hosts, unquote(parts.path[1:]) if parts.path.startswith("/") else None)


def _host(text: str) -> Host:
    credentials, at, address = text.rpartition("@")
    username, colon, password = credentials.partition(":")
    name, port = _name_and_port(address)
    return Host(name, port, unquote(username) if at else None, unquote(password) if colon else None)


def _name_and_port(address: str) -> tuple[str | None, int | None]:
    """An IPv6 address needs brackets to have a port; without them it is all name."""
    if address.startswith("["):
        name, bracket, rest = address[1:].partition("]")
        if not bracket or "]" in rest:
            raise InvalidTransport("the brackets of an IPv6 address do not match")
        _, colon, port = rest.partition(":")
        port = port.partition(":")[0]
    elif address.count(":") == 1:
        name, colon, port = address.partition(":")
    else:
        name, colon, port = address, "", ""
    try:
        return name if address else None, int(port) if colon else None
    except ValueError:
        raise InvalidTransport("a port is no number; special characters in passwords must be percent-encoded") from None
