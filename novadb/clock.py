"""The time as Nova's databases hold it."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The current time for a column of type DATETIME: in UTC, without a zone, in whole seconds.

    The server would round microseconds, perhaps up to a moment that has not come yet.
    """
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)
