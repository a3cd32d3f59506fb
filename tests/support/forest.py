"""What archiving must do with the rows of a cell, worked out in plain Python, and checks of what it
did.

Nothing here is taken from the code that is tested: not the tables, not the foreign keys, not the
conditions.
"""

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Final, TypeAlias

Row: TypeAlias = Mapping[str, Any]
Contents: TypeAlias = Mapping[str, Mapping[Any, Row]]
"""The rows of a database by table, and by ``id`` where the table has one."""
Key: TypeAlias = tuple[str, int]
"""A row of the cell: its table and its id."""

SHADOW: Final = "shadow_"
# Child, its column, parent, the parent's column: the foreign keys along which rows move with their
# parent. So does nova-manage.
FOLLOWED: Final = (
    *(
        (child, "instance_uuid", "instances", "uuid")
        for child in (
            "block_device_mapping",
            "instance_actions",
            "instance_extra",
            "instance_faults",
            "instance_info_caches",
            "instance_metadata",
            "instance_system_metadata",
            "migrations",
            "security_group_instance_association",
            "virtual_interfaces",
        )
    ),
    ("instance_actions_events", "action_id", "instance_actions", "id"),
    ("pci_devices", "compute_node_id", "compute_nodes", "id"),
    ("reservations", "usage_id", "quota_usages", "id"),
    ("security_group_instance_association", "security_group_id", "security_groups", "id"),
    ("security_group_rules", "group_id", "security_groups", "id"),
    ("security_group_rules", "parent_group_id", "security_groups", "id"),
)
# Tables without a shadow, or retired ones, with a foreign key to instances.
STAYING: Final = ("share_mapping", "consoles", "fixed_ips")
# In the order in which they are visited: parents first, then by name.
# fmt: off
TABLES: Final = (
    "certificates", "compute_nodes", "instance_id_mappings", "instances", "project_user_quotas", "quota_classes",
    "quota_usages", "quotas", "s3_images", "security_groups", "services", "task_log", "volume_usage_cache",
    "block_device_mapping", "instance_actions", "instance_extra", "instance_faults", "instance_info_caches",
    "instance_metadata", "instance_system_metadata", "migrations", "pci_devices", "reservations",
    "security_group_instance_association", "security_group_rules", "virtual_interfaces",
    "instance_actions_events",
)
# fmt: on
API_TABLES: Final = ("instance_mappings", "request_specs", "instance_group_member")


def read(link: Any) -> Contents:
    """Everything in a database.

    :param link: a connection of the driver's, to SQLite or MySQL
    """
    cursor = link.cursor()
    sqlite = isinstance(link, sqlite3.Connection)
    cursor.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table'" if sqlite else "SHOW TABLES"
    )
    contents: dict[str, dict[Any, Row]] = {}
    for (table,) in cursor.fetchall():
        cursor.execute(f"SELECT * FROM {table}")
        columns = [column[0] for column in cursor.description]
        rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
        contents[table] = {row.get("id", tuple(row.values())): row for row in rows}
        assert len(contents[table]) == len(rows)
    cursor.close()
    return contents


@dataclass(frozen=True)
class Forest:
    """The rows of a cell before it is archived, and what is to become of them.

    :ivar rows: of its tables, shadow tables included
    :ivar refused: rows that the database does not let go, for whatever reason
    """

    rows: Contents
    before: datetime | None = None
    task_log: bool = False
    repair: bool = False
    refused: frozenset[Key] = frozenset()
    _going: dict[Key, bool] = field(default_factory=dict, compare=False, repr=False)

    def keys(self) -> Iterator[Key]:
        """All rows that could move, in the order in which they are looked at."""
        for table in TABLES:
            for number in sorted(self.rows.get(table, ())):
                yield table, number

    def is_due(self, key: Key) -> bool:
        """Whether a row says of itself that it is to be moved."""
        table, number = key
        row = self.rows[table][number]
        stamp, is_deleted = row["deleted_at"], row["deleted"] not in (0, None)
        if table == "task_log":
            if not self.task_log:
                return is_deleted
            stamp, is_deleted = row["updated_at"], True
        return is_deleted and (self.before is None or (stamp is not None and stamp < self.before))

    def goes(self, key: Key) -> bool:
        """Whether a row is to be moved, on its own account or with one that it hangs on."""
        if key not in self._going:
            self._going[key] = self.is_due(key) or any(
                self.goes(parent) for parent in self._parents.get(key, ())
            )
        return self._going[key]

    @cached_property
    def trees(self) -> dict[Key, frozenset[Key]]:
        """The rows that move with each root, by root, in the order in which they are visited."""
        return {
            key: frozenset(self._tree(key))
            for key in self.keys()
            if self.is_due(key)
            and not any(self.goes(parent) for parent in self._parents.get(key, ()))
        }

    @cached_property
    def blocked(self) -> frozenset[Key]:
        """The roots whose trees cannot move."""
        return frozenset(
            root
            for root, tree in self.trees.items()
            if any(self._is_in_the_way(key) for key in tree)
        )

    @cached_property
    def moving(self) -> frozenset[Key]:
        """The rows that a complete run moves."""
        return frozenset(
            key for root, tree in self.trees.items() if root not in self.blocked for key in tree
        )

    def twins(self) -> set[Key]:
        """Rows that stand identically in the table and in its shadow."""
        return {
            (table, number)
            for table, number in self.keys()
            if self.rows[table][number] == self.rows[SHADOW + table].get(number)
        }

    def uuids(self, keys: Collection[Key]) -> set[str]:
        """The UUIDs of the instances among some rows."""
        return {self.rows[table][number]["uuid"] for table, number in keys if table == "instances"}

    def _tree(self, key: Key) -> Iterator[Key]:
        yield key
        for child in self._children.get(key, ()):
            yield from self._tree(child)

    def _is_in_the_way(self, key: Key) -> bool:
        table, number = key
        row = self.rows[table][number]
        if key in self.refused or (table == "instances" and row["uuid"] in self._referred):
            return True
        shadow = self.rows[SHADOW + table].get(number)
        return shadow is not None and not (self.repair and shadow == row)

    @cached_property
    def _referred(self) -> set[str]:
        return {
            row["instance_uuid"] for table in STAYING for row in self.rows.get(table, {}).values()
        }

    @cached_property
    def _parents(self) -> dict[Key, set[Key]]:
        found: dict[Key, set[Key]] = {}
        for child, column, parent, parent_column in FOLLOWED:
            named = {
                row[parent_column]: number for number, row in self.rows.get(parent, {}).items()
            }
            for number, row in self.rows.get(child, {}).items():
                if row[column] in named:
                    found.setdefault((child, number), set()).add((parent, named[row[column]]))
        return found

    @cached_property
    def _children(self) -> dict[Key, set[Key]]:
        found: dict[Key, set[Key]] = {}
        for child, parents in self._parents.items():
            for parent in parents:
                found.setdefault(parent, set()).add(child)
        return found


