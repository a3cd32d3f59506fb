"""The instances of a cell, with what healing needs to know about them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, bindparam, text

from jobs.placement.flavors import Flavor, parse_flavor
from novadb.names import fold_name

IMAGE_PREFIX: Final = "image_"
IMAGE_PROPERTIES: Final = ("hw_cpu_policy", "hw_cpu_realtime_mask", "hw_mem_encryption")

# A soft-deleted instance waits to be reclaimed and has no allocations any more. During a move
# between cells the instance is in both, and the hidden one is the copy.
_LIVE: Final = (
    "deleted = 0 AND (vm_state IS NULL OR vm_state <> 'soft-delete') "
    "AND (hidden IS NULL OR hidden = 0)"
)
_COLUMNS: Final = "id, uuid, project_id, user_id, host, node, task_state, image_ref"
_PAGE: Final = text(
    f"SELECT {_COLUMNS} FROM instances WHERE {_LIVE} AND id > :after ORDER BY id LIMIT :size"
)
_BY_UUID: Final = text(
    f"SELECT {_COLUMNS} FROM instances WHERE {_LIVE} AND uuid = :uuid AND id > :after"
)
_COUNT_PLACED: Final = text(
    f"SELECT COUNT(*) FROM instances WHERE {_LIVE} AND node IS NOT NULL AND id > :after"
)
_PLACES: Final = text(
    f"SELECT uuid, host, node, task_state FROM instances WHERE {_LIVE} AND uuid IN :uuids"
)
_FLAVORS: Final = text(
    "SELECT instance_uuid, flavor FROM instance_extra WHERE deleted = 0 AND instance_uuid IN :uuids"
)
_ROOT_DISKS: Final = text(
    "SELECT instance_uuid, destination_type FROM block_device_mapping "
    "WHERE deleted = 0 AND boot_index = 0 AND instance_uuid IN :uuids"
)
_IMAGE_METADATA: Final = text(
    "SELECT instance_uuid, `key`, value FROM instance_system_metadata "
    "WHERE deleted = 0 AND instance_uuid IN :uuids AND `key` IN :keys"
)
_COMPUTE_NODES: Final = text(
    "SELECT host, hypervisor_hostname, uuid FROM compute_nodes "
    "WHERE deleted = 0 AND uuid IS NOT NULL"
)


@dataclass(frozen=True)
class Instance:
    """A row of ``instances``."""

    id: int
    uuid: str
    project_id: str
    user_id: str
    host: str | None
    node: str | None
    task_state: str | None
    image_ref: str | None

    @property
    def key(self) -> str:
        """The uuid in the form that it is looked up by in other tables and services."""
        return fold_name(self.uuid)

    @property
    def owner(self) -> tuple[str, str]:
        """Project and user."""
        return self.project_id, self.user_id


def read_page(cell: Connection, after: int, size: int, uuid: str | None = None) -> list[Instance]:
    """The next instances in order of id.

    :param after: the id of the last instance of the page before
    :param uuid: of the only instance that is wanted; None: all are
    """
    if uuid:
        rows = cell.execute(_BY_UUID, {"after": after, "uuid": uuid}).all()
    else:
        rows = cell.execute(_PAGE, {"after": after, "size": size}).all()
    return [Instance(row[0], row[1], row[2] or "", row[3] or "", *row[4:]) for row in rows]


def count_placed(cell: Connection, after: int = 0) -> int:
    """How many instances are on hosts.

    :param after: only instances with higher ids are counted
    """
    return int(cell.execute(_COUNT_PLACED, {"after": after}).scalar_one())


def uuids_still_in_place(cell: Connection, instances: Iterable[Instance]) -> set[str]:
    """The uuids of the instances that are still where they were, and that no task works on."""
    unchanged = {instance.uuid: (instance.host, instance.node, None) for instance in instances}
    rows = _select_for(cell, _PLACES, unchanged)
    return {
        uuid for uuid, host, node, task_state in rows if unchanged[uuid] == (host, node, task_state)
    }


HostAndNode = tuple[str, str]
"""Host and node, folded: instances and compute nodes may spell them differently."""


def host_and_node(host: str | None, node: str | None) -> HostAndNode:
    """The key by which instances are matched with compute nodes."""
    return fold_name(host or ""), fold_name(node or "")


@dataclass(frozen=True)
class ComputeNodes:
    """The compute nodes of a cell.

    :ivar uuids: a compute node's uuid is also that of its resource provider
    :ivar names_by_host: the nodes of each host, by the host's folded name
    """

    uuids: Mapping[HostAndNode, str]
    names_by_host: Mapping[str, tuple[str, ...]]

    def uuid_for(self, instance: Instance) -> str | None:
        """The compute node that an instance is on; None: the cell has no such node."""
        return self.uuids.get(host_and_node(instance.host, instance.node))

    def names_on(self, host: str | None) -> tuple[str, ...]:
        """The names of a host's nodes."""
        return self.names_by_host.get(fold_name(host or ""), ())


