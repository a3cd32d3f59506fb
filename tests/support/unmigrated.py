"""The real cloud with the work of all online data migrations put back, and what they should leave
of it.
"""

import gzip
import json
from pathlib import Path
from typing import Any, Final

from tests.support.realcloud import RealCloud

RECORDED: Final = Path(__file__).parents[1] / "data" / "online_data_migrations" / "stock.json.gz"
API: Final = RealCloud.api
CELLS: Final = (RealCloud.cell0, RealCloud.cell1, RealCloud.cell2, RealCloud.cell3)
# Per cell: rows of all tables, of live and of deleted instances, lose what newer releases gave to
# them.
IN_CELL: Final = (
    "UPDATE block_device_mapping SET uuid = NULL WHERE id % 3 = 0",
    "UPDATE migrations SET uuid = NULL",
    "UPDATE pci_devices SET uuid = NULL WHERE id % 2 = 0",
    "UPDATE instances SET availability_zone = NULL WHERE id % 4 = 0",
    "UPDATE instances SET compute_id = NULL WHERE id % 5 > 0",
    "UPDATE compute_nodes SET cpu_allocation_ratio = 0.0, ram_allocation_ratio = 7.5 WHERE id % 2 "
    "= 1 AND deleted = 0",
    "UPDATE compute_nodes SET disk_allocation_ratio = NULL WHERE id % 3 = 1 AND deleted = 0",
    # Interfaces that are missing, the oldest of two that are left and so in another order, and one
    # too many.
    "DELETE FROM virtual_interfaces WHERE id % 6 = 0",
    "UPDATE virtual_interfaces SET created_at = '2027-01-01' WHERE tag IS NOT NULL",
    "UPDATE virtual_interfaces SET tag = CONCAT('tag', id) WHERE id % 2 = 1 AND tag IS NULL",
    "INSERT INTO virtual_interfaces (address, uuid, instance_uuid, deleted) "
    "SELECT CONCAT('extra', id), uuid, uuid, 0 FROM instances WHERE deleted = 0 AND id % 10 = 1",
)
# Limits of the projects that the API database does not have, different ones in each cell.
LIMITS: Final = (
    "INSERT INTO quotas (project_id, resource, hard_limit, deleted) "
    "VALUES ('of-{0}', 'cores', 7, 0), ('of-{0}', 'ram', 8, 0)",
    "INSERT INTO quotas (project_id, resource, hard_limit, deleted) VALUES ('of-{0}', 'cores', 6, "
    "999)",
    "INSERT INTO project_user_quotas (user_id, project_id, resource, hard_limit, deleted) "
    "VALUES ('user', 'of-{0}', 'cores', 3, 0)",
    "INSERT INTO quota_classes (class_name, resource, hard_limit, deleted) VALUES ('class-of-{0}', "
    "'cores', 70, 0)",
)
IN_API: Final = (
    "UPDATE instance_mappings SET queued_for_delete = NULL WHERE id % 3 > 0",
    "UPDATE instance_mappings SET user_id = NULL WHERE id % 4 > 0",
)

# What is compared, by the database's kind: each row under the first column.
LOOKS: Final = {
    "api": (
        "SELECT CONCAT('mapping ', instance_uuid), queued_for_delete, user_id FROM "
        "instance_mappings",
        "SELECT CONCAT_WS(' ', 'limit', project_id, resource), hard_limit FROM quotas",
        "SELECT CONCAT_WS(' ', 'limit', project_id, user_id, resource), hard_limit FROM "
        "project_user_quotas",
        "SELECT CONCAT_WS(' ', 'class', class_name, resource), hard_limit FROM quota_classes",
    ),
    "cell": (
        "SELECT CONCAT('instance ', uuid), availability_zone, compute_id, deleted <> 0 FROM "
        "instances",
        "SELECT CONCAT('node ', id), cpu_allocation_ratio, ram_allocation_ratio, "
        "disk_allocation_ratio "
        "FROM compute_nodes WHERE deleted = 0",
        "SELECT CONCAT('interfaces of ', instance_uuid), GROUP_CONCAT(CONCAT_WS(' ', uuid, "
        "address, tag) "
        "ORDER BY created_at, id) FROM virtual_interfaces WHERE deleted = 0 GROUP BY instance_uuid",
        "SELECT CONCAT_WS(' ', 'limit', project_id, resource, hard_limit), deleted = 0 FROM quotas",
        "SELECT CONCAT_WS(' ', 'limit', project_id, user_id, resource), deleted = 0 FROM "
        "project_user_quotas",
        "SELECT CONCAT_WS(' ', 'class', class_name, resource), deleted = 0 FROM quota_classes",
        *(
            f"SELECT 'without uuid in {table}', COUNT(*) FROM {table} WHERE uuid IS NULL"
            for table in ("migrations", "block_device_mapping", "pci_devices")
        ),
    ),
}


def put_back(cloud: RealCloud) -> None:
    """Make the rows of the cloud as they were before the migrations."""
    for cell in CELLS:
        for statement in (*IN_CELL, *(line.format(cell) for line in LIMITS)):
            cloud.rows(cell, statement)
    for statement in IN_API:
        cloud.rows(API, statement)


def look(cloud: RealCloud) -> dict[str, dict[str, list[Any]]]:
    """What the migrations change, by database."""
    return {
        name: {
            row[0]: [str(value) if value is not None else None for value in row[1:]]
            for statement in LOOKS["api" if name == API else "cell"]
            for row in cloud.rows(name, statement)
        }
        for name in (API, *CELLS)
    }


def recorded() -> dict[str, dict[str, list[Any]]]:
    """What the stock tool left."""
    found: dict[str, dict[str, list[Any]]] = json.loads(gzip.decompress(RECORDED.read_bytes()))
    return found
