"""All online data migrations, in the order in which they run."""

from typing import Final

from jobs.db.migrations import instances, interfaces, mappings, quotas, ratios, uuids
from jobs.db.migrations.migration import Migration

MIGRATIONS: Final[dict[str, Migration]] = {
    migration.name: migration
    for migration in (
        quotas.MIGRATE_QUOTA_LIMITS,
        quotas.MIGRATE_QUOTA_CLASSES,
        uuids.MIGRATION_MIGRATE_TO_UUID,
        uuids.POPULATE_UUIDS,
        instances.POPULATE_MISSING_AVAILABILITY_ZONES,
        mappings.POPULATE_QUEUED_FOR_DELETE,
        ratios.MIGRATE_EMPTY_RATIO,
        interfaces.FILL_VIRTUAL_INTERFACE_LIST,
        mappings.POPULATE_USER_ID,
        uuids.POPULATE_DEV_UUIDS,
        instances.POPULATE_INSTANCE_COMPUTE_ID,
    )
}
"""By name. ``fill_virtual_interface_list`` may make an instance without a host, which the last one
counts.
"""