def read_compute_nodes(cell: Connection) -> ComputeNodes:
    """The compute nodes of a cell that are not deleted."""
    uuids: dict[HostAndNode, str] = {}
    names_by_host: dict[str, tuple[str, ...]] = {}
    for host, node, uuid in cell.execute(_COMPUTE_NODES):
        uuids[host_and_node(host, node)] = uuid
        host_key = fold_name(host or "")
        names_by_host[host_key] = (*names_by_host.get(host_key, ()), node)
    return ComputeNodes(uuids, names_by_host)


@dataclass(frozen=True)
class ResourceNeed:
    """An instance's flavor, and what else decides which resources it needs."""

    flavor: Flavor
    boots_from_volume: bool
    image_properties: Mapping[str, str]

    @property
    def resources(self) -> dict[str, int]:
        """Amounts by resource class.

        :raises ValueError: a CPU mask cannot be parsed
        """
        return self.flavor.resources(self.image_properties, self.boots_from_volume)


@dataclass
class NeedReader:
    """Reads what instances need from Placement; each flavor is decoded once."""

    _flavors: dict[str, Flavor] = field(default_factory=dict)

    def read(self, cell: Connection, instances: Sequence[Instance]) -> dict[str, ResourceNeed]:
        """What instances need, by uuid. An instance whose flavor cannot be read is left out."""
        uuids = [instance.uuid for instance in instances]
        flavors = {fold_name(uuid): flavor for uuid, flavor in _select_for(cell, _FLAVORS, uuids)}
        root_disks = {fold_name(uuid): disk for uuid, disk in _select_for(cell, _ROOT_DISKS, uuids)}
        image_properties = _read_image_properties(cell, uuids)
        needs = {}
        for instance in instances:
            flavor = self._decode_flavor(flavors.get(instance.key))
            if flavor is None:
                continue
            if instance.key in root_disks:
                boots_from_volume = root_disks[instance.key] == "volume"
            else:
                # Old instances have no such row; they boot from a volume if they have no image.
                boots_from_volume = not instance.image_ref
            needs[instance.uuid] = ResourceNeed(
                flavor, boots_from_volume, image_properties.get(instance.key, {})
            )
        return needs

    def _decode_flavor(self, stored: str | None) -> Flavor | None:
        if not stored:
            return None
        if stored not in self._flavors:
            try:
                self._flavors[stored] = parse_flavor(json.loads(stored))
            except (KeyError, TypeError, ValueError):
                return None
        return self._flavors[stored]


def _read_image_properties(cell: Connection, uuids: Sequence[str]) -> dict[str, dict[str, str]]:
    """The properties that matter, without their prefix, by folded uuid."""
    properties: dict[str, dict[str, str]] = {}
    keys = [IMAGE_PREFIX + name for name in IMAGE_PROPERTIES]
    for uuid, key, value in _select_for(cell, _IMAGE_METADATA, uuids, keys=keys):
        name = key.removeprefix(IMAGE_PREFIX)
        properties.setdefault(fold_name(uuid), {})[name] = value or ""
    return properties


def _select_for(
    cell: Connection, statement: Any, uuids: Iterable[str], **other_lists: Sequence[str]
) -> list[Any]:
    """Run a statement with ``:uuids`` and other lists in it; without uuids nothing is asked."""
    lists: dict[str, Sequence[str]] = {"uuids": list(uuids), **other_lists}
    if not lists["uuids"]:
        return []
    expanding: list[BindParameter[Any]] = [
        bindparam(name, values, expanding=True) for name, values in lists.items()
    ]
    return list(cell.execute(statement.bindparams(*expanding)).all())
