"""Machine types that a real libvirt gave to domains of QEMU, and those that it knows."""

from pathlib import Path
from typing import Final

import libvirt
import pytest

from tests.libvirtd.conftest import Libvirtd, certificates
from tests.support.command import call, call_all
from tests.support.hypervisors import forget, reachable, recorded
from tests.support.realcloud import RealCloud

CELL1: Final = RealCloud.cell1
RECORD: Final = "libvirt record_machine_types --host cmp-c1-01"
DOMAIN: Final = """\
<domain type='qemu'>
  <name>{uuid}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='{machine}'>hvm</type></os>
</domain>
"""


@pytest.fixture
def config(realcloud: RealCloud, libvirtd: Libvirtd, tmp_path: Path) -> Path:
    """The nova.conf of a cloud on whose only real host every second instance has no machine
    type.
    """
    forget(realcloud, CELL1)
    path = realcloud.config(tmp_path)
    reachable(path, libvirtd.template)
    return path


def missing(cloud: RealCloud, host: str = "cmp-c1-01") -> list[str]:
    """The instances of the host that have no machine type."""
    rows = cloud.rows(
        CELL1, f"SELECT uuid FROM instances WHERE deleted = 0 AND host = '{host}' ORDER BY id"
    )
    return [uuid for (uuid,) in rows if (CELL1, uuid) not in recorded(cloud, CELL1)]


def test_the_machine_types_of_real_domains(
    realcloud: RealCloud, config: Path, libvirtd: Libvirtd
) -> None:
    """libvirt makes a version of an alias; of a domain that runs, and of one that does not."""
    first, second, *others = missing(realcloud)
    link = libvirt.open(libvirtd.uri)
    running = link.createXML(
        DOMAIN.format(uuid=first, machine="q35"), libvirt.VIR_DOMAIN_START_AUTODESTROY
    )
    resting = link.defineXML(DOMAIN.format(uuid=second, machine="pc"))
    ended = call(RECORD, config=config)
    assert running.isActive()
    resting.undefine()
    link.close()
    assert ended.code == (3 if others else 0)
    now = recorded(realcloud, CELL1)
    assert now[CELL1, first].startswith("pc-q35-")
    assert now[CELL1, second].startswith("pc-i440fx-")
    assert missing(realcloud) == others


def test_a_machine_type_that_the_host_does_not_know(realcloud: RealCloud, config: Path) -> None:
    """The update stands, and there is a warning."""
    known, unknown = missing(realcloud)[:2]
    update = "libvirt update_machine_type --force"
    fine, doubtful = call_all(
        (f"{update} {known} q35", f"{update} {unknown} pc-q35-99.0"), config=config
    )
    assert (fine.code, fine.err) == (0, "")
    assert doubtful.code == 0
    assert doubtful.line == (
        "Warning: cmp-c1-01 does not know the machine type pc-q35-99.0: the instance will not "
        "start there"
    )
    assert recorded(realcloud, CELL1)[CELL1, unknown] == "pc-q35-99.0"


def test_a_libvirt_that_stands_still(
    realcloud: RealCloud, config: Path, libvirtd: Libvirtd
) -> None:
    config.write_text(
        config.read_text().replace("hypervisor_timeout = 60", "hypervisor_timeout = 1")
    )
    before = realcloud.checksums()
    libvirtd.pause()
    ended = call(RECORD, config=config)
    assert ended.code == 3
    assert ended.line == "cell1: cmp-c1-01 was passed over: it does not answer within 1 s"
    assert realcloud.checksums() == before


@pytest.fixture
def config_of_tls(realcloud: RealCloud, tmp_path: Path) -> Path:
    """The nova.conf of a cloud whose only real host is called ``localhost``."""
    forget(realcloud, CELL1)
    for database, table in ((CELL1, "instances"), (RealCloud.api, "host_mappings")):
        realcloud.rows(database, f"UPDATE {table} SET host = 'localhost' WHERE host = 'cmp-c1-01'")
    return realcloud.config(tmp_path)


def test_a_host_that_is_reached_by_tls(
    realcloud: RealCloud, config_of_tls: Path, libvirtd: Libvirtd
) -> None:
    reachable(config_of_tls, libvirtd.tls_template(libvirtd.folder / "pki"))
    first = missing(realcloud, "localhost")[0]
    link = libvirt.open(libvirtd.uri)
    resting = link.defineXML(DOMAIN.format(uuid=first, machine="q35"))
    ended = call("libvirt record_machine_types --host localhost", config=config_of_tls)
    resting.undefine()
    link.close()
    assert "passed over" not in ended.err
    assert recorded(realcloud, CELL1)[CELL1, first].startswith("pc-q35-")


def test_a_host_that_nobody_we_trust_has_certified(
    realcloud: RealCloud, config_of_tls: Path, libvirtd: Libvirtd, tmp_path: Path
) -> None:
    reachable(config_of_tls, libvirtd.tls_template(certificates(tmp_path / "strange")))
    before = realcloud.checksums()
    ended = call("libvirt record_machine_types --host localhost", config=config_of_tls)
    assert ended.code == 3
    assert ended.line.startswith("cell1: localhost was passed over: ")
    assert "certificate" in ended.line
    assert realcloud.checksums() == before
