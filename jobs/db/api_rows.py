"""The rows of the API database that belong to instances, and go with them."""

from collections import Counter
from collections.abc import Collection
from typing import Final

from sqlalchemy import Connection, delete, or_, select

from jobs.api_connection import ApiConnection
from jobs.db.statements import Among, Prepared, Values
from novadb.engine import Database
from novadb.names import fold_name
from novadb.nova_tables import INSTANCE_GROUP_MEMBERS, INSTANCE_MAPPINGS, REQUEST_SPECS

# An IN list of 1,000 uuids makes MariaDB scan instance_group_member; this many use its index.
UUIDS_PER_STATEMENT: Final = 100

TABLES: Final = (INSTANCE_MAPPINGS, REQUEST_SPECS, INSTANCE_GROUP_MEMBERS)


class ApiRows(ApiConnection):
    """Deletes API rows of archived instances."""

    def __init__(self, database: Database, mapping_ids: frozenset[int]) -> None:
        """:param mapping_ids: ``cell_mappings.id`` of the cell whose instances are archived"""
        super().__init__(database)
        # The instances of the last call, and the rows that its tries have deleted, by the beginning
        # of the chunk.
        self._tried: list[str] = []
        self._rows_of_chunks: dict[int, Counter[str]] = {}
        self._committed_chunks: set[int] = set()
        self._untold: Counter[str] = Counter()
        self._ours = INSTANCE_MAPPINGS.c.cell_id.in_(sorted(mapping_ids))
        named, mapped = Among(INSTANCE_MAPPINGS.c.instance_uuid), INSTANCE_MAPPINGS.c.cell_id
        elsewhere = select(INSTANCE_MAPPINGS.c.instance_uuid).where(
            named, mapped.is_not(None), ~self._ours
        )
        self._elsewhere = Prepared(elsewhere.with_for_update())
        self._own_mappings = Prepared(
            delete(INSTANCE_MAPPINGS).where(named, or_(self._ours, mapped.is_(None)))
        )
        self._others = {
            rows.name: Prepared(delete(rows).where(Among(rows.c.instance_uuid)))
            for rows in (REQUEST_SPECS, INSTANCE_GROUP_MEMBERS)
        }

    def delete(self, uuids: Collection[str]) -> Counter[str]:
        """Delete and commit the API rows of instances that this cell archives.

        An instance that is mapped to another cell lives there: a cross-cell move leaves a deleted
        copy behind. Its rows stay. Safe to do again.

        :returns: rows by table, also those with none; those are among them that earlier tries have
            deleted, until ``told`` is called
        :raises TryAgain: a passing error; some of the rows may be gone already
        :raises ApiDatabaseProblem: any other error
        """
        deleted: Counter[str] = Counter({rows.name: 0 for rows in TABLES})
        ordered = sorted(uuids)
        if ordered != self._tried:
            self._untold = self.untold()
            self._forget_chunks(ordered)
        for start in range(0, len(ordered), UUIDS_PER_STATEMENT):
            earlier = self._rows_of_chunks.get(start, Counter())
            with self.transaction() as api:
                chunk = Values(ordered[start : start + UUIDS_PER_STATEMENT])
                # What came to its commit earlier is there no more, or is there as it was.
                self._rows_of_chunks[start] = self._delete_chunk(api, chunk) | earlier
            self._committed_chunks.add(start)
        deleted.update(self.untold())
        return deleted

    def untold(self) -> Counter[str]:
        """The rows that are gone although the cell did not commit what they were deleted for, by
        table.
        """
        untold = Counter(self._untold)
        for start in self._committed_chunks:
            untold.update(self._rows_of_chunks[start])
        return untold

    def told(self) -> None:
        """The rows that ``delete`` or ``untold`` returned are counted."""
        self._untold = Counter()
        self._forget_chunks([])

    def _forget_chunks(self, tried: list[str]) -> None:
        self._tried, self._rows_of_chunks, self._committed_chunks = tried, {}, set()

    def _delete_chunk(self, api: Connection, uuids: Values) -> Counter[str]:
        deleted = Counter({INSTANCE_MAPPINGS.name: self._own_mappings.execute(api, uuids).rowcount})
        if deleted[INSTANCE_MAPPINGS.name] < len(uuids):  # some have none, or one in another cell
            moved_away = {
                fold_name(row.instance_uuid) for row in self._elsewhere.execute(api, uuids)
            }
            uuids = Values(uuid for uuid in uuids if fold_name(uuid) not in moved_away)
        for rows, statement in self._others.items():
            deleted[rows] = statement.execute(api, uuids).rowcount if uuids else 0
        return deleted

    def candidates(self, after: int) -> list[tuple[int, str]]:
        """Mappings of this cell whose instance was deleted, in order of id: some of them may be
        leftovers.

        :param after: the mapping id to go on behind
        :returns: (mapping id, instance uuid), at most ``UUIDS_PER_STATEMENT``
        """
        queued = (
            select(INSTANCE_MAPPINGS.c.id, INSTANCE_MAPPINGS.c.instance_uuid)
            .where(
                self._ours,
                INSTANCE_MAPPINGS.c.queued_for_delete == 1,
                INSTANCE_MAPPINGS.c.id > after,
            )
            .order_by(INSTANCE_MAPPINGS.c.id)
            .limit(UUIDS_PER_STATEMENT)
        )
        with self.transaction() as api:
            return [(number, uuid) for number, uuid in api.execute(queued)]
