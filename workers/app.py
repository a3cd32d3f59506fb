"""The Celery application: its settings, and a task for each action.

``cellkeeper worker`` configures it from its command line. ``celery -A workers.app worker`` works as
well: it reads the default files of the configuration, or those that the environment variable
CELLKEEPER_CONFIG names, by colons.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Any, Final

import msgspec
from celery import Celery, Task
from celery.signals import (
    celeryd_after_setup,
    celeryd_init,
    worker_process_init,
    worker_ready,
    worker_shutting_down,
)
from oslo_config import cfg
from redis.exceptions import RedisError

from clients.services import Services
from jobs.actions import ACTIONS
from runs.cell_worker import CellWorker
from runs.conductor import Conductor, Fleet, queue_of
from runs.records import FORMAT, Bell
from runs.slices import SliceLimits, WorkingProcess
from runs.targets import Registry
from runs.throttles import Throttles, watch_maker
from settings.brokers import store_address
from settings.errors import NotConfigured, SettingsProblem
from settings.files import load_configuration
from settings.sections import check_values
from settings.unknown import unknown_settings
from throttle.servers import usable_throttle
from workers.broker import BROKER_ERRORS, configure_broker
from workers.calm import be_calm, ignore_settled_warnings
from workers.heartbeat import Heartbeat
from workers.redis_client import run_store
from workers.vitals import ChildWatch, Vitals

LOG = logging.getLogger("cellkeeper.worker")

SETTINGS: Final[dict[str, Any]] = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "task_ignore_result": True,  # the store has what became of a cell
    # The bell of a child that dies is heard again at once; without it, only when its lease has
    # lapsed.
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,  # what one worker keeps for later, another could answer now
    "worker_send_task_events": True,  # for Flower, as is the next one
    "task_send_sent_event": True,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    # A slice needs the store and its databases, not the broker.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,  # a worker waits for its broker, however long
    "task_create_missing_queues": True,  # those of cells, which are mapped while the worker runs
    "task_default_queue": "cellkeeper",
}

# Set in the worker's main process, seen by its children. Without a lock, which one that is killed
# would leave locked.
DRAINING: Final = multiprocessing.get_context("fork").RawValue("b", 0)
MIB: Final = 1024  # of Celery's units

app = Celery("cellkeeper")
app.conf.update(SETTINGS)


def configure(conf: cfg.ConfigOpts, cells: Sequence[str] = ()) -> None:
    """Point the application at the configured broker. Called before a worker starts, or a message
    is sent.

    :param cells: names or uuids of the cells that a worker serves; none: all
    :raises NotConfigured: there is no store
    """
    store_address(conf)  # one that is not configured is told now
    configure_broker(app, conf)
    app.conf.worker_max_memory_per_child = conf.celery.max_memory_per_child * MIB or None
    app.cellkeeper_conf = conf
    app.cellkeeper_cells = cells


def configuration() -> cfg.ConfigOpts:
    """The configuration of this process; read from the environment where nobody has given one."""
    if not hasattr(app, "cellkeeper_conf"):
        files = filter(None, os.environ.get("CELLKEEPER_CONFIG", "").split(":"))
        conf = load_configuration([f"--config-file={name}" for name in files])
        if not conf.celery.broker_url:
            raise NotConfigured("There is no broker: set broker_url in section [celery]")
        for setting in unknown_settings(conf):
            LOG.warning("%s", setting)
        configure(conf)
    configured: cfg.ConfigOpts = app.cellkeeper_conf
    return configured


@celeryd_init.connect  # type: ignore[untyped-decorator]
def configure_worker(**_: Any) -> None:
    """The broker must be known before a worker starts, also where Celery's own command starts it.

    A worker that cannot work by its configuration ends: Celery would log what is raised here, and
    go on.
    """
    try:
        check_configuration(configuration())
    except SettingsProblem as problem:
        LOG.critical("The configuration cannot be used: %s", problem)
        sys.exit(os.EX_CONFIG)
    be_calm()


def check_configuration(conf: cfg.ConfigOpts) -> None:
    """See that a worker can work by it: a cell for which it cannot would be rung again for ever.

    :raises InvalidSetting: a value cannot be used
    """
    check_values(conf)
    usable_throttle(conf)


def ring(bell: Bell) -> None:
    """Put a bell into its cell's queue, in words that Flower shows instead of its fields.

    A broker that does not take it costs nothing but time: whoever looks after the run rings again.
    """
    words = f"run {bell.run}, slice {bell.slices + 1}, rows so far: {bell.rows:,}"
    try:
        app.send_task(
            bell.action, kwargs=asdict(bell), queue=queue_of(bell.cell), retry=True,
            argsrepr=bell.label, kwargsrepr=words,
        )  # fmt: skip
    except BROKER_ERRORS as error:
        LOG.warning(
            "run %s, %s: the broker took no message, it is sent again later: %s",
            bell.run,
            bell.label,
            error,
        )


@cache
def conductor() -> Conductor:
    """What moves runs on, from this process."""
    conf = configuration()
    store = run_store(conf)
    return Conductor(
        store, ring, fleet=Fleet(store.workers, conf.cellkeeper.concurrency_per_server)
    )


@cache
def vitals() -> Vitals:
    """What the worker's main process knows of its children. Made before the fork: it is shared."""
    return Vitals()


