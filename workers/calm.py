"""What Celery and kombu log, for operators: a line when the broker goes away, and one when it is back.

They write a line for each attempt to connect, some with tracebacks, and what they cannot read with all that it holds.
"""

import logging
from typing import Final

from celery.worker.consumer import consumer
from redis.exceptions import RedisError

UNREAD: Final = "a message that cannot be read is thrown away"
_AWAY: Final = (consumer.CONNECTION_ERROR, consumer.CONNECTION_RETRY, "%s (%r)")
_UNREADABLE: Final = (
    consumer.UNKNOWN_FORMAT, consumer.UNKNOWN_TASK_ERROR, consumer.INVALID_TASK_ERROR, consumer.MESSAGE_DECODE_ERROR,
)  # fmt: skip
_CONNECTED: Final = "Connected to %s"
LOGGERS: Final = (
    "celery.worker.consumer.consumer",
    "celery.worker.consumer.connection",
    "celery.worker.pidbox",
    "celery.worker.request",
    "kombu.asynchronous.hub",
    "kombu.asynchronous.timer",
    "kombu.transport.redis",
)


class Calm(logging.Filter):
    """Lets the first line of a trouble pass, and the one that it is over."""

    def __init__(self) -> None:
        super().__init__()
        self._is_away = False

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg in _UNREADABLE:
            record.msg, record.args, record.exc_info = UNREAD, (), None
        if record.msg == _CONNECTED:
            self._is_away = False
        if record.msg in _AWAY or _is_of_broker(record):
            record.exc_info = None
            was_away, self._is_away = self._is_away, True
            return not was_away
        return True


def _is_of_broker(record: logging.LogRecord) -> bool:
    """Whether an error of the broker is told with its traceback."""
    return bool(record.exc_info) and isinstance(record.exc_info[1], RedisError)  # type: ignore[index]


def be_calm() -> None:
    """Log so, in this process."""
    calm = Calm()
    for name in LOGGERS:
        logging.getLogger(name).addFilter(calm)
