"""a share is attached to an instance once

Where the stock tool drops the table and makes it anew, without its rows, they stay here.
"""

from novadb.migrations import changes

revision = "d60bddf7a903"
down_revision = "13863f4e1612"


def upgrade() -> None:
    for column in ("share_id", "tag"):
        changes.add_unique(
            "share_mapping", f"instance_uuid {column}", f"uniq_key_pairs0instance_uuid0{column}"
        )
