"""how block devices are encrypted"""

from novadb.migrations import changes
from novadb.migrations.tables import boolean, string, uuid

revision = "ccb0fa1a2252"
down_revision = "16f1fbcab42b"


def upgrade() -> None:
    for table in ("block_device_mapping", "shadow_block_device_mapping"):
        changes.add_columns(
            table,
            boolean("encrypted"),
            uuid("encryption_secret_uuid"),
            string("encryption_format", 128),
            string("encryption_options", 4096),
        )
