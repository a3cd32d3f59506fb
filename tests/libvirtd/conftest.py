"""A real libvirtd with QEMU, as a plain user, in a folder of its own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import libvirt
import pytest
import trustme

from tests.support.services import HOST, Service

NOBODY: Final = 65534  # libvirtd of root would be that of the whole system
HOMES: Final = ("config", "cache", "data")
TLS: Final = """\
listen_tls = 1
listen_tcp = 0
listen_addr = "{address}"
tls_port = "{port}"
ca_file = "{pki}/cacert.pem"
cert_file = "{pki}/servercert.pem"
key_file = "{pki}/serverkey.pem"
"""


def certificates(folder: Path) -> Path:
    """Make an authority in a new folder, and what it certifies: the server ``localhost``, and a
    client.
    """
    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "cacert.pem")
    for role, name in (("server", "localhost"), ("client", "operator")):
        issued = authority.issue_cert(name)
        issued.cert_chain_pems[0].write_to_path(folder / f"{role}cert.pem")
        issued.private_key_pem.write_to_path(folder / f"{role}key.pem")
    return folder


class Libvirtd(Service):
    """The libvirt of a compute host; it can be reached at ``template``, and by TLS at
    ``tls_template``.

    :ivar host: its name
    """

    PROGRAMS = ("libvirtd", "qemu-system-x86_64")

    def __init__(self, host: str) -> None:
        super().__init__()
        self.host = host
        self.template = f"qemu+unix:///session?socket={self.folder}/{{host}}/libvirt/libvirt-sock"

    def tls_template(self, pki: Path) -> str:
        """Where a host of the name ``localhost`` is.

        :param pki: the folder with the certificates of the client
        """
        return f"qemu+tls://{{host}}:{self.port}/session?pkipath={pki}"

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.template.replace("{host}", self.host)

    def prepare(self) -> None:
        (self.folder / self.host).mkdir(mode=0o700)
        pki = certificates(self.folder / "pki")
        (self.folder / "libvirtd.conf").write_text(
            TLS.format(address=HOST, port=self.port, pki=pki)
        )
        if os.geteuid() == 0:
            for path in (self.folder, self.folder / self.host, pki, *pki.iterdir()):
                shutil.chown(path, NOBODY, NOBODY)

    def command(self) -> list[str]:
        user = (
            ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
            if os.geteuid() == 0
            else []
        )
        homes = [f"XDG_{name.upper()}_HOME={self.folder / name}" for name in HOMES]
        runtime = f"XDG_RUNTIME_DIR={self.folder / self.host}"
        listening = ["--listen", "--config", str(self.folder / "libvirtd.conf")]
        return [
            *user,
            "env",
            f"HOME={self.folder}",
            runtime,
            *homes,
            self.programs["libvirtd"],
            *listening,
        ]

    def answers(self) -> bool:
        try:
            libvirt.open(self.uri).getCapabilities()
        except libvirt.libvirtError:
            return False
        return True


@pytest.fixture(scope="session", autouse=True)
def no_noise() -> None:
    """libvirt prints each error as well as raising it."""
    libvirt.registerErrorHandler(lambda *_: None, None)


@pytest.fixture(scope="session")
def shared_libvirtd() -> Iterator[Libvirtd]:
    with Libvirtd("cmp-c1-01") as server:
        yield server


@pytest.fixture
def libvirtd(shared_libvirtd: Libvirtd) -> Libvirtd:
    """A libvirtd that answers, whatever the test before did to it."""
    shared_libvirtd.revive()
    return shared_libvirtd
