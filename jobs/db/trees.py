"""Trees of rows: a deleted row with everything that hangs on it by foreign keys, and how it moves.

A tree moves whole or not at all. Going down, each table's rows are locked and copied into the
shadow table before their children are looked at; going up, they are deleted. A row that is locked
cannot get new children, so what is deleted is what was copied: InnoDB takes a shared lock on the
parent of an inserted row, in the index of the column that the child names. A parent that is named
by another column than its ``id`` must therefore be locked by way of that one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Connection,
    FromClause,
    RowMapping,
    Select,
    TableClause,
    column,
    delete,
    func,
    insert,
    select,
    table,
    union,
    union_all,
)

from jobs.db.statements import Among, Prepared, Values, chunks
from jobs.retry import TryAgain, rollback
from novadb.catalogue import SHADOW_PREFIX, Catalogue, ForeignKey, read_catalogue
from novadb.engine import is_mariadb
from novadb.errors import DatabaseProblem, UnsuitableSchema
from novadb.lazy import lazy_property

if TYPE_CHECKING:
    from jobs.db.write_sets import Gauge

# Tables whose models Nova has removed (Yoga): archive leaves them alone, whatever they hold.
# fmt: off
RETIRED: Final = frozenset((
    "agent_builds", "aggregate_hosts", "aggregate_metadata", "aggregates", "allocations",
    "bw_usage_cache", "cells", "console_pools", "consoles", "dns_domains", "fixed_ips",
    "floating_ips", "instance_group_member", "instance_group_policy", "instance_groups",
    "instance_type_extra_specs", "instance_type_projects", "instance_types", "inventories",
    "key_pairs", "networks", "provider_fw_rules", "resource_provider_aggregates",
    "resource_providers", "security_group_default_rules", "snapshot_id_mappings", "snapshots",
    "volume_id_mappings",
))
# fmt: on
INSTANCES: Final = "instances"
FORESTS: Final = 4
"""How many are kept: most cells have the same schema, others while they are upgraded."""


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
    :ivar blockers: the foreign keys from rows that stay: retired tables, tables without a shadow
        table. As long as such a row names a row of this table, the tree cannot move
    """

    name: str
    columns: tuple[str, ...]
    branches: tuple[Branch, ...]
    blockers: tuple[ForeignKey, ...]

    def and_below(self) -> "Iterator[Node]":
        """This table, and all that hang on it."""
        yield self
        for branch in self.branches:
            yield from branch.child.and_below()

    @lazy_property
    def live(self) -> TableClause:
        return table(self.name, *map(column, self.columns))

    @lazy_property
    def shadow(self) -> TableClause:
        return table(SHADOW_PREFIX + self.name, *map(column, self.columns))

    @lazy_property
    def keys(self) -> list[str]:
        """The columns by which other tables name rows of this one."""
        named = {branch.parent_column for branch in self.branches} | {
            key.parent_column for key in self.blockers
        }
        return sorted({"id"} | named)

    @lazy_property
    def itself(self) -> "Way":
        """The rows of this table, by the column by which children name them: to be locked in that
        column's index.
        """
        column_named = max(self.ways, key=lambda name: name != "id", default="id")
        return Way(self, self.live.c[column_named], self.live)

    @lazy_property
    def ways(self) -> "dict[str, list[Way]]":
        """The ways to the tables right below, by the column of this table whose values they start
        from.
        """
        found: dict[str, list[Way]] = defaultdict(list)
        for branch in self.branches:
            child = branch.child
            found[branch.parent_column].append(Way(child, child.live.c[branch.column], child.live))
        return found

    @lazy_property
    def sizes(self) -> dict[str, Prepared]:
        """Statements that count all rows below, by the column whose values they start from and
        group by.
        """
        return {
            name: _count_below([further for way in ways for further in way.and_below()])
            for name, ways in self.ways.items()
        }


