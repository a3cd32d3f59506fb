"""What Celery and kombu log, for operators: a line when the broker goes away, and one when it is
back.

By themselves they log a line for each attempt to connect, some with tracebacks, and the whole
content of a message that they cannot read.
"""

import logging
import warnings
from typing import Final

from celery.exceptions import CPendingDeprecationWarning
from celery.worker.consumer import consumer
from redis.exceptions import RedisError

UNREAD: Final = "a message that cannot be read is thrown away"
AWAY: Final = "the broker cannot be used, it is waited for: %s"
# Both are followed by the reason as their second argument.
_AWAY: Final = (consumer.CONNECTION_ERROR, "%s (%r)")
_UNREADABLE: Final = (
    consumer.UNKNOWN_FORMAT,
    consumer.UNKNOWN_TASK_ERROR,
    consumer.INVALID_TASK_ERROR,
    consumer.MESSAGE_DECODE_ERROR,
)
_CONNECTED: Final = "Connected to %s"
LOGGERS: Final = (
    "celery.bootsteps",
    "celery.worker.consumer.consumer",
    "celery.worker.consumer.connection",
    "celery.worker.pidbox",
    "celery.worker.request",
    "kombu.asynchronous.hub",
    "kombu.asynchronous.timer",
    "kombu.transport.redis",
)


class Calm(logging.Filter):
    """Passes the first line of an outage, and the one that says that it is over."""

    def __init__(self) -> None:
        super().__init__()
        self._is_away = False

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg in _UNREADABLE:
            record.msg, record.args, record.exc_info = UNREAD, (), None
        if record.msg == _CONNECTED:
            self._is_away = False
        reason = _reason(record)
        if reason is None:
            return True
        record.msg, record.args, record.exc_info, record.exc_text = (
            AWAY,
            (" ".join(str(reason).split()),),
            None,
            None,
        )
        was_away, self._is_away = self._is_away, True
        return not was_away


def _reason(record: logging.LogRecord) -> object | None:
    """Why the broker cannot be used, if a record says that."""
    if record.msg in _AWAY and isinstance(record.args, tuple):
        return record.args[1]
    error = record.exc_info[1] if record.exc_info else None
    # What fails while a refusal is handled is one of its traces.
    while error and not isinstance(error, RedisError):
        error = error.__cause__ or error.__context__
    return error


def be_calm() -> None:
    """Filter the loggers of Celery and kombu in this process."""
    calm = Calm()
    for name in LOGGERS:
        logging.getLogger(name).addFilter(calm)


def ignore_settled_warnings() -> None:
    """Hide what Celery says of a setting that is set; once its logging is set up, which shows all
    warnings again.
    """
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
