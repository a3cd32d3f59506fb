"""``libvirt get_machine_type``: from the argument to the exit code."""

from cli import configuration
from cli.output import put, say
from jobs.libvirt.get_machine_type import Exit, read_machine_type
from jobs.libvirt.instances import UnknownInstance
from runs.targets import api_database, mapped_cells


def print_machine_type(uuid: str) -> int:
    """Print the recorded machine type of an instance."""
    conf = configuration.load()
    api = api_database(conf)
    try:
        machine_type = read_machine_type(api, mapped_cells(conf, api), uuid)
    except UnknownInstance as error:
        say(str(error))
        return Exit.UNKNOWN_INSTANCE
    if machine_type is None:
        put(f"No machine type registered for instance {uuid}")
        return Exit.NO_MACHINE_TYPE
    put(machine_type)
    return Exit.FOUND
