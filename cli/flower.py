"""``cellkeeper flower``: a thin front end of Flower, the web page of Celery."""

from typing import TYPE_CHECKING, Any

import click

from cli.grammar import Command
from cli.options import new_option
from cli.output import say

if TYPE_CHECKING:
    from oslo_config.cfg import ConfigOpts


@click.command("flower", cls=Command)
@new_option("--address", metavar="ADDRESS", help="Where to listen, instead of [flower] address.")
@new_option("--port", type=click.IntRange(1, 65535), metavar="PORT", help="Instead of [flower] port.")
@new_option("--no-password", is_flag=True, help="Let everybody who reaches it look.")
def flower(address: str | None, port: int | None, no_password: bool) -> int:
    """Show workers and tasks in a browser, until a signal ends it.

    Set the password as password in section [flower], or in the variable OS_FLOWER__PASSWORD. Of the broker it needs
    broker_url in section [celery], and of nova.conf nothing.
    """
    from cli import configuration

    conf = configuration.load()
    for name, value in (("address", address), ("port", port)):
        if value is not None:
            conf.set_override(name, value, group="flower")
    if no_password:
        conf.set_override("password", None, group="flower")
    if problem := _obstacle(conf.celery.broker_url, conf.flower, no_password):
        say(problem)
        return 255
    return _serve(conf)


def _obstacle(broker_url: str | None, own: Any, no_password: bool) -> str | None:
    """What is missing in the configuration."""
    if not broker_url:
        return "There is no broker: set broker_url in section [celery]"
    if not own.password and not no_password:
        return "Flower has no password: set password in section [flower], or give --no-password"
    if own.password and not (own.user + own.password).isascii():
        return "Flower compares ASCII only: choose another user or password in section [flower]"
    if bool(own.cert_file) != bool(own.key_file):
        return "TLS needs both: set cert_file and key_file in section [flower]"
    return None


def _serve(conf: "ConfigOpts") -> int:
    from workers.flower import run_flower

    own = conf.flower
    login = f"log in as {own.user}" if own.password else "without a password"
    try:
        run_flower(conf, lambda url: say(f"Flower serves {url}, {login}"))
    except OSError as error:
        say(f"Flower cannot serve {own.address}:{own.port}: {error.strerror or error}")
        return 255
    return 0
