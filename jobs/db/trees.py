"""Trees of rows: a deleted row with everything that hangs on it by foreign keys, and how it moves.

A tree moves whole or not at all. Going down, each table's rows are claimed and copied into the shadow table before
their children are looked at; going up, they are deleted. A row that is claimed cannot get new children
(InnoDB takes a shared lock on the parent of an inserted row), so what is deleted is what was copied.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    TableClause,
    and_,
    column,
    delete,
    func,
    insert,
    select,
    table,
)

from jobs.retry import TryAgain
from novadb.catalogue import SHADOW, Catalogue, ForeignKey
from novadb.errors import DatabaseProblem, UnsuitableSchema

# Tables whose models Nova has removed (Yoga): archive leaves them alone, whatever they hold.
# fmt: off
RETIRED: Final = frozenset((
    "agent_builds", "aggregate_hosts", "aggregate_metadata", "aggregates", "allocations", "bw_usage_cache",
    "cells", "console_pools", "consoles", "dns_domains", "fixed_ips", "floating_ips", "instance_group_member",
    "instance_group_policy", "instance_groups", "instance_type_extra_specs", "instance_type_projects",
    "instance_types", "inventories", "key_pairs", "networks", "provider_fw_rules",
    "resource_provider_aggregates", "resource_providers", "security_group_default_rules",
    "snapshot_id_mappings", "snapshots", "volume_id_mappings",
))
# fmt: on
INSTANCES: Final = "instances"
# With more values an IN list may be answered by a scan of the table instead of its index.
KEYS_PER_STATEMENT: Final = 200


@dataclass(frozen=True)
class Branch:
    """A foreign key that is followed from a parent row down to its children."""

    parent_column: str
    column: str
    child: "Node"


@dataclass(frozen=True)
class Node:
    """A table in a tree.

    :ivar branches: the foreign keys that are followed down
    :ivar blockers: the foreign keys from rows that stay: retired tables, tables without a shadow table. As long as
        such a row names a row of this table, the tree cannot move
    """

    name: str
    columns: tuple[str, ...]
    branches: tuple[Branch, ...]
    blockers: tuple[ForeignKey, ...]

    @cached_property
    def live(self) -> TableClause:
        return table(self.name, *map(column, self.columns))

    @cached_property
    def shadow(self) -> TableClause:
        return table(SHADOW + self.name, *map(column, self.columns))

    @cached_property
    def keys(self) -> list[str]:
        """The columns by which other tables name rows of this one."""
        named = {branch.parent_column for branch in self.branches} | {key.parent_column for key in self.blockers}
        return sorted({"id"} | named)


class Forest:
    """The tables that archive moves, and how they hang together.

    :ivar roots: the tables in the order of the stock tool: parents before children, then by name
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._trees: dict[str, Node] = {}
        self._movable = {
            name
            for name, columns in catalogue.columns.items()
            if {"id", "deleted"} <= set(columns) and catalogue.shadow(name) and name not in RETIRED
        }
        self.roots = sorted(self._movable, key=lambda name: (self._depth(name), name))

    def tree(self, name: str) -> Node:
        """The tree of tables below ``name``: its children by foreign keys, theirs, and so on.

        :raises UnsuitableSchema: a shadow table lacks a column of its table
        """
        if name not in self._trees:
            self._trees[name] = self._tree(name, frozenset())
        return self._trees[name]

    def _tree(self, name: str, path: frozenset[str]) -> Node:
        columns = self._catalogue.columns[name]
        missing = sorted(set(columns) - set(self._catalogue.columns[SHADOW + name]))
        if missing:
            raise UnsuitableSchema(
                f"{SHADOW}{name} lacks the columns {', '.join(missing)} of {name}: run db sync on this database"
            )
        path |= {name}
        references = self._catalogue.references_to(name)
        followed = [key for key in references if key.table in self._movable - path]
        return Node(
            name,
            columns,
            tuple(Branch(key.parent_column, key.column, self._tree(key.table, path)) for key in followed),
            tuple(key for key in references if key not in followed),
        )

    def parents(self, name: str) -> list[ForeignKey]:
        """The foreign keys by which rows of ``name`` move with rows of another table."""
        return [
            key
            for key in self._catalogue.foreign_keys
            if key.table == name != key.parent and key.parent in self._movable
        ]

    def _depth(self, name: str, path: frozenset[str] = frozenset()) -> int:
        path |= {name}
        above = {key.parent for key in self.parents(name)} - path
        return max((self._depth(parent, path) + 1 for parent in above), default=0)


def chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    """The values in lists that one statement can take."""
    chunk: list[Any] = []
    for value in values:
        chunk.append(value)
        if len(chunk) == KEYS_PER_STATEMENT:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


