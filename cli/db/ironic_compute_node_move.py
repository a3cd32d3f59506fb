"""``db ironic_compute_node_move``: from the options to the exit code."""

from cli import configuration
from cli.output import say
from jobs.db.ironic_compute_node_move import Exit, Refused, move
from runs.targets import own_database


def ironic_compute_node_move(ironic_node_uuid: str, destination_host: str) -> int:
    """Move; there is nothing to print."""
    conf = configuration.load()
    try:
        move(own_database(conf), ironic_node_uuid, destination_host)
    except Refused as refused:
        say(str(refused))
        return Exit.ERROR
    return Exit.MOVED
