"""The Celery application: its settings, and a task for each action.

``cellkeeper worker`` configures it from its command line. ``celery -A workers.app worker`` works as well: it reads the
default files of the configuration, and the ones that the environment variable CELLKEEPER_CONFIG names (by colons).
"""

import os
import socket
from dataclasses import asdict
from functools import cache, partial
from typing import Any, Final

from celery import Celery, Task
from celery.signals import worker_process_init
from oslo_config import cfg

from jobs.action import Target
from jobs.actions import ACTIONS
from novadb import settings
from novadb.errors import DatabaseProblem
from runs.conductor import Conductor, Message, queue_of
from runs.records import FORMAT
from runs.slices import SliceLimits, SliceWorker
from runs.targets import api_database, mapped_cells, targets
from workers import options

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

app = Celery("cellkeeper")
app.conf.update(SETTINGS)


def configure(conf: cfg.ConfigOpts) -> None:
    """Point the application at the configured broker. Called before a worker starts, or a message is sent."""
    app.conf.broker_url = conf.celery.broker_url
    if conf.celery.broker_url.startswith("sentinel://"):
        app.conf.broker_transport_options["master_name"] = conf.celery.sentinel_master
    app.cellkeeper_conf = conf


def configuration() -> cfg.ConfigOpts:
    """The configuration of this process; read from the environment where nobody has given one."""
    if not hasattr(app, "cellkeeper_conf"):
        files = filter(None, os.environ.get("CELLKEEPER_CONFIG", "").split(":"))
        configure(settings.load([f"--config-file={name}" for name in files], options.register))
    conf: cfg.ConfigOpts = app.cellkeeper_conf
    return conf


def send(message: Message) -> None:
    """Put a message into its cell's queue."""
    name = queue_of(message.cell)
    app.send_task(message.action, kwargs=asdict(message), queue=name, retry=True)


@cache
def conductor() -> Conductor:
    """What moves runs on, from this process."""
    return Conductor(options.store(configuration()), send)


@cache
def slice_worker() -> SliceWorker:
    """What works slices in this process. Made after the fork: no connection is shared."""
    conf = configuration()
    limits = SliceLimits(conf.celery.slice_seconds, conf.celery.lease_seconds)
    name = f"{socket.gethostname()}:{os.getpid()}"
    return SliceWorker(conductor(), send, partial(target_of, conf), limits, name)


def target_of(conf: cfg.ConfigOpts, uuid: str) -> Target:
    """A cell by this process's own configuration.

    :raises DatabaseProblem: the API database cannot be read, or has no such cell
    """
    api = api_database(conf)
    chosen = [cell for cell in mapped_cells(conf, api) if cell.uuid == uuid]
    if not chosen:
        raise DatabaseProblem(f"{uuid}: no such cell is mapped in {api}")
    return targets(conf, chosen, api)[0]


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
