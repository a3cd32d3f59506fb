"""``cellkeeper flower``: a thin front end of Flower, the web page of Celery."""

from typing import TYPE_CHECKING

import click

from cli.grammar import Service
from cli.options import new_option
from cli.output import say
from cli.signals import watch

if TYPE_CHECKING:
    from oslo_config.cfg import ConfigOpts


@click.command("flower", cls=Service)
@new_option("--address", metavar="ADDRESS", help="Where to listen, instead of [flower] address.")
@new_option(
    "--port", type=click.IntRange(1, 65535), metavar="PORT", help="Instead of [flower] port."
)
@new_option("--no-password", is_flag=True, help="Let everybody who reaches it look.")
def flower(address: str | None, port: int | None, no_password: bool) -> int:
    """Show workers and tasks in a browser, until a signal ends it.

    Set the password as password in section [flower], or in the variable OS_FLOWER__PASSWORD. Of the
    broker it needs broker_url in section [celery], and of nova.conf nothing.
    """
    from cli import configuration

    conf = configuration.load(check=True)
    for name, value in (("address", address), ("port", port)):
        if value is not None:
            conf.set_override(name, value, group="flower")
    if no_password:
        conf.set_override("password", None, group="flower")
    _check(conf, no_password)
    return _serve(conf)


def _check(conf: "ConfigOpts", no_password: bool) -> None:
    """See that Flower can be served with this configuration.

    :raises SettingsProblem: it cannot
    """
    from settings.errors import NotConfigured, SettingsProblem
    from settings.read_files import describe_read_files

    own = conf.flower
    if not conf.celery.broker_url:
        raise NotConfigured(
            f"There is no broker: set broker_url in section [celery] ({describe_read_files(conf)})"
        )
    if not own.password and not no_password:
        raise NotConfigured(
            "Flower has no password: set password in section [flower], or give --no-password"
        )
    if own.password and not (own.user + own.password).isascii():
        raise SettingsProblem(
            "Flower compares ASCII only: choose another user or password in section [flower]"
        )
    if bool(own.cert_file) != bool(own.key_file):
        raise SettingsProblem("TLS needs both: set cert_file and key_file in section [flower]")


def _serve(conf: "ConfigOpts") -> int:
    from workers.flower import run_flower

    own = conf.flower
    watch.hand_over()  # the event loop has handlers of its own
    login = f"log in as {own.user}" if own.password else "without a password"
    try:
        run_flower(conf, lambda url: say(f"Flower serves {url}, {login}"))
    except OSError as error:
        say(f"Flower cannot serve {own.address}:{own.port}: {error.strerror or error}")
        return 255
    return 0
