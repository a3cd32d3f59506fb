"""Instances whose virtual interfaces are not those, or not in the order, of the cache of their
network.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, or_, select, true, update
from sqlalchemy.exc import IntegrityError

from jobs.db.migrations.migration import (
    FAKE,
    Batch,
    IsDone,
    Migration,
    Place,
    Tally,
    left_for,
    pairs,
)
from jobs.retry import TryAgain
from novadb.clock import utc_now
from novadb.errors import DatabaseProblem
from novadb.names import fold_name
from novadb.nova_tables import INSTANCE_INFO_CACHES, INSTANCES, VIRTUAL_INTERFACES, nova_table

# What Nova keeps of every instance, and the column with the instance's uuid.
OF_EVERY_INSTANCE: Final = {
    "instance_extra": "instance_uuid",
    "instance_info_caches": "instance_uuid",
    "instance_id_mappings": "uuid",
}
LIVE: Final[ColumnElement[bool]] = and_(
    INSTANCES.c.deleted == 0,
    or_(INSTANCES.c.vm_state.is_(None), INSTANCES.c.vm_state != "soft-delete"),
    or_(
        INSTANCES.c.hidden.is_(None), INSTANCES.c.hidden == 0
    ),  # the other half of a move between cells is
    INSTANCES.c.uuid != FAKE,
)
IN_ORDER: Final = (INSTANCES.c.created_at, INSTANCES.c.id)

UNREADABLE: Final = "instances whose network cache cannot be read"
TOO_MANY: Final = (
    "instances with more interfaces than their network cache lists: perhaps one is being attached"
)
TAKEN: Final = "instances one of whose ports is another instance's, too"


class Port(NamedTuple):
    """An interface, by the port's uuid and the address that the table has for it."""

    uuid: str
    address: str


@dataclass(frozen=True)
class Look:
    """What a look at some instances tells.

    :ivar checked: how many have a cache to compare with
    :ivar rebuild: the ports of those whose interfaces are to be written anew, by instance
    :ivar left: those that stay as they are, by the reason
    """

    checked: int
    rebuild: dict[str, list[Port]]
    left: dict[str, list[str]]


def rebuild_interfaces(place: Place, size: int, _after: int) -> Batch:
    """Look at the next live instances in order of their creation, and write anew the interfaces
    that differ.

    How far the look has come stands in the cell, in a row like the stock tool's: each instance is
    looked at once, by whichever tool. The row is locked, so that two runs take turns.
    """
    cell, gone = place.cell, INSTANCES.c.uuid == FAKE
    fake = cell.execute(select(INSTANCES.c.id).where(gone).with_for_update()).scalar()
    following = (
        select(INSTANCES.c.uuid).where(LIVE, _behind_marker(cell)).order_by(*IN_ORDER).limit(size)
    )
    uuids = list(cell.execute(following).scalars())
    if not uuids:
        return Batch(Tally(), None)
    with place.writing(len(uuids), _is_marked(uuids[-1])):
        if fake is None:
            _make_fake_instance(cell)
        look = _look(cell, uuids)
        _rebuild(cell, look.rebuild)
        _set_marker(cell, uuids[-1])
    tally = Tally(look.checked - sum(map(len, look.left.values())), len(look.rebuild))
    for reason, instances in look.left.items():
        tally += left_for(reason, instances)
    return Batch(tally, 0 if len(uuids) == size else None, looked_at=len(uuids))


def _is_marked(uuid: str) -> IsDone:
    """Whether the look has come to an instance."""
    marked = select(VIRTUAL_INTERFACES.c.tag).where(
        VIRTUAL_INTERFACES.c.instance_uuid == FAKE, VIRTUAL_INTERFACES.c.deleted == 0
    )
    return lambda cell: cell.execute(marked.limit(1)).scalar() == uuid


def _behind_marker(cell: Connection) -> ColumnElement[bool]:
    """The condition that an instance comes after the marked one.

    Without a marker, or if the marked instance was archived meanwhile, all do.
    """
    marked = select(VIRTUAL_INTERFACES.c.tag).where(
        VIRTUAL_INTERFACES.c.instance_uuid == FAKE, VIRTUAL_INTERFACES.c.deleted == 0
    )
    uuid = cell.execute(marked.limit(1)).scalar()
    place = (
        cell.execute(select(*IN_ORDER).where(INSTANCES.c.uuid == uuid)).one_or_none()
        if uuid
        else None
    )
    if place is None:
        return true()
    created, number = place
    if created is None:  # these come first
        return or_(INSTANCES.c.created_at.is_not(None), INSTANCES.c.id > number)
    return or_(
        INSTANCES.c.created_at > created,
        and_(INSTANCES.c.created_at == created, INSTANCES.c.id > number),
    )


def _look(cell: Connection, uuids: Sequence[str]) -> Look:
    """Compare the interfaces of instances with the caches of their networks."""
    cached = select(INSTANCE_INFO_CACHES.c.instance_uuid, INSTANCE_INFO_CACHES.c.network_info)
    rows = cell.execute(
        cached.where(
            INSTANCE_INFO_CACHES.c.instance_uuid.in_(uuids), INSTANCE_INFO_CACHES.c.deleted == 0
        )
    )
    caches = {fold_name(uuid): network for uuid, network in rows}
    known = _interfaces(cell, VIRTUAL_INTERFACES.c.instance_uuid.in_(uuids))
    checked, rebuild, left = 0, {}, defaultdict(list)
    for uuid in uuids:
        try:
            ports = ports_of(caches.get(fold_name(uuid)))
        except (ValueError, TypeError, KeyError, AttributeError):
            checked += 1
            left[UNREADABLE].append(uuid)
            continue
        if not ports:
            continue
        checked += 1
        ports_now = known[fold_name(uuid)]
        if len(ports_now) > len(ports):
            left[TOO_MANY].append(uuid)
        elif ports_now != [port.uuid for port in ports]:
            rebuild[uuid] = ports
    for uuid in _with_taken_ports(cell, rebuild):
        left[TAKEN].append(uuid)
        del rebuild[uuid]
    return Look(checked, rebuild, dict(left))


