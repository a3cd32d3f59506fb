"""The category ``cell_v2``.

What a command needs to work is imported when it runs: ``--help`` must be quick.
"""

import click

from cli.cell_v2.options import DiscoverOptions, NewCellOptions, UpdateOptions
from cli.grammar import Category, Command
from cli.options import (
    CONCURRENCY,
    DETACH,
    FORMAT,
    NO_THROTTLE,
    NO_WAIT,
    UNTIL,
    Decorator,
    collect_into,
    new_option,
    option,
    seconds,
)
from cli.run_options import Format, RunOptions

cell_v2 = Category("cell_v2", help="Commands for managing cells v2.")


def cell_uuid(meaning: str, *, required: bool = True) -> Decorator:
    """The option that names a cell.

    :param meaning: the help
    """
    return option("--cell_uuid", required=required, metavar="UUID", help=meaning)


def transport_url(meaning: str) -> Decorator:
    """The option with the message queue of a cell.

    :param meaning: the help
    """
    return option(
        "--transport-url", metavar="URL", help=f"{meaning} By default [DEFAULT]/transport_url."
    )


@cell_v2.command("simple_cell_setup", cls=Command)
@transport_url("The message queue of the cell.")
def simple_cell_setup(transport_url: str | None) -> int:
    """Set up cells: cell0, and one cell with all hosts and all instances.

    Maps cell0 and creates its tables, maps the configured database as a cell together with the
    hosts in it, and maps its instances. What is done already is skipped.

    \b
    Return codes:
      0    Setup is completed, now or before.
      1    No hosts are reporting, or the transport URL is missing or invalid.
      255  A host or an instance could not be mapped, or another error occurred.
    """
    from cli.cell_v2.simple_cell_setup import simple_cell_setup as command

    return command(transport_url)


@cell_v2.command("map_cell0", cls=Command)
@option(
    "--database_connection",
    metavar="URL",
    help="The database of cell0. By default [database]/connection, with _cell0 appended to its "
    "name unless it ends in that.",
)
def map_cell0(database_connection: str | None) -> int:
    """Map the database of cell0, for instances that fail to be scheduled.

    An existing mapping is left as it is. The database itself is not created.

    \b
    Return codes:
      0    cell0 is mapped, now or before.
    """
    from cli.cell_v2.map_cell0 import map_cell0 as command

    return command(database_connection)


@cell_v2.command("map_instances", cls=Command)
@cell_uuid("The cell to which its instances are mapped.")
@option(
    "--max-count",
    metavar="N",
    help="Look at no more than N instances, the oldest first. Default: all.",
)
@option(
    "--reset", is_flag=True, help="Begin with the oldest instance, not where the last run ended."
)
@NO_WAIT
@DETACH
@UNTIL
@NO_THROTTLE
@FORMAT
@collect_into(RunOptions)
def map_instances(run: RunOptions, cell_uuid: str, max_count: str | None, reset: bool) -> int:
    """Map the instances of a cell to it, deleted ones included.

    With --max-count, repeat it until it returns 0: each run continues where the last one ended.

    \b
    Return codes:
      0    All instances have been mapped.
      1    There are still instances to be mapped.
      127  Invalid value for --max-count.
      255  An unexpected error occurred.
    """
    from cli.cell_v2.map_instances import map_instances as command

    return command(run, cell_uuid, max_count, reset=reset)


@cell_v2.command("map_cell_and_hosts", cls=Command)
@transport_url("The message queue of the cell.")
@option("--name", metavar="NAME", help="The name of the cell, if it is not mapped yet.")
@option(
    "--verbose",
    is_flag=True,
    help="Print the hosts that are mapped already, and the UUID of the cell.",
)
def map_cell_and_hosts(transport_url: str | None, name: str | None, verbose: bool) -> int:
    """Map the configured database as a cell, and the hosts in it.

    If some of its hosts are mapped already, the others are mapped to the same cell. It is safe to
    run it again.

    \b
    Return codes:
      0    Successful completion.
      1    The transport URL is missing or invalid.
      255  A host could not be mapped, or another error occurred.
    """
    from cli.cell_v2.map_cell_and_hosts import map_cell_and_hosts as command

    return command(transport_url, name, verbose=verbose)


@cell_v2.command("verify_instance", cls=Command)
@option("--uuid", required=True, metavar="UUID", help="The instance.")
@option("--quiet", is_flag=True, help="Print nothing.")
def verify_instance(uuid: str, quiet: bool) -> int:
    """Verify that an instance is mapped to a cell, and is there.

    \b
    Return codes:
      0    The instance is mapped to a cell, and there.
      1    It is not mapped to a cell, see map_instances, or does not exist.
      2    Its mapping names no cell.
      3    It is deleted, and has a mapping.
      4    It is archived, and still has a mapping.
    """
    from cli.cell_v2.verify_instance import verify_instance as command

    return command(uuid, quiet=quiet)


@cell_v2.command("create_cell", cls=Command)
@option("--name", metavar="NAME", help="The name of the cell.")
@option(
    "--database_connection",
    metavar="URL",
    help="The database of the cell. By default [database]/connection.",
)
@transport_url("The message queue of the cell.")
@option("--verbose", is_flag=True, help="Print the UUID of the new cell.")
@option("--disabled", is_flag=True, help="Create it disabled: nothing is scheduled there.")
@collect_into(NewCellOptions)
def create_cell(options: NewCellOptions) -> int:
    """Map a new cell: its database and its message queue.

    \b
    Return codes:
      0    The cell was created.
      1    The transport URL or the database connection is missing or invalid.
      2    Another cell has that transport URL or that database connection.
    """
    from cli.cell_v2.create_cell import create_cell as command

    return command(options)


