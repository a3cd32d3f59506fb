"""Stands for libvirt-python where that is not installed: a host is a file that has a line for each
domain.

A line has the UUID of a domain and its machine type. A host without a file does not answer.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

VIR_ERR_NO_DOMAIN = 42
CAPABILITIES = """\
<capabilities><host><cpu><arch>x86_64</arch></cpu></host>
<guest><arch name='x86_64'><machine>pc-q35-8.2</machine><machine canonical='pc-q35-8.2'>q35</machine></arch></guest>
</capabilities>"""


class libvirtError(Exception):  # noqa: N801 - its name in libvirt
    """An answer of libvirt that is none."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self._code = code

    def get_error_code(self) -> int:
        return self._code


class Domain:
    """A domain of a host."""

    def __init__(self, machine_type: str) -> None:
        self._machine_type = machine_type

    def XMLDesc(self) -> str:  # noqa: N802 - its name in libvirt
        return f"<domain><os><type machine='{self._machine_type}'>hvm</type></os></domain>"


class Link:
    """A connection to a host."""

    def __init__(self, domains: dict[str, str]) -> None:
        self._domains = domains

    def getCapabilities(self) -> str:  # noqa: N802 - its name in libvirt
        return CAPABILITIES

    def lookupByUUIDString(self, uuid: str) -> Domain:  # noqa: N802 - its name in libvirt
        if uuid not in self._domains:
            raise libvirtError("Domain not found", VIR_ERR_NO_DOMAIN)
        return Domain(self._domains[uuid])


def registerErrorHandler(*_: object) -> None:  # noqa: N802 - its name in libvirt
    """Nothing is printed anyway."""


def openReadOnly(uri: str) -> Link:  # noqa: N802 - its name in libvirt
    """Connect to the host whose file a URI names."""
    file = Path(unquote(urlsplit(uri).path))
    if not file.is_file():
        raise libvirtError("No route to host")
    return Link(dict(line.split() for line in file.read_text().splitlines()))
