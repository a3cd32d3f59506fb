"""Python imports this at its start, in a program whose PYTHONPATH names this folder.

It makes the program's patience short, and may end a worker's child right after it has published a continuation.
Nothing of the program is replaced: Celery tells of what it has published.
"""

import importlib
import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

for place, seconds in json.loads(os.environ["CELLKEEPER_TEST_PATIENCE"]).items():
    module, name = place.rsplit(".", 1)
    assert hasattr(importlib.import_module(module), name), place
    setattr(importlib.import_module(module), name, seconds)

tickets = os.environ.get("CELLKEEPER_TEST_TICKETS")


def on_publish(**_: Any) -> None:
    """Die, if there is a ticket left."""
    assert tickets
    for ticket in Path(tickets).iterdir():
        with suppress(FileNotFoundError):  # somebody else took it
            ticket.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def in_child(**_: Any) -> None:
    """The main process sends messages, too; it is not meant."""
    from celery.signals import after_task_publish

    after_task_publish.connect(on_publish, weak=False)


if tickets:
    from celery.signals import worker_process_init

    worker_process_init.connect(in_child, weak=False)
