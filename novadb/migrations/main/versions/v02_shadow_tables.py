"""shadow tables brought into step with their tables"""

from novadb.migrations import changes

revision = "16f1fbcab42b"
down_revision = "8f2f1571d55b"


def upgrade() -> None:
    changes.lengthen_column("shadow_volume_usage_cache", "user_id", 64)
    changes.drop_index("shadow_instance_extra", "shadow_instance_extra_idx")
    changes.drop_index("shadow_migrations", "shadow_migrations_uuid")
    changes.collate_by_bytes("shadow_instance_type_extra_specs")
