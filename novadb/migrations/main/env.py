"""Where Alembic enters."""

from novadb.migrations import environment

environment.run_migrations()
