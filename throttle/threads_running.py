"""The signal of load: threads that are running a statement."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from settings.throttle import ThrottleSettings
from throttle.look import Look, compare
from throttle.readings import Answer, Reading

NAME: Final = "threads_running"


def is_on(settings: ThrottleSettings) -> bool:
    """Whether it has a limit."""
    return bool(settings.max_threads_running or settings.critical_threads_running)


def _in_words(running: int) -> str:
    return "1 thread running" if running == 1 else f"{running} threads running"


def read(look: Look) -> Iterator[Reading]:
    """How many threads run. This look is one of them, as is each cell that is being worked."""
    settings = look.settings
    running = int(look.status["Threads_running"])
    limit = settings.max_threads_running or settings.critical_threads_running
    reading = compare(NAME, running, limit, _in_words(running))
    if settings.critical_threads_running and running >= settings.critical_threads_running:
        reading = replace(reading, answer=Answer.CRITICAL, limit=settings.critical_threads_running)
    yield reading
