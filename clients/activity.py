"""Who wants to know that a question to a service or a hypervisor has come to its end, with an answer or without one."""

from collections.abc import Callable

answer_listeners: list[Callable[[], object]] = []


def report_answer() -> None:
    """A question has come to its end."""
    for listener in answer_listeners:
        listener()
