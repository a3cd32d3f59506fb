"""the tables of release 24.0.0, when Nova came to alembic"""

from novadb.migrations import changes
from novadb.migrations.api.tables import API

revision = "d67eeaabee36"
down_revision = None


def upgrade() -> None:
    changes.create_tables(API.metadata)
