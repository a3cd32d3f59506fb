"""the tables of release 24.0.0, when Nova came to alembic"""

from novadb.migrations import changes
from novadb.migrations.main.tables import CELL

revision = "8f2f1571d55b"
down_revision = None


def upgrade() -> None:
    changes.make_utf8_the_default()
    changes.create_tables(CELL.metadata)
