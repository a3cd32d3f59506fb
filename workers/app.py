"""The Celery application: its settings, and a task for each action.

``cellkeeper worker`` configures it from its command line. ``celery -A workers.app worker`` works as well: it reads the
default files of the configuration, or those that the environment variable CELLKEEPER_CONFIG names, by colons.
"""

import logging
import multiprocessing
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, partial
from typing import Any, Final

from celery import Celery, Task
from celery.signals import celeryd_after_setup, celeryd_init, worker_process_init, worker_ready, worker_shutting_down
from oslo_config import cfg

from clients.services import Services
from jobs.action import Target
from jobs.actions import ACTIONS
from novadb.errors import DatabaseProblem
from runs.conductor import Conductor, Message, outcome_of, queue_of
from runs.records import FORMAT
from runs.redis_store import RunGone
from runs.slices import SliceLimits, SliceWorker
from runs.targets import api_database, mapped_cells, targets
from settings.errors import NotConfigured
from settings.files import load_configuration
from settings.unknown import unknown_settings
from workers.heartbeat import Heartbeat
from workers.redis_client import run_store

LOG = logging.getLogger("cellkeeper.worker")

SETTINGS: Final[dict[str, Any]] = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "task_ignore_result": True,
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "worker_send_task_events": True,
    "task_send_sent_event": True,
    "worker_hijack_root_logger": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "task_create_missing_queues": True,
    "task_default_queue": "cellkeeper",
    "broker_transport_options": {
        "visibility_timeout": 300,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 15,
    },
}

# Set in the worker's main process, seen by its children.
DRAINING: Final = multiprocessing.get_context("fork").Event()

app = Celery("cellkeeper")
app.conf.update(SETTINGS)


def configure(conf: cfg.ConfigOpts, cells: Sequence[str] = ()) -> None:
    """Point the application at the configured broker. Called before a worker starts, or a message is sent.

    :param cells: names or uuids of the cells that a worker serves; none: all
    """
    app.conf.broker_url = conf.celery.broker_url
    if conf.celery.broker_url.startswith("sentinel://"):
        app.conf.broker_transport_options["master_name"] = conf.celery.sentinel_master
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
    known: cfg.ConfigOpts = app.cellkeeper_conf
    return known


@celeryd_init.connect  # type: ignore[untyped-decorator]
def configure_worker(**_: Any) -> None:
    """The broker must be known before a worker starts, also where Celery's own command starts it."""
    configuration()


def send(message: Message) -> None:
    """Put a message into its cell's queue, in words that Flower shows instead of its fields."""
    told = {"argsrepr": message.label, "kwargsrepr": _in_words(message)}
    app.send_task(message.action, kwargs=asdict(message), queue=queue_of(message.cell), retry=True, **told)


def _in_words(message: Message) -> str:
    """What a slice is, for people: its run, what was done in its cell before, and where it goes on."""
    place = f"slice {message.sequence + 1} of run {message.run}"
    if not message.sequence:
        return place
    try:
        record = conductor().store.load(message.run, message.phase)
    except RunGone:
        return place
    cell = next(cell for cell in record.cells if cell.ref.uuid == message.cell)
    rows = outcome_of(ACTIONS[message.action], cell).rows
    at = "".join(f", {name} {value}" for name, value in (cell.cursor or {}).items() if value)
    return f"rows so far: {rows:,}{at}; {place}"


@cache
def conductor() -> Conductor:
    """What moves runs on, from this process."""
    return Conductor(run_store(configuration()), send)


@cache
def slice_worker() -> SliceWorker:
    """What works slices in this process. Made after the fork: no connection is shared.

    A child to which SIGTERM comes, too, drains like its worker. The pool sets handlers of its own when a child starts,
    so this one is set with the first slice.
    """
    signal.signal(signal.SIGTERM, lambda *_: DRAINING.set())
    conf = configuration()
    limits = SliceLimits(conf.celery.slice_seconds, conf.celery.lease_seconds)
    name = f"{socket.gethostname()}:{os.getpid()}"
    resolve = partial(target_of, conf, Services(conf))
    return SliceWorker(conductor(), send, resolve, limits, DRAINING.is_set, name)


def target_of(conf: cfg.ConfigOpts, services: Services, uuid: str) -> Target:
    """A cell by this process's own configuration.

    :param services: of this process, for all its slices

    :raises DatabaseProblem: the API database cannot be read, or has no such cell
    """
    api = api_database(conf)
    chosen = [cell for cell in mapped_cells(conf, api) if cell.uuid == uuid]
    if not chosen:
        raise DatabaseProblem(f"{uuid}: no such cell is mapped in {api}")
    return targets(conf, chosen, api, services)[0]


@celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def begin_heartbeat(sender: str, **_: Any) -> None:
    """Give the worker its other duties, however it was started."""
    heartbeat = Heartbeat(app, conductor(), configuration(), app.cellkeeper_cells, sender)
    worker_ready.connect(heartbeat.start, weak=False)
    worker_shutting_down.connect(heartbeat.stop, weak=False)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def drain(**_: Any) -> None:
    """Let the children end after their current steps."""
    DRAINING.set()


@worker_process_init.connect  # type: ignore[untyped-decorator]
def forget_parent(**_: Any) -> None:
    """A child opens connections of its own."""
    conductor.cache_clear()
    slice_worker.cache_clear()


def _work(task: Task, **fields: Any) -> str:
    """Work one slice; the task of every action."""
    if fields.get("format") != FORMAT:
        reason = f"a worker on {socket.gethostname()} knows format {FORMAT} of messages, not {fields.get('format')}"
        conductor().refuse(fields["run"], fields["phase"], fields["cell"], f"{reason}: upgrade it")
        return "refused"
    return slice_worker().work(Message(**fields), bool(task.request.delivery_info.get("redelivered")))


for _name in ACTIONS:
    app.task(_work, name=_name, bind=True)
