"""``cellkeeper worker``: a thin front end of Celery's own worker."""

import socket

import click

from cli.grammar import Option, Service
from cli.output import say
from cli.signals import watch


@click.command("worker", cls=Service)
@click.option(
    "--cells", cls=Option, new=True, metavar="NAME,...", default="", help="Serve these cells only."
)
@click.option(
    "--concurrency",
    cls=Option,
    new=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Child processes; by default one per processor.",
)
@click.option(
    "--name",
    cls=Option,
    new=True,
    metavar="NAME",
    help="Name of the worker; by default by host and cells.",
)
@click.option(
    "--ping",
    cls=Option,
    new=True,
    is_flag=True,
    help="Only ask whether that worker of this host is alive.",
)
def worker(cells: str, concurrency: int | None, name: str | None, ping: bool) -> int:
    """Serve cells: all of them, also those mapped later, or those named.

    Stop it with SIGTERM: it ends after the current slices, within seconds, and repeats nothing.

    With --ping and the same --cells or --name it ends with 0 if the worker answers, else with 1.
    """
    from cli import configuration
    from settings.errors import NotConfigured
    from settings.read_files import describe_read_files
    from workers import run

    conf = configuration.load(check=True)
    if not conf.celery.broker_url:
        raise NotConfigured(
            f"There is no broker: set broker_url in section [celery] ({describe_read_files(conf)})"
        )
    names = [one.strip() for one in cells.split(",") if one.strip()]
    node = name or f"{'-'.join(names) or 'all'}@{socket.gethostname()}"
    if ping:
        answers = run.ping(conf, node)
        say(f"{node} {'answers' if answers else 'does not answer'}")
        return 0 if answers else 1
    watch.hand_over()  # Celery has handlers of its own
    return run.run_worker(conf, names, concurrency, node)
