"""consoles have a port for TLS"""

from novadb.migrations import changes
from novadb.migrations.tables import integer

revision = "2903cd72dc14"
down_revision = "d60bddf7a903"


def upgrade() -> None:
    changes.add_columns("console_auth_tokens", integer("tls_port"))
