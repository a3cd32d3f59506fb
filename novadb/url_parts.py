"""Takes URLs apart, also those with several hosts in one authority.

The parser of the standard library serves one host: since Python 3.11.4, and in older Pythons of
distributions with that fix, ``urlsplit`` refuses ``rabbit://h1:5672,[::1]:5672/`` because something
stands before the bracket.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from typing import Final, Self

# RFC 3986, appendix B, with its characters of a scheme. It matches every text.
_URL: Final = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*):)?(?://(?P<authority>[^/?#]*))?"
    r"(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?",
    re.DOTALL | re.IGNORECASE | re.ASCII,
)
# What browsers and urlsplit ignore: control characters and blanks at the begin, line ends and tabs.
_IGNORED: Final = re.compile(r"\A[\x00-\x20]+|[\t\r\n]")
# An address in brackets, and what may follow it.
_BRACKETS: Final = re.compile(r"\[(?P<name>[^][]*)\](?::[^][]*)?")


class MisplacedBrackets(ValueError):
    """Brackets do not enclose an IPv6 address. The text repeats nothing of the URL."""


@dataclass(frozen=True)
class UrlParts:
    """A URL in its parts as they are written: nothing is decoded, and missing parts are empty.

    :ivar scheme: in lower case
    :ivar authority: between ``//`` and the path: one host or several, with their credentials
    :ivar path: with its slash
    """

    scheme: str
    authority: str
    path: str
    query: str
    fragment: str

    @classmethod
    def split(cls, url: str) -> Self:
        """Take any text apart. Without a scheme and ``//``, all of it is the path."""
        match = _URL.fullmatch(_IGNORED.sub("", url))
        assert match is not None
        parts = match.groupdict(default="")
        return cls(**parts | {"scheme": parts["scheme"].lower()})


@dataclass(frozen=True)
class HostParts:
    """One host of an authority, as it is written. Several hosts are parsed as ``urlsplit`` does.

    :ivar username: None without ``@``
    :ivar password: None without a colon before the ``@``
    :ivar name: without the brackets of an IPv6 address; may be empty
    :ivar port: what follows the colon, a number or not; None without a colon
    """

    username: str | None
    password: str | None
    name: str
    port: str | None

    @classmethod
    def split(cls, host: str) -> Self:
        """Take ``user:password@name:port`` apart, valid or not."""
        credentials, at_sign, address = host.rpartition("@")
        username, colon, password = credentials.partition(":")
        before, bracket, rest = address.partition("[")
        if bracket:
            name, _, behind = rest.partition("]")
            _, colon_of_port, port = behind.partition(":")
        else:
            name, colon_of_port, port = before.partition(":")
        return cls(
            username if at_sign else None,
            password if colon else None,
            name,
            port if colon_of_port else None,
        )


def check_brackets(host: str) -> None:
    """Check that the brackets of a host, if it has any, enclose an IPv6 address.

    :param host: with or without credentials
    :raises MisplacedBrackets: they do not match, or enclose something else
    """
    address = host.rpartition("@")[2]
    if "[" not in address and "]" not in address:
        return
    match = _BRACKETS.fullmatch(address)
    if match is None:
        raise MisplacedBrackets("the brackets of an IPv6 address do not match")
    try:
        IPv6Address(match["name"])
    except AddressValueError:
        raise MisplacedBrackets("its brackets do not enclose an IPv6 address") from None