@cell_v2.command("discover_hosts", cls=Command, unexpected=1)
@cell_uuid("Search this cell only.", required=False)
@option("--verbose", is_flag=True, help="Print what is looked at and what is mapped.")
@option("--strict", is_flag=True, help="Succeed only if a host is mapped.")
@option(
    "--by-service",
    is_flag=True,
    help="Look at nova-compute services instead of compute nodes: with Ironic, a host may have no "
    "node.",
)
@new_option(
    "--wait-for",
    type=click.IntRange(min=1),
    metavar="N",
    help="Search again until N new hosts are mapped, by this command or the scheduler.",
)
@new_option(
    "--timeout",
    type=seconds(0),
    metavar="SECONDS",
    help="With --wait-for: give up after this time. Default: 600.",
)
@CONCURRENCY
@NO_WAIT
@DETACH
@UNTIL
@NO_THROTTLE
@FORMAT
@collect_into(DiscoverOptions)
@collect_into(RunOptions)
def discover_hosts(run: RunOptions, options: DiscoverOptions) -> int:
    """Search the cells for hosts that are not mapped, and map them.

    Run it after adding compute hosts: until a host is mapped, nothing is scheduled there. Hosts
    that are mapped already are left alone. If it runs twice at the same time, the second run waits.

    \b
    Return codes:
      0    Hosts were mapped, or none had to be.
      1    --strict and no host was mapped, or an error occurred.
      2    Somebody else mapped the same host at the same time: run it again.
    """
    from cli.cell_v2.discover_hosts import discover_hosts as command

    return command(run, options)


@cell_v2.command("list_cells", cls=Command)
@option("--verbose", is_flag=True, help="Show passwords, too.")
@FORMAT
def list_cells(verbose: bool, format: Format) -> int:  # noqa: A002 - the option's name
    """List the cells: names, UUIDs, URLs, and whether they are disabled.

    \b
    Return codes:
      0    They are listed.
    """
    from cli.cell_v2.list_cells import list_cells as command

    return command(format, verbose=verbose)


@cell_v2.command("delete_cell", cls=Command)
@option(
    "--force",
    is_flag=True,
    help="Also delete the mappings of its hosts and of its deleted instances.",
)
@cell_uuid("The cell to delete.")
def delete_cell(cell_uuid: str, force: bool) -> int:
    """Delete a cell's mapping. Its databases are left alone.

    \b
    Return codes:
      0    The cell was deleted.
      1    There is no such cell.
      2    Hosts are mapped to it, and --force is not given.
      3    It has instances.
      4    Deleted instances are mapped to it, and --force is not given.
    """
    from cli.cell_v2.delete_cell import delete_cell as command

    return command(cell_uuid, force=force)


@cell_v2.command("list_hosts", cls=Command)
@cell_uuid("List the hosts of this cell only.", required=False)
@FORMAT
def list_hosts(cell_uuid: str | None, format: Format) -> int:  # noqa: A002 - the option's name
    """List the mapped hosts.

    \b
    Return codes:
      0    They are listed.
      1    There is no such cell.
    """
    from cli.cell_v2.list_hosts import list_hosts as command

    return command(format, cell_uuid)


@cell_v2.command("update_cell", cls=Command)
@cell_uuid("The cell to update.")
@option("--name", metavar="NAME", help="Set its name.")
@transport_url("Set its message queue; running services use it after a restart.")
@option(
    "--database_connection",
    metavar="URL",
    help="Set its database; running services use it after a restart. "
    "By default [database]/connection.",
)
@option(
    "--disable",
    is_flag=True,
    help="Schedule nothing there; takes effect when nova-scheduler gets SIGHUP.",
)
@option(
    "--enable",
    is_flag=True,
    help="Schedule there again; takes effect when nova-scheduler gets SIGHUP.",
)
@new_option(
    "--keep-urls",
    is_flag=True,
    help="Leave URLs that are not given as they are, whatever is configured.",
)
@collect_into(UpdateOptions)
def update_cell(options: UpdateOptions) -> int:
    """Update the properties of a cell.

    Note: URLs that are not given are taken from the configuration, unless --keep-urls is given.

    \b
    Return codes:
      0    The cell was updated.
      1    There is no such cell.
      2    The properties cannot be set.
      3    Another cell has that transport URL or that database connection.
      4    It cannot be disabled and enabled at the same time.
      5    cell0 cannot be disabled or enabled.
    """
    from cli.cell_v2.update_cell import update_cell as command

    return command(options)


@cell_v2.command("delete_host", cls=Command)
@cell_uuid("The cell of the host.")
@option("--host", required=True, metavar="HOST", help="The host.")
def delete_host(cell_uuid: str, host: str) -> int:
    """Delete a host's mapping, so that nothing is scheduled there. Its services and nodes stay.

    \b
    Return codes:
      0    The mapping was deleted.
      1    There is no such cell.
      2    There is no such host.
      3    The host is mapped to another cell.
      4    The host has instances.
    """
    from cli.cell_v2.delete_host import delete_host as command

    return command(cell_uuid, host)
