"""How large a transaction becomes, for a server that takes none above a limit.

Galera replicates a transaction as one write set and refuses it at the commit if that exceeds
``wsrep_max_ws_size``. The API rows of its instances are gone by then. So it is measured before, by
what it puts into the binary log: the statements, and each row twice, as it is inserted and as it is
deleted.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from sqlalchemy import ColumnElement, Connection, case, func, text

from jobs.db.statements import Prepared, Values
from jobs.db.trees import Node, Way
from novadb.errors import DatabaseProblem

# Variables of a server that limit a transaction, and those that say whether they do.
LIMITS: Final = {
    "wsrep_max_ws_size": "wsrep_on",
    "max_binlog_cache_size": "log_bin",
    "group_replication_transaction_size_limit": "group_replication_transaction_size_limit",
}
OFF: Final = frozenset({"", "OFF", "0"})
# Bytes of a row, on the average of a batch, that rows of Nova's stay below: a batch of so few is
# not measured.
LARGE_ROW: Final = 128 << 10
# Bytes in the log, rather too many than too few: of the length of a text, of any other value, of an
# event beside its rows, of a statement beside its own text and its events. And what the rows of two
# successive events have at least.
TEXT_LENGTH: Final = 4
VALUE: Final = 8
EVENT: Final = 64
STATEMENT: Final = 1024
TWO_EVENTS: Final = 8192


class TooLarge(DatabaseProblem):
    """The server takes no transaction as large as this one. The text says what to do."""


@dataclass(frozen=True)
class Gauge:
    """Measures transactions in a database whose server limits them.

    :ivar variable: of the server, which has the limit
    :ivar limit: bytes
    :ivar texts: by table, the columns whose values have any length
    """

    variable: str
    limit: int
    texts: Mapping[str, frozenset[str]]
    _sums: dict[Way, Prepared] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, connection: Connection) -> Self | None:
        """The gauge of a database; None: its server has no limit."""
        if connection.dialect.name == "sqlite":
            return None
        names = ", ".join(f"'{name}'" for name in {*LIMITS, *LIMITS.values()})
        shown = connection.execute(text(f"SHOW GLOBAL VARIABLES WHERE variable_name IN ({names})"))
        values = {str(name): str(value) for name, value in shown}
        limits = {
            int(values[name]): name
            for name, switch in LIMITS.items()
            if values.get(switch, "") not in OFF
        }
        if not limits:
            return None
        lowest = min(limits)
        return cls(limits[lowest], lowest, _texts(connection))

    def may_matter(self, rows: int) -> bool:
        """Whether a transaction of so many rows could exceed the limit."""
        return 2 * rows * LARGE_ROW > self.limit

    def bytes_of(self, connection: Connection, way: Way, values: Values) -> int:
        """At most so many bytes the rows at the end of a way add to the transaction that moves
        them.

        :param connection: where they still are in their table
        """
        found = self._sum(way).execute(connection, values).mappings().one()
        data = int(found["size"]) + int(found["rows"]) * (len(way.node.columns) // 8 + 1)
        events = 2 * data // TWO_EVENTS + 1
        statements = sum(
            len(statement.written(connection, values)) for statement in (way.copy, way.delete)
        )
        return statements + 2 * (STATEMENT + events * EVENT + data)

    def check(self, size: int) -> None:
        """See that a transaction is not too large.

        :param size: bytes
        :raises TooLarge: it is
        """
        if size > self.limit:
            raise TooLarge(
                f"its transaction has up to {size:,} bytes, "
                f"more than {self.variable} ({self.limit:,}): raise it there"
            )

    def _sum(self, way: Way) -> Prepared:
        if way not in self._sums:
            size = func.coalesce(func.sum(self._size(way.node)), 0)
            self._sums[way] = Prepared(way.rows(func.count().label("rows"), size.label("size")))
        return self._sums[way]

    def _size(self, node: Node) -> ColumnElement[int]:
        """The bytes of a row's values; one that is NULL has none."""
        texts = self.texts.get(node.name, frozenset())
        size: ColumnElement[int]
        sizes = [
            func.coalesce(func.octet_length(column) + TEXT_LENGTH, 0)
            if column.name in texts
            else case((column.is_not(None), VALUE), else_=0)
            for column in node.live.c
        ]
        size, *others = sizes
        for other in others:
            size += other
        return size


def _texts(connection: Connection) -> dict[str, frozenset[str]]:
    columns: dict[str, set[str]] = defaultdict(set)
    found = text(
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND character_octet_length IS NOT NULL"
    )
    for table, column in connection.execute(found):
        columns[table].add(column)
    return {table: frozenset(names) for table, names in columns.items()}
