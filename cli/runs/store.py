"""The configured store of runs, for the commands that look at it and steer it."""

from zoneinfo import ZoneInfo

from cli import configuration
from runs.conductor import Conductor
from settings.cellkeeper import time_zone
from settings.errors import NotConfigured
from settings.read_files import where_read
from workers import app, redis_client


def connect() -> tuple[Conductor, ZoneInfo]:
    """The conductor of the store, and the time zone of what is printed.

    :raises NotConfigured: there is no broker
    :raises RedisError: the store does not answer
    """
    conf = configuration.load()
    if not conf.celery.broker_url:
        raise NotConfigured(
            f"There are no runs without workers: set broker_url in section [celery] ({where_read(conf)})"
        )
    redis_client.check_store(conf)
    app.configure(conf)
    return app.conductor(), time_zone(conf)