@dataclass(frozen=True, eq=False)
class Way:
    """A way down: from some values to those rows of a table that hang on them, through the tables
    between.

    :ivar node: the table
    :ivar start: the column that has one of the values, of the first table on the way
    :ivar first: that table
    :ivar joins: for each further table, the column that names a row of the table before, and what
        it names there
    """

    node: Node
    start: ColumnClause[Any]
    first: TableClause
    joins: tuple[tuple[ColumnClause[Any], ColumnClause[Any]], ...] = ()

    @lazy_property
    def below(self) -> "list[Way]":
        """The ways that go on to the tables right below."""
        here = self.node.live
        return [
            replace(
                self,
                node=child,
                joins=(*self.joins, (child.live.c[branch.column], here.c[branch.parent_column])),
            )
            for branch in self.node.branches
            for child in [branch.child]
        ]

    def and_below(self) -> "Iterator[Way]":
        """This way, and all that go on from it."""
        yield self
        for way in self.below:
            yield from way.and_below()

    @lazy_property
    def keys(self) -> Prepared:
        """Read the columns by which others name the rows, and ``_start``."""
        return Prepared(
            self.rows(
                self.start.label("_start"), *(self.node.live.c[name] for name in self.node.keys)
            )
        )

    @lazy_property
    def copy(self) -> Prepared:
        """Lock the rows and copy them into the shadow table."""
        node = self.node
        return Prepared(
            insert(node.shadow).from_select(node.columns, self.rows(*node.live.c).with_for_update())
        )

    @lazy_property
    def delete(self) -> Prepared:
        """Delete the rows."""
        links = [left == right for left, right in self.joins]
        rows = delete(self.node.live)
        return Prepared(rows.where(Among(self.start), *links), in_sqlite=rows.where(self._named()))

    def rows(self, *columns: ColumnElement[Any]) -> Select[Any]:
        """Select of the rows."""
        found = select(*columns).where(Among(self.start))
        joined: FromClause = self.first
        for left, right in self.joins:
            joined = joined.join(cast(FromClause, left.table), left == right)
        if self.joins:
            # With old statistics a server may begin with the whole of a table at the far end.
            for dialect in ("mysql", "mariadb"):
                found = found.prefix_with("STRAIGHT_JOIN", dialect=dialect)
        return found.select_from(joined)

    def _named(self) -> ColumnElement[bool]:
        """The condition on the rows in nested selects: SQLite deletes from no join."""
        condition: ColumnElement[bool] = Among(self.start)
        for left, right in self.joins:
            condition = left.in_(select(right).where(condition))
        return condition


def _count_below(ways: Sequence[Way]) -> Prepared:
    """Count the rows that are found on some ways, by where they start; a row that two lead to
    counts once.
    """
    by_table: dict[str, list[Way]] = defaultdict(list)
    for way in ways:
        by_table[way.node.name].append(way)
    each = union_all(*map(_count_in_table, by_table.values())).subquery()
    return Prepared(
        select(each.c.start, func.sum(each.c.number).label("number")).group_by(each.c.start)
    )


def _count_in_table(ways: Sequence[Way]) -> Select[Any]:
    number = func.count().label("number")
    if len(ways) == 1:
        return ways[0].rows(ways[0].start.label("start"), number).group_by(ways[0].start)
    found = union(
        *(way.rows(way.start.label("start"), way.node.live.c.id) for way in ways)
    ).subquery()
    return select(found.c.start, number).group_by(found.c.start)


class Forest:
    """The tables that archive moves, and how they hang together. Threads, and cells, may share it.

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
        """The tree of tables below ``name``: its children by foreign keys, theirs, and so on."""
        if name not in self._trees:
            self._trees.setdefault(name, self._tree(name, frozenset()))
        return self._trees[name]

    def check(self, name: str) -> None:
        """See that rows of ``name``, with all that hangs on them, can lie in the shadow tables.

        :raises UnsuitableSchema: they cannot, whatever the rows; the text names the table, and says
            what to do
        """
        for node in self.tree(name).and_below():
            self._check_table(node.name)

    def _check_table(self, name: str) -> None:
        shadow = SHADOW_PREFIX + name
        columns, shadow_columns = (
            self._catalogue.columns[table_name] for table_name in (name, shadow)
        )
        if missing := sorted(set(columns) - set(shadow_columns)):
            raise UnsuitableSchema(
                f"{shadow} lacks the columns {', '.join(missing)} of {name}: "
                "run db sync on this database"
            )
        if unfilled := sorted(set(self._catalogue.required.get(shadow, ())) - set(columns)):
            raise UnsuitableSchema(
                f"{shadow} takes no row of {name}, which lacks its columns "
                f"{', '.join(unfilled)}: give them a default"
            )
        for table_name in (name, shadow):
            if engine := self._catalogue.plain_engines.get(table_name):
                raise UnsuitableSchema(no_transactions(table_name, engine))

    def _tree(self, name: str, path: frozenset[str]) -> Node:
        path |= {name}
        references = self._catalogue.references_to(name)
        followed = [key for key in references if key.table in self._movable - path]
        return Node(
            name,
            self._catalogue.columns[name],
            tuple(
                Branch(key.parent_column, key.column, self._tree(key.table, path))
                for key in followed
            ),
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


def read_forest(connection: Connection) -> Forest:
    """The forest of the connected database; ends the transaction.

    Cells with the same tables on servers of one kind share it. To make one, with its statements,
    costs several times what is asked of a cell that has nothing to do.
    """
    dialect = connection.dialect
    server = dialect.name, is_mariadb(connection), dialect.server_version_info
    catalogue = read_catalogue(connection)
    rollback(connection)
    return _forest_for(catalogue, server)


@lru_cache(maxsize=FORESTS)
def _forest_for(catalogue: Catalogue, _server: tuple[Any, ...]) -> Forest:
    """:param _server: words that it reserves are quoted in the forest's statements"""
    return Forest(catalogue)


