"""Compute hosts that libvirt's own test driver stands for: a file for each, with the domains that
it has.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import quote

from tests.support.realcloud import RealCloud

DOMAIN: Final = """\
  <domain type='test'>
    <name>instance-{uuid}</name>
    <uuid>{uuid}</uuid>
    <memory>1024</memory>
    <os><type{machine}>hvm</type></os>
  </domain>
"""
KEY: Final = "`key` = 'image_hw_machine_type' AND deleted = 0"
# All that the stock tool, too, would list.
UNSET: Final = f"""
SELECT uuid FROM instances WHERE deleted = 0 AND vm_state <> 'building' AND uuid NOT IN (
    SELECT instance_uuid FROM instance_system_metadata WHERE {KEY})
ORDER BY id
"""

Place: TypeAlias = tuple[str, str]
"""A cell and the UUID of an instance there: during a move between cells two of them have it."""


class Hosts:
    """The hosts of a cloud; each answers at ``template``, once it has domains."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.template = f"test://{quote(str(folder))}/{{host}}.xml"

    def have(self, host: str, machine_types: Mapping[str, str | None]) -> None:
        """Let a host have domains with these UUIDs and machine types."""
        domains = [
            DOMAIN.format(uuid=uuid, machine=f" arch='i686' machine='{machine}'" if machine else "")
            for uuid, machine in machine_types.items()
        ]
        (self._folder / f"{host}.xml").write_text(f"<node>\n{''.join(domains)}</node>\n")

    def have_all(self, cloud: RealCloud, *cells: str) -> dict[Place, str]:
        """Let all hosts of cells have the instances that are on them.

        :returns: the machine type of each, a version
        """
        given: dict[Place, str] = {}
        for cell in cells:
            found = cloud.rows(
                cell, "SELECT host, uuid FROM instances WHERE deleted = 0 AND host IS NOT NULL"
            )
            for host in {host for host, _ in found}:
                own = {
                    uuid: f"pc-q35-{5 + int(uuid[0], 16) // 6}.2"
                    for where, uuid in found
                    if where == host
                }
                self.have(host, own)
                given |= {(cell, uuid): machine_type for uuid, machine_type in own.items()}
        return given


def reachable(config: Path, template: str, timeout: float = 60) -> None:
    """Write into a nova.conf how the hypervisors are reached; a loaded machine is given time."""
    text = config.read_text().replace(
        "[cellkeeper]\n", f"[cellkeeper]\nhypervisor_timeout = {timeout}\n"
    )
    config.write_text(f"{text}[libvirt]\nconnection_uri = {template}\n")


def forget(cloud: RealCloud, *cells: str) -> None:
    """Let every second instance have no machine type."""
    for cell in cells:
        even = "SELECT uuid FROM instances WHERE id % 2 = 0"
        cloud.rows(
            cell, f"DELETE FROM instance_system_metadata WHERE {KEY} AND instance_uuid IN ({even})"
        )


def unset(cloud: RealCloud, *cells: str) -> list[Place]:
    """The instances without a machine type."""
    return [(cell, uuid) for cell in cells for (uuid,) in cloud.rows(cell, UNSET)]


def recorded(cloud: RealCloud, *cells: str) -> dict[Place, str]:
    """The machine types of all instances; each has one at most."""
    select = f"SELECT instance_uuid, value FROM instance_system_metadata WHERE {KEY}"
    rows = [((cell, uuid), value) for cell in cells for uuid, value in cloud.rows(cell, select)]
    found = dict(rows)
    assert len(found) == len(rows)
    return found
