"""Transport URLs: what oslo.messaging takes and what it refuses, recorded from release 17 of it."""

from typing import Final

import pytest

from novadb.transport import InvalidTransportUrl, TransportHost, parse_transport_url

# What oslo.messaging makes of the hosts: name, port, user, password; and of the virtual host.
TAKEN: Final[
    dict[str, tuple[list[tuple[str | None, int | None, str | None, str | None]], str | None]]
] = {
    "rabbit://": ([], None),
    "rabbit:": ([], None),
    "none:///": ([], ""),
    "fake:/": ([], ""),
    "rabbit:///v": ([], "v"),
    "rabbit://h": ([("h", None, None, None)], None),
    "rabbit://h/": ([("h", None, None, None)], ""),
    "rabbit://u:p@h:5672/": ([("h", 5672, "u", "p")], ""),
    "RABBIT://H:1/V": ([("H", 1, None, None)], "V"),
    "rabbit://u@h:1": ([("h", 1, "u", None)], None),
    "rabbit://:p@h:1": ([("h", 1, "", "p")], None),
    "rabbit://u:@h:1": ([("h", 1, "u", "")], None),
    "rabbit://@h": ([("h", None, "", None)], None),
    "rabbit://u:p@/": ([(None, None, "u", "p")], ""),
    "rabbit://u%40x:p%3Aq%2Fr@h:1/%2Fv": ([("h", 1, "u@x", "p:q/r")], "/v"),
    "rabbit://u:p:q@h:1/": ([("h", 1, "u", "p:q")], ""),
    "rabbit://u@dom:p@h:1/": ([("h", 1, "u@dom", "p")], ""),
    "rabbit://u:p@h1:1,u2:p2@h2:2/v": ([("h1", 1, "u", "p"), ("h2", 2, "u2", "p2")], "v"),
    "rabbit://u:p@h1,h2:2/v": ([("h1", None, "u", "p"), ("h2", 2, None, None)], "v"),
    "rabbit://h1,,h2,/": ([("h1", None, None, None), ("h2", None, None, None)], ""),
    "rabbit://[::1]:5672/": ([("::1", 5672, None, None)], ""),
    "rabbit://u:p@[fe80::1]/": ([("fe80::1", None, "u", "p")], ""),
    "rabbit://fe80::1/": ([("fe80::1", None, None, None)], ""),
    "rabbit://h1:1,[::1]:2/": ([("h1", 1, None, None), ("::1", 2, None, None)], ""),
    "rabbit://h1:5672,[fd00::2]:5672/": (
        [("h1", 5672, None, None), ("fd00::2", 5672, None, None)],
        "",
    ),
    "rabbit://[fd00::1],h2,[fe80::2%25eth0]:2/v": (
        [
            ("fd00::1", None, None, None),
            ("h2", None, None, None),
            ("fe80::2%25eth0", 2, None, None),
        ],
        "v",
    ),
    "rabbit://u:p@h1:1,u:p@[fd00::2]:2/v": ([("h1", 1, "u", "p"), ("fd00::2", 2, "u", "p")], "v"),
    "rabbit://u:%5Bp%5D@[::1]:2/": ([("::1", 2, "u", "[p]")], ""),
    "rabbit://h:1/v?ssl=1&x=a&x=b": ([("h", 1, None, None)], "v"),
    "u:p@h": ([], None),
    "amqp://h:-1/": ([("h", -1, None, None)], ""),
    "kafka+ssl://h:1_0/": ([("h", 10, None, None)], ""),
}
REFUSED: Final = {
    "": "no scheme specified, such as rabbit://",
    "nonsense": "no scheme specified, such as rabbit://",
    "/v": "no scheme specified, such as rabbit://",
    "://h": "no scheme specified, such as rabbit://",
    "rabbit://h:/": "a port is not a number",
    "rabbit://h:notaport/": "a port is not a number",
    "rabbit://u:se/cret@h:1/": "a port is not a number",
    "rabbit://u:secret,h:1/": "a port is not a number",
    "rabbit://h1:1,h2:x/": "a port is not a number",
    "rabbit://[::1]:x/": "a port is not a number",
    "rabbit://[::1/": "the brackets of an IPv6 address do not match",
    "rabbit://::1]/": "the brackets of an IPv6 address do not match",
    "rabbit://h1,[::1/": "the brackets of an IPv6 address do not match",
    "rabbit://h1,[::1]x:1/": "the brackets of an IPv6 address do not match",
    "rabbit://h1,[secret]:1/": "its brackets do not enclose an IPv6 address",
    "rabbit://h1,[127.0.0.1]:1/": "its brackets do not enclose an IPv6 address",
    "rabbit://u:se[cret@h1/": "brackets in a user or a password must be percent-encoded",
    "rabbit://h1,u:se[c]ret@h2/": "brackets in a user or a password must be percent-encoded",
}


@pytest.mark.parametrize("url", TAKEN)
def test_what_is_taken_and_how_it_is_understood(url: str) -> None:
    hosts, virtual_host = TAKEN[url]
    parsed = parse_transport_url(url)
    assert (list(parsed.hosts), parsed.virtual_host) == (
        [TransportHost(*host) for host in hosts],
        virtual_host,
    )


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_refused_and_that_the_reason_repeats_nothing_of_it(url: str) -> None:
    with pytest.raises(InvalidTransportUrl) as caught:
        parse_transport_url(url)
    assert str(caught.value).startswith(REFUSED[url])
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "mixed"),
    [
        ("rabbit://h1,h2/", False),
        ("rabbit://u:p@h1,u:p@h2/", False),
        ("rabbit://u:p@h1,h2/", True),
        ("rabbit://u:p@h1,u@h2/", True),
        ("none:///", False),
    ],
)
def test_hosts_of_which_only_some_have_credentials_are_noticed(url: str, mixed: bool) -> None:
    assert parse_transport_url(url).credentials_are_mixed is mixed
