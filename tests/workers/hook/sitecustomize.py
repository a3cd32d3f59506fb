"""Python imports this at its start, in a program whose PYTHONPATH names this folder.

It makes the program's patience short, and may end a worker's child, or a command, at one of its
worst moments: before or after what a rule wants is written, or after a message. What is decided and
sent stays what it is. In the middle of a step a child does not die, but calls what never returns.
"""

import functools
import importlib
import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from runs import rules
from runs.redis_store import RedisStore
from runs.rules import Refusal
from runs.slices import Slice

for place, seconds in json.loads(os.environ["CELLKEEPER_TEST_PATIENCE"]).items():
    module, path = place.split(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    assert hasattr(owner, name), place
    object.__setattr__(owner, name, seconds) if owners else setattr(owner, name, seconds)

# A folder with a file for each death. Its name begins with the moment; it holds the uuid of the
# cell, or nothing.
TICKETS = os.environ.get("CELLKEEPER_TEST_TICKETS", "")
MORTAL = os.environ.get("CELLKEEPER_TEST_MORTAL", "child")
# The rules whose changes somebody may die of.
RULES = (
    "new_run",
    "admit",
    "begin_run",
    "claim",
    "record_step",
    "give_back",
    "finish_cell",
    "next_phase",
    "end_run",
)


class Wanted(threading.local):
    """What the rule that this thread asked last wants to be written."""

    rule = ""


WANTED = Wanted()


def die() -> None:
    """End as by a power cut."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    """Wait for what never comes."""
    here, there = socket.socketpair()
    here.recv(1)
    there.close()


def reach(moment: str, written: str = "", end: Callable[[], None] = die) -> None:
    """Die, if there is a ticket for it; whoever takes it away does."""
    for ticket in Path(TICKETS).glob(f"{moment} *"):
        with suppress(FileNotFoundError):  # somebody else took it
            if ticket.read_text() in written:
                ticket.unlink()
                end()


def noted(name: str, rule: Callable[..., Any]) -> Callable[..., Any]:
    """A rule whose name is known when what it wants is written."""

    @functools.wraps(rule)
    def asked(*words: Any, **named: Any) -> Any:
        answer = rule(*words, **named)
        WANTED.rule = "" if answer is None or isinstance(answer, Refusal) else name
        return answer

    return asked


def watched(carry_out: Callable[..., Any]) -> Callable[..., Any]:
    """The script of the store between its two moments."""

    @functools.wraps(carry_out)
    def carried_out(store: RedisStore, change: Any) -> Any:
        rule, words = WANTED.rule, json.dumps(change.writes)
        if not change.writes or not rule:
            return carry_out(store, change)
        reach(f"before {rule}", words)
        answer = carry_out(store, change)
        WANTED.rule = ""
        if answer.written:
            reach(f"after {rule}", words)
        return answer

    return carried_out


def reached(work_steps: Callable[..., Any]) -> Callable[..., Any]:
    """The work of a slice, which may come to a call that never returns."""

    @functools.wraps(work_steps)
    def worked(slice_: Slice) -> Any:
        reach("in step", slice_._claimed.view.cell.ref.uuid, hang)
        return work_steps(slice_)

    return worked


def watch(**_: Any) -> None:
    """Let this process die of tickets."""
    from celery.signals import after_task_publish

    after_task_publish.connect(lambda **_: reach("after publish"), weak=False)
    for name in RULES:
        setattr(rules, name, noted(name, getattr(rules, name)))
    rules.renew = noted("", rules.renew)
    RedisStore._carry_out = watched(RedisStore._carry_out)
    Slice.work = reached(Slice.work)


if TICKETS and MORTAL == "command":
    watch()
elif TICKETS:
    from celery.signals import worker_process_init

    worker_process_init.connect(watch, weak=False)
