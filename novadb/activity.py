"""Who wants to know that a statement has come to its end, with a result or without one."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import event
from sqlalchemy.engine import Engine

_ENDS: Final = ("after_cursor_execute", "commit", "handle_error", "rollback")


def listen_for_statements(listener: Callable[..., object]) -> None:
    """Call a listener from now on, with whatever arguments, in any thread of this process."""
    for name in _ENDS:
        event.listen(Engine, name, listener)
