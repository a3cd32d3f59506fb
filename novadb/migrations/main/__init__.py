"""A cell's database: its tables at the first revision, and its revisions."""