def ports_of(cache: str | None) -> list[Port]:
    """The ports that a cache of a network lists.

    :raises ValueError, TypeError, KeyError, AttributeError: it is none
    """
    return [
        Port(vif["id"], f"{vif.get('address')}/{vif['id']}")
        for vif in json.loads(cache or "[]") or ()
    ]


def _interfaces(cell: Connection, condition: ColumnElement[bool]) -> Mapping[str, list[str]]:
    """The live interfaces of instances by folded uuid, in the order in which Nova lists them."""
    rows = cell.execute(
        select(VIRTUAL_INTERFACES.c.instance_uuid, VIRTUAL_INTERFACES.c.uuid)
        .where(condition, VIRTUAL_INTERFACES.c.deleted == 0)
        .order_by(VIRTUAL_INTERFACES.c.created_at, VIRTUAL_INTERFACES.c.id)
    )
    known: defaultdict[str, list[str]] = defaultdict(list)
    for instance, port in rows:
        known[fold_name(instance)].append(port)
    return known


def _with_taken_ports(cell: Connection, rebuild: Mapping[str, list[Port]]) -> list[str]:
    """The instances that list a port twice, or one that is another instance's: an address is in the
    table once.
    """
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for uuid, ports in rebuild.items():
        for port in ports:
            owners[fold_name(port.address)].append(uuid)
    held = select(VIRTUAL_INTERFACES.c.address, VIRTUAL_INTERFACES.c.instance_uuid)
    for address, uuid in cell.execute(
        held.where(
            VIRTUAL_INTERFACES.c.address.in_(list(owners)), VIRTUAL_INTERFACES.c.deleted == 0
        )
    ):
        claims = owners[fold_name(address)]
        if fold_name(uuid) not in map(fold_name, claims):
            claims.append(uuid)
    return [
        uuid
        for uuid, ports in rebuild.items()
        if any(len(owners[fold_name(port.address)]) > 1 for port in ports)
    ]


def _rebuild(cell: Connection, rebuild: Mapping[str, list[Port]]) -> None:
    """Soft-delete the interfaces of instances and write them anew, in the order of the caches; tags
    are kept.
    """
    if not rebuild:
        return
    old = and_(
        VIRTUAL_INTERFACES.c.instance_uuid.in_(list(rebuild)), VIRTUAL_INTERFACES.c.deleted == 0
    )
    tags = pairs(cell, select(VIRTUAL_INTERFACES.c.uuid, VIRTUAL_INTERFACES.c.tag).where(old))
    cell.execute(
        update(VIRTUAL_INTERFACES)
        .where(old)
        .values(deleted=VIRTUAL_INTERFACES.c.id, deleted_at=utc_now())
    )
    new = [
        {
            "uuid": port.uuid,
            "address": port.address,
            "instance_uuid": uuid,
            "tag": tags.get(port.uuid),
        }
        for uuid, ports in rebuild.items()
        for port in ports
    ]
    cell.execute(insert(VIRTUAL_INTERFACES).values(created_at=utc_now(), deleted=0), new)


def _make_fake_instance(cell: Connection) -> None:
    """Make the deleted instance that the marker's foreign key needs, with the rows that each
    instance has.
    """
    flags = dict.fromkeys(("cleaned", "hidden", "shutdown_terminate", "disable_terminate"), 0)
    stamps = {"created_at": utc_now(), "deleted_at": utc_now()}
    made = insert(INSTANCES).values(
        uuid=FAKE, project_id=FAKE, user_id=FAKE, deleted=0, **flags, **stamps
    )
    try:
        cell.execute(made)
    except IntegrityError as error:  # another run has just made it
        raise TryAgain(
            DatabaseProblem("the marker of fill_virtual_interface_list cannot be made")
        ) from error
    cell.execute(update(INSTANCES).where(INSTANCES.c.uuid == FAKE).values(deleted=INSTANCES.c.id))
    for name, key in OF_EVERY_INSTANCE.items():
        rows = nova_table(name, "created_at", "deleted_at", "deleted", key)
        cell.execute(insert(rows).values({key: FAKE, "deleted": 0, **stamps}))
        cell.execute(update(rows).where(rows.c[key] == FAKE).values(deleted=rows.c.id))


def _set_marker(cell: Connection, uuid: str) -> None:
    """Note the last instance that was looked at, as the stock tool does: in the tag of an interface
    that is none.
    """
    cell.execute(delete(VIRTUAL_INTERFACES).where(VIRTUAL_INTERFACES.c.instance_uuid == FAKE))
    marker: dict[str, Any] = {
        "uuid": FAKE,
        "instance_uuid": FAKE,
        "address": f"ff:ff:ff:ff:ff:ff/{FAKE}",
        "tag": uuid,
    }
    cell.execute(insert(VIRTUAL_INTERFACES).values(created_at=utc_now(), deleted=0, **marker))


FILL_VIRTUAL_INTERFACE_LIST: Final = Migration(
    "fill_virtual_interface_list",
    rebuild_interfaces,
    cell_columns=("virtual_interfaces.tag", "instances.hidden"),
    walks=True,
    looks=True,
)