def no_transactions(table_name: str, engine: str) -> str:
    """What is said of a table whose engine knows no transactions."""
    return (
        f"{table_name} is kept by {engine}, which has no transactions: "
        f"ALTER TABLE {table_name} ENGINE=InnoDB"
    )


Owned = tuple[RowMapping, int]
"""A row by its key columns, and the ``id`` of the root it hangs on."""

Owners = dict[Any, list[int]]
"""The roots that each value of a column belongs to."""


def _owners(name: str, owned: Iterable[Owned]) -> Owners:
    owners: Owners = defaultdict(list)
    for row, owner in owned:
        owners[row[name]].append(owner)
    return owners


def rows_below(
    connection: Connection, root: Node, owned: Sequence[Owned]
) -> Iterator[tuple[Node, list[Owned]]]:
    """All rows that hang on some rows of ``root``, table by table."""
    for name, ways in root.ways.items():
        owners = _owners(name, owned)
        for way in (further for one in ways for further in one.and_below()):
            found: list[Owned] = []
            for values in chunks(owners):
                for row in way.keys.execute(connection, values).mappings():
                    found += [(row, owner) for owner in owners.get(row["_start"], ())]
            if found:
                yield way.node, found


def count_rows(connection: Connection, root: Node, rows: Sequence[RowMapping]) -> Counter[int]:
    """How many rows the tree of each root row has, itself included.

    :param rows: root rows by the columns ``root.keys``
    :returns: rows by the ``id`` of the root. A row that hangs on two roots counts for both, on one
        root once
    """
    sizes = Counter(row["id"] for row in rows)
    for name, numbers in root.sizes.items():
        owners = _owners(name, ((row, row["id"]) for row in rows))
        for values in chunks(owners):
            for found in numbers.execute(connection, values):
                sizes.update(dict.fromkeys(owners.get(found.start, ()), int(found.number)))
    return sizes


@dataclass
class Move:
    """Moves trees within the transaction that is open on ``connection``.

    :ivar moved: rows by table, so far
    :ivar gauge: measures the transaction; None: that is not needed
    :ivar size: bytes of the transaction, so far
    """

    connection: Connection
    moved: Counter[str] = field(default_factory=Counter)
    gauge: "Gauge | None" = None
    size: int = 0

    def trees(self, root: Node, ids: Iterable[int], claim: Prepared) -> list[RowMapping]:
        """Move the trees of those roots that are still there and still to be moved.

        :param ids: of the root rows
        :param claim: locks those of the rows with some ids that are to be moved, and reads
            ``root.keys``
        :returns: the key columns of the roots that were moved
        :raises TryAgain: somebody wrote without respecting the claim; the transaction must be
            rolled back
        :raises TooLarge: the server would refuse the transaction; it must be rolled back
        """
        claimed: list[RowMapping] = []
        for values in chunks(ids):
            rows = claim.execute(self.connection, values).mappings().all()
            if rows:
                self._tree(root, rows)
                claimed += rows
        if self.gauge:
            self.gauge.check(self.size)
        return claimed

    def _tree(self, root: Node, rows: Sequence[RowMapping]) -> None:
        """Move claimed root rows and all below them."""
        values = {name: Values(dict.fromkeys(row[name] for row in rows)) for name in root.keys}
        own = values[root.itself.start.name]
        copied = self._copy(root.itself, own)
        for name, ways in root.ways.items():
            for way in ways:
                self._below(way, values[name])
        self._delete(root.itself, own, copied)

    def _below(self, way: Way, values: Values) -> None:
        """Move the rows at the end of a way, and all below. A row to which two ways lead is gone at
        the second.
        """
        copied = self._copy(way, values)
        if copied:
            for further in way.below:
                self._below(further, values)
            self._delete(way, values, copied)

    def _copy(self, way: Way, values: Values) -> int:
        copied = way.copy.execute(self.connection, values).rowcount
        if self.gauge and copied:
            self.size += self.gauge.bytes_of(self.connection, way, values)
        return copied

    def _delete(self, way: Way, values: Values, copied: int) -> None:
        deleted, name = way.delete.execute(self.connection, values).rowcount, way.node.name
        if deleted != copied:
            raise TryAgain(DatabaseProblem(f"{name}: {copied} rows copied, {deleted} deleted"))
        self.moved[name] += deleted
