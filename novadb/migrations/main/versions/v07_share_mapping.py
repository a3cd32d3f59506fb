"""shares of Manila that are attached to instances"""

from sqlalchemy import BigInteger, Integer

from novadb.migrations import changes
from novadb.migrations.main.tables import CELL
from novadb.migrations.tables import Tables, foreign, index, serial, string, text, uuid

revision = "13863f4e1612"
down_revision = "1acf2c98e646"


def upgrade() -> None:
    tables = Tables(stamps="created_at updated_at")
    CELL.metadata.tables["instances"].to_metadata(tables.metadata)
    changes.create_table(
        tables.table(
            "share_mapping",
            tables.stamps(),
            serial(BigInteger().with_variant(Integer(), "sqlite")),
            uuid("uuid instance_uuid share_id"),
            string("status", 32),
            string("tag", 48),
            text("export_location"),
            string("share_proto", 32),
            foreign("instance_uuid", "instances.uuid", "share_mapping_instance_uuid_fkey"),
            index("share_id", "share_idx"),
            index("instance_uuid share_id"),
        )
    )
