"""Tells whoever watches this process that a statement has ended, with a result or without one."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import event
from sqlalchemy.engine import Engine

_ENDS_OF_STATEMENTS: Final = ("after_cursor_execute", "commit", "handle_error", "rollback")


def listen_for_statements(listener: Callable[..., object]) -> None:
    """Have a function called after each statement, in whichever thread of this process it ran.

    :param listener: is given whatever arguments SQLAlchemy has for the event
    """
    for event_name in _ENDS_OF_STATEMENTS:
        event.listen(Engine, event_name, listener)
