"""Python imports this at its start, in a program whose PYTHONPATH names this folder: it ends or
holds up the program.

Of the program itself nothing is replaced: SQLAlchemy tells of the statements and commits that it is
about to send.
"""

import itertools
import os
import signal
import threading
from typing import Any

from sqlalchemy import Connection, Engine, event

MOMENT, NUMBER, DEED = os.environ["CELLKEEPER_TEST_HOOK"].split(":")
API = os.environ["CELLKEEPER_TEST_API"]
TELL, ASK = map(int, os.environ["CELLKEEPER_TEST_PIPES"].split(","))

counter = itertools.count()
gate = threading.Event()
gate.set()


class Cell(threading.local):
    """What the thread's transaction in its cell does."""

    archives = archived = False


cell = Cell()


def reach(moment: str) -> None:
    """Note that the program is at a moment; at the one that was ordered, do the deed."""
    gate.wait()
    if moment != MOMENT or next(counter) != int(NUMBER):
        return
    if DEED == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    gate.clear()  # whichever thread comes to any moment now waits there
    os.write(TELL, b".")
    os.read(ASK, 1)
    gate.set()


@event.listens_for(Engine, "before_cursor_execute")
def on_statement(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
    if connection.engine.url.database == API:
        reach("api statement")
        return
    if cell.archived:
        cell.archived = False
        reach("after cell commit")
    if statement.startswith("DELETE FROM instances "):
        cell.archives = True
        reach("before the instances go")
    reach("cell statement")


@event.listens_for(Engine, "commit")
def on_commit(connection: Connection) -> None:
    if connection.engine.url.database == API:
        reach("api commit")
    elif cell.archives:
        cell.archives, cell.archived = False, True
        reach("between the commits")
    else:
        reach("cell commit")


@event.listens_for(Engine, "rollback")
def on_rollback(connection: Connection) -> None:
    if connection.engine.url.database != API:
        cell.archives = cell.archived = False
