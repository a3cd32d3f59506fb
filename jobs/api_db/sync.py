"""``api_db sync``: bring the API database to a revision of its schema, by
``jobs.schema.upgrade``.
"""

from enum import IntEnum


class Exit(IntEnum):
    """The manual's return code, and that of an error."""

    SYNCED = 0
    ERROR = 255
