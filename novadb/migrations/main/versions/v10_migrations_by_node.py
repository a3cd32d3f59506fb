"""indexes to find the migrations of a compute node"""

from novadb.migrations import changes

revision = "ab450ba04102"
down_revision = "2903cd72dc14"


def upgrade() -> None:
    for side, end in (("dest", "dest"), ("source", "src")):
        columns = f"deleted {side}_compute {side}_node status"
        changes.add_index("migrations", columns, f"migrations_by_{end}_host_nodes_and_status_idx")
