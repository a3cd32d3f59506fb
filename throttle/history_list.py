"""The signal of purge lag: row versions that InnoDB could not yet clean up."""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from settings.throttle import ThrottleSettings
from throttle.look import Look, compare, unknown
from throttle.readings import Reading

NAME: Final = "history_list"
METRIC: Final = text(
    "SELECT count FROM information_schema.innodb_metrics WHERE name = 'trx_rseg_history_len'"
)
"""Where the server has no status variable for it, as MySQL."""


def is_on(settings: ThrottleSettings) -> bool:
    """Whether it has a limit."""
    return bool(settings.max_history_list)


def read(look: Look) -> Iterator[Reading]:
    """The history list length."""
    try:
        length = int(
            look.status.get("Innodb_history_list_length") or look.connection.scalar(METRIC) or 0
        )
    except DBAPIError as error:
        yield unknown(NAME, error, "PROCESS")
        return
    yield compare(NAME, length, look.settings.max_history_list, f"history list length {length:,}")
