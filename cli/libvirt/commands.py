"""The category ``libvirt``.

What a command needs to work is imported when it runs: ``--help`` must be quick.
"""

import click

from cli.grammar import Category, Command
from cli.options import (
    CONCURRENCY,
    DETACH,
    FORMAT,
    NO_THROTTLE,
    NO_WAIT,
    UNTIL,
    collect_into,
    new_option,
    option,
)
from cli.run_options import RunOptions

libvirt = Category("libvirt", help="Commands for the machine types of instances that libvirt runs.")


@libvirt.command("get_machine_type", cls=Command, unexpected=1)
@click.argument("instance_uuid")
def get_machine_type(instance_uuid: str) -> int:
    """Print the recorded machine type of an instance.

    \b
    Return codes:
      0    Successfully completed.
      1    An unexpected error occurred.
      2    Unable to find instance or instance mapping.
      3    No machine type found for instance.
    """
    from cli.libvirt.get_machine_type import print_machine_type

    return print_machine_type(instance_uuid)


@libvirt.command("update_machine_type", cls=Command, unexpected=1)
@click.argument("instance_uuid")
@click.argument("machine_type")
@option(
    "--force", is_flag=True, help="Skip the checks. The hardware that the instance sees may change."
)
def update_machine_type(instance_uuid: str, machine_type: str, force: bool) -> int:
    """Set or update the recorded machine type of an instance.

    The instance must be stopped, shelved or shelved offloaded. The machine type must be pc, q35,
    virt or s390-ccw-virtio, or a version of pc, pc-i440fx, pc-q35, virt or s390-ccw-virtio. An
    update must not move the instance between underlying machine types (pc to q35), between an
    alias and a version (pc to pc-1.2.3), or to an older version.

    \b
    Return codes:
      0    Update completed successfully.
      1    An unexpected error occurred.
      2    Unable to find instance or instance mapping.
      3    The instance has an invalid vm_state.
      4    The proposed update of the machine type is invalid.
      5    The provided machine type is unsupported.
    """
    from cli.libvirt.update_machine_type import update

    return update(instance_uuid, machine_type, force=force)


@libvirt.command("list_unset_machine_type", cls=Command, unexpected=1)
@option("--cell-uuid", metavar="UUID", help="Look in this cell only.")
@CONCURRENCY
@FORMAT
@collect_into(RunOptions)
def list_unset_machine_type(run: RunOptions, cell_uuid: str | None) -> int:
    """List the instances without a recorded machine type, by their UUIDs.

    Looks in all cells but cell0. As long as there are such instances, it is not safe to change
    hw_machine_type in section [libvirt] of nova.conf.

    \b
    Return codes:
      0    Completed successfully, no instances found without hw_machine_type.
      1    An unexpected error occurred.
      2    Unable to find cell mapping.
      3    Instances found without hw_machine_type set.
    """
    from cli.libvirt.list_unset_machine_type import list_unset

    return list_unset(run, cell_uuid)


@libvirt.command("record_machine_types", cls=Command, unexpected=1)
@new_option("--cell-uuid", metavar="UUID", help="Record instances of this cell only.")
@new_option("--host", metavar="HOST", help="Record instances on this host only.")
@new_option("--dry-run", is_flag=True, help="Ask the hosts and print their answers; write nothing.")
@CONCURRENCY
@NO_WAIT
@DETACH
@UNTIL
@NO_THROTTLE
@FORMAT
@collect_into(RunOptions)
def record_machine_types(
    run: RunOptions, cell_uuid: str | None, host: str | None, dry_run: bool
) -> int:
    """Record the machine types that instances without a recorded one really have.

    Asks the libvirt of each host at connection_uri in section [libvirt], in which {host} stands for
    the name of the host: qemu+tls://{host}/system. A host that does not answer is named and passed
    over.

    \b
    Return codes:
      0    No instance is left without a machine type.
      1    An unexpected error occurred.
      2    Unable to find cell mapping or host mapping.
      3    Instances are left without a machine type.
      4    Hosts cannot be asked: connection_uri or libvirt-python is missing.
    """
    from cli.libvirt.record_machine_types import record_types

    return record_types(run, cell_uuid, host, dry_run=dry_run)