@cache
def registry() -> Registry:
    """The cells by this process's configuration."""
    return Registry(configuration(), Services(configuration()))


@cache
def throttles() -> Throttles:
    """What tells this process whether a database server lets the work go on."""
    return Throttles(conductor().store, watch_maker(configuration(), registry().cells))


@cache
def cell_worker() -> CellWorker:
    """What answers bells in this process. Made after the fork: no connection is shared.

    A child to which SIGTERM comes, too, drains like its worker. The pool sets handlers of its own
    when a child starts, so this one is set with the first slice.
    """
    signal.signal(signal.SIGTERM, drain)
    conf = configuration()
    limits = SliceLimits(conf.celery.slice_seconds, conf.celery.lease_seconds)
    name = f"{socket.gethostname()}:{os.getpid()}"
    process = WorkingProcess(name, limits, is_draining, vitals().show_life, throttles())
    return CellWorker(conductor(), registry().target, process)


@celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def begin_heartbeat(sender: str, **_: Any) -> None:
    """Give the worker its heartbeat and the watch of its children, however it was started."""
    ignore_settled_warnings()
    conf = configuration()
    heartbeat = Heartbeat(app, conductor(), conf, app.cellkeeper_cells, sender)
    worker_ready.connect(heartbeat.start, weak=False)
    worker_shutting_down.connect(heartbeat.stop, weak=False)
    watch = ChildWatch(vitals(), max(conf.celery.hang_seconds, 2 * conf.cellkeeper.read_timeout))
    # Celery's pool keeps billiard's to itself.
    worker_ready.connect(lambda sender, **_: watch.start(sender.pool._pool), weak=False)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def drain(*_: Any, **__: Any) -> None:
    """Let the children end after their current steps."""
    DRAINING.value = 1


def is_draining() -> bool:
    """Whether the children are to end after their current steps."""
    return bool(DRAINING.value)


@worker_process_init.connect  # type: ignore[untyped-decorator]
def forget_parent(**_: Any) -> None:
    """A child opens connections of its own, and shows signs of life of its own."""
    for made_by_parent in (conductor, registry, throttles, cell_worker):
        made_by_parent.cache_clear()
    vitals().take_place()


def _answer(_task: Task, *_: Any, **fields: Any) -> str:
    """Answer a bell; the task of every action."""
    if fields.get("format") != FORMAT:
        LOG.warning(
            "a message of another version is left to workers of that version: %s", fields.get("run")
        )
        return "of another version"
    try:
        bell = msgspec.convert(fields, Bell)
    except msgspec.ValidationError as error:
        LOG.warning("a message that is no bell is thrown away: %s", error)
        return "no bell"
    with vitals().at_work():
        try:
            return cell_worker().answer(bell)
        except RedisError as error:
            LOG.warning(
                "run %s, %s: the store cannot be used, the cell is rung again: %s",
                bell.run,
                bell.label,
                error,
            )
            return "store away"
        finally:
            throttles().close()  # no connection is left idle between two slices


for _name in ACTIONS:
    app.task(_answer, name=_name, bind=True)
