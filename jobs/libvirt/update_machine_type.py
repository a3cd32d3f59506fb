"""``libvirt update_machine_type``: set the recorded machine type of an instance."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Final

from sqlalchemy import Connection

from clients.hypervisor import HypervisorProblem, Hypervisors
from jobs.libvirt.instances import Instance, find_database, find_instance, write_machine_types
from jobs.libvirt.machine_types import MachineType, objection_to_update
from jobs.retry import transactionally
from novadb.cells import Cell
from novadb.engine import Database

UPDATABLE_STATES: Final = ("stopped", "shelved", "shelved_offloaded")


class Exit(IntEnum):
    """The manual's return codes."""

    UPDATED = 0
    ERROR = 1
    UNKNOWN_INSTANCE = 2
    INVALID_STATE = 3
    INVALID_UPDATE = 4
    UNSUPPORTED = 5


class UpdateRefused(Exception):
    """The update was not made; the text says why.

    :ivar code: the documented return code
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


def update_machine_type(api: Database, cells: Sequence[Cell], params: Params) -> Instance:
    """Record a machine type, if the instance may have it.

    :param cells: all mapped cells
    :returns: the instance as it was before
    :raises UnknownInstance: there is no such instance, or no mapping of it
    :raises UpdateRefused: the instance may not have it
    :raises DatabaseProblem: a database cannot be used
    """
    database = find_database(api, cells, params.uuid)
    with database.connect() as cell:
        return transactionally(partial(_update, cell, params), cell, name=str(database))


def _update(cell: Connection, params: Params) -> Instance:
    """One transaction. Its lock keeps the instance's state from changing before the commit."""
    instance = find_instance(cell, params.uuid, claim=True)
    if not params.machine_type:
        raise UpdateRefused(Exit.UNSUPPORTED, "The machine type is empty: nothing is changed")
    if instance.machine_type != params.machine_type:
        if not params.force:
            check_update(instance, params.machine_type)
        write_machine_types(cell, {instance.uuid: params.machine_type})
    cell.commit()
    return instance


def check_update(instance: Instance, machine_type: str) -> None:
    """See whether an instance may be given a machine type.

    :raises UpdateRefused: it may not; the first of the manual's criteria that is not met
    """
    if instance.vm_state not in UPDATABLE_STATES:
        allowed = f"{', '.join(UPDATABLE_STATES[:-1])} or {UPDATABLE_STATES[-1]}"
        raise UpdateRefused(
            Exit.INVALID_STATE,
            f"Instance {instance.uuid} is {instance.vm_state}: it must be {allowed}",
        )
    new = MachineType.parse(machine_type)
    if not new.supported:
        raise UpdateRefused(Exit.UNSUPPORTED, f"Machine type {machine_type} is not supported")
    if instance.machine_type:
        old = MachineType.parse(instance.machine_type)
        if reason := objection_to_update(old, new):
            text = f"Cannot update machine type {old.name} to {new.name}: {reason}"
            raise UpdateRefused(Exit.INVALID_UPDATE, text)


def why_it_may_not_start(hypervisors: Hypervisors, host: str, machine_type: str) -> str | None:
    """Why an instance with this machine type may not start on its host; None: it should."""
    try:
        known = hypervisors.known_machine_types(host)
    except HypervisorProblem as problem:
        return (
            f"{host} could not be asked whether it knows the machine type {machine_type}: {problem}"
        )
    if known and machine_type not in known:
        return (
            f"{host} does not know the machine type {machine_type}: "
            "the instance will not start there"
        )
    return None
