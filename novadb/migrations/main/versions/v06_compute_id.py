"""instances and migrations know their compute node"""

from novadb.migrations import changes
from novadb.migrations.tables import bigint

revision = "1acf2c98e646"
down_revision = "1b91788ec3a6"


def upgrade() -> None:
    for table, column in (("instances", "compute_id"), ("migrations", "dest_compute_id")):
        changes.add_columns(table, bigint(column))
        changes.add_columns(f"shadow_{table}", bigint(column))
        changes.add_index(table, f"{column} deleted", f"{table}_{column}_deleted_idx")
