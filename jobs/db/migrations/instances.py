"""Instances without availability zone, or without the id of their compute node."""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, exists, func, select

from jobs.api_connection import ApiConnection
from jobs.db.migrations.migration import (
    NAMED,
    Batch,
    Left,
    Migration,
    Place,
    Tally,
    all_have,
    fill,
    next_after,
    pairs,
)
from novadb.names import fold_name
from novadb.nova_tables import AGGREGATE_HOSTS, AGGREGATE_METADATA, COMPUTE_NODES, INSTANCES

NO_HOST: Final = "instances without a host, as in cell0 or while shelved: they have no compute node"
NO_NODE: Final = "instances whose host and node no compute node has, not even a deleted one"


def set_availability_zones(place: Place, size: int, after: int) -> Batch:
    """Give instances the zone of their host, deleted ones too."""
    due = select(INSTANCES.c.id, INSTANCES.c.host).where(
        INSTANCES.c.id > after,
        INSTANCES.c.availability_zone.is_(None),
        INSTANCES.c.host.is_not(None),
    )
    hosts = pairs(place.cell, due.order_by(INSTANCES.c.id).limit(size))
    place.rollback()
    zones = zones_of(place.api, set(hosts.values())) if hosts else {}
    values = {
        number: zones.get(fold_name(host), place.defaults.zone) for number, host in hosts.items()
    }
    with place.writing(len(values), all_have(INSTANCES, "availability_zone", values)) as cell:
        done = fill(cell, INSTANCES, "availability_zone", values)
    return Batch(Tally(len(hosts), done), next_after(list(hosts), size))


def zones_of(api: ApiConnection, hosts: Iterable[str]) -> dict[str, str]:
    """The availability zones of hosts that are in an aggregate with one; of several, that of the
    oldest aggregate.

    :returns: by the folded name of the host
    """
    zones = (
        select(AGGREGATE_HOSTS.c.host, AGGREGATE_METADATA.c.value)
        .join_from(
            AGGREGATE_HOSTS,
            AGGREGATE_METADATA,
            AGGREGATE_METADATA.c.aggregate_id == AGGREGATE_HOSTS.c.aggregate_id,
        )
        .where(
            AGGREGATE_METADATA.c.key == "availability_zone",
            AGGREGATE_HOSTS.c.host.in_(sorted(hosts)),
        )
        .order_by(AGGREGATE_HOSTS.c.aggregate_id.desc())
    )
    with api.transaction() as connection:
        return {fold_name(host): zone for host, zone in connection.execute(zones)}


SAME_NODE: Final[ColumnElement[bool]] = and_(
    COMPUTE_NODES.c.host == INSTANCES.c.host,
    COMPUTE_NODES.c.hypervisor_hostname == INSTANCES.c.node,
)
# Of several nodes of one name the one that is alive; else the oldest.
NODE: Final = (
    select(COMPUTE_NODES.c.id)
    .where(SAME_NODE)
    .order_by(COMPUTE_NODES.c.deleted != 0, COMPUTE_NODES.c.id)
    .limit(1)
    .scalar_subquery()
)
NODE_IS_KNOWN: Final = exists(select(COMPUTE_NODES.c.id).where(SAME_NODE))


def set_compute_ids(place: Place, size: int, after: int) -> Batch:
    """Give instances the id of their compute node, deleted ones too; at last, count those that have
    none.

    Only instances whose node is known come under the limit: the others would take up every batch
    for ever.
    """
    due = select(INSTANCES.c.id, NODE).where(
        INSTANCES.c.id > after, INSTANCES.c.compute_id.is_(None), NODE_IS_KNOWN
    )
    nodes = pairs(place.cell, due.order_by(INSTANCES.c.id).limit(size))
    with place.writing(len(nodes), all_have(INSTANCES, "compute_id", nodes)) as cell:
        done = fill(cell, INSTANCES, "compute_id", nodes)
    tally, following = Tally(len(nodes), done), next_after(list(nodes), size)
    return Batch(tally if following else tally + _without_node(place.cell), following)


def _without_node(cell: Connection) -> Tally:
    """The instances that stay without compute node id."""
    tally = Tally()
    for reason, condition in (
        (NO_HOST, INSTANCES.c.host.is_(None)),
        (NO_NODE, and_(INSTANCES.c.host.is_not(None), ~NODE_IS_KNOWN)),
    ):
        lacking = and_(INSTANCES.c.compute_id.is_(None), condition)
        count = cell.execute(
            select(func.count()).select_from(INSTANCES).where(lacking)
        ).scalar_one()
        if count:
            named = cell.execute(
                select(INSTANCES.c.uuid).where(lacking).order_by(INSTANCES.c.id).limit(NAMED)
            )
            tally += Tally(count, left={reason: Left(count, tuple(named.scalars()))})
    return tally


POPULATE_MISSING_AVAILABILITY_ZONES: Final = Migration(
    "populate_missing_availability_zones",
    set_availability_zones,
    cell_columns=("instances.availability_zone",),
)
POPULATE_INSTANCE_COMPUTE_ID: Final = Migration(
    "populate_instance_compute_id", set_compute_ids, cell_columns=("instances.compute_id",)
)
