"""``libvirt update_machine_type``: from the arguments to the exit code."""

import logging

from oslo_config import cfg

from cli import configuration
from cli.output import put, say
from clients.hypervisor import HOST_FIELD, HypervisorProblem
from jobs.libvirt.instances import UnknownInstance
from jobs.libvirt.update_machine_type import (
    Exit,
    Params,
    UpdateRefused,
    update_machine_type,
    why_it_may_not_start,
)
from runs.caller import caller
from runs.targets import api_database, hypervisors, mapped_cells

LOG = logging.getLogger("cellkeeper.audit")


def update(uuid: str, machine_type: str, *, force: bool) -> int:
    """Check, record, print; then ask the instance's host whether it knows the machine type."""
    conf = configuration.load()
    api = api_database(conf)
    if force:
        put("Forcing update of machine type.")
    params = Params(uuid, machine_type, force)
    try:
        instance = update_machine_type(api, mapped_cells(conf, api), params)
    except UnknownInstance as error:
        say(str(error))
        return Exit.UNKNOWN_INSTANCE
    except UpdateRefused as refusal:
        say(str(refusal))
        return refusal.code
    LOG.info(
        "libvirt.update_machine_type by %s: instance %s from %s to %s%s",
        caller(),
        uuid,
        instance.machine_type,
        machine_type,
        ", forced" if force else "",
    )
    put(
        f"Updated instance {uuid} machine type to {machine_type} "
        f"(previously {instance.machine_type})"
    )
    if instance.host and HOST_FIELD in conf.libvirt.connection_uri:
        _warn_if_it_may_not_start(conf, instance.host, machine_type)
    return Exit.UPDATED


def _warn_if_it_may_not_start(conf: cfg.ConfigOpts, host: str, machine_type: str) -> None:
    """Warn if the host may not know the machine type; the update stands."""
    asked = hypervisors(conf)
    if isinstance(asked, HypervisorProblem):
        say(f"Warning: {asked}")
    elif reason := why_it_may_not_start(asked, host, machine_type):
        say(f"Warning: {reason}")
