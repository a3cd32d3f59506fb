"""sqlalchemy-migrate's version table dropped"""

from novadb.migrations import changes

revision = "1b91788ec3a6"
down_revision = "960aac0e09ea"


def upgrade() -> None:
    changes.drop_table("migrate_version")