Owned = tuple[RowMapping, int]
"""A row by its key columns, and the ``id`` of the root it hangs on."""

Owners = dict[Any, list[int]]
"""The roots that each value of a foreign key belongs to."""


def _below(node: Node, owned: Iterable[Owned]) -> Iterator[tuple[Node, ColumnElement[Any], Owners]]:
    """For each branch of ``node``: the child, its foreign key, and whose the values of that key are."""
    rows = list(owned)
    for branch in node.branches:
        owners: Owners = defaultdict(list)
        for row, owner in rows:
            owners[row[branch.parent_column]].append(owner)
        yield branch.child, branch.child.live.c[branch.column], owners


def _children(connection: Connection, child: Node, by: ColumnElement[Any], owners: Owners) -> list[Owned]:
    found: list[Owned] = []
    wanted = [child.live.c[name].label(name) for name in child.keys]
    for values in chunks(owners):
        for row in connection.execute(select(*wanted, by.label("_by")).where(by.in_(values))).mappings():
            found += [(row, owner) for owner in owners.get(row["_by"], ())]
    return found


def rows_below(connection: Connection, node: Node, owned: Sequence[Owned]) -> Iterator[tuple[Node, list[Owned]]]:
    """All rows that hang on some rows of ``node``, table by table."""
    for child, by, owners in _below(node, owned):
        found = _children(connection, child, by, owners)
        if found:
            yield child, found
            yield from rows_below(connection, child, found)


def count_rows(connection: Connection, root: Node, rows: Sequence[RowMapping]) -> Counter[int]:
    """How many rows the tree of each root row has, itself included.

    :param rows: root rows by the columns ``root.keys``
    :returns: rows by the ``id`` of the root. A row that hangs on two roots counts for both
    """
    sizes: Counter[int] = Counter()

    def count(node: Node, owned: Sequence[Owned]) -> None:
        sizes.update(owner for _, owner in owned)
        for child, by, owners in _below(node, owned):
            if child.branches:
                count(child, _children(connection, child, by, owners))
                continue
            for values in chunks(owners):
                counts = select(by, func.count()).where(by.in_(values)).group_by(by)
                for value, number in connection.execute(counts):
                    sizes.update(dict.fromkeys(owners.get(value, ()), number))

    count(root, [(row, row["id"]) for row in rows])
    return sizes


@dataclass
class Move:
    """Moves trees within the transaction that is open on ``connection``.

    :ivar moved: rows by table, so far
    """

    connection: Connection
    moved: Counter[str] = field(default_factory=Counter)

    def trees(self, root: Node, ids: Iterable[int], still: ColumnElement[bool]) -> list[RowMapping]:
        """Move the trees of those roots that are still there and still to be moved.

        :param ids: of the root rows
        :param still: the condition that makes a row a root
        :returns: the key columns of the roots that were moved
        :raises TryAgain: somebody wrote without respecting the claim; the transaction must be rolled back
        """
        claimed: list[RowMapping] = []
        for values in chunks(ids):
            rows = self._claim(root, and_(root.live.c.id.in_(values), still))
            if rows:
                self._tree(root, rows, root.live.c.id.in_([row["id"] for row in rows]))
                claimed += rows
        return claimed

    def _claim(self, node: Node, matching: ColumnElement[bool]) -> Sequence[RowMapping]:
        keys = [node.live.c[name] for name in node.keys]
        return self.connection.execute(select(*keys).where(matching).with_for_update()).mappings().all()

    def _tree(self, node: Node, rows: Sequence[RowMapping], matching: ColumnElement[bool]) -> None:
        """Move claimed rows and all below them. A row that hangs on them twice is gone at its second turn."""
        copied = self._copy(node, matching)
        for branch in node.branches:
            child = branch.child
            for values in chunks(dict.fromkeys(row[branch.parent_column] for row in rows)):
                hanging = child.live.c[branch.column].in_(values)
                if not child.branches:
                    self._delete(child, hanging, self._copy(child, hanging))
                elif below := self._claim(child, hanging):
                    self._tree(child, below, hanging)
        self._delete(node, matching, copied)

    def _copy(self, node: Node, matching: ColumnElement[bool]) -> int:
        rows = select(*node.live.c).where(matching).with_for_update()
        return self.connection.execute(insert(node.shadow).from_select(node.columns, rows)).rowcount

    def _delete(self, node: Node, matching: ColumnElement[bool], copied: int) -> None:
        deleted = self.connection.execute(delete(node.live).where(matching)).rowcount if copied else 0
        if deleted != copied:
            raise TryAgain(DatabaseProblem(f"{node.name}: {copied} rows copied, {deleted} deleted"))
        if deleted:
            self.moved[node.name] += deleted
