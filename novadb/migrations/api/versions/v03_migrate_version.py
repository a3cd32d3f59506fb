"""sqlalchemy-migrate's version table dropped"""

from novadb.migrations import changes

revision = "cdeec0c85668"
down_revision = "b30f573d3377"


def upgrade() -> None:
    changes.drop_table("migrate_version")
