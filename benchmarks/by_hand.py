"""What an operator would write by hand to archive deleted instances: the rival of the benchmark.

It knows the tables by heart, believes that nobody else writes, and stops at the first error.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import pymysql

Link: TypeAlias = "pymysql.Connection[Any]"
Cursor: TypeAlias = "pymysql.cursors.Cursor"

# Children before the parents.
TABLES: Final = (
    "security_group_instance_association",
    "migrations",
    "instance_faults",
    "virtual_interfaces",
    "block_device_mapping",
    "instance_metadata",
    "instance_system_metadata",
    "instance_actions",
    "instance_info_caches",
    "instance_extra",
)
API_TABLES: Final = ("instance_mappings", "request_specs", "instance_group_member")
API_UUIDS: Final = 100  # in one statement


def archive(cell: Link, api: Link, instances: int) -> int:
    """Archive all deleted instances.

    :param cell: a connection to the cell database, without autocommit
    :param api: a connection to the API database, without autocommit
    :param instances: how many to archive in one transaction
    :returns: how many rows were moved
    """
    moved = 0
    with cell.cursor() as cursor, api.cursor() as api_cursor:
        for link in (cursor, api_cursor):
            link.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        for uuids in _batches(cursor, instances):
            moved += _move(cursor, uuids)
            for start in range(0, len(uuids), API_UUIDS):
                for table in API_TABLES:
                    api_cursor.execute(
                        f"DELETE FROM {table} WHERE instance_uuid IN %s",
                        [uuids[start : start + API_UUIDS]],
                    )
                api.commit()
            cell.commit()
    return moved


def _batches(cursor: Cursor, instances: int) -> Iterator[list[str]]:
    last = 0
    while True:
        cursor.execute(
            "SELECT id, uuid FROM instances WHERE deleted <> 0 AND id > %s ORDER BY id LIMIT %s",
            (last, instances),
        )
        rows = cursor.fetchall()
        if not rows:
            return
        last = rows[-1][0]
        yield [uuid for _, uuid in rows]


def _move(cursor: Cursor, uuids: Sequence[str]) -> int:
    moved = 0
    events = (
        "FROM instance_actions_events e JOIN instance_actions a ON a.id = e.action_id WHERE "
        "a.instance_uuid IN %s"
    )
    cursor.execute(f"INSERT INTO shadow_instance_actions_events SELECT e.* {events}", [uuids])
    moved += cursor.execute(f"DELETE e {events}", [uuids])
    for table in TABLES:
        moved += _move_rows(cursor, table, "instance_uuid", uuids)
    return moved + _move_rows(cursor, "instances", "uuid", uuids)


def _move_rows(cursor: Cursor, table: str, column: str, uuids: Sequence[str]) -> int:
    cursor.execute(
        f"INSERT INTO shadow_{table} SELECT * FROM {table} WHERE {column} IN %s", [uuids]
    )
    return cursor.execute(f"DELETE FROM {table} WHERE {column} IN %s", [uuids])
