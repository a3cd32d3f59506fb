"""The instances of a cell as healing needs them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, bindparam, text

from jobs.placement import flavors
from jobs.placement.flavors import Flavor
from novadb.names import fold_name

IMAGE: Final = "image_"
PROPERTIES: Final = ("hw_cpu_policy", "hw_cpu_realtime_mask", "hw_mem_encryption")

# One that waits to be reclaimed has no allocations any more; of a move between cells, the hidden one is the copy.
_LIVE: Final = "deleted = 0 AND (vm_state IS NULL OR vm_state <> 'soft-delete') AND (hidden IS NULL OR hidden = 0)"
_COLUMNS: Final = "id, uuid, project_id, user_id, host, node, task_state, image_ref"
_PAGE: Final = text(f"SELECT {_COLUMNS} FROM instances WHERE {_LIVE} AND id > :after ORDER BY id LIMIT :size")
_ONE: Final = text(f"SELECT {_COLUMNS} FROM instances WHERE {_LIVE} AND uuid = :uuid AND id > :after")
_COUNT: Final = text(f"SELECT COUNT(*) FROM instances WHERE {_LIVE} AND node IS NOT NULL")
_COUNT_BEHIND: Final = text(f"SELECT COUNT(*) FROM instances WHERE {_LIVE} AND node IS NOT NULL AND id > :after")
_STATE: Final = text(f"SELECT uuid, host, node, task_state FROM instances WHERE {_LIVE} AND uuid IN :uuids")
_FLAVORS: Final = text("SELECT instance_uuid, flavor FROM instance_extra WHERE deleted = 0 AND instance_uuid IN :uuids")
_ROOTS: Final = text(
    "SELECT instance_uuid, destination_type FROM block_device_mapping "
    "WHERE deleted = 0 AND boot_index = 0 AND instance_uuid IN :uuids"
)
_IMAGES: Final = text(
    "SELECT instance_uuid, `key`, value FROM instance_system_metadata "
    "WHERE deleted = 0 AND instance_uuid IN :uuids AND `key` IN :keys"
)
_NODES: Final = text("SELECT host, hypervisor_hostname, uuid FROM compute_nodes WHERE deleted = 0 AND uuid IS NOT NULL")


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
        """Its uuid as other tables and services are searched for it."""
        return fold_name(self.uuid)

    @property
    def owner(self) -> tuple[str, str]:
        """Project and user."""
        return self.project_id, self.user_id


def page(cell: Connection, after: int, size: int, uuid: str | None = None) -> list[Instance]:
    """The next instances by id.

    :param after: id of the last one before
    :param uuid: of the only one that is wanted
    """
    statement, values = (_ONE, {"uuid": uuid}) if uuid else (_PAGE, {"size": size})
    rows = cell.execute(statement, {"after": after, **values}).all()
    return [Instance(row[0], row[1], row[2] or "", row[3] or "", *row[4:]) for row in rows]


def count(cell: Connection) -> int:
    """How many instances are on hosts."""
    return int(cell.execute(_COUNT).scalar_one())


def count_behind(cell: Connection, after: int) -> int:
    """How many instances are on hosts, behind an id."""
    return int(cell.execute(_COUNT_BEHIND, {"after": after}).scalar_one())


def unchanged(cell: Connection, known: Iterable[Instance]) -> set[str]:
    """The uuids of those instances that are still where they were, with nothing going on."""
    before = {instance.uuid: (instance.host, instance.node, None) for instance in known}
    rows = _in(cell, _STATE, before)
    return {uuid for uuid, *now in rows if before[uuid] == tuple(now)}


Place = tuple[str, str]
"""Host and node, folded: instances and compute nodes may spell them differently."""


def place_of(host: str | None, node: str | None) -> Place:
    """Where an instance or a compute node is."""
    return fold_name(host or ""), fold_name(node or "")


@dataclass(frozen=True)
class Nodes:
    """The compute nodes of a cell.

    :ivar uuids: by place; a node's uuid is that of its resource provider
    :ivar names: the nodes of each host, by its folded name
    """

    uuids: Mapping[Place, str]
    names: Mapping[str, tuple[str, ...]]

    def names_on(self, host: str | None) -> tuple[str, ...]:
        """The names of the nodes that a host has."""
        return self.names.get(fold_name(host or ""), ())


def nodes(cell: Connection) -> Nodes:
    """The compute nodes of a cell that are not deleted."""
    uuids: dict[Place, str] = {}
    names: dict[str, tuple[str, ...]] = {}
    for host, node, uuid in cell.execute(_NODES):
        uuids[place_of(host, node)] = uuid
        names[fold_name(host or "")] = (*names.get(fold_name(host or ""), ()), node)
    return Nodes(uuids, names)


@dataclass
class Needs:
    """What instances of a cell need of Placement; each flavor is decoded once."""

    _flavors: dict[str, Flavor] = field(default_factory=dict)

    def of(self, cell: Connection, wanted: Sequence[Instance]) -> "dict[str, Need]":
        """What these instances need, by uuid; of one whose flavor cannot be read there is nothing."""
        uuids = [instance.uuid for instance in wanted]
        stored = {fold_name(uuid): flavor for uuid, flavor in _in(cell, _FLAVORS, uuids)}
        roots = {fold_name(uuid): destination for uuid, destination in _in(cell, _ROOTS, uuids)}
        images: dict[str, dict[str, str]] = {}
        for uuid, key, value in _in(cell, _IMAGES, uuids, keys=[IMAGE + name for name in PROPERTIES]):
            images.setdefault(fold_name(uuid), {})[key.removeprefix(IMAGE)] = value or ""
        needs = {}
        for instance in wanted:
            flavor = self._flavor(stored.get(instance.key))
            if flavor:
                # An instance of old times without such a row boots from a volume if it has no image.
                from_volume = not instance.image_ref
                if instance.key in roots:
                    from_volume = roots[instance.key] == "volume"
                needs[instance.uuid] = Need(flavor, from_volume, images.get(instance.key, {}))
        return needs

    def _flavor(self, stored: str | None) -> Flavor | None:
        if stored and stored not in self._flavors:
            try:
                self._flavors[stored] = flavors.read(json.loads(stored))
            except (KeyError, TypeError, ValueError):
                return None
        return self._flavors.get(stored or "")


@dataclass(frozen=True)
class Need:
    """A flavor, and what else decides about resources."""

    flavor: Flavor
    from_volume: bool
    image: Mapping[str, str]

    @property
    def resources(self) -> dict[str, int]:
        """By resource class.

        :raises ValueError: a mask of CPUs cannot be understood
        """
        return self.flavor.resources(self.image, self.from_volume)


def _in(cell: Connection, statement: Any, uuids: Iterable[str], **more: Sequence[str]) -> list[Any]:
    wanted = list(uuids)
    if not wanted:
        return []
    lists = {"uuids": wanted, **more}
    bound = statement.bindparams(*(bindparam(name, values, expanding=True) for name, values in lists.items()))
    return list(cell.execute(bound).all())