def moved(before: Contents, after: Contents) -> frozenset[Key]:
    """The rows that left their table for its shadow."""
    return frozenset(
        (table, number)
        for table in TABLES
        if table in before
        for number in before[table].keys() - after[table].keys()
        if number in after[SHADOW + table]
    )


def assert_nothing_is_lost_or_doubled(
    before: Contents, after: Contents, *, repair: bool = False
) -> None:
    """Each row is as it was, and where it was or in the shadow table instead.

    :param repair: rows that stood in both places identically may be in one only
    """
    assert after.keys() == before.keys()
    movable = {name for table in TABLES for name in (table, SHADOW + table)}
    for table in before.keys() - movable:
        assert after[table] == before[table], f"{table} was changed"
    for table in before.keys() & set(TABLES):
        was, now = ((rows[table], rows[SHADOW + table]) for rows in (before, after))
        for number in {*was[0], *was[1], *now[0], *now[1]}:
            live, shadow = was[0].get(number), was[1].get(number)
            allowed = [(live, shadow)]
            if shadow is None:
                allowed.append((None, live))
            elif repair and live == shadow:
                allowed += [(live, None), (None, shadow)]
            assert (now[0].get(number), now[1].get(number)) in allowed, f"{table} {number}"


def assert_no_tree_is_torn(forest: Forest, gone: frozenset[Key]) -> None:
    """Only trees that may move have moved, and each with all its rows.

    A row that hangs on two trees goes with the first of them.

    :param gone: the rows that were moved
    """
    whole = {key for root, tree in forest.trees.items() if root in gone for key in tree}
    assert gone == whole
    assert gone <= forest.moving


def not_moved_away(api: Contents, here: Collection[int], uuids: Collection[str]) -> set[str]:
    """Those instances that are not mapped to another cell.

    :param here: ids of the mappings of this cell
    """
    mapped = [row for row in api["instance_mappings"].values() if row["cell_id"] is not None]
    return set(uuids) - {row["instance_uuid"] for row in mapped if row["cell_id"] not in here}


def assert_api_rows_are_right(
    before: Contents, after: Contents, *, gone: Collection[str], may_be_gone: Collection[str] = ()
) -> None:
    """All API rows of some instances are gone, and all others are as they were.

    :param gone: UUIDs of the instances
    :param may_be_gone: of others whose API rows are either all gone or all there: a process died
        over them
    """
    for table in before.keys() - set(API_TABLES):
        assert after[table] == before[table], f"{table} was changed"
    was, now = rows_by_uuid(before), rows_by_uuid(after)
    for uuid in was.keys() | now.keys():
        allowed = (
            [None]
            if uuid in gone
            else [was.get(uuid), None]
            if uuid in may_be_gone
            else [was.get(uuid)]
        )
        assert now.get(uuid) in allowed, f"API rows of {uuid}"


def rows_by_uuid(api: Contents) -> dict[str, list[tuple[str, Row]]]:
    """The API rows of each instance."""
    found: dict[str, list[tuple[str, Row]]] = {}
    for table in API_TABLES:
        for row in api[table].values():
            found.setdefault(row["instance_uuid"], []).append((table, row))
    return found
