"""The configured store of runs, for the commands that order runs, look at them and steer them."""

from typing import Final
from zoneinfo import ZoneInfo

import click
from oslo_config import cfg

from cli import configuration
from runs.conductor import Conductor
from settings.cellkeeper import time_zone
from settings.errors import NotConfigured
from settings.read_files import describe_read_files
from workers import app, broker, redis_client

CONDUCTOR: Final = "conductor"
"""Where a conductor that was made for the command stands, in the object of its root context."""


def connect() -> tuple[Conductor, ZoneInfo]:
    """The conductor of the store, and the time zone of what is printed.

    :raises NotConfigured: there is no broker
    :raises RedisError: the store does not answer
    """
    conf = load_configuration()
    return conductor_of(conf), time_zone(conf)


def load_configuration() -> cfg.ConfigOpts:
    """The configuration, for a command that cannot do without runs.

    :raises NotConfigured: there is no broker
    """
    conf = configuration.load()
    if not conf.celery.broker_url:
        raise NotConfigured(
            "There are no runs without workers: set broker_url in section [celery] "
            f"({describe_read_files(conf)})"
        )
    return conf


def conductor_of(conf: cfg.ConfigOpts, *, ordering: bool = False) -> Conductor:
    """What moves the runs of a configured store on.

    Where one was made for the command already, such as over a store in memory, nothing is
    connected.

    :param ordering: whether a run is to be ordered, for which the broker must answer, too
    :raises NotConfigured: there is no store, or it is a Redis Cluster, or allows its user too
        little
    :raises RedisError: the store, or the broker, does not answer
    :raises BrokerAway: a broker that is no Redis does not answer
    """
    ready: Conductor | None = click.get_current_context().find_root().obj.get(CONDUCTOR)
    if ready is not None:
        return ready
    app.configure(conf)
    redis_client.check_store(conf, writing=ordering)
    if ordering:
        broker.check_broker(app.app, conf)
    return app.conductor()
