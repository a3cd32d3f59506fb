"""``beat``, and the category ``schedule``.

What a command needs to work is imported when it runs: ``--help`` must be quick.
"""

import click

from cli.grammar import Category, Command, Service
from cli.options import FORMAT
from cli.run_options import Format

schedule = Category("schedule", help="Commands for the schedule that cellkeeper beat follows.")


@schedule.command("list", cls=Command)
@FORMAT
def list_entries(format: Format) -> int:  # noqa: A002 - the option's name
    """List the entries: when each was due last, how that ended, when it is due next.

    The entries that are not enabled are listed, too. Ends with 255 if the schedule would be
    refused.
    """
    from cli.schedule.listing import list_schedule

    return list_schedule(format)


@click.command("beat", cls=Service)
def beat() -> int:
    """Start what the configuration schedules, as workers' runs.

    Any number of beats may run, on any hosts: each firing starts one run. The schedule stands in
    the section [schedule], its entries in sections [schedule_NAME].
    """
    from cli.schedule.beat import run_beat

    return run_beat()
