"""``db ironic_compute_node_move``: give an Ironic node, with the instance on it, to another
nova-compute service.
"""

from enum import IntEnum
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, TableClause, select, update

from jobs.retry import transactionally
from novadb.clock import utc_now
from novadb.engine import Database
from novadb.nova_tables import COMPUTE_NODES, INSTANCES, SERVICES


class Exit(IntEnum):
    """The manual's return codes."""

    MOVED = 0
    ERROR = 255


class Refused(Exception):
    """The node cannot be moved; the text says why, and what to do."""


def move(database: Database, node_uuid: str, host: str) -> None:
    """Move a node in one transaction: all of it or nothing.

    :param node_uuid: of the compute node, which is the Ironic node's
    :param host: of the nova-compute service that gets it
    :raises Refused: it may not be moved; nothing is changed
    :raises DatabaseProblem: the database cannot be used
    """
    with database.connect() as cell:
        transactionally(partial(_move, cell, node_uuid, host), cell, name=str(database))


def _move(cell: Connection, node_uuid: str, host: str) -> None:
    destination = _row(cell, SERVICES, SERVICES.c.host == host, SERVICES.c.binary == "nova-compute")
    if destination is None:
        raise Refused(f"There is no nova-compute service on the host {host}")
    if destination.forced_down:
        raise Refused(f"The nova-compute service on {host} is forced down; it cannot get the node")
    node = _row(cell, COMPUTE_NODES, COMPUTE_NODES.c.uuid == node_uuid)
    if node is None:
        raise Refused(f"There is no compute node with the uuid {node_uuid}")
    source = _row(cell, SERVICES, SERVICES.c.id == node.service_id)
    if source is None:
        raise Refused(f"The service of the compute node {node_uuid} does not exist")
    if not source.forced_down:
        raise Refused(
            f"The nova-compute service on {source.host} has the node and is not yet forced down"
        )
    live = (
        INSTANCES.c.deleted == 0,
        INSTANCES.c.host == node.host,
        INSTANCES.c.node == node.hypervisor_hostname,
    )
    instances = cell.execute(select(INSTANCES.c.id).where(*live).with_for_update()).scalars().all()
    if len(instances) > 1:
        raise Refused(
            f"There are {len(instances)} instances on the node, where Ironic has one: "
            "delete those whose uuid is not the instance uuid that Ironic has for the node"
        )
    moved = {"host": destination.host, "updated_at": utc_now()}
    cell.execute(
        update(COMPUTE_NODES)
        .where(COMPUTE_NODES.c.id == node.id)
        .values(service_id=destination.id, **moved)
    )
    cell.execute(update(INSTANCES).where(INSTANCES.c.id.in_(instances)).values(moved))
    cell.commit()


def _row(cell: Connection, rows: TableClause, *conditions: Any) -> Row[Any] | None:
    """The first live row, which nobody changes until the transaction ends."""
    wanted = select(rows).where(rows.c.deleted == 0, *conditions).order_by(rows.c.id).limit(1)
    return cell.execute(wanted.with_for_update()).first()
