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
    BindParameter,
    ColumnClause,
    ColumnElement,
    Connection,
    Executable,
    RowMapping,
    Select,
    TableClause,
    bindparam,
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
VALUES: Final[BindParameter[Any]] = bindparam("values", expanding=True)


@dataclass(frozen=True)
class Branch:
    """A foreign key that is followed from a parent row down to its children."""

    parent_column: str
    column: str
    child: "Node"


@dataclass(frozen=True, eq=False)
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
    _named_by: dict[str, "RowsBy"] = field(default_factory=dict, init=False, repr=False)

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

    def rows_by(self, name: str) -> "RowsBy":
        """The statements on rows that are named by a column."""
        if name not in self._named_by:
            self._named_by[name] = RowsBy(self, self.live.c[name])
        return self._named_by[name]


class RowsBy:
    """The statements on those rows of a table whose column ``by`` has one of the parameter ``values``.

    They are built once: to build one anew costs several times what it costs to send it.
    """

    def __init__(self, node: Node, by: ColumnClause[Any]) -> None:
        self._node = node
        self._by = by
        self._named = by.in_(VALUES)

    @cached_property
    def claim(self) -> Executable:
        """Lock the rows, and read the columns by which others name them."""
        return self._keys().with_for_update()

    @cached_property
    def children(self) -> Executable:
        """Read the columns by which others name the rows, and ``_by``."""
        return self._keys(self._by.label("_by"))

    @cached_property
    def count(self) -> Executable:
        """Count the rows by value."""
        return select(self._by, func.count()).where(self._named).group_by(self._by)

    @cached_property
    def copy(self) -> Executable:
        """Lock the rows and copy them into the shadow table."""
        node = self._node
        rows = select(*node.live.c).where(self._named).with_for_update()
        return insert(node.shadow).from_select(node.columns, rows)

    @cached_property
    def delete(self) -> Executable:
        """Delete the rows."""
        return delete(self._node.live).where(self._named)

    def _keys(self, *more: ColumnElement[Any]) -> Select[Any]:
        return select(*(self._node.live.c[name].label(name) for name in self._node.keys), *more).where(self._named)


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


def _below(node: Node, owned: Iterable[Owned]) -> Iterator[tuple[Node, RowsBy, Owners]]:
    """For each branch of ``node``: the child, the statements on its rows, and whose the values of its key are."""
    rows = list(owned)
    for branch in node.branches:
        owners: Owners = defaultdict(list)
        for row, owner in rows:
            owners[row[branch.parent_column]].append(owner)
        yield branch.child, branch.child.rows_by(branch.column), owners


def _children(connection: Connection, by: RowsBy, owners: Owners) -> list[Owned]:
    found: list[Owned] = []
    for values in chunks(owners):
        for row in connection.execute(by.children, {"values": values}).mappings():
            found += [(row, owner) for owner in owners.get(row["_by"], ())]
    return found


def rows_below(connection: Connection, node: Node, owned: Sequence[Owned]) -> Iterator[tuple[Node, list[Owned]]]:
    """All rows that hang on some rows of ``node``, table by table."""
    for child, by, owners in _below(node, owned):
        found = _children(connection, by, owners)
        if found:
            yield child, found
            yield from rows_below(connection, child, found)


def count_rows(connection: Connection, root: Node, rows: Sequence[RowMapping]) -> Counter[int]:
    """How many rows the tree of each root row has, itself included.

    :param rows: root rows by the columns ``root.keys``
    :returns: rows by the ``id`` of the root. A row that hangs on two roots counts for both, on one root once
    """
    sizes: Counter[int] = Counter()
    seen: set[tuple[str, int, int]] = set()

    def count(node: Node, owned: Sequence[Owned]) -> None:
        new = {(node.name, row["id"], owner): row for row, owner in owned}
        sizes.update(owner for _, _, owner in new.keys() - seen)
        seen.update(new)
        ways = Counter(branch.child.name for branch in node.branches)
        for child, by, owners in _below(node, owned):
            if child.branches or ways[child.name] > 1:
                count(child, _children(connection, by, owners))
                continue
            for values in chunks(owners):
                for value, number in connection.execute(by.count, {"values": values}):
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

    def trees(self, root: Node, ids: Iterable[int], claim: Executable) -> list[RowMapping]:
        """Move the trees of those roots that are still there and still to be moved.

        :param ids: of the root rows
        :param claim: locks those of the rows with the ids ``values`` that are to be moved, and reads ``root.keys``
        :returns: the key columns of the roots that were moved
        :raises TryAgain: somebody wrote without respecting the claim; the transaction must be rolled back
        """
        claimed: list[RowMapping] = []
        for values in chunks(ids):
            rows = self.connection.execute(claim, {"values": values}).mappings().all()
            if rows:
                self._tree(root, rows, root.rows_by("id"), [row["id"] for row in rows])
                claimed += rows
        return claimed

    def _tree(self, node: Node, rows: Sequence[RowMapping], by: RowsBy, values: Sequence[Any]) -> None:
        """Move claimed rows and all below them. A row that hangs on them twice is gone at its second turn."""
        copied = self._copy(by, values)
        for branch in node.branches:
            child, child_by = branch.child, branch.child.rows_by(branch.column)
            for parents in chunks(dict.fromkeys(row[branch.parent_column] for row in rows)):
                if not child.branches:
                    self._delete(child, child_by, parents, self._copy(child_by, parents))
                    continue
                below = self.connection.execute(child_by.claim, {"values": parents}).mappings().all()
                if below:
                    self._tree(child, below, child_by, parents)
        self._delete(node, by, values, copied)

    def _copy(self, by: RowsBy, values: Sequence[Any]) -> int:
        return self.connection.execute(by.copy, {"values": values}).rowcount

    def _delete(self, node: Node, by: RowsBy, values: Sequence[Any], copied: int) -> None:
        deleted = self.connection.execute(by.delete, {"values": values}).rowcount if copied else 0
        if deleted != copied:
            raise TryAgain(DatabaseProblem(f"{node.name}: {copied} rows copied, {deleted} deleted"))
        if deleted:
            self.moved[node.name] += deleted
