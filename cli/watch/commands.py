"""``check`` and ``metrics``.

What a command needs to work is imported when it runs: ``--help`` must be quick.
"""

import click

from cli.grammar import Command, Service
from cli.options import FORMAT, new_option, seconds
from cli.run_options import Format


@click.command("check", cls=Command)
@FORMAT
def check(format: Format) -> int:  # noqa: A002 - the option's name
    """Check everything that a run needs; change nothing.

    The configuration, the API database and those of the cells (grants, schema, clock, backlog),
    Redis, the workers of each cell, the schedule. It never hangs: what does not answer is reported.

    \b
    Return codes:
      0    All is well; there may be warnings.
      1    Something is not.
      255  An unexpected error occurred.
    """
    from cli.watch.check import run_check

    return run_check(format)


@click.command("metrics", cls=Service)
@new_option(
    "--listen", metavar="HOST:PORT", help="Serve the metrics to Prometheus, until a signal ends it."
)
@new_option(
    "--file",
    "path",
    type=click.Path(dir_okay=False),
    metavar="PATH",
    help="Write them once into this file, as a whole, for the textfile collector of node_exporter.",
)
@new_option(
    "--backlog-every",
    type=seconds(1),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="With --listen, how often the backlog of the cells is looked at.",
)
def metrics(listen: str | None, path: str | None, backlog_every: float) -> int:
    """Tell Prometheus what the runs did and what waits in the cells.

    Without an option they are printed once. Nobody is asked for a password: listen where only
    Prometheus comes.
    """
    from cli.watch.metrics import run_metrics

    return run_metrics(listen, path, backlog_every)
