"""Who wants to know that a question to a service or a hypervisor has come to its end, with an answer or without one."""

from collections.abc import Callable

listeners: list[Callable[[], object]] = []


def tell() -> None:
    """A question has come to its end."""
    for listener in listeners:
        listener()
