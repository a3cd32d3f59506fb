"""A real libvirtd with QEMU, as a plain user, in a folder of its own."""

import os
import shutil
from collections.abc import Iterator
from typing import Final

import libvirt
import pytest

from tests.services import Service

NOBODY: Final = 65534  # libvirtd of root would be that of the whole system
HOMES: Final = ("config", "cache", "data")


class Libvirtd(Service):
    """The libvirt of a compute host; it can be reached at ``template``.

    :ivar host: its name
    """

    PROGRAMS = ("libvirtd", "qemu-system-x86_64")

    def __init__(self, host: str) -> None:
        super().__init__()
        self.host = host
        self.template = f"qemu+unix:///session?socket={self.folder}/{{host}}/libvirt/libvirt-sock"

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.template.replace("{host}", self.host)

    def prepare(self) -> None:
        (self.folder / self.host).mkdir(mode=0o700)
        if os.geteuid() == 0:
            for path in (self.folder, self.folder / self.host):
                shutil.chown(path, NOBODY, NOBODY)

    def command(self) -> list[str]:
        user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
        homes = [f"XDG_{name.upper()}_HOME={self.folder / name}" for name in HOMES]
        runtime = f"XDG_RUNTIME_DIR={self.folder / self.host}"
        return [*user, "env", f"HOME={self.folder}", runtime, *homes, self.programs["libvirtd"]]

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
