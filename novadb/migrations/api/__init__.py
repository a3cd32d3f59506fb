"""The API database: its tables at the first revision, and its revisions."""
