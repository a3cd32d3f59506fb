"""``libvirt update_machine_type``: from the arguments to the exit code."""

import logging

from oslo_config import cfg

from cli import configuration
from cli.output import put, say
from clients.hypervisor import HOST_FIELD, HypervisorProblem
from jobs.libvirt import update_machine_type as job
from jobs.libvirt.instances import UnknownInstance
from jobs.libvirt.update_machine_type import Exit, Params, Refused
from runs.caller import caller
from runs.targets import api_database, hypervisors, mapped_cells

LOG = logging.getLogger("cellkeeper.audit")


def update(uuid: str, machine_type: str, *, force: bool) -> int:
    """Check, record, print; then ask the host of the instance whether it knows the machine type."""
    conf = configuration.load()
    api = api_database(conf)
    if force:
        put("Forcing update of machine type.")
    try:
        instance = job.update(api, mapped_cells(conf, api), Params(uuid, machine_type, force))
    except UnknownInstance as error:
        say(str(error))
        return Exit.UNKNOWN_INSTANCE
    except Refused as refused:
        say(str(refused))
        return refused.code
    LOG.info(
        "libvirt.update_machine_type by %s: instance %s from %s to %s%s",
        caller(), uuid, instance.machine_type, machine_type, ", forced" if force else "",
    )  # fmt: skip
    put(f"Updated instance {uuid} machine type to {machine_type} (previously {instance.machine_type})")
    if instance.host and HOST_FIELD in conf.libvirt.connection_uri:
        _say_doubt(conf, instance.host, machine_type)
    return Exit.UPDATED


def _say_doubt(conf: cfg.ConfigOpts, host: str, machine_type: str) -> None:
    """Warn if the instance may not start; the update stands."""
    reach = hypervisors(conf)
    doubt = reach if isinstance(reach, HypervisorProblem) else job.doubt(reach, host, machine_type)
    if doubt:
        say(f"Warning: {doubt}")
