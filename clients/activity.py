"""Tells whoever watches this process that a request to a service or a hypervisor has ended.

It does not matter whether an answer came: a process that goes from one request to the next does not
hang.
"""

from collections.abc import Callable

answer_listeners: list[Callable[[], object]] = []


def report_answer() -> None:
    """To be called when a request has ended, with or without an answer."""
    for listener in answer_listeners:
        listener()
