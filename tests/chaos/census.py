"""A census of the rows that archiving moves: each row by its checksum, in a table or in its shadow
table.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final, TypeAlias

from tests.support.forest import SHADOW, TABLES, Forest, read
from tests.support.realcloud import RealCloud

Cursor: TypeAlias = Any
Place: TypeAlias = tuple[str, str]
"""A database and a table."""
Rows: TypeAlias = Mapping[int, str]
"""The checksum of each row by its id."""

COLUMNS: Final = """
SELECT table_name, GROUP_CONCAT('IFNULL(HEX(`', column_name, '`), ''-'')' ORDER BY ordinal_position)
FROM information_schema.columns WHERE table_schema = DATABASE() GROUP BY table_name
"""


class Census:
    """What was in the cells when it was taken.

    :ivar rows: of each table, those in its shadow table among them
    """

    def __init__(self, cloud: RealCloud) -> None:
        self._cloud = cloud
        self._cells = (cloud.cell0, cloud.cell1, cloud.cell2, cloud.cell3)
        self.rows = {place: dict(rows) for place, rows in self._count().items()}
        self._purgeable = self._rows_to_go()

    def check(self, *, purged: bool) -> None:
        """See that each row is there once, in one place, as it was. True at any moment, whatever is
        killed.

        :param purged: whether rows that are archived may be gone for good
        """
        for place, rows in self._count().items():
            was = self.rows[place]
            doubled = [
                number
                for number, times in Counter(number for number, _ in rows).items()
                if times > 1
            ]
            changed = [number for number, checksum in rows if was.get(number) != checksum]
            lost = was.keys() - {number for number, _ in rows}
            if purged:
                lost -= self._purgeable[place]
            found = {"doubled": doubled, "changed": changed, "lost": sorted(lost)}
            wrong = {what: numbers for what, numbers in found.items() if numbers}
            assert not wrong, f"{'.'.join(place)}: {wrong}"

    def _count(self) -> dict[Place, list[tuple[int, str]]]:
        """The id and checksum of each row, all as of one moment."""
        counted: dict[Place, list[tuple[int, str]]] = {}
        with closing(self._cloud.server.connect()) as link, link.cursor() as cursor:
            cursor.execute("SET SESSION group_concat_max_len = 1000000")
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            for cell in self._cells:
                link.select_db(cell)
                for table, columns in self._columns(cursor).items():
                    counted[cell, table] = _checksums(cursor, table, columns)
        return counted

    def _columns(self, cursor: Cursor) -> dict[str, str]:
        """By each table that can be archived, all its columns as one list of expressions."""
        cursor.execute(COLUMNS)
        columns = dict(cursor.fetchall())
        return {table: columns[table] for table in TABLES if SHADOW + table in columns}

    def _rows_to_go(self) -> dict[Place, set[int]]:
        """The rows of each table that a complete archive and purge remove."""
        going: dict[Place, set[int]] = {place: set() for place in self.rows}
        for cell in self._cells:
            with closing(self._cloud.server.connect(cell)) as link:
                contents = read(link)
            for table, number in Forest(contents).moving:
                going[cell, table].add(number)
            for table in TABLES:
                if (cell, table) in going:
                    going[cell, table] |= contents[SHADOW + table].keys()
        return going


def _checksums(cursor: Cursor, table: str, columns: str) -> list[tuple[int, str]]:
    """The id and checksum of each row of a table and of its shadow."""
    halves = [
        f"SELECT id, MD5(CONCAT_WS(',', {columns})) FROM `{name}`"
        for name in (table, SHADOW + table)
    ]
    cursor.execute(" UNION ALL ".join(halves))
    return list(cursor.fetchall())
