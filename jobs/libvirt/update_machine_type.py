"""``libvirt update_machine_type``: set the recorded machine type of an instance."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Final

from sqlalchemy import Connection

from clients.hypervisor import HypervisorProblem, Hypervisors
from jobs.libvirt import instances
from jobs.libvirt.instances import Instance
from jobs.libvirt.machine_types import MachineType, objection
from jobs.retry import transactionally
from novadb.cells import Cell
from novadb.engine import Database

UPDATABLE: Final = ("stopped", "shelved", "shelved_offloaded")


class Exit(IntEnum):
    """The manual's return codes."""

    UPDATED = 0
    ERROR = 1
    UNKNOWN_INSTANCE = 2
    INVALID_STATE = 3
    INVALID_UPDATE = 4
    UNSUPPORTED = 5


class Refused(Exception):
    """The update was not made.

    :ivar code: the documented one
    """

    def __init__(self, code: Exit, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Params:
    """The arguments of the command.

    :ivar force: skip the checks
    """

    uuid: str
    machine_type: str
    force: bool = False


def update(api: Database, cells: Sequence[Cell], params: Params) -> Instance:
    """Record a machine type, if the instance may have it.

    :param cells: the registry
    :returns: the instance as it was before
    :raises UnknownInstance: there is no such instance, or no mapping of it
    :raises Refused: the instance may not have it
    :raises DatabaseProblem: a database cannot be used
    """
    database = instances.database_of(api, cells, params.uuid)
    with database.connect() as cell:
        return transactionally(partial(_update, cell, params), cell, name=str(database))


def _update(cell: Connection, params: Params) -> Instance:
    """The transaction; the instance is claimed: its state cannot change between the checks and the commit."""
    instance = instances.find(cell, params.uuid, claim=True)
    if not params.machine_type:
        raise Refused(Exit.UNSUPPORTED, "The machine type is empty: nothing is changed")
    if instance.machine_type != params.machine_type:
        if not params.force:
            check(instance, params.machine_type)
        instances.write(cell, {instance.uuid: params.machine_type})
    cell.commit()
    return instance


def check(instance: Instance, wanted: str) -> None:
    """See whether an instance may have a machine type.

    :raises Refused: it may not; the first of the manual's criteria that is not met
    """
    if instance.vm_state not in UPDATABLE:
        allowed = f"{', '.join(UPDATABLE[:-1])} or {UPDATABLE[-1]}"
        raise Refused(Exit.INVALID_STATE, f"Instance {instance.uuid} is {instance.vm_state}: it must be {allowed}")
    new = MachineType.parse(wanted)
    if not new.supported:
        raise Refused(Exit.UNSUPPORTED, f"Machine type {wanted} is not supported")
    if instance.machine_type:
        reason = objection(MachineType.parse(instance.machine_type), new)
        if reason:
            refused = f"Cannot update machine type {instance.machine_type} to {wanted}: {reason}"
            raise Refused(Exit.INVALID_UPDATE, refused)


def doubt(hypervisors: Hypervisors, host: str, machine_type: str) -> str | None:
    """Why an instance with this machine type may not start on its host; None: it should.

    :returns: one line
    """
    try:
        known = hypervisors.known_machine_types(host)
    except HypervisorProblem as problem:
        return f"{host} could not be asked whether it knows the machine type {machine_type}: {problem}"
    if known and machine_type not in known:
        return f"{host} does not know the machine type {machine_type}: the instance will not start there"
    return None
