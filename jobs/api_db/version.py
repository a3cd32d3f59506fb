"""``api_db version``: the revision of the API database. It is found in no other way than the main database's."""

from jobs.db.version import Exit, version

__all__ = ["Exit", "version"]
