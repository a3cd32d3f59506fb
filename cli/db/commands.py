"""The category ``db``.

What a command needs to work is imported when it runs: ``--help`` must be quick.
"""

import click

from cli.db.options import ArchiveOptions, PurgeOptions
from cli.grammar import Category, Command
from cli.options import (
    ALL_CELLS,
    CONCURRENCY,
    DETACH,
    DRY_RUN,
    FORMAT,
    NO_THROTTLE,
    NO_WAIT,
    UNTIL,
    collect_into,
    new_option,
    option,
    seconds,
)
from cli.run_options import RunOptions

db = Category(
    "db",
    help="Commands for managing the databases of the cells.",
    aliases={"archive": "archive_deleted_rows"},
)


@db.command("version", cls=Command)
def version() -> int:
    """Print the current version of the main database.

    It is a revision, or a number where the database is from before release 24; None where there is
    neither.

    \b
    Return codes:
      0    The version was printed.
      255  An unexpected error occurred.
    """
    from cli.db.version import version as print_version

    return print_version()


@db.command("sync", cls=Command)
@click.argument("revision", required=False, metavar="[VERSION]")
@option("--local_cell", is_flag=True, help="Upgrade the configured database alone, without cell0.")
@new_option(
    "--all-cells",
    is_flag=True,
    help="Upgrade all mapped cells at the same time, a process for each.",
)
@new_option("--cell", metavar="CELL", help="Upgrade this mapped cell, by its uuid or name.")
@CONCURRENCY
@NO_WAIT
@FORMAT
@collect_into(RunOptions)
def sync(
    run: RunOptions, revision: str | None, local_cell: bool, all_cells: bool, cell: str | None
) -> int:
    """Upgrade the schema of the main database.

    It goes up to VERSION, a revision, or to the newest one; cell0 is upgraded first, if it is
    mapped. Run it after api_db sync. It may be run again at any time, also after it was
    interrupted.

    \b
    Return codes:
      0    Successfully synced database schema.
      1    Failed to access cell0.
      255  An unexpected error occurred.
    """
    from cli.db.sync import sync as run_sync

    return run_sync(run, revision, local_cell=local_cell, all_cells=all_cells, cell=cell)


@db.command("archive_deleted_rows", cls=Command)
@option(
    "--max_rows",
    type=int,
    default=1000,
    show_default=True,
    metavar="ROWS",
    help="Maximum number of rows to archive. It does not include the rows that are removed from "
    "the API database.",
)
@option(
    "--before",
    metavar="DATE",
    help="Archive rows deleted before this date: YYYY-MM-DD, 'YYYY-MM-DD HH:MM', what date prints, "
    "or an age: 90d.",
)
@option("--verbose", is_flag=True, help="Print how many rows were archived per table.")
@option(
    "--until-complete",
    is_flag=True,
    help="Run until all deleted rows are archived, --max_rows at a time.",
)
@option(
    "--purge",
    is_flag=True,
    help="Purge the shadow tables afterwards; with --before, by the same date.",
)
@ALL_CELLS
@option("--task-log", is_flag=True, help="Also archive task_log, by the time of the last update.")
@option(
    "--sleep",
    type=seconds(0),
    default=0,
    metavar="SECONDS",
    help="Pause after each --max_rows rows of a cell, with --until-complete.",
)
@new_option(
    "--repair",
    is_flag=True,
    help="Resolve blocked rows: identical rows in shadow tables, leftover API rows of archived "
    "instances.",
)
@DRY_RUN
@CONCURRENCY
@NO_WAIT
@DETACH
@UNTIL
@NO_THROTTLE
@FORMAT
@collect_into(ArchiveOptions)
@collect_into(RunOptions)
def archive_deleted_rows(run: RunOptions, options: ArchiveOptions) -> int:
    """Move deleted rows from production tables to shadow tables.

    The rows of archived instances in instance_mappings, request_specs and instance_group_member of
    the API database are deleted. If automating, run it while it returns 1 and stop at 0, or use
    --until-complete.

    \b
    Return codes:
      0    Nothing was archived.
      1    Some number of rows were archived.
      2    Invalid value for --max_rows.
      3    No connection to the API database could be established.
      4    Invalid value for --before.
      255  An unexpected error occurred.
    """
    from cli.db.archive_deleted_rows import archive

    return archive(run, options)


@db.command("purge", cls=Command)
@option("--all", "everything", is_flag=True, help="Purge all rows in the shadow tables.")
@option(
    "--before",
    metavar="DATE",
    help="Purge rows that were deleted before this date (there is no time of archiving): "
    "YYYY-MM-DD, "
    "'YYYY-MM-DD HH:MM', what date prints, or an age: 90d.",
)
@option("--verbose", is_flag=True, help="Print what was purged.")
@ALL_CELLS
@DRY_RUN
@CONCURRENCY
@NO_WAIT
@DETACH
@UNTIL
@NO_THROTTLE
@FORMAT
@collect_into(PurgeOptions)
@collect_into(RunOptions)
def purge(run: RunOptions, options: PurgeOptions) -> int:
    """Delete rows from shadow tables.

    \b
    Return codes:
      0    Rows were deleted.
      1    Required arguments were not provided.
      2    Invalid value for --before.
      3    Nothing was purged.
      4    No connection to the API database could be established.
      255  An unexpected error occurred.
    """
    from cli.db.purge import purge as run_purge

    return run_purge(run, options)


@db.command("online_data_migrations", cls=Command)
@option(
    "--max-count",
    metavar="COUNT",
    help="Maximum number of objects to migrate in this call. Without it, migration runs until it "
    "is complete.",
)
@new_option("--all-cells", is_flag=True, help="Migrate all cells at the same time, cell0 included.")
@new_option(
    "--verbose", is_flag=True, help="List the rows that cannot be migrated, with the reason."
)
@CONCURRENCY
@NO_WAIT
@DETACH
@UNTIL
@NO_THROTTLE
@FORMAT
@collect_into(RunOptions)
def online_data_migrations(
    run: RunOptions, max_count: str | None, all_cells: bool, verbose: bool
) -> int:
    """Perform data migration to update all live data.

    To be called after upgrading the database schema and the nova services. While it returns 1, it
    should be called again, even if some updates generated errors. It is complete only when it
    returns 0.

    \b
    Return codes:
      0    No (further) updates are possible.
      1    Some updates were completed; not all may have succeeded.
      2    Some updates generated errors, and no others took effect.
      127  Invalid input was provided.
      255  An unexpected error occurred.
    """
    from cli.db.online_data_migrations import online_data_migrations as run_migrations

    return run_migrations(run, max_count, all_cells=all_cells, verbose=verbose)


@db.command("ironic_compute_node_move", cls=Command)
@option(
    "--ironic-node-uuid",
    metavar="UUID",
    required=True,
    help="The Ironic node, which is the compute node, too.",
)
@option(
    "--destination-host",
    metavar="HOST",
    required=True,
    help="[DEFAULT]/host of the nova-compute to move it to.",
)
def ironic_compute_node_move(ironic_node_uuid: str, destination_host: str) -> int:
    """Move an Ironic node, and the instance on it, to another nova-compute service.

    The service that has the node must be forced down, the one that gets it must not. Both are in
    the database that [database]/connection names.

    \b
    Return codes:
      0    The node was moved.
      255  It was not: the reason is given.
    """
    from cli.db.ironic_compute_node_move import ironic_compute_node_move as move

    return move(ironic_node_uuid, destination_host)
