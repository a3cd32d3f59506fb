"""columns of build_requests dropped, which nothing has used since release 14.0.0"""

from novadb.migrations import changes

revision = "b30f573d3377"
down_revision = "d67eeaabee36"


def upgrade() -> None:
    changes.drop_columns(
        "build_requests",
        "request_spec_id user_id display_name instance_metadata progress vm_state task_state "
        "image_ref access_ip_v4 access_ip_v6 info_cache security_groups config_drive key_name "
        "locked_by",
    )
