"""What is in the databases of the real cloud before a test archives them, and whether it is still
there after.
"""

from collections import Counter
from collections.abc import Collection
from contextlib import closing
from datetime import datetime

from tests.support.forest import (
    API_TABLES,
    Contents,
    Forest,
    Key,
    assert_api_rows_are_right,
    assert_no_tree_is_torn,
    assert_nothing_is_lost_or_doubled,
    moved,
    not_moved_away,
    read,
)
from tests.support.realcloud import RealCloud


class Inventory:
    """Taken when it is made.

    :ivar api: the rows of the API database
    :ivar cells: the rows of each cell, by the name of its database
    :ivar forests: what is to become of them
    """

    def __init__(
        self,
        cloud: RealCloud,
        before: datetime | None = None,
        *,
        task_log: bool = False,
        repair: bool = False,
    ) -> None:
        self._cloud = cloud
        self._names = (cloud.cell0, cloud.cell1, cloud.cell2, cloud.cell3)
        self._repair = repair
        self.api, self.cells = self._read()
        self.forests = {
            name: Forest(rows, before, task_log, repair) for name, rows in self.cells.items()
        }
        mappings = {f"nova_{row['name']}": row["id"] for row in self.api["cell_mappings"].values()}
        self._here = {name: [mappings[name]] for name in self._names}

    def _read(self) -> tuple[Contents, dict[str, Contents]]:
        """All databases as of one moment: what a killed program was just sending may still be
        carried out.
        """
        with closing(self._cloud.server.connect()) as link:
            link.query("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            contents = {}
            for name in (self._cloud.api, *self._names):
                link.select_db(name)
                contents[name] = read(link)
        return contents.pop(self._cloud.api), contents

    def check(self) -> dict[str, frozenset[Key]]:
        """What is true at any moment, even when a process died; returns the rows that have moved,
        by cell.
        """
        return self._check(may_be_gone=self._archived(self.moving))

    def _check(self, may_be_gone: Collection[str] = ()) -> dict[str, frozenset[Key]]:
        api, cells = self._read()
        gone = {name: moved(self.cells[name], rows) for name, rows in cells.items()}
        for name, rows in cells.items():
            assert_nothing_is_lost_or_doubled(self.cells[name], rows, repair=self._repair)
            assert_no_tree_is_torn(self.forests[name], gone[name])
        assert_api_rows_are_right(self.api, api, gone=self._archived(gone), may_be_gone=may_be_gone)
        return gone

    def check_at_the_end(self) -> dict[str, frozenset[Key]]:
        """What is true when a run has come to its end, whatever it had to leave; returns the rows
        that have moved.
        """
        return self._check()

    def check_complete(self) -> None:
        """What is true when all is done."""
        assert self.check_at_the_end() == self.moving

    @property
    def moving(self) -> dict[str, frozenset[Key]]:
        """The rows that a complete run moves, by cell."""
        return {name: forest.moving for name, forest in self.forests.items()}

    def rows_to_move(self) -> dict[str, Counter[str]]:
        """How many rows a complete run moves, by the name of the cell, and by table."""
        return {
            name.removeprefix("nova_"): Counter(table for table, _ in moving)
            for name, moving in self.moving.items()
        }

    def instances_without_api_rows(self) -> set[str]:
        """Those that are in a cell still, and whose request spec is gone since."""
        had = {row["instance_uuid"] for row in self.api["request_specs"].values()}
        have = self._cloud.rows(self._cloud.api, "SELECT instance_uuid FROM request_specs")
        there = [self._cloud.rows(name, "SELECT uuid FROM instances") for name in self._names]
        return (had - {uuid for (uuid,) in have}) & {uuid for rows in there for (uuid,) in rows}

    def api_rows_to_go(self) -> Counter[str]:
        """How many API rows a complete run deletes, by table."""
        gone = self._archived(self.moving)
        return Counter(
            {
                t: sum(row["instance_uuid"] in gone for row in self.api[t].values())
                for t in API_TABLES
            }
        )

    def _archived(self, gone: dict[str, frozenset[Key]]) -> set[str]:
        """The instances whose API rows go with these rows."""
        found: set[str] = set()
        for name, keys in gone.items():
            found |= not_moved_away(self.api, self._here[name], self.forests[name].uuids(keys))
        return found
