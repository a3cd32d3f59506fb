"""Python imports this at its start, in a program whose PYTHONPATH names this folder.

It makes the program's patience short, and may end a worker's child, or a command, at one of its worst moments: before
or after a decision of the store, or after a message. What is decided and sent stays what it is.
"""

import functools
import importlib
import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from runs.redis_store import RedisStore

for place, seconds in json.loads(os.environ["CELLKEEPER_TEST_PATIENCE"]).items():
    module, name = place.rsplit(".", 1)
    assert hasattr(importlib.import_module(module), name), place
    setattr(importlib.import_module(module), name, seconds)

# A folder with a file for each death. Its name begins with the moment; it holds the uuid of the cell, or nothing.
TICKETS = os.environ.get("CELLKEEPER_TEST_TICKETS", "")
MORTAL = os.environ.get("CELLKEEPER_TEST_MORTAL", "child")
# The decisions, and which answers are the ones that are meant.
DECISIONS: dict[str, Callable[[Any], bool]] = {
    "hold": lambda holder: holder is None,
    "create": bool,
    "open_phase": bool,
    "claim": lambda claim: not isinstance(claim, str),
    "record": lambda verdict: verdict != "lost",
    "advance": lambda sequence: sequence is not None,
    "finish": lambda left: left is not None,
    "close": bool,
}


def reach(moment: str, *words: Any) -> None:
    """Die, if there is a ticket for it; whoever takes it away does."""
    for ticket in Path(TICKETS).glob(f"{moment} *"):
        with suppress(FileNotFoundError):  # somebody else took it
            if ticket.read_text() in ("", *words):
                ticket.unlink()
                os.kill(os.getpid(), signal.SIGKILL)


def watched(name: str, decide: Callable[..., Any]) -> Callable[..., Any]:
    """A decision of the store between its two moments."""

    @functools.wraps(decide)
    def told(*words: Any, **named: Any) -> Any:
        renews = name == "record" and words[-2] is None
        if not renews:
            reach(f"before {name}", *words)
        answer = decide(*words, **named)
        if not renews and DECISIONS[name](answer):
            reach(f"after {name}", *words)
        return answer

    return told


def watch(**_: Any) -> None:
    """Let this process die of tickets."""
    from celery.signals import after_task_publish

    after_task_publish.connect(lambda **_: reach("after publish"), weak=False)
    for name in DECISIONS:
        setattr(RedisStore, name, watched(name, getattr(RedisStore, name)))


if TICKETS and MORTAL == "command":
    watch()
elif TICKETS:
    from celery.signals import worker_process_init

    worker_process_init.connect(watch, weak=False)
