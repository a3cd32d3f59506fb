"""Running a worker: Celery's own, with our queues and heartbeat."""

import logging
import os
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final

from celery.exceptions import SecurityWarning
from kombu.exceptions import OperationalError
from oslo_config import cfg
from redis.exceptions import RedisError

from runs.store import BrokerAway
from runs.troubles import Troubles
from settings.brokers import store_address
from workers import app as application
from workers.broker import check_broker
from workers.forking import FORKS
from workers.redis_client import check_store, passes

LOG = logging.getLogger("cellkeeper.worker")

PATIENCE: Final = 5.0  # seconds for a worker to answer
PAUSE: Final = 2.0  # seconds between two looks whether store and broker can be used


def run_worker(
    conf: cfg.ConfigOpts, cells: Sequence[str], concurrency: int | None, node: str
) -> int:
    """Serve cells until a signal ends it.

    :param cells: names or uuids; none: all
    :param concurrency: child processes; None: one for each processor
    :param node: the worker's name in Celery
    :returns: the exit code
    :raises SettingsProblem: a value cannot be used, or store or broker can never be used like this
    :raises RedisError: it refuses the login
    """
    FORKS.install()
    application.check_configuration(conf)
    application.configure(conf, cells)
    wait_until_usable(conf)
    warn_of_open_redis(conf)
    warn_of_root()
    worker = application.app.Worker(
        hostname=node,
        loglevel="INFO",
        concurrency=concurrency,
        queues="cellkeeper",
        task_events=True,
        without_mingle=True,
    )
    worker.start()
    return worker.exitcode or 0


def wait_until_usable(conf: cfg.ConfigOpts, pause: Callable[[float], Any] = time.sleep) -> None:
    """Wait for store and broker, which may be away, or load their data, or refuse writes.

    :param pause: waits so many seconds; what it returns ends the wait if it is true
    :raises SettingsProblem: they can never be used like this
    :raises RedisError: it refuses the login
    """
    troubles = Troubles(LOG)
    while True:
        try:
            check_store(conf, writing=True)
            check_broker(application.app, conf)
        except (RedisError, BrokerAway) as error:
            if isinstance(error, RedisError) and not passes(error):
                raise
            troubles.begin(
                "broker", f"Store or broker cannot be used, they are waited for: {error}"
            )
        else:
            troubles.end("broker", "store and broker can be used")
            return
        if pause(PAUSE):
            return


def ping(conf: cfg.ConfigOpts, node: str) -> bool:
    """Whether a worker answers.

    :param node: its name in Celery
    :raises RedisError: the store cannot be used
    :raises BrokerAway: the broker cannot
    """
    application.configure(conf)
    check_store(conf, writing=True)
    check_broker(application.app, conf)
    try:
        return bool(application.app.control.ping([node], timeout=PATIENCE))
    except OperationalError as error:  # it went away meanwhile
        raise BrokerAway(f"The broker cannot be used: {error}") from error


def warn_of_root() -> None:
    """Say what to do if the worker runs as root, instead of Celery, which names an option that is
    not here.
    """
    if os.geteuid() == 0:
        LOG.warning(
            "This worker runs as root, which it has no need of: start it as a user who may read "
            "nova.conf, "
            "as cellkeeper-worker.service does"
        )
        warnings.simplefilter("ignore", SecurityWarning)


def warn_of_open_redis(conf: cfg.ConfigOpts) -> None:
    """Say so if anybody on the network could start runs."""
    address = store_address(conf)
    if (
        not address.password
        and not address.tls
        and address.host not in ("localhost", "127.0.0.1", "::1")
    ):
        LOG.warning(
            "The Redis at %s has neither password nor TLS: anybody who reaches it can start runs",
            address.host,
        )
