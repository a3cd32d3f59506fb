"""A row that somebody else keeps locked holds up no other of its batch: the batch becomes smaller."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from jobs.action import Limits, Outcome, Step, Target
from jobs.cell_v2 import discover_hosts, map_instances
from jobs.db import archive_deleted_rows, purge
from tests.integration.cells import add_nodes, target
from tests.support.command import until
from tests.support.realcloud import RealCloud

API, CELL = RealCloud.api, RealCloud.cell3
VISIBLE: Final = f"{CELL}.instances WHERE COALESCE(hidden, 0) = 0"
LAST: Final = f"SELECT uuid, 'p' FROM {VISIBLE} ORDER BY id DESC LIMIT 1"


@dataclass(frozen=True)
class Case:
    """Something that writes batches.

    :ivar prepare: statements before
    :ivar lock: what somebody else does at the last row, and does not commit
    :ivar work: in the cell
    :ivar left: counts the rows that are still to be done
    :ivar held: how many of them the lock holds up
    """

    prepare: tuple[tuple[str, str], ...]
    lock: tuple[str, str]
    work: Callable[[Target], Iterator[Step[Any]]]
    left: tuple[str, str]
    held: int = 1


def map_all(cell: Target) -> Iterator[Step[Any]]:
    return map_instances.work(cell, map_instances.Params(), None)


def discover(cell: Target) -> Iterator[Step[Any]]:
    return discover_hosts.work(cell, discover_hosts.Params(), None)


def archive(cell: Target) -> Iterator[Step[Any]]:
    return archive_deleted_rows.work(cell, archive_deleted_rows.Params(max_rows=60, until_complete=True), None)


def purge_all(cell: Target) -> Iterator[Step[Any]]:
    return purge.work(replace(cell, limits=Limits(purge_chunk=8)), purge.Params(), None)


CASES: Final = {
    "map_instances": Case(
        ((API, "TRUNCATE instance_mappings"),),  # what is deleted would keep gaps locked
        (API, f"INSERT INTO instance_mappings (instance_uuid, project_id) {LAST}"),
        map_all,
        (API, f"SELECT COUNT(*) FROM {VISIBLE} AND uuid NOT IN (SELECT instance_uuid FROM instance_mappings)"),
    ),
    "discover_hosts": Case(
        (),
        (CELL, "SELECT id FROM compute_nodes WHERE host LIKE 'new-%' ORDER BY id DESC LIMIT 1 FOR UPDATE"),
        discover,
        (CELL, "SELECT COUNT(*) FROM compute_nodes WHERE host LIKE 'new-%' AND mapped = 0"),
    ),
    "archive_deleted_rows": Case(
        (),
        (CELL, "SELECT id FROM instances WHERE deleted <> 0 ORDER BY id DESC LIMIT 1 FOR UPDATE"),
        archive,
        (CELL, "SELECT COUNT(*) FROM instances WHERE deleted <> 0"),
    ),
    "purge": Case(
        ((CELL, "INSERT INTO shadow_instances SELECT * FROM instances"),),
        (CELL, "SELECT id FROM shadow_instances ORDER BY id DESC LIMIT 1 FOR UPDATE"),
        purge_all,
        (CELL, "SELECT COUNT(*) FROM shadow_instances"),
        held=2,  # a range is locked to the row behind it
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_row_that_others_keep_locked_holds_up_no_other(realcloud: RealCloud, case: Case) -> None:
    add_nodes(realcloud, CELL, 9)
    for database, statement in case.prepare:
        realcloud.rows(database, statement)
    done: list[Outcome] = []

    def work() -> None:
        done.extend(step.outcome for step in case.work(target(realcloud, "cell3")))

    thread = threading.Thread(target=work, daemon=True)
    locked_in, lock = case.lock
    with closing(realcloud.server.connect(locked_in, autocommit=False)) as link, link.cursor() as cursor:
        assert cursor.execute(lock) == 1
        thread.start()

        def are_others_done() -> bool:
            assert thread.is_alive(), "it gave up"
            return realcloud.rows(*case.left) == [(case.held,)]

        until(are_others_done)
        link.rollback()
        thread.join()
    assert done, "it failed"
    assert realcloud.rows(*case.left) == [(0,)]
