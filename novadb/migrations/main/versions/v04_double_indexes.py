"""two indexes that others are good for dropped"""

from novadb.migrations import changes

revision = "960aac0e09ea"
down_revision = "ccb0fa1a2252"


def upgrade() -> None:
    changes.drop_index("console_auth_tokens", "console_auth_tokens_token_hash_idx")
    changes.drop_index("instances", "uuid")
