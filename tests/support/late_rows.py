"""Rows that others add to deleted instances while these are archived."""

from collections import Counter
from contextlib import closing
from typing import Final

import pymysql

from tests.support.forest import Contents
from tests.support.inventory import Inventory
from tests.support.realcloud import RealCloud

# The server gave up on a statement: the row it refers to is gone, or locked for too long.
FOREIGN_KEY, LOCK_WAIT = 1452, 1205
# Seconds; what is locked stays so until the test lets the program go on.
LOCK_WAIT_TIMEOUT: Final = 1


def deleted_instances(rows: Contents) -> list[str]:
    """The uuids of a cell's deleted instances."""
    return [row["uuid"] for row in rows["instances"].values() if row["deleted"]]


def add_late(
    cloud: RealCloud, inventory: Inventory, statement: str
) -> tuple[dict[str, list[int]], Counter[int]]:
    """Add a row to each deleted instance of each cell.

    :param statement: inserts the row; it takes the uuid of the instance
    :returns: the ids of the rows that were taken, by database; how often each error refused one
    """
    accepted: dict[str, list[int]] = {name: [] for name in inventory.cells}
    refused = Counter[int]()
    for name, rows in inventory.cells.items():
        with closing(cloud.server.connect(name)) as link, link.cursor() as cursor:
            cursor.execute(f"SET innodb_lock_wait_timeout = {LOCK_WAIT_TIMEOUT}")
            for uuid in deleted_instances(rows):
                try:
                    cursor.execute(statement, (uuid,))
                except pymysql.Error as error:
                    refused[error.args[0]] += 1
                else:
                    accepted[name].append(cursor.lastrowid)
    return accepted, refused
